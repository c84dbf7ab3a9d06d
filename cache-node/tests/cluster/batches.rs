//! Requests of many keys whose values are many bytes: replies are bounded by bytes, and no key is blamed for what its neighbours take.

use std::{collections::BTreeSet, time::Duration};

use cache_node::{Error, Hop};
use client::Client;
use daemon::config::ByteSize;
use proto::v1::{self, cache_client::CacheClient, key_result};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use crate::{
    http::post,
    stack::{Running, Stack},
};

const MIB: usize = 1 << 20;
const WAIT: Duration = Duration::from_secs(20);

/// Three nodes, or one, and keys with values of 1 MB, shorter by their number so that each is told from the others.
async fn large(nodes: usize, keys: usize) -> (Stack, Vec<Running>, Vec<String>) {
    let mut stack = Stack::new();
    stack.config.memory = ByteSize(1 << 30);
    stack.config.max_value = ByteSize(1 << 20);
    stack.config.max_reply = ByteSize(8 << 20);
    let mut running = Vec::new();
    for id in ["a", "b", "c"].into_iter().take(nodes) {
        running.push(stack.start(id).await);
    }
    let keys: Vec<String> = (0..keys).map(|id| format!("user:{id}")).collect();
    for (number, key) in keys.iter().enumerate() {
        stack.database.put(key, format!("\"{}\"", "x".repeat(1_000_000 - number)));
    }
    (stack, running, keys)
}

fn len(number: usize) -> usize {
    1_000_002 - number
}

/// *300 valid keys of 1 MB by HTTP: 201 answers say bad-key, "encoded message length too large".*
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_a_reply_is_left_out_and_can_be_asked_for_again() {
    let (_stack, nodes, keys) = large(3, 40).await;
    for _ in ["from the database", "from memory"] {
        let mut open: BTreeSet<usize> = (0..keys.len()).collect();
        let mut rounds = 0;
        while !open.is_empty() {
            let asked: Vec<usize> = open.iter().copied().collect();
            let body = json!({ "keys": asked.iter().map(|index| &keys[*index]).collect::<Vec<_>>() });
            let reply = post(nodes[0].http, "/v1/keys:batchGet", &body.to_string()).await;
            assert_eq!(reply.status, 200);
            let results = reply.json();
            let mut bytes = 0;
            for (index, result) in asked.into_iter().zip(results["results"].as_array().unwrap()) {
                if let Some(value) = result["value"].as_str() {
                    assert_eq!(value.len() + 2, len(index));
                    bytes += value.len();
                    open.remove(&index);
                } else {
                    assert_eq!(result["error"]["type"], "urn:freshline:reply-full");
                }
            }
            assert!((7 * MIB..=8 * MIB).contains(&bytes) || open.is_empty(), "{bytes}");
            rounds += 1;
        }
        assert_eq!(rounds, 40usize.div_ceil(8), "eight fit into 8 MiB");
    }
    assert!(nodes[0].metric("freshline_node_reply_keys_left_out_total") >= 2.0 * (32.0 + 24.0 + 16.0 + 8.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_all_values_however_many_replies_that_takes() {
    let (_stack, nodes, keys) = large(3, 60).await;
    let client =
        Client::from_seeds(vec![nodes[0].member.grpc.clone()], client::Config::default()).await.unwrap();
    for (number, answer) in client.get_many(&keys).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().value.unwrap().len(), len(number));
    }
}

/// *A request of 12 KB that names one key of 1 MB a thousand times takes a gigabyte.*
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_named_many_times_is_read_once_and_counted_each_time() {
    let (stack, nodes, keys) = large(2, 2).await;
    for node in &nodes {
        let asked = vec![keys[0].clone(); 1000];
        let results = node.node.get_many(&asked, Hop::First).await.unwrap();
        let values = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!((values, results.len()), (8, 1000));
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(Error::LeftOut { .. }))));
        let mut caller =
            CacheClient::connect(node.member.grpc.clone()).await.unwrap().max_decoding_message_size(9 * MIB);
        let request = v1::GetManyRequest { keys: asked, ..v1::GetManyRequest::default() };
        let reply = caller.get_many(request).await.unwrap().into_inner();
        let kept = |result: &&v1::KeyResult| matches!(result.result, Some(key_result::Result::Reply(_)));
        assert_eq!(reply.results.iter().filter(kept).count(), 8);
    }
    assert_eq!(stack.database.calls().len(), 1);
    let small: Vec<String> =
        ["user:1", "user:1", "nonsense", "user:1", "nonsense"].map(String::from).to_vec();
    let results = nodes[0].node.get_many(&small, Hop::First).await.unwrap();
    let shape: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(shape, [true, true, false, true, false]);
}

/// *Readers that take no replies pin all of them.*
#[tokio::test(flavor = "multi_thread")]
async fn replies_that_nobody_takes_are_bounded_together() {
    let (mut stack, _, keys) = large(0, 8).await;
    stack.config.reply_memory = ByteSize(20 << 20);
    let node = stack.start("a").await;
    let body = json!({ "keys": keys }).to_string();
    let mut held = Vec::new();
    let refused = async {
        loop {
            let mut reader = TcpStream::connect(node.http).await.unwrap();
            let request = format!(
                "POST /v1/keys:batchGet HTTP/1.1\r\nhost: node\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            reader.write_all(request.as_bytes()).await.unwrap();
            reader.readable().await.unwrap(); // the head of its reply is there; the rest is never read
            held.push(reader);
            let reply = post(node.http, "/v1/keys:batchGet", &body).await;
            let first = &reply.json()["results"][0];
            if first["error"]["type"] == "urn:freshline:overloaded" {
                break;
            }
        }
    };
    timeout(WAIT, refused).await.expect("when others take all, a request is refused");
    assert!(held.len() <= 3, "{}", held.len());
    assert!(node.metric("freshline_node_replies_refused_total") > 0.0);
    drop(held);
    let freed = async {
        while node.metric("freshline_node_reply_bytes") > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, freed).await.expect("who hangs up gives it back");
    assert_eq!(post(node.http, "/v1/keys:batchGet", &body).await.json()["results"][0]["error"], json!(null));
}
