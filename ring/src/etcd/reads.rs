//! One read for everybody who asked before it began.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Runs reads one after the other; those who wait for their turn share the next one.
///
/// A read serves whoever asked *before it began*, and no one else: *a batch is polled and asks while a read is under way; a node joined
/// between that read's moment in etcd and now; the answer does not name it.*
pub(super) struct SharedRead<T> {
    begun: AtomicU64,
    /// The number of the last completed read and its result; held while one runs.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for SharedRead<T> {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), last: Mutex::const_new(None) }
    }
}

impl<T: Clone> SharedRead<T> {
    /// The result of a read that began after this was called: someone else's, or `read`, which is polled only then.
    ///
    /// Safe to drop: whoever waits next does the read.
    pub(super) async fn get(&self, read: impl Future<Output = T>) -> T {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, result)) = &*last
            && *number > asked
        {
            return result.clone();
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let result = read.await;
        *last = Some((number, result.clone()));
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Notify, oneshot};

    use super::*;

    /// Reads that count themselves and end when told to.
    #[derive(Default)]
    struct Reads {
        shared: SharedRead<u64>,
        done: AtomicU64,
    }

    impl Reads {
        async fn get(self: Arc<Self>, begun: Arc<Notify>, end: oneshot::Receiver<()>) -> u64 {
            let read = async {
                begun.notify_one();
                let _ = end.await;
                self.done.fetch_add(1, Ordering::SeqCst) + 1
            };
            self.shared.get(read).await
        }
    }

    #[tokio::test]
    async fn a_read_serves_those_who_asked_before_it_began_and_nobody_later() {
        let (reads, begun) = (Arc::new(Reads::default()), Arc::new(Notify::new()));
        let (end, ended) = oneshot::channel();
        let first = tokio::spawn(reads.clone().get(begun.clone(), ended));
        begun.notified().await;
        // The first read is under way: these three came too late for it, and share the second.
        let later: Vec<_> = (0..3)
            .map(|_| {
                let (end, ended) = oneshot::channel();
                end.send(()).unwrap();
                tokio::spawn(reads.clone().get(begun.clone(), ended))
            })
            .collect();
        tokio::task::yield_now().await;
        end.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 1);
        for one in later {
            assert_eq!(one.await.unwrap(), 2);
        }
        assert_eq!(reads.done.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_dropped_read_is_done_by_the_next_who_waits() {
        let (reads, begun) = (Arc::new(Reads::default()), Arc::new(Notify::new()));
        let (_never, ended) = oneshot::channel();
        let first = tokio::spawn(reads.clone().get(begun.clone(), ended));
        begun.notified().await;
        let (end, ended) = oneshot::channel();
        end.send(()).unwrap();
        let second = tokio::spawn(reads.clone().get(begun.clone(), ended));
        first.abort();
        assert_eq!(second.await.unwrap(), 1);
    }
}
