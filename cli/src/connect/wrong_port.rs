//! A port that answers, but not gRPC: which one it is, and which one was meant.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long the port may take to show what it speaks.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is read of its answer at most: a ring of many members is some kilobytes.
const LONGEST: u64 = 1 << 20;

/// What to say of `http://host:port` if it speaks HTTP or Redis; `None` for anything else.
pub(super) async fn explain(url: &str) -> Option<String> {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let answer = timeout(PATIENCE, ask(address)).await.ok()??;
    let port = address.rsplit(':').next()?;
    if answer.starts_with("HTTP/1.") {
        let right =
            grpc_of(&answer, port).unwrap_or_else(|| "7400 unless node.grpc says otherwise".to_owned());
        return Some(format!(":{port} is an HTTP port; gRPC is {right}"));
    }
    answer
        .starts_with('-')
        .then(|| format!(":{port} is a port for Redis clients; gRPC is 7400 unless node.grpc says otherwise"))
}

/// The answer to a question that HTTP and Redis ports both answer, each in its own way.
async fn ask(address: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).await.ok()?;
    connection.write_all(b"GET /v1/ring HTTP/1.0\r\nHost: node\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    // HTTP/1.0 ends with the connection; Redis says an error to the first line, and more to the others.
    let mut read = connection.take(LONGEST);
    loop {
        let count = read.read_buf(&mut answer).await.ok()?;
        if count == 0 || answer.starts_with(b"-") {
            return Some(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// The gRPC address of the member whose HTTP port this is, out of `GET /v1/ring`.
fn grpc_of(answer: &str, port: &str) -> Option<String> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let ring: Value = serde_json::from_str(body).ok()?;
    let ends = |member: &&Value| {
        member["http"]
            .as_str()
            .is_some_and(|http| http.trim_end_matches('/').rsplit(':').next() == Some(port))
    };
    Some(ring["members"].as_array()?.iter().find(ends)?["grpc"].as_str()?.to_owned())
}
