//! Waiting for what happens in other processes, always with a bound.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition in another process is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `check` until it returns `Ok`, and returns its value and how long that took.
///
/// # Panics
///
/// After `limit`, with `what` and the last `Err`.
pub async fn until<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> (T, Duration) {
    let started = Instant::now();
    loop {
        match check().await {
            Ok(value) => return (value, started.elapsed()),
            Err(error) if started.elapsed() > limit => panic!("waited {limit:?} for {what}: {error:?}"),
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}
