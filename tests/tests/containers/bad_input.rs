//! Input that is wrong: each with a clear error, and nothing lost.

use std::{fs, process::Command, time::Duration};

use proto::v1::Outcome;
use rdkafka::{
    ClientConfig, Message,
    message::Headers,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::{Value, json};
use tests::{process, stack::Stack, wait};
use tonic::Code;

use crate::shop::{self, sql, user};

pub(crate) async fn poison_message_goes_to_the_dead_letter_topic(stack: &Stack) {
    let name = "t_poison";
    stack.topic(&format!("{name}.dead")).await;
    let (database, cluster) = shop::open(stack, name).await;
    cluster.nodes[0].get("user:1").await.unwrap();
    cluster.nodes[0].get("user:1:orders").await.unwrap();

    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", stack.brokers()).create().unwrap();
    let poison = format!(
        "{{\"database\":\"{name}\",\"table\":\"users\",\"type\":\"UPDATE\",\"isDdl\":false,\"data\":[{{\"id\":"
    );
    let record = FutureRecord::<str, str>::to(name).payload(&poison).partition(1);
    let delivery = producer.send(record, Duration::from_secs(10)).await.unwrap();

    // It arrives in the dead-letter topic byte for byte, with where it came from and why.
    let consumer = stack.consumer(&format!("{name}.dead"));
    let (headers, _) = wait::until("the dead letter", Duration::from_secs(30), async || {
        match tokio::task::block_in_place(|| consumer.poll(Duration::from_millis(500))) {
            Some(Ok(message)) => {
                assert_eq!(message.payload(), Some(poison.as_bytes()));
                let headers = message.headers().expect("a dead letter carries headers");
                Ok(headers
                    .iter()
                    .map(|header| {
                        format!(
                            "{}={}",
                            header.key,
                            String::from_utf8_lossy(header.value.unwrap_or_default())
                        )
                    })
                    .collect::<Vec<_>>()
                    .join(" "))
            }
            Some(Err(error)) => Err(error.to_string()),
            None => Err("none yet".to_owned()),
        }
    })
    .await;
    assert!(headers.contains(name) && headers.contains(&delivery.offset.to_string()), "{headers}");

    // The poisoned change may have been of any row: what its table feeds is flushed, and the stream goes on.
    wait::until("the flush of the groups that the poison may concern", Duration::from_secs(30), async || {
        match cluster.nodes[0].explain("user:1").await.unwrap().entry {
            1 => Ok(()),
            entry => Err(entry),
        }
    })
    .await;
    cluster.nodes[0].get("user:1").await.unwrap();
    sql(&database, "UPDATE users SET name = 'still alive' WHERE id = 1").await;
    cluster.until_everywhere("user:1", &user(1, "still alive", "ada@example.com")).await;
    assert!(cluster.sync().log().contains("WARN"), "a WARN line tells of the poison");
    assert!(cluster.sync().metric("freshline_sync_dead_letters_total").await >= 1.0);
}

pub(crate) async fn keys_that_are_not_canonical_are_refused(stack: &Stack) {
    let (_database, cluster) = shop::open(stack, "t_keys").await;
    let long = format!("user_by_email:{}", "x".repeat(5000));
    for (key, code, hint) in [
        ("user:007", Code::InvalidArgument, "user:7"),
        ("user:abc", Code::InvalidArgument, "u64"),
        ("user:-1", Code::InvalidArgument, "u64"),
        ("user:18446744073709551616", Code::InvalidArgument, "u64"),
        ("nobody:1", Code::NotFound, "no group"),
        ("", Code::InvalidArgument, "empty"),
        (long.as_str(), Code::InvalidArgument, "limit"),
    ] {
        for node in &cluster.nodes {
            let refused = node.get(key).await.expect_err(key);
            assert_eq!(refused.code(), code, "{key}: {refused:?}");
            assert!(refused.message().contains(hint), "`{}` does not tell `{hint}`", refused.message());
        }
    }
    // One bad key does not spoil a batch's good ones.
    let node = &cluster.nodes[0];
    assert!(node.get_many(&["user:007".to_owned(), "user:1".to_owned()]).await.is_err());
    assert_eq!(node.get("user:1").await.unwrap().outcome(), Outcome::Hit);

    // A value over the limit is served, but not kept.
    assert_eq!(node.value("user:2").await.unwrap(), user(2, "Ben", "ben@example.com"));
    assert_ne!(node.value("user:1:orders").await.unwrap(), Value::Null);
    assert_eq!(node.value("user:99:orders").await.unwrap(), json!([]));
}

pub(crate) async fn unknown_table_and_missing_column_are_named_at_start(stack: &Stack) {
    let name = "t_wrong";
    shop::database(stack, name).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("freshline.toml");
    let text = format!(
        "[cluster]\nname = \"{name}\"\n[database]\nurl = \"{url}\"\n[node]\nid = \"n\"\ngrpc = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
         [[group]]\nname = \"ghost\"\nkey = \"ghost:{{id:u64}}\"\nquery = \"SELECT * FROM {name}.ghosts WHERE id = {{id}}\"\nttl = \"1m\"\n\
         [[group]]\nname = \"user\"\nkey = \"user:{{id:u64}}\"\nquery = \"SELECT phone FROM {name}.users WHERE id = {{id}}\"\nttl = \"1m\"\n",
        url = stack.mysql_url(name),
    );
    fs::write(&config, text).unwrap();
    let output = tokio::task::spawn_blocking(move || {
        Command::new(process::binaries().join("cache-node"))
            .arg("--config")
            .arg(config)
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    });
    let output = tokio::time::timeout(Duration::from_secs(30), output)
        .await
        .expect("a wrong catalog ends the start")
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("ghosts") && said.contains("phone"), "both mistakes are told at once:\n{said}");
}
