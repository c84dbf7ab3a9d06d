//! Valid reads, by all ports, all the time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use proto::v1::{GetRequest, cache_client::CacheClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;

use super::victim::{Addresses, SMALL};
use crate::spread::Spread;

/// A read that takes longer has failed.
const WAIT: Duration = Duration::from_secs(5);
/// Between two reads of one port.
const PAUSE: Duration = Duration::from_millis(5);

/// What reads came to for a while.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) took: Spread,
    pub(crate) failed: u64,
}

impl Default for Came {
    fn default() -> Self {
        Self { took: Spread::new(), failed: 0 }
    }
}

/// Readers of a node.
pub(crate) struct Reads {
    came: Arc<Mutex<Came>>,
    tasks: JoinSet<()>,
}

/// How a node is read.
enum Port {
    Grpc(Option<CacheClient<Channel>>),
    Http,
    Resp(Option<TcpStream>),
}

impl Reads {
    pub(crate) fn start(addresses: Addresses) -> Self {
        let (came, mut tasks) = (Arc::new(Mutex::new(Came::default())), JoinSet::new());
        for mut port in [Port::Grpc(None), Port::Http, Port::Resp(None)] {
            let came = came.clone();
            tasks.spawn(async move {
                loop {
                    let begun = Instant::now();
                    let read = timeout(WAIT, port.read(addresses)).await;
                    let took = begun.elapsed();
                    let failed = !matches!(read, Ok(Ok(())));
                    if failed {
                        port.forget();
                    }
                    {
                        let mut came = came.lock();
                        came.failed += u64::from(failed);
                        came.took.record(took);
                    }
                    sleep(PAUSE).await;
                }
            });
        }
        Self { came, tasks }
    }

    /// What has come since the last time.
    pub(crate) fn take(&self) -> Came {
        std::mem::take(&mut self.came.lock())
    }

    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Port {
    /// The next read makes a new connection.
    fn forget(&mut self) {
        match self {
            Self::Grpc(client) => *client = None,
            Self::Http => {}
            Self::Resp(stream) => *stream = None,
        }
    }

    async fn read(&mut self, addresses: Addresses) -> anyhow::Result<()> {
        match self {
            Self::Grpc(client) => {
                if client.is_none() {
                    *client = Some(CacheClient::connect(format!("http://{}", addresses.grpc)).await?);
                }
                let request = GetRequest { key: SMALL.into(), ..GetRequest::default() };
                let client = client.as_mut().context("connect")?;
                ensure!(client.get(request).await?.into_inner().value.is_some(), "no value");
            }
            Self::Http => {
                let mut stream = TcpStream::connect(addresses.http).await?;
                let request =
                    format!("GET /v1/keys/{SMALL} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                let mut reply = Vec::new();
                stream.read_to_end(&mut reply).await?;
                ensure!(reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
            }
            Self::Resp(stream) => {
                if stream.is_none() {
                    *stream = Some(TcpStream::connect(addresses.resp).await?);
                }
                let stream = stream.as_mut().context("connect")?;
                stream.write_all(format!("GET {SMALL}\r\n").as_bytes()).await?;
                let mut reply = [0; 256];
                let read = stream.read(&mut reply).await?;
                ensure!(reply[..read].starts_with(b"$"), "{}", String::from_utf8_lossy(&reply[..read]));
            }
        }
        Ok(())
    }
}
