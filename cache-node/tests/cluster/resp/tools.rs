//! What tools for Redis ask: sizes, lists of clients and commands, INFO. Answers have the form of redis-server 7's.

use std::{sync::Arc, time::Duration};

use catalog::Catalog;

use super::{Redis, Value, bulk};
use crate::stack::{Running, Stack, row};

async fn text(redis: &mut Redis, words: &str) -> String {
    match redis.ask(words).await {
        Value::Bulk(text) => text,
        other => panic!("{words} is text, not {other:?}"),
    }
}

/// A field of INFO.
async fn field(redis: &mut Redis, name: &str) -> String {
    let info = text(redis, "INFO everything").await;
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("INFO has {name}: {info}")).to_owned()
}

async fn with_rows(stack: &Stack) -> (Running, Redis) {
    let a = stack.start("a").await;
    stack.database.put("user:1", row("user:1", 1));
    let mut redis = Redis::to(&a).await;
    redis.ask("GET user:1").await;
    redis.ask("GET user:2").await;
    (a, redis)
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_told_of_what_is_in_memory() {
    let stack = Stack::new();
    let (_a, mut redis) = with_rows(&stack).await;
    let length = i64::try_from(row("user:1", 1).len()).unwrap();
    assert_eq!(redis.ask("DBSIZE").await, Value::Int(1), "an absence is no value");
    assert_eq!(redis.ask("STRLEN user:1").await, Value::Int(length));
    assert_eq!(redis.ask("STRLEN user:2").await, Value::Int(0));
    assert_eq!(redis.ask("MEMORY USAGE user:1").await, Value::Int(length + 6));
    assert_eq!(redis.ask("MEMORY USAGE user:1 SAMPLES 5").await, Value::Int(length + 6));
    assert_eq!(redis.ask("MEMORY USAGE user:2").await, Value::Null);
    assert!(redis.ask("MEMORY USAGE user:1 SAMPLES x").await.is_error("ERR value is not an integer"));
    assert!(redis.ask("MEMORY NOPE").await.is_error("ERR unknown subcommand 'NOPE'. Try MEMORY HELP."));
    stack.database.put("user:3", row("user:3", 1));
    assert_eq!(redis.ask("MEMORY USAGE user:3").await, Value::Null, "it fills nothing");
    assert_eq!(redis.ask("STRLEN user:3").await, Value::Int(length));
}

#[tokio::test(flavor = "multi_thread")]
async fn info_counts_what_clients_do() {
    let stack = Stack::new();
    let (a, mut redis) = with_rows(&stack).await;
    redis.ask("NOSUCH").await;
    redis.ask("GET nothing:1").await;
    redis.ask("GET").await;
    for (name, value) in [
        ("connected_clients", "1"),
        ("blocked_clients", "0"),
        ("total_connections_received", "1"),
        ("rejected_connections", "0"),
        ("keyspace_misses", "2"),
        ("db0", "keys=1,expires=1,avg_ttl=0"),
        ("cmdstat_get", "calls=4,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=2"),
        ("errorstat_ERR", "count=3"),
        ("role", "master"),
        ("loading", "0"),
        ("maxmemory", "8388608"),
        ("maxmemory_policy", "allkeys-sieve"),
        ("freshline_node", "a"),
    ] {
        assert_eq!(field(&mut redis, name).await, value, "{name}");
    }
    let number = async |redis: &mut Redis, name: &str| field(redis, name).await.parse::<u64>().unwrap();
    let before = number(&mut redis, "total_commands_processed").await;
    assert_eq!(number(&mut redis, "total_commands_processed").await, before + 1);
    assert!(number(&mut redis, "total_net_input_bytes").await > 100);
    assert!(number(&mut redis, "total_net_output_bytes").await > 1000);
    assert!(number(&mut redis, "used_memory").await > 0);
    let some = async {
        while number(&mut redis, "instantaneous_ops_per_sec").await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::WAIT, some).await.expect("a rate is told");
    // Sections are told as they are asked for.
    let usual = text(&mut redis, "INFO").await;
    assert!(usual.contains("# Errorstats") && !usual.contains("# Commandstats"), "{usual}");
    assert_eq!(text(&mut redis, "INFO nosuch").await, "");
    let two = text(&mut redis, "INFO server keyspace").await;
    assert_eq!(two.lines().filter(|line| line.starts_with('#')).count(), 2, "{two}");
    drop(a);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_listed_by_what_they_do_and_ended_by_what_they_are() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    let mut listener = Redis::tracking(&a, "BCAST").await;
    listener.request("SUBSCRIBE __redis__:invalidate").await;
    assert!(matches!(listener.next().await, Value::Push(_)));
    let Value::Int(other) = Redis::to(&a).await.ask("CLIENT ID").await else { panic!("an id") };
    redis.ask("MULTI").await;
    redis.ask("PING").await;
    let mut asking = Redis::to(&a).await;
    let list = text(&mut asking, "CLIENT LIST").await;
    assert!(
        list.contains("flags=x db=0 sub=0 psub=0 ssub=0 multi=1 ") && list.contains("cmd=ping"),
        "{list}"
    );
    assert!(list.contains("flags=PtB db=0 sub=1 "), "{list}");
    assert!(list.contains("cmd=client|list "), "{list}");
    let own = text(&mut asking, "CLIENT INFO").await;
    assert!(own.contains(" multi=-1 ") && own.contains("cmd=client|info "), "{own}");
    let get = |name: &str| own.split(' ').find_map(|pair| pair.strip_prefix(name)).unwrap().to_owned();
    let (id, address) = (get("id="), get("addr="));
    for (filter, lines) in [
        (format!("ID {id} {id} 99999"), 1),
        ("TYPE pubsub".into(), 1),
        ("TYPE normal".into(), 2),
        ("TYPE replica".into(), 0),
    ] {
        let list = text(&mut asking, &format!("CLIENT LIST {filter}")).await;
        assert_eq!(list.lines().count(), lines, "{filter}: {list}");
    }
    for (words, error) in [
        ("LIST TYPE nope", "ERR Unknown client type 'nope'"),
        ("LIST ID x", "ERR Invalid client ID"),
        ("LIST NOPE", "ERR syntax error"),
        ("KILL 127.0.0.1:1", "ERR No such client"),
        ("KILL ID x", "ERR client-id should be greater than 0"),
        ("KILL TYPE nope", "ERR Unknown client type 'nope'"),
        ("KILL USER nope", "ERR No such user 'nope'"),
        ("KILL SKIPME maybe", "ERR syntax error"),
        ("KILL ID 1 NOPE x", "ERR syntax error"),
        ("KILL ID 1 ADDR", "ERR syntax error"),
    ] {
        let reply = asking.ask(&format!("CLIENT {words}")).await;
        assert!(reply.is_error(error), "{words}: {reply:?}");
    }
    for words in [
        format!("ID {other}"),
        "ADDR 1.1.1.1:1".into(),
        "LADDR 1.1.1.1:1".into(),
        format!("ID {id}"),
        "MAXAGE 1000".into(),
    ] {
        assert_eq!(asking.ask(&format!("CLIENT KILL {words}")).await, Value::Int(0), "{words}");
    }
    assert_eq!(asking.ask("CLIENT KILL TYPE pubsub USER default").await, Value::Int(1));
    listener.closed().await;
    assert_eq!(
        asking.ask("CLIENT KILL TYPE normal").await,
        Value::Int(1),
        "others, unless it says SKIPME no"
    );
    redis.closed().await;
    assert_eq!(asking.ask(&format!("CLIENT KILL {address}")).await, Value::Simple("OK".into()));
    asking.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_described_as_in_redis() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    let simple =
        |words: &[&str]| Value::Array(words.iter().map(|word| Value::Simple((*word).into())).collect());
    let Value::Array(both) = redis.ask("COMMAND INFO get nope").await else { panic!("an array") };
    let [Value::Array(get), Value::Null] = &both[..] else { panic!("{both:?}") };
    let pair = |name: &str, value: Value| [bulk(name), value];
    let spec = |pairs: Vec<[Value; 2]>| Value::Array(pairs.into_iter().flatten().collect());
    let begin =
        spec(vec![pair("type", bulk("index")), pair("spec", spec(vec![pair("index", Value::Int(1))]))]);
    let range =
        vec![pair("lastkey", Value::Int(0)), pair("keystep", Value::Int(1)), pair("limit", Value::Int(0))];
    let find = spec(vec![pair("type", bulk("range")), pair("spec", spec(range))]);
    let keys =
        vec![pair("flags", simple(&["RO", "access"])), pair("begin_search", begin), pair("find_keys", find)];
    // What redis-server 7.0.15 says, in another order of the categories.
    assert_eq!(
        get[..],
        [
            bulk("get"),
            Value::Int(2),
            simple(&["readonly", "fast"]),
            Value::Int(1),
            Value::Int(1),
            Value::Int(1),
            simple(&["@read", "@fast", "@string"]),
            Value::Array(vec![]),
            Value::Array(vec![spec(keys)]),
            Value::Array(vec![]),
        ]
    );
    let Value::Array(of) = redis.ask("COMMAND INFO client").await else { panic!("an array") };
    let Value::Array(client) = &of[0] else { panic!("an array") };
    let Value::Array(parts) = &client[9] else { panic!("an array") };
    assert!(parts.len() > 10 && matches!(&parts[0], Value::Array(part) if part[0] == bulk("client|caching")));
    for (words, names) in [
        ("LIST FILTERBY PATTERN MUL*", &["multi"][..]),
        ("LIST FILTERBY ACLCAT transaction", &["discard", "exec", "multi", "unwatch", "watch"]),
        ("LIST FILTERBY MODULE x", &[]),
        ("GETKEYS MEMORY USAGE user:1", &["user:1"]),
        ("GETKEYS DEL a b", &["a", "b"]),
    ] {
        let expected = Value::Array(names.iter().map(|name| bulk(*name)).collect());
        assert_eq!(redis.ask(&format!("COMMAND {words}")).await, expected, "{words}");
    }
    assert_eq!(
        redis.ask("COMMAND GETKEYSANDFLAGS DEL a").await,
        Value::Array(vec![Value::Array(vec![bulk("a"), simple(&["RM", "delete"])])])
    );
    for (words, error) in [
        ("COMMAND LIST x", "ERR syntax error"),
        ("COMMAND LIST FILTERBY NOPE x", "ERR syntax error"),
        ("COMMAND COUNT x", "ERR wrong number of arguments for 'command|count' command"),
        ("COMMAND GETKEYS MULTI", "ERR wrong number of arguments for 'command|getkeys' command"),
        ("COMMAND GETKEYS CLIENT ID", "ERR The command has no key arguments"),
    ] {
        let reply = redis.ask(words).await;
        assert!(reply.is_error(error) || words.contains("MULTI"), "{words}: {reply:?}");
    }
    for container in
        ["ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "MODULE", "SLOWLOG"]
    {
        let Value::Array(help) = redis.ask(&format!("{container} HELP")).await else { panic!("{container}") };
        assert!(help.len() > 2 && help.iter().all(|line| matches!(line, Value::Simple(_))), "{help:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_does_not_have_is_told_as_empty() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    for (words, reply) in [
        ("MODULE LIST", Value::Array(vec![])),
        ("SLOWLOG LEN", Value::Int(0)),
        ("SLOWLOG GET 10", Value::Array(vec![])),
        ("LATENCY LATEST", Value::Array(vec![])),
        ("CLUSTER LINKS", Value::Array(vec![])),
        ("ACL WHOAMI", bulk("default")),
        ("CONFIG GET databases", Value::Array(vec![bulk("databases"), bulk("1")])),
        ("CONFIG GET nosuch", Value::Array(vec![])),
        ("CONFIG GET MAXMEMORY", Value::Array(vec![bulk("maxmemory"), bulk("8388608")])),
    ] {
        assert_eq!(redis.ask(words).await, reply, "{words}");
    }
    let Value::Array(all) = redis.ask("CONFIG GET *").await else { panic!("an array") };
    assert!(all.len() > 20 && !all.contains(&bulk("requirepass")), "{all:?}");
    assert!(redis.ask("CONFIG SET maxmemory 1").await.is_error("ERR a node is configured by its file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_set_until_a_moment_gone_by_is_gone() {
    let mut stack = Stack::new();
    let text = "[[group]]\nname = \"page\"\nkey = \"page:{id:u64}\"\nttl = \"10m\"\n[[rule]]\ntable = \"shop.pages\"\nkeys = [\"page:{id}\"]\n";
    stack.catalog = Arc::new(Catalog::parse("test.toml", text).unwrap());
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    for option in ["EXAT 1", "PXAT 1"] {
        assert_eq!(redis.ask("GET page:1").await, Value::Null);
        assert_eq!(redis.ask(&format!("SET page:1 x {option}")).await, Value::Simple("OK".into()));
        assert_eq!(redis.ask("TTL page:1").await, Value::Int(-2));
    }
    assert_eq!(redis.ask("GET page:1").await, Value::Null);
    for option in ["EXAT 0", "EXAT -1", "PXAT 0", "EX 0", "EX -1", "PX 0"] {
        let reply = redis.ask(&format!("SET page:1 x {option}")).await;
        assert!(reply.is_error("ERR invalid expire time in 'set' command"), "{option}: {reply:?}");
    }
    let soon = std::time::SystemTime::now() + Duration::from_secs(100);
    let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(redis.ask(&format!("SET page:1 x EXAT {soon}")).await, Value::Simple("OK".into()));
    assert_eq!(redis.ask("GET page:1").await, bulk("x"));
}
