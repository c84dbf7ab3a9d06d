//! The run itself: batches at a steady rate, several under way, noted in the order in which they were read.

use std::{path::Path, time::Duration};

use client::{Answer, Client, Error};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Record, Records, progress::Progress, state::State, tally::Tally};

/// How often a key is tried again that a node had no room or no connection for.
const TRIES: u32 = 4;
/// Before the first of them; then twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the state is written.
const STORE: Duration = Duration::from_secs(1);

/// How fast.
pub(super) struct Plan {
    /// Keys in a second.
    pub(super) rate: f64,
    pub(super) parallel: usize,
    pub(super) batch: usize,
    pub(super) strict: bool,
}

/// Warms until the records end, or `stop`. What was done is in `state` even if it fails.
pub(super) async fn run(
    client: &Client,
    mut records: Records,
    plan: &Plan,
    state: &mut State,
    store: Option<&Path>,
    stop: &CancellationToken,
    progress: &Progress,
) -> anyhow::Result<Tally> {
    let began = Instant::now();
    let mut tally = Tally::default();
    // A low rate is kept by small batches, not by long pauses between large ones.
    #[expect(clippy::cast_sign_loss, reason = "a rate is above 0")]
    let most = plan.batch.min((plan.rate / 10.0).ceil() as usize).max(1);
    let mut stored = Instant::now();
    let mut failure = None;
    {
        let batches = stream::unfold((&mut records, 0_u64), |(records, sent)| async move {
            let due = began + Duration::from_secs_f64(sent as f64 / plan.rate);
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = sleep_until(due) => {}
            }
            let mut batch = Vec::with_capacity(most);
            let taken = tokio::select! {
                biased;
                () = stop.cancelled() => 0,
                taken = records.recv_many(&mut batch, most) => taken,
            };
            (taken > 0).then_some((batch, (records, sent + taken as u64)))
        });
        // In order, so that all before the position is done.
        let mut done = std::pin::pin!(batches.map(|batch| fill(client, batch)).buffered(plan.parallel));
        while let Some(batch) = done.next().await {
            for record in batch {
                let (record, result) = match record {
                    Ok(filled) => filled,
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                };
                match (&record.key, result) {
                    (Ok(key), Some(result)) => tally.note(key, &result),
                    (Err(reason), _) if plan.strict => {
                        failure = Some(anyhow::anyhow!("{}: {reason} (--strict)", record.number));
                        break;
                    }
                    (Err(reason), _) => tally.bad(record.number, reason),
                    (Ok(_), None) => {}
                }
                state.position = record.number;
                progress.note(record.end, &tally);
            }
            if failure.is_some() {
                break;
            }
            if let Some(file) = store.filter(|_| stored.elapsed() >= STORE) {
                state.store(file)?;
                stored = Instant::now();
            }
        }
    }
    tally.took = began.elapsed();
    if let Some(failure) = failure {
        return Err(failure);
    }
    state.finished = !stop.is_cancelled();
    Ok(tally)
}

type Filled = anyhow::Result<(Record, Option<Result<Answer, Error>>)>;

/// Asks for the keys of a batch; what finds no room is asked for again, a little later.
async fn fill(client: &Client, batch: Vec<anyhow::Result<Record>>) -> Vec<Filled> {
    let keys: Vec<String> =
        batch.iter().filter_map(|record| record.as_ref().ok()?.key.as_ref().ok().cloned()).collect();
    let mut results = client.get_many(&keys).await;
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        let again: Vec<usize> =
            (0..keys.len()).filter(|at| results[*at].as_ref().is_err_and(passes)).collect();
        if again.is_empty() {
            break;
        }
        sleep(pause).await;
        pause *= 2;
        let asked: Vec<&str> = again.iter().map(|at| keys[*at].as_str()).collect();
        for (at, result) in again.into_iter().zip(client.get_many(&asked).await) {
            results[at] = result;
        }
    }
    let mut results = results.into_iter();
    let mut paired = |record: Record| {
        let result = if record.key.is_ok() { results.next() } else { None };
        (record, result)
    };
    batch.into_iter().map(|record| record.map(&mut paired)).collect()
}

/// Whether it may go better in a moment.
fn passes(error: &Error) -> bool {
    matches!(
        error,
        Error::Overloaded { .. }
            | Error::LeftOut { .. }
            | Error::Unavailable { .. }
            | Error::Deadline { .. }
            | Error::NoNodes { .. }
    )
}
