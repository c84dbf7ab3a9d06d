//! Callers that keep a node waiting: idle, half a request, half a body, on all ports; and what that does to everybody else.

use std::{net::SocketAddr, time::Duration};

use cache_node::Hop;
use daemon::config::ByteSize;
use proto::v1::{self, cache_client::CacheClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use crate::{
    http::get,
    stack::{Running, Stack, row},
};

const WAIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_millis(300);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn grpc(node: &Running) -> SocketAddr {
    node.member.grpc.trim_start_matches("http://").parse().unwrap()
}

async fn patient(change: impl FnOnce(&mut cache_node::Config)) -> (Stack, Running) {
    let mut stack = Stack::new();
    (stack.config.caller_timeout, stack.config.http_idle) = (PATIENCE, PATIENCE);
    change(&mut stack.config);
    let node = stack.start("a").await;
    (stack, node)
}

/// *3000 connections that send half a head stay open for 150 s, on every port.*
#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_ends_with_its_connection_or_an_answer() {
    let (_stack, node) = patient(|_| {}).await;
    let body = "POST /v1/keys:batchGet HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"keys\"";
    let http: [(&[u8], &str); 4] = [
        (b"", ""),
        (b"GET /v1/stats HT", ""),
        (b"GET /v1/stats HTTP/1.1\r\nX: ", ""),
        (body.as_bytes(), "urn:freshline:request-late"),
    ];
    for (sent, answered) in http {
        let mut peer = TcpStream::connect(node.http).await.unwrap();
        peer.write_all(sent).await.unwrap();
        let mut all = Vec::new();
        timeout(WAIT, peer.read_to_end(&mut all)).await.expect("it ends").unwrap();
        let all = String::from_utf8_lossy(&all);
        assert!(all.contains(answered) && answered.is_empty() == all.is_empty(), "{all}");
    }
    for sent in [&b""[..], b"PRI * HTTP"] {
        let mut peer = TcpStream::connect(grpc(&node)).await.unwrap();
        peer.write_all(sent).await.unwrap();
        let mut all = Vec::new();
        let _ = timeout(WAIT, peer.read_to_end(&mut all)).await.expect("it ends");
    }
    assert_eq!(
        node.metric("freshline_connections_ended_total{port=\"grpc\",reason=\"late\"}").to_string(),
        "2"
    );
    assert_eq!(node.metric("freshline_node_requests_late_total").to_string(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_command_of_a_redis_client_ends_and_an_idle_client_stays() {
    let (stack, node) = patient(|_| {}).await;
    for sent in [&b"*3\r\n$3\r\nSET\r\n"[..], b"PING\r\n*1\r\n$4", b"GET user"] {
        let mut peer = TcpStream::connect(&node.member.resp).await.unwrap();
        peer.write_all(sent).await.unwrap();
        let mut all = Vec::new();
        let _ = timeout(WAIT, peer.read_to_end(&mut all)).await.expect("it ends");
        assert_eq!(all.starts_with(b"+PONG"), sent.starts_with(b"PING"));
    }
    assert_eq!(node.metric("freshline_node_resp_late_total").to_string(), "3");
    // Silence between requests for longer, and a request that comes in parts and whole in time, are no matter.
    let mut idle = TcpStream::connect(&node.member.resp).await.unwrap();
    let mut pong = [0; 7];
    tokio::time::sleep(PATIENCE * 2).await;
    idle.write_all(b"PING\r\n").await.unwrap();
    timeout(WAIT, idle.read_exact(&mut pong)).await.unwrap().unwrap();
    drop(stack);
    let (_stack, node) = patient(|config| config.caller_timeout = WAIT).await;
    let mut idle = TcpStream::connect(&node.member.resp).await.unwrap();
    for part in ["*1\r\n", "$4\r\n", "PING\r\n"] {
        tokio::time::sleep(PATIENCE / 6).await;
        idle.write_all(part.as_bytes()).await.unwrap();
    }
    timeout(WAIT, idle.read_exact(&mut pong)).await.unwrap().unwrap();
    assert_eq!(&pong, b"+PONG\r\n");
}

/// A connection of HTTP/2 with a call of which the message does not come to its end; frames as RFC 9113 has them.
async fn half_a_message(node: &Running, sent: usize) -> TcpStream {
    let mut peer = TcpStream::connect(grpc(node)).await.unwrap();
    let mut bytes = PREFACE.to_vec();
    let mut frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        bytes.extend_from_slice(&[kind, flags]);
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
    };
    frame(4, 0, 0, &[]);
    let mut head = vec![0x83, 0x86]; // POST, http
    for (name, value) in [
        (":path", "/freshline.v1.Cache/Remove"),
        (":authority", "x"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        head.push(0); // a literal with its name, not indexed
        for text in [name, value] {
            head.push(u8::try_from(text.len()).unwrap());
            head.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 4, 1, &head);
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(sent * 2).unwrap().to_be_bytes());
    message.resize(sent, 0x0a);
    for part in message.chunks(16 << 10) {
        frame(0, 0, 1, part);
    }
    peer.write_all(&bytes).await.unwrap();
    peer
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_is_given_up_and_its_bytes_are_given_back() {
    let (_stack, node) = patient(|_| {}).await;
    let _peer = half_a_message(&node, 60_000).await;
    let late = async {
        while node.metric("freshline_node_requests_late_total") < 1.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, late).await.expect("it is noticed");
    let freed = async {
        while node.metric("freshline_node_request_bytes") > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, freed).await.expect("and freed");
}

/// *One connection sends half of 64 MiB on each of many streams.*
#[tokio::test(flavor = "multi_thread")]
async fn what_is_received_is_bounded_over_all_callers_and_the_caller_is_told() {
    let (_stack, node) = patient(|config| config.request_memory = ByteSize(100_000)).await;
    let mut caller = CacheClient::connect(node.member.grpc.clone()).await.unwrap();
    let keys = |bytes: usize| (0..bytes / 1000).map(|id| format!("user:{id:0995}")).collect::<Vec<_>>();
    let refused =
        caller.remove(v1::RemoveRequest { keys: keys(150_000), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("node.request_memory"), "{refused}");
    let body = serde_json::json!({ "keys": keys(150_000) }).to_string();
    let refused = crate::http::post(node.http, "/v1/keys:batchDelete", &body).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "overloaded"));
    assert_eq!(node.metric("freshline_node_requests_refused_total").to_string(), "2");
    assert_eq!(node.metric("freshline_node_request_bytes").to_string(), "0");
    caller.remove(v1::RemoveRequest { keys: vec!["user:1".into()], ..Default::default() }).await.unwrap();
}

/// *A thousand idle clients, and every port times out, `/readyz` too.*
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_for_those_that_ask() {
    let (stack, node) = patient(|config| {
        (config.http_connections, config.grpc_connections) = (8, 8);
        (config.caller_timeout, config.http_idle) = (WAIT, WAIT);
    })
    .await;
    let key = node.key();
    stack.database.put(&key, row(&key, 1));
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(node.http).await.unwrap());
        idle.push(half_a_message(&node, 100).await);
    }
    let full = async {
        while node.metric("freshline_connections_open{port=\"grpc\"}") < 8.0
            || node.metric("freshline_connections_open{port=\"http\"}") < 8.0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, full).await.expect("all are there");
    tokio::time::sleep(Duration::from_millis(1100)).await; // what counts as idle
    assert_eq!(get(node.http, "/readyz").await.status, 200);
    let mut caller = CacheClient::connect(node.member.grpc.clone()).await.unwrap();
    caller.get(v1::GetRequest { key: key.clone(), ..Default::default() }).await.unwrap();
    node.node.get(&key, Hop::First).await.unwrap();
    for port in ["http", "grpc"] {
        assert_eq!(
            node.metric(&format!("freshline_connections_ended_total{{port=\"{port}\",reason=\"idle\"}}"))
                .to_string(),
            "1"
        );
    }
}
