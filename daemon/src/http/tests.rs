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

/// All that is answered to these bytes.
async fn answered(bytes: &[u8]) -> String {
    let (mut peer, _stop, _served) = serving(WAIT).await;
    peer.write_all(bytes).await.unwrap();
    let mut all = String::new();
    timeout(WAIT, peer.read_to_string(&mut all)).await.expect("it ends").unwrap();
    all
}

#[tokio::test]
async fn what_is_refused_before_any_handler_says_what_to_do() {
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(65_534));
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(200 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(120));
    let cases = [
        ("no request at all\r\n\r\n", "400", "bad-request"),
        ("GET / HTTP/9.9\r\n\r\n", "400", "bad-request"),
        ("GET / HTTP/1.1\r\nbad header: x\r\n\r\n", "400", "bad-request"),
        ("GET /a{}\u{1} HTTP/1.1\r\n\r\n", "400", "bad-request"),
        (&long, "414", "path-too-long"),
        (&large, "431", "head-too-large"),
        (&many, "431", "head-too-large"),
        // After an answer, and behind one that is not written yet.
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\nno request\r\n\r\n", "400", "bad-request"),
    ];
    for (sent, status, kind) in cases {
        let all = answered(sent.as_bytes()).await;
        let last = &all[all.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {all:?}"))..];
        assert!(last.starts_with(&format!("HTTP/1.1 {status}")), "{last}");
        let (head, body) = last.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{last}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{last}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["type"].as_str().unwrap().ends_with(kind), "{body}");
        assert!(head.contains(&body["status"].to_string()), "{last}");
    }
}

#[tokio::test]
async fn an_answer_that_looks_like_a_refusal_stays_as_it_is() {
    let listener = crate::bind("node.http", "127.0.0.1:0".parse().unwrap()).unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let bare = get(async || hyper::StatusCode::BAD_REQUEST);
    let alike = get(async || "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let router = Router::new().route("/bare", bare).route("/alike", alike);
    let connections = crate::admin::connections(&crate::metrics::shared());
    let stop = CancellationToken::new();
    let _served = tokio::spawn(serve(listener, connections, router, WAIT, stop.clone()));
    peer.write_all(
        b"GET /alike HTTP/1.1\r\nhost: x\r\n\r\nGET /bare HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    let mut all = String::new();
    timeout(WAIT, peer.read_to_string(&mut all)).await.expect("it ends").unwrap();
    assert!(!all.contains("problem+json"), "{all}");
    assert_eq!(all.matches("HTTP/1.1 400").count(), 2, "{all}");
}
