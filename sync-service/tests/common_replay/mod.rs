//! What messages would remove and flush, in one line each.

use std::sync::Arc;

use catalog::Catalog;
use daemon::config::{KafkaFormat, KafkaFormats, KafkaSource};
use serde_json::Value;
use sync_service::config::OnCanalRestart;
use sync_service::decode::{Topics, Zone};
use sync_service::offsets::Partition;
use sync_service::replay::{Replay, Told, What};
use sync_service::source::{Headers, Message};

/// A stream of messages of one format.
pub(crate) struct Stream {
    replay: Replay,
    offset: i64,
}

impl Stream {
    pub(crate) fn new(catalog: &str, format: KafkaFormat) -> Self {
        let catalog = match Catalog::parse("t.toml", catalog) {
            Ok(catalog) => Arc::new(catalog),
            Err(report) => panic!("{:?}", report.problems),
        };
        let source = KafkaSource { format: KafkaFormats::One(format), ..KafkaSource::default() };
        let topics = Topics::new(&source).expect("no patterns");
        Self { replay: Replay::new(catalog, topics, Zone::default(), OnCanalRestart::Trust), offset: 0 }
    }

    pub(crate) fn told(&mut self, message: &Value) -> Told {
        let partition = Partition::new("shop", 0);
        let payload = message.to_string();
        self.offset += 1;
        self.replay.message(&Message {
            partition: &partition,
            offset: self.offset,
            timestamp_ms: None,
            key: None,
            payload: Some(payload.as_bytes()),
            headers: Headers::default(),
        })
    }

    /// The keys that a message removes, then the groups that it flushes with the reason; of an undecodable one why.
    pub(crate) fn said(&mut self, message: &Value) -> String {
        let told = self.told(message);
        if let What::Undecodable(reason) = told.what {
            return reason;
        }
        let keys = told.keys.iter().map(ToString::to_string);
        let flushes = told.flushes.iter().map(|(group, reason)| format!("flush {group} ({reason})"));
        keys.chain(flushes).collect::<Vec<_>>().join(" ")
    }
}
