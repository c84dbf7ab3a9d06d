//! Commands: reads through the node, look-aside sets, what is refused and how.

use std::sync::Arc;

use cache_node::Hop;
use catalog::Catalog;
use daemon::config::Secret;

use super::{Redis, Value, bulk};
use crate::stack::{Stack, row};

fn ok() -> Value {
    Value::Simple("OK".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_filled_and_an_absent_row_is_null() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    stack.database.put("user:1", row("user:1", 1));
    assert_eq!(redis.ask("GET user:1").await, bulk(row("user:1", 1)));
    assert_eq!(redis.ask("GET user:2").await, Value::Null);
    assert_eq!(
        redis.ask("MGET user:1 user:2").await,
        Value::Array(vec![bulk(row("user:1", 1)), Value::Null])
    );
    assert_eq!(redis.ask("GETEX user:1").await, bulk(row("user:1", 1)));
    assert!(redis.ask("GETEX user:1 EX 10").await.is_error("ERR GETEX takes no options here"));
    assert_eq!(redis.ask("EXISTS user:1 user:2 user:1").await, Value::Int(2));
    assert_eq!(redis.ask("TYPE user:1").await, Value::Simple("string".into()));
    assert_eq!(redis.ask("TYPE user:2").await, Value::Simple("none".into()));
    let Value::Int(left) = redis.ask("TTL user:1").await else { panic!("a TTL is a number") };
    assert!((500..=600).contains(&left), "{left}");
    let Value::Int(left) = redis.ask("PTTL user:1").await else { panic!("a TTL is a number") };
    assert!((500_000..=600_000).contains(&left), "{left}");
    assert_eq!(redis.ask("TTL user:2").await, Value::Int(-2));
    assert_eq!(
        redis.ask("SCAN 0 MATCH user:* COUNT 1000").await,
        Value::Array(vec![bulk("0"), Value::Array(vec![bulk("user:1")])])
    );
    assert_eq!(redis.ask("DEL user:1").await, Value::Int(1));
    assert_eq!(redis.ask("UNLINK user:1").await, Value::Int(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mget_of_hits_absences_and_misses_in_any_order_is_one_reply() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let long = "x".repeat(70_000); // larger than a block of the store
    for (id, value) in [(1, row("user:1", 1)), (3, row("user:3", 1)), (4, long), (5, String::new())] {
        stack.database.put(&format!("user:{id}"), value);
    }
    for protocol in [2, 3] {
        let mut redis = Redis::to(&a).await;
        redis.ask(&format!("HELLO {protocol}")).await;
        let all: Vec<Value> = {
            let mut all = Vec::new();
            for id in 1..=5 {
                all.push(redis.ask(&format!("GET user:{id}")).await);
            }
            all
        };
        assert_eq!(all[1], Value::Null);
        for missing in 1..=5 {
            // The absent one too: what is remembered of it goes as a value does.
            redis.ask(&format!("DEL user:{missing}")).await;
            assert_eq!(
                redis.ask("MGET user:1 user:2 user:3 user:4 user:5").await,
                Value::Array(all.clone()),
                "{missing} is not in memory"
            );
            let error = redis.ask("MGET user:1 nobody:1").await;
            assert!(
                error.is_error("ERR"),
                "nothing of what was found before the mistake is written: {error:?}"
            );
            assert_eq!(
                redis.ask("MGET user:5 user:4").await,
                Value::Array(vec![all[4].clone(), all[3].clone()])
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order_misses_and_all() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    for id in 0..100 {
        stack.database.put(&format!("user:{id}"), row(&format!("user:{id}"), 1));
    }
    redis.ask("GET user:7").await;
    for id in 0..100 {
        redis.request(&format!("GET user:{id}")).await;
        redis.request(&format!("ECHO {id}")).await;
        redis.request(&format!("GET user:{id}x")).await;
    }
    for id in 0..100 {
        assert_eq!(redis.reply().await, bulk(row(&format!("user:{id}"), 1)));
        assert_eq!(redis.reply().await, bulk(id.to_string()));
        assert!(redis.reply().await.is_error("ERR key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_aside_key_is_set_under_the_token_of_this_connections_miss() {
    let mut stack = Stack::new();
    let text = "[[group]]\nname = \"page\"\nkey = \"page:{id:u64}\"\nttl = \"10m\"\n[[rule]]\ntable = \"shop.pages\"\nkeys = [\"page:{id}\"]\n";
    stack.catalog = Arc::new(Catalog::parse("test.toml", text).unwrap());
    let a = stack.start("a").await;
    let (mut redis, mut other) = (Redis::to(&a).await, Redis::to(&a).await);
    assert!(redis.ask("SET page:1 x").await.is_error("ERR no token for page:1"));
    assert_eq!(redis.ask("GET page:1").await, Value::Null);
    assert!(other.ask("SET page:1 x").await.is_error("ERR no token"), "a token is its connection's");
    assert_eq!(redis.ask("SET page:1 x EX 5").await, ok());
    assert_eq!(other.ask("GET page:1").await, bulk("x"));
    let Value::Int(left) = other.ask("PTTL page:1").await else { panic!("a TTL is a number") };
    assert!(left <= 5000, "{left}");
    // The race that look-aside caches have.
    assert_eq!(redis.ask("GET page:2").await, Value::Null);
    a.node.remove(&["page:2".to_owned()], Hop::First).await.unwrap();
    assert_eq!(redis.ask("SETEX page:2 60 old").await, Value::Null, "refused: removed since");
    assert_eq!(redis.ask("GET page:2").await, Value::Null);
    assert_eq!(redis.ask("SETEX page:2 60 new").await, ok());
    assert!(redis.ask("SET page:2 x NX").await.is_error("ERR SET takes no NX"));
    assert!(redis.ask("SET page:2 x EX 0").await.is_error("ERR invalid expire time in 'set' command"));
    assert!(redis.ask("SETEX page:2 a x").await.is_error("ERR value is not an integer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_answered_as_redis_does() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    for (words, error) in [
        ("FLUSHALL now", "ERR unknown command 'FLUSHALL', with args beginning with: 'now'"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("CLIENT NOPE", "ERR unknown subcommand 'NOPE'. Try CLIENT HELP."),
        ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("GET nothing:1", "ERR no group has keys like"),
        ("GET user:007", "ERR key \"user:007\" is not canonical, write user:7"),
        ("SET user:1 x", "ERR group user is filled by its query"),
        ("HELLO 4", "NOPROTO"),
        ("AUTH x", "ERR AUTH <password> called without any password"),
        ("SUBSCRIBE news", "ERR no channel 'news'"),
        ("CLIENT TRACKING ON", "ERR in RESP2 nobody could be told"),
        ("CLIENT CACHING YES", "ERR CLIENT CACHING can be called only"),
        ("ASKING", "ERR slots move at once"),
    ] {
        let reply = redis.ask(words).await;
        assert!(reply.is_error(error), "{words}: {reply:?}");
    }
    assert_eq!(redis.ask("PING").await, Value::Simple("PONG".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_asked_for_and_reset_forgets_it() {
    let mut stack = Stack::new();
    stack.config.resp_password = Secret::new("hunter2");
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    assert!(redis.ask("GET user:1").await.is_error("NOAUTH Authentication required."));
    assert!(redis.ask("HELLO 3").await.is_error("NOAUTH HELLO must be called"));
    assert!(redis.ask("AUTH hunter3").await.is_error("WRONGPASS"));
    assert!(redis.ask("AUTH other hunter2").await.is_error("WRONGPASS"));
    assert_eq!(redis.ask("AUTH hunter2").await, ok());
    assert_eq!(redis.ask("GET user:1").await, Value::Null);
    assert_eq!(redis.ask("RESET").await, Value::Simple("RESET".into()));
    assert!(redis.ask("PING").await.is_error("NOAUTH"));
    assert!(matches!(redis.ask("HELLO 3 AUTH default hunter2 SETNAME me").await, Value::Map(_)));
    assert_eq!(redis.ask("CLIENT GETNAME").await, bulk("me"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_user_of_a_node_without_a_password_may_show_any() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    // As redis-server 7 without a password answers.
    assert_eq!(redis.ask("AUTH default x").await, ok());
    assert!(redis.ask("AUTH x").await.is_error("ERR AUTH <password> called without any password"));
    assert!(redis.ask("AUTH other x").await.is_error("WRONGPASS"));
    assert!(redis.ask("AUTH default x y").await.is_error("ERR syntax error"));
    assert!(redis.ask("HELLO 3 AUTH other x").await.is_error("WRONGPASS"));
    assert!(matches!(redis.ask("HELLO 3 AUTH default x SETNAME me").await, Value::Map(_)));
    assert_eq!(redis.ask("CLIENT GETNAME").await, bulk("me"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_say_who_they_are_and_may_be_silent() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask("CLIENT SETNAME worker-1").await, ok());
    assert_eq!(redis.ask("CLIENT SETINFO LIB-NAME lib").await, ok());
    let Value::Int(id) = redis.ask("CLIENT ID").await else { panic!("an id is a number") };
    let Value::Bulk(list) = redis.ask("CLIENT LIST").await else { panic!("a list is text") };
    assert!(
        list.contains(&format!("id={id} "))
            && list.contains("name=worker-1")
            && list.contains("lib-name=lib"),
        "{list}"
    );
    redis.request("CLIENT REPLY OFF").await;
    redis.request("GET user:1").await;
    redis.request("DEL user:1").await;
    assert_eq!(redis.ask("CLIENT REPLY ON").await, ok());
    redis.request("CLIENT REPLY SKIP").await;
    redis.request("GET user:2").await;
    assert_eq!(redis.ask("PING hello").await, bulk("hello"));
    let Value::Array(commands) = redis.ask("COMMAND").await else { panic!("COMMAND is an array") };
    assert_eq!(redis.ask("COMMAND COUNT").await, Value::Int(i64::try_from(commands.len()).unwrap()));
    assert_eq!(redis.ask("COMMAND GETKEYS MGET a b").await, Value::Array(vec![bulk("a"), bulk("b")]));
    let Value::Bulk(info) = redis.ask("INFO").await else { panic!("INFO is text") };
    assert!(info.contains("redis_version:7.") && info.contains("cluster_enabled:1"), "{info}");
    assert_eq!(redis.ask("QUIT").await, ok());
    redis.closed().await;
}
