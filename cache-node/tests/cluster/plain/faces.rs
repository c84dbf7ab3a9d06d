//! Plain groups by RESP, HTTP, gRPC and the client.

use std::time::Duration;

use bytes::Bytes;
use client::{Client, Config};
use wire::{Only, Outcome, Put, ReadOptions};

use super::{got, held, owned, put, remove, stack, start};
use crate::{
    http::{get, send},
    resp::{Redis, Value, bulk, invalidated},
};

fn ok() -> Value {
    Value::Simple("OK".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_clients_set_read_and_delete_without_a_token() {
    let stack = stack(2);
    let [a, b, c] = start(&stack, ["a", "b", "c"]).await;
    let key = &owned(&a, 1)[0];
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask(&format!("GET {key}")).await, Value::Null, "no token is needed after it");
    assert_eq!(redis.ask(&format!("SET {key} one EX 60")).await, ok());
    assert_eq!(redis.ask(&format!("GET {key}")).await, bulk("one"));
    assert!(matches!(redis.ask(&format!("TTL {key}")).await, Value::Int(59..=60)));
    assert_eq!(redis.ask(&format!("SET {key} two NX")).await, Value::Null);
    assert_eq!(redis.ask(&format!("SET {key} two XX KEEPTTL")).await, ok());
    assert!(matches!(redis.ask(&format!("TTL {key}")).await, Value::Int(59..=60)));
    assert_eq!(redis.ask(&format!("EXPIRE {key} 30")).await, Value::Int(1));
    assert!(matches!(redis.ask(&format!("PTTL {key}")).await, Value::Int(1..=30_000)));
    assert_eq!(
        redis.ask(&format!("PEXPIREAT {key} 99999999999999")).await,
        Value::Int(1),
        "the group's at most"
    );
    assert!(matches!(redis.ask(&format!("TTL {key}")).await, Value::Int(590..=600)));
    assert!(redis.ask(&format!("PERSIST {key}")).await.is_error("ERR no value stays for ever"));
    assert!(redis.ask(&format!("EXPIRE {key} 30 GT")).await.is_error("ERR no options"));
    assert!(redis.ask(&format!("SET {key} v GET")).await.is_error("ERR SET takes no GET"));
    assert!(redis.ask(&format!("SET {key} v NX XX")).await.is_error("ERR syntax error"));
    assert_eq!(redis.ask(&format!("MGET {key}")).await, Value::Array(vec![bulk("two")]));
    assert_eq!(redis.ask(&format!("DEL {key}")).await, Value::Int(1));
    assert_eq!(redis.ask(&format!("EXISTS {key}")).await, Value::Int(0));
    assert_eq!(redis.ask(&format!("EXPIRE {key} 30")).await, Value::Int(0));
    assert_eq!(redis.ask(&format!("PSETEX {key} 60000 three")).await, ok());
    assert_eq!(redis.ask(&format!("EXPIRE {key} -1")).await, Value::Int(1), "at once");
    assert_eq!(redis.ask(&format!("GET {key}")).await, Value::Null);
    assert_eq!(redis.ask(&format!("SET {key} gone PXAT 1")).await, ok(), "set, and gone");
    assert_eq!(redis.ask(&format!("GET {key}")).await, Value::Null);
    assert!(redis.ask(&format!("SET {key} {}", "x".repeat(1025))).await.is_error("ERR the value is larger"));
    // Of what a query fills nothing of this is known.
    let filled = a.key();
    assert!(redis.ask(&format!("EXPIRE {filled} 5")).await.is_error("ERR the TTL of a key of group user"));
    assert!(redis.ask(&format!("SET {filled} v NX")).await.is_error("ERR SET takes no NX of group user"));
    // A holder takes it to the owner, others name it, or take it there if that is asked for.
    for running in [&b, &c] {
        let mut redis = Redis::to(running).await;
        if running.node.ring().holds(&running.member.id, ring::slot_of(key)) {
            assert_eq!(redis.ask(&format!("SET {key} v")).await, ok());
        } else {
            assert!(redis.ask(&format!("SET {key} v")).await.is_error("MOVED"));
            assert_eq!(redis.ask("READONLY").await, ok());
            assert_eq!(redis.ask(&format!("SET {key} v")).await, ok());
            assert_eq!(redis.ask(&format!("GET {key}")).await, bulk("v"));
        }
    }
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask("MULTI").await, ok());
    redis.ask(&format!("SET {key} in")).await;
    redis.ask(&format!("GET {key}")).await;
    assert_eq!(redis.ask("EXEC").await, Value::Array(vec![ok(), bulk("in")]));
}

/// *Clients send again what is answered by TRYAGAIN: a SET NX that was done found its own value, and its lock was taken for another's.*
#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_set_that_may_have_been_done_is_no_error_that_clients_ask_again_for() {
    let stack = stack(2);
    let [a, mut b] = start(&stack, ["a", "b"]).await;
    let key = &owned(&a, 1)[0];
    let mut redis = Redis::to(&a).await;
    assert_eq!(redis.ask(&format!("SET {key} v")).await, ok());
    b.crash().await;
    assert!(redis.ask(&format!("SET {key} v")).await.is_error("TRYAGAIN"));
    let refused = redis.ask(&format!("SET {key} v XX")).await;
    assert!(refused.is_error("ERR"), "{refused:?}");
    let Value::Error(text) = &refused else { panic!("{refused:?}") };
    assert!(text.contains("it may have been done") && text.contains("b ("), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_copy_is_told_of_every_write_at_each_holder() {
    let stack = stack(2);
    let [a, b] = start(&stack, ["a", "b"]).await;
    let key = &owned(&a, 1)[0];
    put(&a.node, key, "one").await.unwrap();
    let (mut at_owner, mut at_replica) = (Redis::tracking(&a, "").await, Redis::tracking(&b, "").await);
    let mut silent = Redis::tracking(&a, "NOLOOP").await;
    for round in ["two", "three"] {
        for redis in [&mut at_owner, &mut at_replica, &mut silent] {
            assert!(matches!(redis.ask(&format!("GET {key}")).await, Value::Bulk(_)));
        }
        assert_eq!(silent.ask(&format!("SET {key} {round}")).await, ok());
        assert_eq!(at_owner.push().await, invalidated(&[key]));
        assert_eq!(at_replica.push().await, invalidated(&[key]));
        assert!(silent.pushes.is_empty(), "it knows what it has set");
    }
    at_replica.ask(&format!("GET {key}")).await;
    remove(&b.node, key).await;
    assert_eq!(at_replica.push().await, invalidated(&[key]));
    assert_eq!(silent.push().await, invalidated(&[key]));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_puts_reads_and_deletes_without_a_token() {
    let stack = stack(2);
    let [a, b] = start(&stack, ["a", "b"]).await;
    for key in [&owned(&a, 1)[0], &owned(&b, 1)[0]] {
        let path = format!("/v1/keys/{key}");
        let none = get(a.http, &path).await;
        assert_eq!((none.status, &*none.problem()), (404, "absent"));
        let put = async |query: &str, headers: &[(&str, &str)], body: &[u8]| {
            send(a.http, "PUT", &format!("{path}{query}"), headers, body).await
        };
        let only_new = [("if-none-match", "*")];
        assert_eq!(put("?ttl=30s", &only_new, b"\x01any").await.status, 200);
        let again = put("", &only_new, b"other").await;
        assert_eq!((again.status, &*again.problem()), (412, "condition-failed"));
        assert_eq!(put("?ttl=20s", &[("if-match", "*")], b"new").await.status, 200);
        let read = get(b.http, &path).await;
        assert_eq!((read.status, &*read.body), (200, "new"));
        assert!(read.head.contains("application/octet-stream"), "{}", read.head);
        let large = put("", &[], &[b'x'; 1025]).await;
        assert_eq!((large.status, &*large.problem()), (413, "value-too-large"));
        let body = br#"{"value": {"user": 7}, "ttl": "10s"}"#;
        let json = put("", &[("content-type", "application/vnd.freshline.set+json")], body).await;
        assert_eq!(json.status, 200, "{}", json.body);
        assert_eq!(get(b.http, &path).await.body, r#"{"user": 7}"#);
        let zero = put("?ttl=0s", &[], b"v").await;
        assert_eq!((zero.status, &*zero.problem()), (409, "set-refused"));
        let conditional = send(b.http, "DELETE", &path, &[("if-match", "\"etag\"")], b"").await;
        assert_eq!(
            (conditional.status, &*conditional.problem()),
            (400, "bad-header"),
            "not without it either"
        );
        let mistyped = put("-of-nobody", &[], b"v").await;
        assert_eq!((mistyped.status, &*mistyped.problem()), (400, "bad-key"), "no token would help");
        let deleted = send(b.http, "DELETE", &path, &[], b"").await;
        assert_eq!(deleted.json()["removed"], 1);
        assert_eq!(get(a.http, &path).await.status, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_puts_expires_and_loads_what_is_absent() {
    let stack = stack(2);
    let [a, b] = start(&stack, ["a", "b"]).await;
    let client = Client::from_seeds(vec![b.member.grpc.clone()], Config::default()).await.unwrap();
    for key in [&owned(&a, 1)[0], &owned(&b, 1)[0]] {
        let absent = client.get(key).await.unwrap();
        assert_eq!((absent.outcome, absent.value), (Outcome::Absent, None));
        assert!(client.put(key, "one", Some(Duration::from_secs(30))).await.unwrap().is_done());
        let answer = client.get(key).await.unwrap();
        assert_eq!((answer.outcome, answer.value.as_deref()), (Outcome::Hit, Some(&b"one"[..])));
        assert!(answer.ttl.unwrap() <= Duration::from_secs(30));
        let only = Put { only: Only::IfAbsent, ..Put::new("two") };
        assert_eq!(client.put_with(key, only).await.unwrap().refused.as_deref(), Some("exists"));
        assert!(client.expire(key, Duration::from_secs(5)).await.unwrap());
        let strict = ReadOptions { max_staleness: Some(Duration::ZERO), look_aside: true };
        let answer = client.get_with(key, strict).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Hit, "no database has a newer one, and no token is needed");
        assert_eq!(client.get_many(&[key]).await[0].as_ref().unwrap().value.as_deref(), Some(&b"one"[..]));
        assert_eq!(client.remove(&[key]).await.unwrap(), 1);
        assert!(!client.expire(key, Duration::from_secs(5)).await.unwrap());

        let load = || async { Ok::<_, client::Error>(Some(Bytes::from_static(b"loaded"))) };
        assert_eq!(client.get_or_load(key, load).await.unwrap().as_deref(), Some(&b"loaded"[..]));
        assert_eq!((held(&a.node, key), held(&b.node, key)), (Some("loaded".into()), Some("loaded".into())));
        // The look-aside call does as well; its token is of no interest.
        let set = client.set(key, Some("set".into()), &Bytes::from_static(b"any"), None).await.unwrap();
        assert!(set.is_stored(), "{set:?}");
        assert_eq!(got(&a.node, key).await.as_deref(), Some("set"));
    }
    let error = client.put("user:1", "v", None).await.unwrap_err();
    assert!(matches!(error, client::Error::InvalidKey { .. }), "{error}");
}
