//! CLIENT TRACKING: replies that are not written at the moment of their look, and registrations that must end.

use std::time::Duration;

use tokio::time::timeout;
use wire::Apply;

use super::{Redis, Value, bulk, invalidated};
use crate::stack::{Running, Stack, row};

async fn remove(running: &Running, key: &str) {
    let apply = Apply { epoch: running.node.epoch(), remove: vec![key.to_owned()], ..Apply::default() };
    running.node.apply(&apply).await.unwrap();
}

/// Keys and registrations that a node remembers.
async fn remembered(running: &Running) -> (u64, u64) {
    let mut redis = Redis::to(running).await;
    let Value::Bulk(info) = redis.ask("INFO stats").await else { panic!("INFO is text") };
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect("INFO has it");
        line.trim_start_matches(':').parse().unwrap()
    };
    (number("tracking_total_keys"), number("tracking_total_items"))
}

/// Waits until the node remembers nothing; what is gone is dropped within some seconds.
async fn forgotten(running: &Running) {
    let gone = async { while remembered(running).await != (0, 0) {} };
    timeout(Duration::from_secs(20), gone).await.expect("the table is empty in time");
}

/// Replies that wait for user:2, with user:1 found in memory; for each, how many requests that are.
const WAITING: [(&str, usize); 5] = [
    ("GET user:2|GET user:1", 2),
    ("MGET user:2 user:1", 1),
    ("MGET user:1 user:2", 1),
    ("GET user:2|MGET user:1 user:1", 2),
    ("GET user:2|EXISTS user:1", 2),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_that_waited_while_its_key_was_removed_is_followed_by_its_invalidation() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut other = Redis::to(&a).await;
    for options in ["", "NOLOOP", "OPTIN", "OPTOUT", "BCAST", "BCAST PREFIX user: NOLOOP"] {
        for (requests, replies) in WAITING {
            if options == "OPTIN" && replies > 1 {
                continue; // CLIENT CACHING between them has all before it answered
            }
            stack.database.hold(false);
            stack.database.put("user:1", row("user:1", 1));
            stack.database.put("user:2", row("user:2", 1));
            remove(&a, "user:1").await;
            remove(&a, "user:2").await;
            assert_eq!(other.ask("GET user:1").await, bulk(row("user:1", 1)));
            let mut redis = Redis::tracking(&a, options).await;
            if options == "OPTIN" {
                redis.ask("CLIENT CACHING YES").await;
            }
            stack.database.hold(true);
            redis.send(format!("{}\r\n", requests.replace('|', "\r\n")).as_bytes()).await;
            stack.database.reached.notified().await; // user:1 was found, user:2 is waited for ...
            stack.database.put("user:1", row("user:1", 2));
            remove(&a, "user:1").await; // ... user:1 changes ...
            assert_eq!(redis.next().await, invalidated(&["user:1"]), "it is told as early as can be");
            stack.database.release.notify_one(); // ... and user:2 arrives
            for _ in 0..replies {
                let reply = redis.next().await;
                assert!(!matches!(reply, Value::Push(_)), "{options} {requests}: {reply:?}");
            }
            assert_eq!(
                redis.next().await,
                invalidated(&["user:1"]),
                "{options} {requests}: again, behind the reply"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_client_is_told_of_a_hit_that_waited_when_its_reply_is_written() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let (mut reader, mut listener) = (Redis::to(&a).await, Redis::to(&a).await);
    let Value::Int(id) = listener.ask("CLIENT ID").await else { panic!("an id is a number") };
    listener.ask("SUBSCRIBE __redis__:invalidate").await;
    reader.ask(&format!("CLIENT TRACKING ON REDIRECT {id}")).await;
    stack.database.put("user:1", row("user:1", 1));
    Redis::to(&a).await.ask("GET user:1").await;
    stack.database.hold(true);
    reader.request("MGET user:1 user:2").await;
    stack.database.reached.notified().await;
    remove(&a, "user:1").await;
    let told =
        Value::Array(vec![bulk("message"), bulk("__redis__:invalidate"), Value::Array(vec![bulk("user:1")])]);
    assert_eq!(listener.next().await, told);
    stack.database.release.notify_one();
    assert_eq!(reader.next().await, Value::Array(vec![bulk(row("user:1", 1)), Value::Null]));
    assert_eq!(listener.next().await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_uses_up_what_client_caching_said() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let refused =
        ["NOSUCH", "GET", "MGET", "GET nothing:1", "CLIENT NOSUCH", "SET user:1 x", "PING", "SCAN x"];
    for (n, refused) in refused.into_iter().enumerate() {
        let key = format!("user:{n}");
        let mut opt_out = Redis::tracking(&a, "OPTOUT").await;
        opt_out.ask("CLIENT CACHING NO").await;
        opt_out.ask(refused).await;
        opt_out.ask(&format!("GET {key}")).await;
        let mut opt_in = Redis::tracking(&a, "OPTIN").await;
        opt_in.ask("CLIENT CACHING YES").await;
        opt_in.ask(refused).await;
        opt_in.ask(&format!("GET {key}")).await;
        remove(&a, &key).await;
        assert_eq!(opt_out.push().await, invalidated(&[&key]), "{refused}");
        opt_in.request("PING").await;
        assert_eq!(opt_in.next().await, Value::Simple("PONG".into()), "{refused}");
    }
    // CLIENT's own commands don't, as in Redis.
    let mut redis = Redis::tracking(&a, "OPTIN").await;
    for words in ["CLIENT CACHING YES", "CLIENT ID", "CLIENT CACHING", "GET user:77"] {
        redis.ask(words).await;
    }
    remove(&a, "user:77").await;
    assert_eq!(redis.push().await, invalidated(&["user:77"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_not_hold_is_not_remembered() {
    let mut stack = Stack::new();
    stack.config.max_value = daemon::config::ByteSize(200);
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let mut redis = Redis::tracking(&a, "").await;
    for key in b.keys(50) {
        assert!(redis.ask(&format!("GET {key}")).await.is_error("MOVED"));
        assert!(redis.ask(&format!("TTL {key}")).await.is_error("MOVED"));
    }
    assert_eq!(remembered(&a).await, (0, 0), "what another node holds");
    let keys = a.keys(3);
    redis.ask("READONLY").await;
    assert!(
        redis.ask(&format!("MGET {} {}", keys[0], keys[0].replace("user", "nothing"))).await.is_error("ERR")
    );
    stack
        .database
        .fail(Some(loader::Error::Deadline { group: "user".into(), deadline: Duration::from_secs(1) }));
    assert!(redis.ask(&format!("GET {}", keys[0])).await.is_error("TRYAGAIN"));
    assert_eq!(remembered(&a).await, (0, 0), "what was an error");
    stack.database.fail(None);
    stack.database.put(&keys[0], format!("\"{}\"", "x".repeat(300)));
    redis.ask(&format!("GET {}", keys[0])).await;
    assert_eq!(remembered(&a).await, (0, 0), "what is too large to be kept");
    assert_eq!(redis.push().await, invalidated(&[&keys[0]]));
    assert_eq!(redis.ask(&format!("TTL {}", keys[1])).await, Value::Int(-2));
    assert_eq!(remembered(&a).await, (0, 0), "what is not in memory");
    // A cached absence is held.
    assert_eq!(redis.ask(&format!("GET {}", keys[1])).await, Value::Null);
    assert_eq!(remembered(&a).await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_or_tracks_no_more_is_not_remembered() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    for words in ["QUIT", "RESET", "CLIENT TRACKING OFF", ""] {
        let (mut one, mut two) = (Redis::tracking(&a, "").await, Redis::tracking(&a, "").await);
        for id in 0..100 {
            one.ask(&format!("GET user:{id}")).await;
            two.ask(&format!("GET user:{}", id % 10)).await;
        }
        assert_eq!(remembered(&a).await, (100, 110));
        if words.is_empty() {
            drop((one, two));
            forgotten(&a).await;
            continue;
        }
        one.ask(words).await;
        let left = async { while remembered(&a).await != (10, 10) {} };
        timeout(Duration::from_secs(20), left).await.expect("the other's are left");
        remove(&a, "user:1").await;
        assert_eq!(two.push().await, invalidated(&["user:1"]));
        two.ask(words).await;
        forgotten(&a).await;
    }
}
