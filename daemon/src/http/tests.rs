use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::*;

const WAIT: Duration = Duration::from_secs(10);

async fn serving(patience: Duration) -> (TcpStream, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = crate::bind("node.http", "127.0.0.1:0".parse().unwrap()).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let router = Router::new().route("/", get(async || "yes"));
    let connections = crate::admin::connections(&crate::metrics::shared());
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, connections, router, patience, stop.clone()));
    (peer, stop, served)
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nX: ", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let (mut peer, _stop, _served) = serving(Duration::from_millis(200)).await;
        peer.write_all(begun.as_bytes()).await.unwrap();
        let mut all = String::new();
        timeout(WAIT, peer.read_to_string(&mut all)).await.expect("it ends").unwrap();
        assert_eq!(all.contains("\r\n\r\nyes"), begun.ends_with("\r\n\r\n"), "{all}");
    }
}

#[tokio::test]
async fn a_caller_that_has_closed_its_side_is_answered() {
    let (mut peer, _stop, _served) = serving(WAIT).await;
    peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    peer.shutdown().await.unwrap();
    let mut all = String::new();
    timeout(WAIT, peer.read_to_string(&mut all)).await.expect("it ends").unwrap();
    assert!(all.ends_with("yes"), "{all}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_waits_for_the_others() {
    let (mut peer, stop, served) = serving(WAIT).await;
    peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut part = [0; 15];
    peer.read_exact(&mut part).await.unwrap();
    stop.cancel();
    timeout(Duration::from_secs(5), served).await.expect("it ends").unwrap();
}
