//! Bytes: inline commands, requests in pieces, what is no request, too many clients.

use daemon::config::Secret;

use super::{Redis, Value, bulk};
use crate::stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn inline_commands_and_requests_in_pieces_are_answered() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    redis.send(b"PING\r\n\r\necho \"two words\"\r\n").await;
    assert_eq!(redis.reply().await, Value::Simple("PONG".into()));
    assert_eq!(redis.reply().await, bulk("two words"));
    for byte in b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n" {
        redis.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(redis.reply().await, bulk("abc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_told_after_the_replies_before_it_and_ends_the_connection() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    for (bytes, error) in [
        (&b"*1\r\n+PING\r\n"[..], "ERR Protocol error: expected '$', got '+'"),
        (b"*a\r\n", "ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$99999999\r\n", "ERR Protocol error: invalid bulk length"),
        (b"GET \"user\r\n", "ERR Protocol error: unbalanced quotes in request"),
    ] {
        let mut redis = Redis::to(&a).await;
        redis.send(&[b"*2\r\n$3\r\nGET\r\n$6\r\nuser:1\r\n", bytes].concat()).await;
        assert_eq!(redis.reply().await, Value::Null);
        assert!(redis.reply().await.is_error(error), "{error}");
        redis.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_may_be_are_told_so() {
    let mut stack = Stack::new();
    stack.config.resp_connections = 1;
    let a = stack.start("a").await;
    let mut first = Redis::to(&a).await;
    first.ask("PING").await;
    let mut second = Redis::to(&a).await;
    assert!(second.reply().await.is_error("ERR max number of clients reached"));
    second.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_goes_through_in_one_piece() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    let large = format!("{{\"id\":1,\"name\":\"{}\"}}", "x".repeat(2 << 20));
    stack.database.put("user:1", large.clone());
    for _ in 0..4 {
        redis.request("GET user:1").await;
    }
    for _ in 0..4 {
        assert_eq!(redis.reply().await, bulk(large.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_that_posts_to_the_port_changes_nothing_and_is_closed() {
    let mut stack = Stack::new();
    stack.database.put("user:1", "one".to_owned());
    for password in ["", "x"] {
        stack.config.resp_password = Secret::new(password);
        let a = stack.start("a").await;
        let mut redis = Redis::to(&a).await;
        redis.ask("AUTH default x").await;
        assert_eq!(redis.ask("GET user:1").await, bulk("one"));
        for (at, attack) in [
            "POST / HTTP/1.1\r\nHost: node:6379\r\nContent-Length: 12\r\n\r\nDEL user:1\r\n",
            "PUT / HTTP/1.1\r\nhost: node:6379\r\n\r\nDEL user:1\r\n",
            "*1\r\n$4\r\npost\r\n*2\r\n$3\r\nDEL\r\n$6\r\nuser:1\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let mut other = Redis::to(&a).await;
            other.send(attack.as_bytes()).await;
            other.closed().await;
            assert!(
                a.metric("freshline_node_resp_cross_protocol_total") > f64::from(u8::try_from(at).unwrap())
            );
        }
        assert!(matches!(redis.ask("TTL user:1").await, Value::Int(1..)), "it is still in memory");
        // What was asked before it is answered.
        redis.send(b"GET user:2\r\nHost: x\r\nPING\r\n").await;
        assert_eq!(redis.reply().await, Value::Null);
        redis.closed().await;
        a.stop().await;
    }
}
