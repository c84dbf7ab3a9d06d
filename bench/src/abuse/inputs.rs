//! Hostile inputs, each of a kind that once took a node's memory, its files or its time.

use std::{future::pending, net::SocketAddr};

use futures_util::future::join_all;
use proto::v1::{
    ApplyRequest, FlushRequest, GetManyRequest, HeartbeatRequest, Partition, Watermarks,
    cache_client::CacheClient, invalidation_client::InvalidationClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::victim::{Addresses, LARGE, SMALL};

/// A kind of input.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Idle,
    HalfRequests,
    PipelineUnread,
    MgetOfOneKey,
    HttpBatchOfOneKey,
    GrpcBatchOfOneKey,
    EmptyKeys,
    Partitions,
    UnknownGroups,
    TrackingPrefixes,
    HalfValues,
    Garbage,
}

impl Input {
    pub(crate) const ALL: [Self; 12] = [
        Self::Idle,
        Self::HalfRequests,
        Self::PipelineUnread,
        Self::MgetOfOneKey,
        Self::HttpBatchOfOneKey,
        Self::GrpcBatchOfOneKey,
        Self::EmptyKeys,
        Self::Partitions,
        Self::UnknownGroups,
        Self::TrackingPrefixes,
        Self::HalfValues,
        Self::Garbage,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle_connections",
            Self::HalfRequests => "half_requests",
            Self::PipelineUnread => "pipeline_unread",
            Self::MgetOfOneKey => "mget_of_one_key",
            Self::HttpBatchOfOneKey => "http_batch_of_one_key",
            Self::GrpcBatchOfOneKey => "grpc_batch_of_one_key",
            Self::EmptyKeys => "empty_keys",
            Self::Partitions => "partitions",
            Self::UnknownGroups => "unknown_groups",
            Self::TrackingPrefixes => "tracking_prefixes",
            Self::HalfValues => "half_values",
            Self::Garbage => "garbage",
        }
    }

    /// Sends it, for as long as it is let. Whatever the node answers is right, and so is a closed connection.
    pub(crate) async fn run(self, to: Addresses) {
        let Addresses { grpc, http, resp } = to;
        match self {
            // 1500 on each port, which say nothing.
            Self::Idle => hold(&[grpc, http, resp], 1500, b"").await,
            Self::HalfRequests => hold(&[grpc, http, resp], 1000, b"GET /v1/stats HT").await,
            // 20 clients that ask for 2 GB each and read nothing.
            Self::PipelineUnread => {
                let pipeline = format!("GET {LARGE}\r\n").repeat(2000);
                unread(resp, 20, pipeline.as_bytes()).await;
            }
            // 12 KB that ask for 1 GB.
            Self::MgetOfOneKey => {
                let mget = format!("MGET{}\r\n", format!(" {LARGE}").repeat(1000));
                unread(resp, 8, mget.as_bytes()).await;
            }
            Self::HttpBatchOfOneKey => {
                let body = serde_json::json!({ "keys": vec![LARGE; 1000] }).to_string();
                let head = format!(
                    "POST /v1/keys:batchGet HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                unread(http, 8, (head + &body).as_bytes()).await;
            }
            Self::GrpcBatchOfOneKey => {
                forever(grpc, 8, |address| async move {
                    let mut client = CacheClient::connect(address).await?.max_decoding_message_size(1 << 30);
                    let keys = vec![LARGE.to_owned(); 1000];
                    Ok(client
                        .get_many(GetManyRequest { keys, ..GetManyRequest::default() })
                        .await
                        .map(drop)?)
                })
                .await;
            }
            Self::EmptyKeys => {
                forever(grpc, 4, |address| async move {
                    let mut client = InvalidationClient::connect(address).await?;
                    let remove = vec![String::new(); 4 << 20];
                    Ok(client.apply(ApplyRequest { remove, ..ApplyRequest::default() }).await.map(drop)?)
                })
                .await;
            }
            Self::Partitions => {
                forever(grpc, 4, |address| async move {
                    let mut client = InvalidationClient::connect(address).await?;
                    let all =
                        (0..65_536).map(|number| Partition { topic: "orders".into(), number }).collect();
                    let watermarks = Some(Watermarks { all, ..Watermarks::default() });
                    let request = HeartbeatRequest { watermarks, ..HeartbeatRequest::default() };
                    Ok(client.heartbeat(request).await.map(drop)?)
                })
                .await;
            }
            Self::UnknownGroups => {
                forever(grpc, 4, |address| async move {
                    let mut client = CacheClient::connect(address).await?;
                    let groups = (0..100_000).map(|number| format!("nothing-{number}")).collect();
                    Ok(client.flush(FlushRequest { groups, ..FlushRequest::default() }).await.map(drop)?)
                })
                .await;
            }
            Self::TrackingPrefixes => {
                let prefixes: Vec<_> =
                    (0..256).map(|number| format!("{number}:{}", "p".repeat(900))).collect();
                let prefixes = format!(" PREFIX {}", prefixes.join(" PREFIX "));
                let tracking = format!("HELLO 3\r\nCLIENT TRACKING ON BCAST{prefixes}\r\n");
                let gets = format!("{tracking}{}", format!("GET {SMALL}\r\n").repeat(1000));
                unread(resp, 40, gets.as_bytes()).await;
            }
            // 200 MB of values that never end.
            Self::HalfValues => {
                let mut half = b"*3\r\n$3\r\nSET\r\n$5\r\nrow:1\r\n$1000000\r\n".to_vec();
                half.resize(half.len() + 999_000, b'x');
                unread(resp, 200, &half).await;
            }
            Self::Garbage => {
                let garbage: Vec<u8> =
                    (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                loop {
                    let all = [grpc, http, resp].into_iter().cycle().take(300);
                    join_all(all.map(async |to| {
                        if let Ok(mut stream) = TcpStream::connect(to).await {
                            let _ = stream.write_all(&garbage).await;
                            let _ = stream.read(&mut [0; 64]).await;
                        }
                    }))
                    .await;
                }
            }
        }
    }
}

/// Keeps so many connections to each port, after these bytes.
async fn hold(ports: &[SocketAddr], each: usize, sent: &[u8]) {
    let mut held = Vec::new();
    for _ in 0..each {
        for port in ports {
            if let Ok(mut stream) = TcpStream::connect(port).await {
                let _ = stream.write_all(sent).await;
                held.push(stream);
            }
        }
    }
    pending::<()>().await;
}

/// Sends bytes on so many connections and reads nothing of what comes.
async fn unread(port: SocketAddr, connections: usize, sent: &[u8]) {
    join_all((0..connections).map(async |_| {
        let stream = TcpStream::connect(port).await;
        if let Ok(mut stream) = stream {
            let _ = stream.write_all(sent).await;
            pending::<()>().await;
        }
    }))
    .await;
    pending::<()>().await;
}

/// Calls again and again, from so many callers.
async fn forever<F>(port: SocketAddr, callers: usize, call: impl Fn(String) -> F)
where
    F: Future<Output = anyhow::Result<()>>,
{
    join_all((0..callers).map(async |_| {
        loop {
            let _ = call(format!("http://{port}")).await;
        }
    }))
    .await;
}
