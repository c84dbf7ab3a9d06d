//! What the configuration says of topics: their formats, and whose rows they carry.

use std::sync::Arc;

use daemon::config::{KafkaFormat, KafkaFormats, KafkaSource};
use hashbrown::HashMap;
use regex::Regex;

/// Formats and tables of topics. The default: every topic is Canal's, and its messages name their tables.
#[derive(Clone, Default, Debug)]
pub struct Topics {
    formats: Vec<(Name, KafkaFormat)>,
    /// The form of all topics; `None` where it goes by their names.
    every: Option<KafkaFormat>,
    by_name: bool,
    tables: Vec<(Name, String)>,
    known: HashMap<Arc<str>, Topic>,
}

#[derive(Clone, Debug)]
enum Name {
    Plain(String),
    Pattern(Regex),
}

/// What is said of one topic.
#[derive(Clone, Default, Debug)]
pub(super) struct Topic {
    /// `None` if no name or pattern fits the topic.
    pub(super) format: Option<KafkaFormat>,
    /// Whose rows it carries, as (database, table).
    pub(super) table: Option<(Arc<str>, Arc<str>)>,
}

/// Topics remembered; a pattern may be subscribed to.
const MAX_KNOWN: usize = 65_536;

impl Topics {
    /// Reads what a configuration says; the error names the pattern that can't be read.
    pub fn new(source: &KafkaSource) -> Result<Self, String> {
        let name = |field: &str, text: &String| {
            if text.starts_with('^') {
                let pattern = Regex::new(text);
                return pattern
                    .map(Name::Pattern)
                    .map_err(|error| format!("source.kafka.{field}: {text:?}: {error}"));
            }
            Ok(Name::Plain(text.clone()))
        };
        let mut topics = Self::default();
        match &source.format {
            KafkaFormats::One(format) => topics.every = Some(*format),
            KafkaFormats::Topics(formats) => {
                topics.by_name = true;
                for (text, format) in formats {
                    topics.formats.push((name("format", text)?, *format));
                }
            }
        }
        for (text, table) in &source.tables {
            topics.tables.push((name("tables", text)?, table.clone()));
        }
        let plain_first = |name: &Name| matches!(name, Name::Pattern(_));
        topics.formats.sort_by_key(|(name, _)| plain_first(name));
        topics.tables.sort_by_key(|(name, _)| plain_first(name));
        Ok(topics)
    }

    /// What is said of a topic.
    pub(super) fn of(&mut self, topic: &Arc<str>) -> Topic {
        if let Some(known) = self.known.get(topic) {
            return known.clone();
        }
        let format = if self.by_name {
            self.formats.iter().find(|(name, _)| name.fits(topic)).map(|(_, format)| *format)
        } else {
            Some(self.every.unwrap_or_default())
        };
        let table = self.tables.iter().find(|(name, _)| name.fits(topic)).and_then(|(name, table)| {
            let whole = match name {
                Name::Plain(_) => table.clone(),
                Name::Pattern(pattern) => {
                    let mut whole = String::new();
                    pattern.captures(topic)?.expand(table, &mut whole);
                    whole
                }
            };
            let (database, table) = whole.split_once('.')?;
            (!database.is_empty() && !table.is_empty()).then(|| (database.into(), table.into()))
        });
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        let found = Topic { format, table };
        self.known.insert(topic.clone(), found.clone());
        found
    }
}

impl Name {
    fn fits(&self, topic: &str) -> bool {
        match self {
            Self::Plain(name) => name == topic,
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_count_before_patterns() {
        let formats = [("^cdc\\..*", KafkaFormat::Debezium), ("cdc.flat", KafkaFormat::DebeziumUnwrapped)];
        let tables = [("^cdc\\.(\\w+)\\.(\\w+)$", "$1.$2"), ("flat", "shop.orders")];
        let source = KafkaSource {
            format: KafkaFormats::Topics(formats.map(|(name, format)| (name.to_owned(), format)).into()),
            tables: tables.map(|(name, table)| (name.to_owned(), table.to_owned())).into(),
            ..KafkaSource::default()
        };
        let mut topics = Topics::new(&source).expect("good patterns");
        let mut of = |topic: &str| {
            let found = topics.of(&topic.into());
            (found.format, found.table.map(|(database, table)| format!("{database} {table}")))
        };
        assert_eq!(of("cdc.flat"), (Some(KafkaFormat::DebeziumUnwrapped), None));
        assert_eq!(of("cdc.shop.users"), (Some(KafkaFormat::Debezium), Some("shop users".to_owned())));
        assert_eq!(of("flat"), (None, Some("shop orders".to_owned())));
        let bad =
            KafkaSource { tables: [("^(".to_owned(), "a.b".to_owned())].into(), ..KafkaSource::default() };
        assert!(Topics::new(&bad).is_err_and(|error| error.contains("source.kafka.tables")));
    }
}
