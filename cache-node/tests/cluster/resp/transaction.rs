//! MULTI and EXEC: commands that are answered together, as redis-server 7 answers them.

use daemon::config::Secret;

use super::{Redis, Value, bulk, invalidated};
use crate::stack::{Stack, row};

fn simple(text: &str) -> Value {
    Value::Simple(text.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_transaction_are_answered_in_order_by_exec() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    for id in [1, 2] {
        stack.database.put(&format!("user:{id}"), row(&format!("user:{id}"), 1));
    }
    redis.ask("GET user:1").await;
    assert_eq!(redis.ask("MULTI").await, simple("OK"));
    for words in
        ["GET user:1", "GET user:2", "DEL user:1", "MGET user:1 user:3", "GET nothing:1", "ECHO x", "UNWATCH"]
    {
        assert_eq!(redis.ask(words).await, simple("QUEUED"), "{words}");
    }
    let Value::Array(replies) = redis.ask("EXEC").await else { panic!("EXEC is an array") };
    let [hit, miss, removed, after, wrong, echo, unwatched] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((hit, miss), (&bulk(row("user:1", 1)), &bulk(row("user:2", 1))));
    assert_eq!((removed, after), (&Value::Int(1), &Value::Array(vec![bulk(row("user:1", 1)), Value::Null])));
    assert!(wrong.is_error("ERR no group has keys like"), "one mistake is one error: {wrong:?}");
    assert_eq!((echo, unwatched), (&bulk("x"), &simple("OK")));
    // All in one piece, with others before and behind, as pipelines of many clients are.
    redis.send(b"GET user:2\r\nMULTI\r\nGET user:2\r\nGET user:9\r\nEXEC\r\nPING\r\nMULTI\r\nEXEC\r\n").await;
    assert_eq!(redis.reply().await, bulk(row("user:2", 1)));
    for _ in 0..3 {
        redis.reply().await;
    }
    assert_eq!(redis.reply().await, Value::Array(vec![bulk(row("user:2", 1)), Value::Null]));
    assert_eq!(redis.reply().await, simple("PONG"));
    assert_eq!(redis.reply().await, simple("OK"));
    assert_eq!(redis.reply().await, Value::Array(vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_around_transactions_are_answered_as_redis_does() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let abort = "EXECABORT Transaction discarded because of previous errors.";
    // Each line is what is said, and how the answer begins; each list a connection.
    for (n, said) in [
        vec![("EXEC", "ERR EXEC without MULTI"), ("DISCARD", "ERR DISCARD without MULTI"), ("UNWATCH", "OK")],
        vec![("WATCH user:1", "ERR WATCH promises what a node can't keep"), ("MULTI", "OK"), ("EXEC", "[]")],
        vec![
            ("MULTI", "OK"),
            ("MULTI", "ERR MULTI calls can not be nested"),
            ("WATCH user:1", "ERR WATCH inside MULTI is not allowed"),
            ("PING", "QUEUED"),
            ("EXEC", "[PONG]"),
        ],
        vec![("MULTI", "OK"), ("PING", "QUEUED"), ("NOSUCH", "ERR unknown command"), ("EXEC", abort)],
        vec![("MULTI", "OK"), ("GET", "ERR wrong number of arguments for 'get'"), ("EXEC", abort)],
        vec![("MULTI", "OK"), ("CLIENT NOPE", "ERR unknown subcommand 'NOPE'"), ("EXEC", abort)],
        vec![
            ("MULTI", "OK"),
            ("CLIENT SETNAME", "ERR wrong number of"),
            ("EXEC", abort),
            ("EXEC", "ERR EXEC w"),
        ],
        vec![("MULTI", "OK"), ("SUBSCRIBE __redis__:invalidate", "ERR SUBSCRIBE inside"), ("EXEC", abort)],
        vec![("MULTI", "OK"), ("CLIENT REPLY OFF", "ERR CLIENT REPLY inside"), ("EXEC", abort)],
        vec![
            ("MULTI", "OK"),
            ("NOSUCH", "ERR"),
            ("DISCARD", "OK"),
            ("EXEC", "ERR EXEC without MULTI"),
            ("MULTI", "OK"),
            ("PING", "QUEUED"),
            ("EXEC", "[PONG]"),
        ],
        vec![
            ("MULTI", "OK"),
            (
                "EXEC x",
                "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
            ),
            ("PING", "PONG"),
        ],
        vec![("MULTI", "OK"), ("PING", "QUEUED"), ("RESET", "RESET"), ("EXEC", "ERR EXEC without MULTI")],
        vec![("MULTI", "OK"), ("QUIT", "OK")],
    ]
    .into_iter()
    .enumerate()
    {
        let mut redis = Redis::to(&a).await;
        for (words, answer) in said {
            let reply = match redis.ask(words).await {
                Value::Simple(text) | Value::Error(text) => text,
                Value::Array(all) if all.is_empty() => "[]".to_owned(),
                Value::Array(all) if all == [simple("PONG")] => "[PONG]".to_owned(),
                other => format!("{other:?}"),
            };
            assert!(reply.starts_with(answer), "{n}: {words}: {reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_bounded_in_commands_and_bytes_and_needs_the_password() {
    let mut stack = Stack::new();
    stack.config.max_keys = 3;
    stack.config.resp_password = Secret::new("x");
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    assert!(redis.ask("MULTI").await.is_error("NOAUTH"));
    redis.ask("AUTH x").await;
    redis.ask("MULTI").await;
    for _ in 0..3 {
        assert_eq!(redis.ask("PING").await, simple("QUEUED"));
    }
    assert!(redis.ask("PING").await.is_error("ERR a transaction has at most 3 commands"));
    assert!(redis.ask("EXEC").await.is_error("EXECABORT"));
    redis.ask("MULTI").await;
    let large = "x".repeat(60_000);
    assert_eq!(redis.ask(&format!("ECHO {large}")).await, simple("QUEUED"));
    assert_eq!(redis.ask(&format!("ECHO {large}")).await, simple("QUEUED"));
    assert!(redis.ask(&format!("ECHO {large}")).await.is_error("ERR a transaction has at most"));
    assert!(redis.ask("EXEC").await.is_error("EXECABORT"));
    assert_eq!(redis.ask("PING").await, simple("PONG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_key_in_a_transaction_is_told_when_it_is_queued() {
    let stack = Stack::new();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let mut redis = Redis::to(&a).await;
    redis.ask("MULTI").await;
    assert!(redis.ask(&format!("GET {}", b.key())).await.is_error("MOVED"));
    assert!(redis.ask("EXEC").await.is_error("EXECABORT"));
    redis.ask("MULTI").await;
    assert_eq!(redis.ask(&format!("GET {}", a.key())).await, simple("QUEUED"));
    assert_eq!(redis.ask("EXEC").await, Value::Array(vec![Value::Null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn client_caching_speaks_of_a_whole_transaction_and_pushes_come_behind_it() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    for id in 1..5 {
        stack.database.put(&format!("user:{id}"), row(&format!("user:{id}"), 1));
    }
    for inside in [false, true] {
        Redis::to(&a).await.ask("MGET user:1 user:2 user:3 user:4").await;
        let mut redis = Redis::tracking(&a, "OPTIN").await;
        // As rueidis and valkey-go read; with `inside` as others do.
        let (first, second) =
            if inside { ("MULTI", "CLIENT CACHING YES") } else { ("CLIENT CACHING YES", "MULTI") };
        redis.ask(first).await;
        redis.ask(second).await;
        redis.ask("PTTL user:1").await;
        redis.ask("GET user:1").await;
        redis.ask("GET user:2").await;
        redis.ask("EXEC").await;
        redis.ask("GET user:3").await; // it is over: this one is not tracked
        // Its own removal is told after the array, not within it.
        redis.ask("CLIENT CACHING YES").await;
        redis.ask("MULTI").await;
        for words in ["GET user:4", "DEL user:1", "DEL user:3", "GET user:4"] {
            redis.ask(words).await;
        }
        redis.request("EXEC").await;
        let four = bulk(row("user:4", 1));
        assert_eq!(redis.next().await, Value::Array(vec![four.clone(), Value::Int(1), Value::Int(1), four]));
        assert_eq!(redis.next().await, invalidated(&["user:1"]), "user:3 was not tracked");
        for key in ["user:2", "user:4"] {
            Redis::to(&a).await.ask(&format!("DEL {key}")).await;
            assert_eq!(redis.push().await, invalidated(&[key]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_covers_a_whole_transaction() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    redis.ask("MULTI").await;
    redis.ask("GET user:1").await;
    redis.ask("DISCARD").await;
    redis.request("CLIENT REPLY OFF").await;
    for words in ["MULTI", "PING", "GET user:1", "DEL user:1", "EXEC"] {
        redis.request(words).await;
    }
    assert_eq!(redis.ask("CLIENT REPLY ON").await, simple("OK"));
    redis.ask("MULTI").await;
    redis.ask("PING").await;
    assert_eq!(redis.ask("EXEC").await, Value::Array(vec![simple("PONG")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_read_with_its_ttl_may_be_kept_though_it_was_not_in_memory() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    stack.database.put("user:1", row("user:1", 1));
    let mut redis = Redis::tracking(&a, "OPTIN").await;
    // As rueidis and valkey-go read what they don't have.
    for (first, reply) in [("PTTL user:1", Value::Int(-2)), ("GET user:2", Value::Null)] {
        for words in ["CLIENT CACHING YES", "MULTI", first, "GET user:1"] {
            redis.ask(words).await;
        }
        redis.request("EXEC").await;
        assert_eq!(redis.next().await, Value::Array(vec![reply, bulk(row("user:1", 1))]));
        redis.request("PING").await;
        assert_eq!(redis.next().await, simple("PONG"), "nothing is taken back");
        Redis::to(&a).await.ask("DEL user:1").await;
        assert_eq!(redis.push().await, invalidated(&["user:1"]));
    }
    // Without its value there is nothing to keep, before or behind.
    for words in ["CLIENT CACHING YES", "MULTI", "GET user:1", "DEL user:1", "PTTL user:1"] {
        redis.ask(words).await;
    }
    redis.request("EXEC").await;
    let all = vec![bulk(row("user:1", 1)), Value::Int(1), Value::Int(-2)];
    assert_eq!(redis.next().await, Value::Array(all));
    assert_eq!(redis.next().await, invalidated(&["user:1"]));
    let Value::Bulk(info) = redis.ask("INFO stats").await else { panic!("INFO is text") };
    assert!(info.contains("tracking_total_keys:1\r\n"), "user:2 alone is remembered: {info}");
}
