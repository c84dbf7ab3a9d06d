//! Stopping in bounded time.

use std::{io, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Ends when the process is asked to stop: SIGTERM, SIGINT (or Ctrl-C). A second signal exits at once.
///
/// Dropping the future before its end keeps the process deaf to nothing: handlers are installed on the first poll.
pub async fn signal() {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            warn!(%error, "can't listen for signals, only a kill will stop this process");
            return std::future::pending::<()>().await;
        }
    };
    let name = signals.next().await;
    info!(signal = name, "stopping, a second signal exits at once");
    tokio::spawn(async move {
        let name = signals.next().await;
        warn!(signal = name, "second signal, exiting");
        std::process::exit(130);
    });
}

/// Ends when the process is asked to stop, as [`signal`] does; what a second signal means is left to whoever asks again.
pub async fn asked() {
    match Signals::listen() {
        Ok(mut signals) => {
            signals.next().await;
        }
        Err(error) => {
            warn!(%error, "can't listen for signals, only a kill will stop this process");
            std::future::pending::<()>().await;
        }
    }
}

/// A token that is cancelled by [`signal`]. Must be called in a tokio runtime.
pub fn token() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        signal().await;
        stopping.cancel();
    });
    stop
}

/// Cancels `stop` and waits for all tasks, at most `grace`; tells whether all ended.
pub async fn drain(stop: CancellationToken, tasks: TaskTracker, grace: Duration) -> bool {
    stop.cancel();
    tasks.close();
    if timeout(grace, tasks.wait()).await.is_ok() {
        info!("drained");
        true
    } else {
        warn!(left = tasks.len(), ?grace, "grace period over, exiting");
        false
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_ends_delays_the_exit_by_the_grace_and_no_more() {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(std::future::pending::<()>());
        let began = tokio::time::Instant::now();
        assert!(!drain(stop.clone(), tasks, Duration::from_secs(3)).await);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert!(stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_listen_to_the_token_are_drained() {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(stop.clone().cancelled_owned());
        assert!(drain(stop, tasks, Duration::from_secs(3)).await);
    }
}
