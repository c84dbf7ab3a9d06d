//! What messages would remove under a catalog, told and not done: for `freshline replay`.
//!
//! Decoder and mapper are the service's own, so what is told is what it would send to the nodes.

use std::sync::Arc;

use catalog::Catalog;
use prometheus_client::registry::Registry;

use crate::config::OnCanalRestart;
use crate::decode::{Topics, Zone};
use crate::map::Mapper;
use crate::metrics::PipelineMetrics;
use crate::source::Message;

pub use crate::map::{Told, What};

/// Maps messages against one catalog.
pub struct Replay(Mapper);

impl Replay {
    /// `zone` is the time zone that the stream's TIMESTAMP columns are written in, `topics` says what is in which.
    pub fn new(catalog: Arc<Catalog>, topics: Topics, zone: Zone, on_canal_restart: OnCanalRestart) -> Self {
        // Counted where nobody looks.
        let metrics = PipelineMetrics::register(&mut Registry::default());
        Self(Mapper::new(catalog, zone, metrics, on_canal_restart).with_topics(topics))
    }

    /// What this message would remove and flush. Messages of a partition come in the order of their offsets.
    pub fn message(&mut self, message: &Message<'_>) -> Told {
        self.0.told(message)
    }
}

#[cfg(test)]
mod tests {
    use catalog::Op;

    use super::*;
    use crate::decode::{Idle, Reason};
    use crate::offsets::Partition;
    use crate::source::Headers;

    const CATALOG: &str = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
"#;

    fn told(text: Option<&str>) -> Told {
        let catalog = Catalog::parse("t.toml", CATALOG);
        let (catalog, topics) = (Arc::new(catalog.unwrap()), Topics::default());
        let mut replay = Replay::new(catalog, topics, Zone::default(), OnCanalRestart::Trust);
        let partition = Partition::new("shop", 0);
        let payload = text.map(str::as_bytes);
        let headers = Headers::default();
        replay.message(&Message {
            partition: &partition,
            offset: 7,
            timestamp_ms: None,
            key: None,
            payload,
            headers,
        })
    }

    #[test]
    fn a_message_is_told_with_its_keys_its_flushes_and_their_reasons() {
        let update = told(Some(
            r#"{"database":"shop","table":"users","type":"UPDATE","isDdl":false,"es":1,"ts":1,"id":1,
            "mysqlType":{"id":"bigint unsigned","name":"varchar(9)"},
            "data":[{"id":"9","name":"a"}],"old":[{"id":"8"}]}"#,
        ));
        assert_eq!(update.what, What::Rows { op: Op::Update, rows: 1 });
        assert_eq!(update.table.as_deref(), Some("shop.users"));
        let mut keys: Vec<&str> = update.keys.iter().map(|key| &**key).collect();
        keys.sort_unstable();
        assert_eq!((keys, update.flushes.len()), (vec!["user:8", "user:9"], 0));

        let truncate = told(Some(
            r#"{"database":"shop","table":"users","type":"TRUNCATE","isDdl":true,"sql":"TRUNCATE users","data":null}"#,
        ));
        assert_eq!(truncate.what, What::Whole(Reason::Truncate));
        assert_eq!(truncate.flushes, [("user".into(), "truncate")]);

        let other = told(Some(
            r#"{"database":"shop","table":"carts","type":"INSERT","isDdl":false,"data":[{"id":"9"}],"old":null}"#,
        ));
        assert_eq!((other.what, other.keys.len()), (What::Nothing(Idle::NoRules), 0));

        for text in [Some("{"), None] {
            let broken = told(text);
            assert!(matches!(broken.what, What::Undecodable(_)), "{broken:?}");
            assert_eq!(broken.flushes, [("user".into(), "undecodable")]);
        }
    }
}
