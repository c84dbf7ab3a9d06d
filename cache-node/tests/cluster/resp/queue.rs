//! Clients that write all of a pipeline before they read, and what one small request can have a node hold.

use std::fmt::Write as _;

use daemon::config::ByteSize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Redis, Value, WAIT, bulk, invalidated};
use crate::stack::{Running, Stack};

/// A node with a value of so many bytes under `user:1`, in memory.
async fn with_value(stack: &Stack, bytes: usize) -> (Running, String) {
    let a = stack.start("a").await;
    let value = "x".repeat(bytes);
    stack.database.put("user:1", value.clone());
    assert_eq!(Redis::to(&a).await.ask("GET user:1").await, bulk(&*value));
    (a, value)
}

fn request(words: &[&str], times: usize) -> Vec<u8> {
    let mut one = format!("*{}\r\n", words.len());
    for word in words {
        let _ = write!(one, "${}\r\n{word}\r\n", word.len());
    }
    one.repeat(times).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_is_written_whole_before_a_reply_is_read_is_answered() {
    let stack = Stack::new();
    let (a, value) = with_value(&stack, 1000).await;
    let mut redis = Redis::to(&a).await;
    // More of both requests and replies than the sockets' buffers take.
    let count = 20_000;
    let pair = [request(&["ECHO", &value], 1), request(&["GET", "user:1"], 1)].concat();
    redis.send_in_time(&pair.repeat(count)).await.expect("the node reads on");
    for _ in 0..2 * count {
        assert_eq!(redis.next().await, bulk(&*value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_replies_is_ended_once_too_many_wait_for_it() {
    let mut stack = Stack::new();
    stack.config.resp_output_limit = ByteSize(1 << 20);
    let (a, _) = with_value(&stack, 10_000).await;
    let mut redis = Redis::to(&a).await;
    let ended = redis.send_in_time(&request(&["GET", "user:1"], 400_000)).await;
    assert!(ended.is_err(), "the node does not hold 4 GB for it");
    assert!(a.metric("freshline_node_resp_output_overflows_total") > 0.0);
    assert_eq!(Redis::to(&a).await.ask("PING").await, Value::Simple("PONG".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_while_it_writes_is_waited_for() {
    let mut stack = Stack::new();
    stack.config.resp_output_limit = ByteSize(1 << 20);
    let (a, value) = with_value(&stack, 10_000).await;
    let (mut reader, mut writer) = TcpStream::connect(&a.member.resp).await.unwrap().into_split();
    let count = 10_000; // 100 MB
    let sent = tokio::spawn(async move {
        writer.write_all(&request(&["GET", "user:1"], count)).await.unwrap();
        writer // dropped, it would end the connection
    });
    let (mut left, mut some) = (count * (value.len() + "$10000\r\n\r\n".len()), vec![0; 16 << 10]);
    while left > 0 {
        let read = timeout(WAIT, reader.read(&mut some)).await.expect("more comes").unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
    }
    sent.await.unwrap();
    assert!(a.metric("freshline_node_resp_output_overflows_total") < 1.0, "nobody was closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_would_be_too_large_is_an_error_before_it_is_built() {
    let mut stack = Stack::new();
    stack.config.resp_output_limit = ByteSize(1 << 20);
    stack.config.max_value = ByteSize(1 << 20);
    let (a, value) = with_value(&stack, 100_000).await;
    for key in ["user:2", "user:3"] {
        stack.database.put(key, value.clone()); // not in memory
    }
    let mut redis = Redis::to(&a).await;
    let too_large = "ERR the reply would have more than the 1048576 bytes of node.resp_output_limit";
    for (words, least) in [
        (vec!["MGET"; 1], 0),
        (vec!["MGET", "user:2"], 0),
        (vec!["COMMAND", "DOCS"], 20_000),
        (vec!["COMMAND", "INFO"], 20_000),
        (vec!["SUBSCRIBE"], 40_000),
        (vec!["UNSUBSCRIBE"], 40_000),
    ] {
        let filler = match words[0] {
            "MGET" => "user:1",
            "COMMAND" => "get",
            _ => "__redis__:invalidate",
        };
        let mut all = words.clone();
        all.extend(std::iter::repeat_n(filler, least.max(20)));
        redis.send(&request(&all, 1)).await;
        let reply = redis.next().await;
        assert!(reply.is_error(too_large), "{words:?}: {:.80}", format!("{reply:?}"));
    }
    let fits: Vec<&str> = std::iter::once("MGET").chain(std::iter::repeat_n("user:1", 10)).collect();
    redis.send(&request(&fits, 1)).await;
    assert_eq!(redis.reply().await, Value::Array(vec![bulk(&*value); 10]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_one_request_names_often_is_read_once() {
    let stack = Stack::new();
    let a = stack.start("a").await;
    stack.database.put("user:7", "seven".to_owned());
    let mut redis = Redis::to(&a).await;
    let words: Vec<&str> = std::iter::once("MGET").chain(std::iter::repeat_n("user:7", 100)).collect();
    redis.send(&request(&words, 1)).await;
    assert_eq!(redis.reply().await, Value::Array(vec![bulk("seven"); 100]));
    let Value::Bulk(info) = redis.ask("INFO stats").await else { panic!("INFO is text") };
    assert!(info.contains("keyspace_misses:1\r\n"), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn misses_of_many_large_values_wait_in_bounded_memory_and_all_are_answered() {
    let mut stack = Stack::new();
    stack.config.resp_output_limit = ByteSize(1 << 20);
    stack.config.max_value = ByteSize(256 << 10);
    let a = stack.start("a").await;
    let value = "x".repeat(200 << 10);
    for id in 0..100 {
        stack.database.put(&format!("user:{id}"), value.clone());
    }
    let mut redis = Redis::to(&a).await;
    for id in 0..100 {
        redis.request(&format!("GET user:{id}")).await;
    }
    for _ in 0..100 {
        assert_eq!(redis.next().await, bulk(&*value));
    }
    let all = (0..100).map(|id| format!("user:{id}")).collect::<Vec<_>>().join(" ");
    redis.ask(&format!("DEL {all}")).await;
    assert!(redis.ask(&format!("MGET {all}")).await.is_error("ERR the reply would have more"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_together_hold_no_more_than_may_be() {
    let mut stack = Stack::new();
    (stack.config.resp_output_limit, stack.config.resp_memory) = (ByteSize(1 << 20), ByteSize(4 << 20));
    let a = stack.start("a").await;
    let value = "x".repeat(60_000);
    let mut waiting = Vec::new();
    let mut small = Redis::to(&a).await;
    for _ in 0..20 {
        let mut redis = Redis::to(&a).await;
        // Unfinished: 1000 arguments are told, 10 come.
        redis.send(b"*1000\r\n").await;
        for _ in 0..10 {
            if redis.send_in_time(format!("$60000\r\n{value}\r\n").as_bytes()).await.is_err() {
                break;
            }
        }
        assert_eq!(small.ask("PING").await, Value::Simple("PONG".into()), "who holds little stays");
        waiting.push(redis);
    }
    let evicted = async {
        while a.metric("freshline_node_resp_memory_evictions_total") < 10.0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, evicted).await.expect("the largest are ended");
    assert!(a.metric("freshline_node_resp_memory_bytes") <= f64::from(4 << 20));
    assert_eq!(small.ask("PING").await, Value::Simple("PONG".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_gives_back_what_its_requests_and_replies_took() {
    let stack = Stack::new();
    let (a, value) = with_value(&stack, 60_000).await;
    let mut redis = Redis::to(&a).await;
    let mut bytes = b"*101\r\n$4\r\nMGET\r\n".to_vec();
    for _ in 0..100 {
        bytes.extend(format!("$60000\r\n{value}\r\n").into_bytes());
    }
    let holds = async |much: bool| {
        while (a.metric("freshline_node_resp_memory_bytes") > 1e6) != much {
            tokio::task::yield_now().await;
        }
    };
    let (last, first) = bytes.split_last().expect("there are some");
    redis.send(first).await;
    timeout(WAIT, holds(true)).await.expect("what has come of a request is held");
    redis.send(&[*last]).await;
    assert!(redis.reply().await.is_error("ERR"));
    timeout(WAIT, holds(false)).await.expect("nothing is kept for it");
    assert_eq!(redis.ask("GET user:1").await, bulk(value));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_kept_for_it_by_name_is_bounded() {
    let mut stack = Stack::new();
    stack.config.max_keys = 100;
    let a = stack.start("a").await;
    let mut redis = Redis::to(&a).await;
    redis.ask("HELLO 3").await;
    let long = "x".repeat(2000);
    let many = (0..300).map(|n| format!("PREFIX p{n}:")).collect::<Vec<_>>().join(" ");
    let keys = (0..101).map(|n| format!("user:{n}")).collect::<Vec<_>>().join(" ");
    for (words, error) in [
        (format!("CLIENT SETNAME {long}"), "ERR a name has at most 1024 bytes"),
        (format!("HELLO 3 SETNAME {long}"), "ERR a name has at most 1024 bytes"),
        (format!("CLIENT SETINFO LIB-NAME {long}"), "ERR a name has at most 1024 bytes"),
        (format!("CLIENT TRACKING ON BCAST PREFIX {long}"), "ERR a prefix has at most 1024 bytes"),
        (format!("CLIENT TRACKING ON BCAST {many}"), "ERR a client has at most 256 prefixes"),
        (format!("SCAN 0 MATCH {long}"), "ERR a pattern has at most 1024 bytes"),
        (format!("CONFIG GET {long}"), "ERR a pattern has at most 1024 bytes"),
        (format!("COMMAND LIST FILTERBY PATTERN {long}"), "ERR a pattern has at most 1024 bytes"),
        (format!("DEL {keys}"), "ERR"),
    ] {
        let reply = redis.ask(&words).await;
        assert!(reply.is_error(error), "{words:.60}: {:.200}", format!("{reply:?}"));
    }
    let Value::Bulk(list) = redis.ask("CLIENT LIST").await else { panic!("a list is text") };
    assert!(list.len() < 1000, "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_is_told_comes_behind_the_replies_that_wait_for_it() {
    let stack = Stack::new();
    let (a, value) = with_value(&stack, 1000).await;
    let mut redis = Redis::tracking(&a, "").await;
    let count = 20_000;
    // It reads nothing: most of this waits in the node, and so does the value that it may keep.
    redis.send_in_time(&request(&["ECHO", &value], count)).await.unwrap();
    redis.request("GET user:1").await;
    let answered = async {
        while a.metric("freshline_node_resp_commands_total{command=\"get\"}") < 2.0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT, answered).await.expect("the node reads on");
    Redis::to(&a).await.ask("DEL user:1").await;
    for _ in 0..=count {
        assert_eq!(redis.next().await, bulk(&*value));
    }
    assert_eq!(redis.next().await, invalidated(&["user:1"]));
    // It has taken all: it is told at once again.
    redis.ask("GET user:1").await;
    Redis::to(&a).await.ask("DEL user:1").await;
    assert_eq!(redis.next().await, invalidated(&["user:1"]));
}
