//! `[source.kafka]`: the change stream.

mod bounds;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::{
    ByteSize, Layers, Problems,
    url::{MASK, is_secret_name},
};

/// The form of the change messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaFormat {
    /// Canal's flat JSON messages, and those of its relatives, `TiCDC` and Flink.
    #[default]
    Canal,
    /// Debezium's JSON change events, with or without a schema.
    Debezium,
    /// Rows that Debezium's `ExtractNewRecordState` took out of their events.
    DebeziumUnwrapped,
    /// Maxwell's JSON messages.
    Maxwell,
    /// What Alibaba Cloud's `DataWorks` writes when it synchronises a database.
    Aliyun,
}

impl KafkaFormat {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Canal, Self::Debezium, Self::DebeziumUnwrapped, Self::Maxwell, Self::Aliyun];

    /// The name in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Canal => "canal",
            Self::Debezium => "debezium",
            Self::DebeziumUnwrapped => "debezium_unwrapped",
            Self::Maxwell => "maxwell",
            Self::Aliyun => "aliyun",
        }
    }
}

/// One form for all topics, or one per topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum KafkaFormats {
    /// All topics carry this one.
    One(KafkaFormat),
    /// By the topic's name, or by a `^regex` that it matches; plain names count first, then patterns in the order of their text.
    Topics(BTreeMap<String, KafkaFormat>),
}

impl Default for KafkaFormats {
    fn default() -> Self {
        Self::One(KafkaFormat::default())
    }
}

impl From<KafkaFormat> for KafkaFormats {
    fn from(format: KafkaFormat) -> Self {
        Self::One(format)
    }
}

impl<'de> Deserialize<'de> for KafkaFormats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = KafkaFormats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a format such as \"canal\", or a table of topics and formats")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<KafkaFormats, E> {
                KafkaFormat::deserialize(de::value::StrDeserializer::new(value)).map(KafkaFormats::One)
            }

            fn visit_map<M: de::MapAccess<'de>>(self, map: M) -> Result<KafkaFormats, M::Error> {
                BTreeMap::deserialize(de::value::MapAccessDeserializer::new(map)).map(KafkaFormats::Topics)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// `[source.kafka]`: topics that carry the database's changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSource {
    /// `host:port`, many with commas. No default.
    pub brokers: String,
    /// Topic names, or one `^regex`. No default.
    pub topics: Vec<String>,
    /// `"canal"`, `"debezium"`, `"debezium_unwrapped"`, `"maxwell"`, `"aliyun"`, or a table of topics (names or `^regex`) and formats. Default `"canal"`.
    pub format: KafkaFormats,
    /// The consumer group; instances of the sync service share work by it. Default `"freshline"`.
    pub group: String,
    /// Where messages go that can't be decoded. Default `"freshline.dead-letters"`.
    pub dead_letter_topic: String,
    /// The time zone of Canal's JVM, for TIMESTAMP columns in keys. Default `"UTC"`.
    pub time_zone: String,
    /// Whose rows a topic carries where its messages don't say: topic (a name or `^regex`) to `database.table`. Default none.
    pub tables: BTreeMap<String, String>,
    /// Bytes that one answer of a broker brings of each partition, as they are in the log; of whole batches, and one at least. Default `"256KiB"`.
    pub fetch: ByteSize,
    /// Bytes that one batch of messages may take, unpacked; a larger one is not read, and all groups are flushed. Default `"256MiB"`.
    pub max_batch: ByteSize,
    /// Bytes of messages that are read and not yet decoded; beyond it nothing is fetched. One answer more may come. Default `"64MiB"`.
    pub memory: ByteSize,
    /// Passed to librdkafka as they are. Default none.
    pub properties: Properties,
}

impl Default for KafkaSource {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            topics: Vec::new(),
            format: KafkaFormats::default(),
            tables: BTreeMap::new(),
            group: "freshline".to_owned(),
            dead_letter_topic: "freshline.dead-letters".to_owned(),
            time_zone: "UTC".to_owned(),
            fetch: ByteSize(256 << 10),
            max_batch: ByteSize(256 << 20),
            memory: ByteSize(64 << 20),
            properties: Properties::default(),
        }
    }
}

impl KafkaSource {
    /// Pushes what is wrong beyond single fields.
    pub fn check(&self, layers: &Layers, problems: &mut Problems) {
        let place = |field: &str| layers.place(&format!("source.kafka.{field}"));
        if self.brokers.trim().is_empty() {
            problems.push(format!("{}: is not set, write it like \"kafka:9092\"", place("brokers")));
        }
        if self.topics.is_empty() {
            problems.push(format!("{}: is not set, write it like [\"shop\"]", place("topics")));
        }
        if self.topics.iter().any(|topic| topic.trim().is_empty()) {
            problems.push(format!("{}: a topic's name is empty", place("topics")));
        }
        if self.topics.len() > 1 && self.topics.iter().any(|topic| topic.starts_with('^')) {
            problems.push(format!("{}: a ^regex stands alone, put all names into it", place("topics")));
        }
        if self.topics.contains(&self.dead_letter_topic) {
            problems.push(format!(
                "{}: is among the topics that are read, name another",
                place("dead_letter_topic")
            ));
        }
        if matches!(&self.format, KafkaFormats::Topics(topics) if topics.is_empty()) {
            problems.push(format!("{}: names no topic, leave it out for \"canal\"", place("format")));
        }
        if let KafkaFormats::Topics(formats) = &self.format
            && formats.keys().all(|name| !name.starts_with('^'))
        {
            for topic in self.topics.iter().filter(|topic| !topic.starts_with('^')) {
                if !formats.contains_key(topic) {
                    problems.push(format!("{}: names no format for the topic {topic:?}", place("format")));
                }
            }
        }
        for (topic, table) in &self.tables {
            if table.split('.').filter(|part| !part.is_empty()).count() != 2 {
                problems.push(format!(
                    "{}: `{topic}` = `{table}` is not written like \"shop.orders\"",
                    place("tables")
                ));
            }
        }
        for (field, value) in [("group", &self.group), ("dead_letter_topic", &self.dead_letter_topic)] {
            if value.trim().is_empty() {
                problems.push(format!("{}: is empty, leave it out for the default", place(field)));
            }
        }
        self.check_bounds(layers, problems);
        // What the protocol stands on: offsets are committed when all that precedes them is acknowledged.
        for owned in ["enable.auto.commit", "enable.auto.offset.store", "group.id", "bootstrap.servers"] {
            if self.properties.get(owned).is_some() {
                problems
                    .push(format!("{}: `{owned}` is set by freshline, leave it out", place("properties")));
            }
        }
    }
}

/// librdkafka properties; those that hold secrets are printed as `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// A property's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All properties, secrets unmasked, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, if is_secret_name(name) { MASK } else { value }))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.masked())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let properties = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
        Ok(properties.into_iter().map(|(name, Scalar(value))| (name, value)).collect())
    }
}

/// librdkafka takes all values as strings; `10000` and `true` may be written without quotes.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or true or false")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
