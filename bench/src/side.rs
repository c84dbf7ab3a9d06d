//! One side of a comparison: a runtime on a thread of its own, kept to one core.

use std::{thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;

use crate::core;

/// A single-threaded runtime on one core. Threads that its tasks start, such as librdkafka's, stay on that core too.
#[derive(Debug)]
pub(crate) struct Side {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    /// Whether it really is kept to its core.
    pub(crate) kept: bool,
}

impl Side {
    /// Starts a side on `core`.
    pub(crate) async fn start(name: &str, core: usize) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (started, handle) = oneshot::channel();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let kept = core::keep_to(core);
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok((runtime.handle().clone(), kept)));
            runtime.block_on(stopped.cancelled());
            runtime.shutdown_timeout(Duration::from_secs(2));
        })?;
        let (handle, kept) = handle.await.context("start a runtime")?.context("start a runtime")?;
        Ok(Self { handle, stop, thread: Some(thread), kept })
    }

    /// Does `work` on this side and waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.handle.spawn(work).await.context("finish the work of one side")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does blocking `work` on a thread of its own that is kept to `core`.
pub(crate) async fn on_core<T: Send + 'static>(
    core: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name("one-core".to_owned()).spawn(move || {
        core::keep_to(core);
        let _ = done.send(work());
    })?;
    result.await.context("finish the work of a thread")
}
