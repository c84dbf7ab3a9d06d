//! The port, asked over TCP.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_port_tells_metrics_health_and_what_readiness_waits_for() {
    let warnings = Warnings::new();
    let readiness = Readiness::new().with_warnings(&warnings);
    let router = router(metrics::shared(), readiness.clone(), Arc::new(|| Err("wedged".to_owned())));
    let listener = crate::bind("sync.http", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_within(
        listener,
        connections(&metrics::shared()),
        router,
        stop.clone(),
        Duration::from_millis(50),
    ));

    let answer = get(address, "/metrics").await;
    assert!(
        answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{answer}"
    );
    assert!(answer.ends_with("# EOF\n"), "{answer}");
    let answer = get(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(r#""reason":"wedged""#), "{answer}");

    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains(r#""process":"starting""#), "{answer}");
    readiness.wait("database", "no connection");
    readiness.set_ready();
    let answer = get(address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(r#"{"database":"no connection"}"#),
        "{answer}"
    );
    readiness.done("database");
    assert!(readiness.is_ready() && get(address, "/readyz").await.starts_with("HTTP/1.1 200"));

    warnings.set("replicas", Some("1 here, 2 on b".to_owned()));
    let answer = get(address, "/readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(r#""warnings":{"replicas":"1 here, 2 on b"}"#),
        "{answer}"
    );

    // A client that never finishes its request delays the stop by the grace and no more.
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    silent.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    stop.cancel();
    tokio::time::timeout(GRACE, server).await.expect("stops in bounded time").unwrap();
}

#[tokio::test]
async fn readiness_tells_each_change_once() {
    let readiness = Readiness::new();
    let mut changes = readiness.subscribe();
    readiness.set_not_ready("starting");
    assert!(!changes.has_changed().unwrap(), "nothing new was said");
    readiness.set_ready();
    assert!(changes.borrow_and_update().is_empty());
    readiness.set_not_ready("stopping");
    assert_eq!(changes.borrow_and_update()["process"], "stopping");
}
