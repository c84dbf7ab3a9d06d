//! Tasks that nobody waits for: what becomes of a process in which one ends unexpectedly.
//!
//! Tokio catches a task's panic and keeps it for whoever joins the task. Of a task that runs as long as the process nobody does before the
//! end: *the reader of the change stream panics, and the nodes go on to serve what nobody removes any more.* So in our binaries **a panic ends
//! the process** ([`end_on_panic`]), whichever task or thread it is in; and a task that is to run until it is stopped panics if it
//! ends before ([`until`]). Who supervises the process starts it anew, and a new life begins with an empty memory.
//!
//! `tests/tests/tasks.rs` knows every place that spawns, and who looks at its end.

use std::{future::Future, panic};

use tokio_util::sync::CancellationToken;

/// The exit code of a process that ended by a panic, as Rust's own for a panic of the main thread.
pub const PANICKED: i32 = 101;

/// Has every panic from here on end the process, once its message is written. For the `main` of a binary, before anything is spawned.
pub fn end_on_panic() {
    let message = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        message(panicked);
        let at = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            at,
            "a part of the process has panicked, which is a bug: the process ends rather than go on without it"
        );
        eprintln!(
            "the process ends (exit code {PANICKED}): a part of it has panicked at {at}, which is a bug; please report the lines above"
        );
        std::process::exit(PANICKED);
    }));
}

/// Runs a task that is to end by its token alone.
///
/// # Panics
///
/// If it ends before `stop` is cancelled. In a binary that ends the process.
pub async fn until(stop: CancellationToken, name: &'static str, task: impl Future<Output = ()>) {
    task.await;
    assert!(stop.is_cancelled(), "{name} has ended by itself");
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    const CHILD: &str = "FRESHLINE_TEST_PANICS";

    /// Is the process that the other tests start: it spawns what `CHILD` says, and then would run for ever.
    #[test]
    fn child() {
        let Ok(how) = std::env::var(CHILD) else { return };
        end_on_panic();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match how.as_str() {
                "task" => drop(tokio::spawn(async { panic!("lost in a task") })),
                "tracker" => {
                    drop(tokio_util::task::TaskTracker::new().spawn(async { panic!("lost in a tracker") }));
                }
                "blocking" => drop(tokio::task::spawn_blocking(|| panic!("lost in a blocking task"))),
                "thread" => drop(std::thread::spawn(|| panic!("lost in a thread"))),
                "ended" => drop(tokio::spawn(until(CancellationToken::new(), "the reader", async {}))),
                _ => unreachable!("{how}"),
            }
            std::future::pending::<()>().await;
        });
    }

    #[test]
    fn whatever_panics_ends_the_process_and_says_so() {
        for (how, says) in [
            ("task", "lost in a task"),
            ("tracker", "lost in a tracker"),
            ("blocking", "lost in a blocking task"),
            ("thread", "lost in a thread"),
            ("ended", "the reader has ended by itself"),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "tasks::tests::child", "--nocapture"])
                .env(CHILD, how)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let end = Instant::now() + Duration::from_secs(30);
            let status = loop {
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None if Instant::now() > end => {
                        child.kill().unwrap();
                        panic!("{how}: it runs on");
                    }
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            };
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(status.code(), Some(PANICKED), "{how}: {text}");
            assert!(text.contains(says) && text.contains("the process ends"), "{how}: {text}");
        }
    }

    #[tokio::test]
    async fn a_task_that_was_stopped_may_end() {
        let stop = CancellationToken::new();
        stop.cancel();
        until(stop, "the reader", async {}).await;
    }
}
