//! The HTTP port: every path, and every way to be refused.

use std::{net::SocketAddr, sync::Arc};

use catalog::Catalog;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::stack::{CATALOG, Stack, row};

/// An answer of one request.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")))?;
        Some(line[name.len() + 2..].trim())
    }

    /// The kind of a problem, whose other members are checked on the way.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{} {}",
            self.head,
            self.body
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(
            !problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty()
        );
        problem["type"].as_str().unwrap().strip_prefix("urn:freshline:").unwrap().to_owned()
    }
}

pub(crate) async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &[name, ": ", value, "\r\n"].concat();
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // A body that is too large is not read to its end: what counts is the answer that is there then.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

pub(crate) async fn get(to: SocketAddr, path: &str) -> Reply {
    send(to, "GET", path, &[], b"").await
}

pub(crate) async fn post(to: SocketAddr, path: &str, body: &str) -> Reply {
    send(to, "POST", path, &[("content-type", "application/json")], body.as_bytes()).await
}

/// With a look-aside group and one whose keys may have any text in them.
fn stack() -> Stack {
    let mut stack = Stack::new();
    let more = "[[group]]\nname = \"session\"\nkey = \"session:{id:str}\"\nrules = \"none\"\n\
        [[group]]\nname = \"page\"\nkey = \"page/{path:str}\"\nquery = \"SELECT body FROM shop.pages WHERE path = {path}\"\n";
    stack.catalog = Arc::new(Catalog::parse("test.toml", &format!("{CATALOG}{more}")).unwrap());
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_has_a_tag_and_who_has_it_gets_no_second_copy() {
    let stack = stack();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    stack.database.put("user:1", row("user:1", 1));
    let first = get(a.http, "/v1/keys/user:1").await;
    let tag = first.header("etag").unwrap().to_owned();
    assert_eq!((first.status, first.header("cache-control")), (200, Some("no-cache")));
    let again =
        send(b.http, "GET", "/v1/keys/user:1", &[("if-none-match", &format!("\"x\", W/{tag}"))], b"").await;
    assert_eq!(
        (again.status, again.header("etag"), &*again.body),
        (304, Some(&*tag), ""),
        "the same tag on every node"
    );
    assert!(
        again.header("age").is_some() && again.header("x-freshline-freshness-ms").is_some(),
        "{}",
        again.head
    );

    stack.database.put("user:1", row("user:1", 2));
    assert_eq!(send(a.http, "DELETE", "/v1/keys/user:1", &[], b"").await.json()["removed"], 1);
    let changed = send(a.http, "GET", "/v1/keys/user:1", &[("if-none-match", &tag)], b"").await;
    assert_eq!((changed.status, changed.body), (200, row("user:1", 2)));
    let head = send(a.http, "HEAD", "/v1/keys/user:1", &[], b"").await;
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_a_bound_in_a_header_and_keys_of_any_text() {
    let stack = stack();
    let a = stack.start("a").await;
    let absent = get(a.http, "/v1/keys/user:9").await;
    assert_eq!((absent.status, &*absent.problem()), (404, "absent"));
    let known = get(a.http, "/v1/keys/user:9").await;
    assert_eq!(
        (known.problem(), known.header("x-freshline-outcome")),
        ("absent".into(), Some("negative_hit"))
    );

    let strict =
        send(a.http, "GET", "/v1/keys/user:9?max_staleness=1h", &[("x-freshline-max-staleness", "0s")], b"")
            .await;
    assert_eq!(strict.header("x-freshline-outcome"), Some("miss"), "the stricter one counts");
    let bad = send(a.http, "GET", "/v1/keys/user:9", &[("x-freshline-max-staleness", "2")], b"").await;
    assert_eq!((bad.status, &*bad.problem()), (400, "bad-header"));

    // What is percent-encoded in the key itself stands doubly so in the path.
    let key = "page/a%20b/ü";
    stack.database.put(key, "{\"body\":1}");
    for path in ["/v1/keys/page%2Fa%2520b%2F%C3%BC", "/v1/keys/page/a%2520b/%C3%BC"] {
        assert_eq!(get(a.http, path).await.body, "{\"body\":1}", "{path}");
    }
    assert_eq!(stack.database.calls().last().unwrap(), &[key]);
    let bytes = get(a.http, "/v1/keys/page%2F%FF").await;
    assert_eq!((bytes.status, &*bytes.problem()), (400, "bad-path"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_aside_value_is_set_with_its_token_and_only_with_it() {
    let stack = stack();
    let (a, b) = (stack.start("a").await, stack.start("b").await);
    let path = "/v1/keys/session:7";
    assert_eq!(get(a.http, path).await.problem(), "not-filled");
    let miss = get(a.http, "/v1/keys/session:7?look_aside=true").await;
    assert_eq!((miss.status, &*miss.problem()), (404, "not-cached"));
    let token = miss.header("x-freshline-token").unwrap().to_owned();
    assert_eq!(miss.json()["token"], *token);

    let put = async |to, headers: &[(&str, &str)], body: &[u8]| send(to, "PUT", path, headers, body).await;
    assert_eq!(put(a.http, &[], b"x").await.problem(), "token-required");
    assert_eq!(put(a.http, &[("x-freshline-token", "!")], b"x").await.problem(), "bad-token");
    assert_eq!(put(a.http, &[("x-freshline-token", "AQID")], b"x").await.problem(), "bad-token");
    let image = [("x-freshline-token", &*token), ("content-type", "image/png")];
    let refused = put(a.http, &image, b"x").await;
    assert_eq!((refused.status, &*refused.problem()), (415, "media-type"));
    assert!(refused.header("accept").unwrap().contains("application/octet-stream"));
    let json = [("x-freshline-token", &*token), ("content-type", "application/json")];
    assert_eq!(put(a.http, &json, b"{").await.problem(), "bad-body");
    let large = put(a.http, &[("x-freshline-token", &token)], &vec![b'x'; 70 << 10]).await;
    assert_eq!((large.status, &*large.problem()), (413, "value-too-large"));
    let larger = put(a.http, &[("x-freshline-token", &token)], &vec![b'x'; 300 << 10]).await;
    assert_eq!((larger.status, &*larger.problem()), (413, "body-too-large"));

    // Through the other node: the token knows who gave it.
    let stored = put(b.http, &[("x-freshline-token", &token)], b"\x01bytes").await;
    assert_eq!((stored.status, &stored.json()["stored"]), (200, &Value::Bool(true)), "{}", stored.body);
    let hit = get(b.http, path).await;
    assert_eq!(
        (hit.status, &*hit.body, hit.header("content-type")),
        (200, "\u{1}bytes", Some("application/octet-stream"))
    );

    let miss = get(a.http, "/v1/keys/session:8?look_aside=true").await.json();
    let token = miss["token"].as_str().unwrap();
    send(b.http, "DELETE", "/v1/keys/session:8", &[], b"").await;
    let set = |body: String| async move {
        let headers = [("content-type", "application/vnd.freshline.set+json")];
        send(a.http, "PUT", "/v1/keys/session:8", &headers, body.as_bytes()).await
    };
    let refused = set(format!("{{\"token\":\"{token}\",\"value\":{{\"n\":1.10}}}}")).await;
    assert_eq!(
        (refused.status, &*refused.problem(), &refused.json()["reason"]),
        (409, "set-refused", &Value::from("removed"))
    );
    let token =
        get(a.http, "/v1/keys/session:8?look_aside=true").await.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(set(format!("{{\"token\":\"{token}\"}}")).await.problem(), "bad-body");
    assert_eq!(
        set(format!("{{\"token\":\"{token}\",\"value\":{{\"n\":1.10}},\"ttl\":\"10s\"}}")).await.status,
        200
    );
    let hit = get(a.http, "/v1/keys/session:8").await;
    assert_eq!(hit.body, "{\"n\":1.10}");
    assert!(hit.header("x-freshline-ttl-ms").unwrap().parse::<u64>().unwrap() <= 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_at_once() {
    let stack = stack();
    let (a, _b) = (stack.start("a").await, stack.start("b").await);
    stack.database.put("user:1", "{\"id\":18446744073709551615,\"price\":1.10}");
    let reply =
        post(a.http, "/v1/keys:batchGet", r#"{"keys":["user:1","user:2","user:007","session:1"]}"#).await;
    assert!(
        reply.body.contains(r#""value":{"id":18446744073709551615,"price":1.10}"#),
        "not a digit is lost: {}",
        reply.body
    );
    let results = reply.json()["results"].as_array().unwrap().clone();
    assert_eq!((&results[0]["outcome"], &results[1]["value"]), (&Value::from("miss"), &Value::Null));
    assert_eq!(results[2]["error"]["type"], "urn:freshline:bad-key");
    assert_eq!(results[3]["error"]["type"], "urn:freshline:not-filled");
    let tokens =
        post(a.http, "/v1/keys:batchGet", r#"{"keys":["session:1"],"look_aside":true}"#).await.json();
    let token = tokens["results"][0]["token"].as_str().unwrap();
    let set = send(a.http, "PUT", "/v1/keys/session:1", &[("x-freshline-token", token)], b"\xff").await;
    assert_eq!(set.status, 200, "{}", set.body);
    let bytes =
        post(a.http, "/v1/keys:batchGet", r#"{"keys":["session:1"],"max_staleness":"1h"}"#).await.json();
    assert_eq!(bytes["results"][0]["value_base64"], "/w==");

    assert_eq!(
        post(a.http, "/v1/keys:batchDelete", r#"{"keys":["user:1","user:2"]}"#).await.json()["removed"],
        2
    );
    for (path, body, kind) in [
        ("/v1/keys:batchGet", "{\"keys\":[7]}", "bad-body"),
        ("/v1/keys:batchGet", "{\"keys\":[],\"max_staleness\":\"2\"}", "bad-body"),
        ("/v1/keys:batchDelete", "{\"keys\":[\"nothing:1\"]}", "no-such-group"),
        ("/v1/keys:batchDelete", "", "bad-body"),
        ("/v1/keys:batchDelete?x=1", "{\"keys\":[]}", "bad-query"),
    ] {
        assert_eq!(post(a.http, path, body).await.problem(), kind, "{path} {body}");
    }
    let many = format!("{{\"keys\":[{}\"user:1\"]}}", "\"user:1\",".repeat(10_000));
    assert_eq!(post(a.http, "/v1/keys:batchGet", &many).await.problem(), "too-many-keys");
    assert_eq!(send(a.http, "POST", "/v1/keys:batchGet", &[], b"{}").await.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_flushed_and_memory_is_paged_through() {
    let stack = stack();
    let a = stack.start("a").await;
    for key in a.keys(3) {
        stack.database.put(&key, row(&key, 1));
        get(a.http, &format!("/v1/keys/{key}")).await;
    }
    let page = get(a.http, "/v1/scan?group=user&count=10000&values=true").await.json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
    assert!(page["entries"][0]["value"]["id"].is_u64() && page["cursor"].is_null(), "{page}");
    let small = get(a.http, "/v1/scan?count=1").await.json();
    let cursor = small["cursor"].as_str().expect("there is more").to_owned();
    assert_eq!(get(a.http, &format!("/v1/scan?cursor={cursor}")).await.status, 200);
    assert_eq!(get(a.http, "/v1/scan?group=nobody").await.problem(), "no-such-group");
    assert_eq!(get(a.http, "/v1/scan?count=10001").await.problem(), "bad-query");

    let flushed = post(a.http, "/v1/groups/user:flush", "").await;
    assert_eq!(flushed.json()["flushed"], serde_json::json!(["user"]));
    assert_eq!(get(a.http, "/v1/scan").await.json()["entries"].as_array().unwrap().len(), 0);
    assert_eq!(post(a.http, "/v1/groups/nobody:flush", "").await.problem(), "no-such-group");
    assert_eq!(post(a.http, "/v1/groups/user:melt", "").await.problem(), "no-such-path");
    assert_eq!(post(a.http, "/v1/groups:flush", "").await.json()["flushed"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_says_what_is() {
    let stack = stack();
    let a = stack.start("a").await;
    for (path, allow) in [
        ("/v1/keys/user:1", "GET,HEAD,PUT,DELETE"),
        ("/v1/keys:batchGet", "POST"),
        ("/v1/stats", "GET,HEAD"),
        ("/metrics", "GET,HEAD"),
        ("/openapi.json", "GET,HEAD"),
        ("/v1/groups/user:flush", "POST"),
    ] {
        let reply = send(a.http, "PATCH", path, &[], b"").await;
        assert_eq!(
            (reply.status, &*reply.problem(), reply.header("allow")),
            (405, "method-not-allowed", Some(allow)),
            "{path}"
        );
    }
    assert_eq!(get(a.http, "/v2").await.problem(), "no-such-path");
    assert_eq!(get(a.http, "/v1/keys/").await.problem(), "no-such-path");
    let document = get(a.http, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["schemas"]["Group"]["enum"][2], "session");
    stack.database.fail(Some(loader::Error::Unavailable("it is down".into())));
    let down = get(a.http, "/v1/keys/user:1").await;
    assert_eq!(
        (down.status, &*down.problem(), down.header("retry-after")),
        (503, "database-unavailable", Some("1"))
    );
}

/// *A page that somebody reads at work flushes everything.*
#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_elsewhere_flushes_and_removes_nothing() {
    let stack = Stack::new();
    let node = stack.start("a").await;
    let key = node.key();
    stack.database.put(&key, row(&key, 1));
    let path = format!("/v1/keys/{key}");
    assert_eq!(get(node.http, &path).await.status, 200);
    let own = format!("http://{}", node.http);
    let calls = [("POST", "/v1/groups:flush"), ("POST", "/v1/groups/user:flush"), ("DELETE", path.as_str())];
    for (method, call) in calls {
        for headers in [
            &[("origin", "http://evil.example"), ("host", "evil.example")][..],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
        ] {
            let reply = send(node.http, method, call, headers, b"").await;
            assert_eq!(
                (reply.status, reply.problem().as_str()),
                (403, "foreign-origin"),
                "{method} {call} {headers:?}"
            );
        }
    }
    for form in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = send(node.http, "POST", "/v1/groups:flush", &[("content-type", form)], b"").await;
        assert_eq!(reply.problem(), "media-type");
    }
    assert_eq!(get(node.http, &path).await.header("x-freshline-outcome"), Some("hit"), "nothing was flushed");
    let mut stream = TcpStream::connect(node.http).await.unwrap();
    let authority = node.http;
    let request = format!(
        "POST /v1/groups:flush HTTP/1.1\r\nhost: {authority}\r\norigin: {own}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "a page of its own may: {reply}");
}
