//! What callers get: by one hop from any node, and clear words for bad input and a database that is down.

use std::sync::Arc;

use cache_node::{Error, Hop};
use client::{Client, Config, Peers};
use wire::{EntryState, Outcome};

use crate::stack::{Stack, row};

#[tokio::test(flavor = "multi_thread")]
async fn any_node_answers_any_key_by_one_hop_to_its_owner() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put(&key, row(&key, 1));

    let first = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((first.outcome, &*first.node), (Outcome::Miss, "b"));
    assert_eq!(first.value.as_deref(), Some(row(&key, 1).as_bytes()));
    let second = a.node.get(&key, Hop::First).await.unwrap();
    assert_eq!((second.outcome, &*second.node), (Outcome::Hit, "b"));
    assert!(second.ttl.is_some());
    assert_eq!(stack.database.calls().len(), 1, "one read of the database for all");
    assert_eq!(a.node.stats().forwards, 2);

    let explained = a.node.explain(&key, Hop::First).await.unwrap();
    assert_eq!((&*explained.node, &*explained.owner, explained.entry), ("b", "b", EntryState::Value));
    assert_eq!(&*explained.group, "user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_request_is_never_forwarded_again_and_stores_nothing() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let key = b.key();
    stack.database.put(&key, row(&key, 1));
    let answer = a.node.get(&key, Hop::Forwarded).await.unwrap();
    assert_eq!((answer.outcome, &*answer.node, answer.ttl), (Outcome::ReadThrough, "a", None));
    assert_eq!((a.node.stats().entries, b.node.stats().entries), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_come_back_in_order_each_with_its_own_result() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let mut keys: Vec<String> = a.keys(20).into_iter().chain(b.keys(20)).collect();
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    keys.insert(7, "user:007".into());
    keys.push(keys[0].clone());
    keys.push("user:18446744073709551615".into());
    let results = a.node.get_many(&keys, Hop::First).await.unwrap();
    assert_eq!(results.len(), keys.len());
    for (key, result) in keys.iter().zip(&results) {
        match &**key {
            "user:007" => assert!(matches!(result, Err(Error::Key(_))), "{result:?}"),
            "user:18446744073709551615" => assert_eq!(result.as_ref().unwrap().value, None),
            key => assert_eq!(result.as_ref().unwrap().value.as_deref(), Some(row(key, 1).as_bytes())),
        }
    }
    let too_many = vec!["user:1".to_owned(); stack.config.max_keys + 1];
    assert!(matches!(a.node.get_many(&too_many, Hop::First).await, Err(Error::TooManyKeys { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_gone_costs_speed_and_no_answer() {
    let stack = Stack::new();
    let (a, mut b) = (stack.start("a").await, stack.start("b").await);
    let keys = b.keys(3);
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    b.crash().await;
    let answer = a.node.get(&keys[0], Hop::First).await.unwrap();
    assert_eq!((answer.outcome, &*answer.node), (Outcome::ReadThrough, "a"));
    for result in a.node.get_many(&keys, Hop::First).await.unwrap() {
        assert_eq!(result.unwrap().outcome, Outcome::ReadThrough);
    }
    assert_eq!(a.node.stats().entries, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_are_refused_with_a_hint_over_grpc_and_http() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let client = Client::from_seeds(vec![a.member.grpc.clone()], Config::default()).await.unwrap();
    for (key, hint) in
        [("user:007", "user:7"), ("user:abc", "abc"), ("nothing:1", "the nearest template is"), ("", "empty")]
    {
        let error = client.get(key).await.unwrap_err().to_string();
        assert!(error.contains(hint), "{key}: {error}");
    }
    let long = format!("user:{}", "1".repeat(2000));
    assert!(client.get(&long).await.unwrap_err().to_string().contains("limit is 1024"));

    let (status, _, body) = http(a.http, "GET", "/v1/keys/user:007").await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("urn:freshline:bad-key") && body.contains("user:7"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_over_the_limit_is_served_and_not_stored() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let key = a.key();
    let large = format!("\"{}\"", "x".repeat(100 << 10));
    stack.database.put(&key, large.clone());
    for _ in 0..2 {
        let answer = a.node.get(&key, Hop::First).await.unwrap();
        assert_eq!(answer.outcome, Outcome::ReadThrough);
        assert_eq!(answer.value.as_deref(), Some(large.as_bytes()));
    }
    assert_eq!((a.node.stats().entries, a.node.stats().fills_refused), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_an_error_that_is_not_cached() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let (hot, cold) = {
        let mut keys = a.keys(2);
        (keys.remove(0), keys.remove(0))
    };
    stack.database.put(&hot, row(&hot, 1));
    stack.database.put(&cold, row(&cold, 1));
    a.node.get(&hot, Hop::First).await.unwrap();
    stack.database.fail(Some(loader::Error::Unavailable("database mysql://db/shop is down".into())));
    assert_eq!(a.node.get(&hot, Hop::First).await.unwrap().outcome, Outcome::Hit);
    let error = a.node.get(&cold, Hop::First).await.unwrap_err();
    assert!(error.to_string().contains("is down"), "{error}");
    let path = format!("/v1/keys/{cold}");
    assert_eq!(http(a.http, "GET", &path).await.0, 503);
    stack.database.fail(None);
    assert_eq!(a.node.get(&cold, Hop::First).await.unwrap().outcome, Outcome::Miss);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_shows_values_absence_statistics_and_the_ring() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    stack.database.put("user:1", row("user:1", 1));
    let (status, headers, body) = http(a.http, "GET", "/v1/keys/user%3A1").await;
    assert_eq!((status, body), (200, row("user:1", 1)));
    for header in
        ["age: 0", "x-freshline-outcome: miss", "x-freshline-node: a", "content-type: application/json"]
    {
        assert!(headers.contains(header), "{header} in {headers}");
    }
    assert_eq!(http(a.http, "GET", "/v1/keys/user:2").await.0, 404);
    let (_, headers, body) = http(a.http, "GET", "/v1/keys/user:2").await;
    assert!(
        headers.contains("x-freshline-outcome: negative_hit") && body.contains("no row"),
        "{headers} {body}"
    );
    assert!(http(a.http, "GET", "/v1/explain/user:1").await.2.contains("\"entry\":\"value\""));
    assert!(http(a.http, "DELETE", "/v1/keys/user:1").await.2.contains("\"removed\":1"));
    assert!(http(a.http, "GET", "/v1/explain/user:1").await.2.contains("\"origin\":\"request\""));
    assert!(http(a.http, "GET", "/v1/stats").await.2.contains("\"misses\":2"));
    assert!(http(a.http, "GET", "/v1/ring").await.2.contains("\"owned_slots\":16384"));
    assert!(
        http(a.http, "GET", "/metrics")
            .await
            .2
            .contains("freshline_node_gets_total{group=\"user\",outcome=\"hit\"}")
    );
    assert_eq!(http(a.http, "GET", "/readyz").await.0, 200);
    assert_eq!(http(a.http, "GET", "/v2").await.0, 404);
    assert_eq!(http(a.http, "POST", "/v1/keys/user:1").await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_serves_nothing_from_memory_and_stores_nothing() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut keys = a.keys(2);
    for key in &keys {
        stack.database.put(key, row(key, 1));
    }
    let (hot, cold) = (keys.remove(0), keys.remove(0));
    a.node.get(&hot, Hop::First).await.unwrap();
    stack.registry.fence(&a.member.id);
    stack.database.put(&hot, row(&hot, 2));
    let answer = a.node.get(&hot, Hop::First).await.unwrap();
    assert_eq!(
        (answer.outcome, answer.value.as_deref()),
        (Outcome::ReadThrough, Some(row(&hot, 2).as_bytes()))
    );
    assert_eq!(a.node.get(&cold, Hop::First).await.unwrap().outcome, Outcome::ReadThrough);
    assert_eq!(a.node.stats().entries, 1);
    stack.registry.unfence(&a.member.id);
    assert_eq!(a.node.get(&cold, Hop::First).await.unwrap().outcome, Outcome::Miss);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_node_that_may_not_read_through_says_so() {
    let mut stack = Stack::new();
    stack.config.fenced = cache_node::Fenced::Unavailable;
    let a = stack.start("a").await;
    let key = a.key();
    stack.database.put(&key, row(&key, 1));
    a.node.get(&key, Hop::First).await.unwrap();
    stack.registry.fence(&a.member.id);
    assert!(matches!(a.node.get(&key, Hop::First).await, Err(Error::Fenced)));
    assert!(stack.database.calls().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_and_membership_travel_over_grpc() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let peers: Arc<Peers> = Peers::new(Config::default());
    let stats = peers.stats(&b.member).await.unwrap();
    assert_eq!((&*stats.node, stats.epoch > 0, stats.groups.len()), ("b", true, 2));
    let client = Client::from_seeds(vec![a.member.grpc.clone()], Config::default()).await.unwrap();
    assert_eq!(client.ring().members().len(), 2);
}

/// One HTTP/1.1 request: status, headers in lower case, body.
pub(crate) async fn http(to: std::net::SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
        body.split("\r\n").skip(1).step_by(2).collect()
    } else {
        body.to_owned()
    };
    (status, head.to_lowercase(), body)
}
