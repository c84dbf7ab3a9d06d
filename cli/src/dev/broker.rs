//! The in-process broker: librdkafka's mock cluster, which speaks Kafka's protocol on a loopback port.
//!
//! It keeps nothing on disk, and of each partition the newest 5 MiB. It answers consumers and producers, not admin calls.

use std::{sync::mpsc, thread};

use anyhow::Context;
use rdkafka::mocking::MockCluster;

/// A running broker. Dropping it stops it.
pub(crate) struct Broker {
    address: String,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Broker {
    /// Starts a broker with one topic for each of `topics`.
    pub(crate) fn start(topics: &[(&str, i32)]) -> anyhow::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let (started, address) = mpsc::channel();
        let topics: Vec<_> =
            topics.iter().map(|(name, partitions)| ((*name).to_owned(), *partitions)).collect();
        // The cluster's handle stays on the thread that made it.
        let thread = thread::Builder::new()
            .name("broker".into())
            .spawn(move || {
                let cluster = MockCluster::new(1).and_then(|cluster| {
                    for (name, partitions) in &topics {
                        cluster.create_topic(name, *partitions, 1)?;
                    }
                    Ok(cluster)
                });
                match cluster {
                    Ok(cluster) => {
                        let _ = started.send(Ok(cluster.bootstrap_servers()));
                        // Ends with an error when the broker is dropped, which is the sign to stop.
                        let _ = stopped.recv();
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })
            .context("start the broker's thread")?;
        let address =
            address.recv().context("the broker's thread ended")?.context("start the in-process broker")?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// `host:port`, for `bootstrap.servers`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread only waits and frees; if it panicked there is nothing left to stop.
            let _ = thread.join();
        }
    }
}
