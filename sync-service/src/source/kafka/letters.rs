//! Dead letters: messages that can't be decoded, kept in a topic of their own.

use std::time::Duration;

use daemon::config::KafkaSource;
use parking_lot::Mutex;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::refused;
use crate::source::{Error, Letter};

/// Sends dead letters; connects when there is the first.
pub(super) struct Letters {
    config: KafkaSource,
    /// Guards the making of the one producer.
    producer: Mutex<Option<FutureProducer>>,
}

impl Letters {
    pub(super) fn new(config: KafkaSource) -> Self {
        Self { config, producer: Mutex::new(None) }
    }

    /// Returns when the letter is safe.
    pub(super) async fn send(&self, letter: &Letter) -> Result<(), Error> {
        let producer = self.producer()?;
        let place = letter.partition.number.to_string();
        let offset = letter.offset.to_string();
        let timestamp = letter.timestamp_ms.map(|ms| ms.to_string());
        let mut headers = OwnedHeaders::new();
        let told = [
            ("freshline.reason", Some(letter.reason.as_str())),
            ("freshline.topic", Some(&*letter.partition.topic)),
            ("freshline.partition", Some(place.as_str())),
            ("freshline.offset", Some(offset.as_str())),
            ("freshline.timestamp", timestamp.as_deref()),
            ("freshline.table", letter.table.as_deref()),
        ];
        for (key, value) in told {
            if value.is_some() {
                headers = headers.insert(Header { key, value });
            }
        }
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.config.dead_letter_topic).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(payload) = &letter.payload {
            record = record.payload(payload);
        }
        let sent = producer.send(record, Duration::from_secs(5)).await;
        sent.map(|_| ()).map_err(|(error, _)| {
            Error::Unavailable(format!("topic {}: {error}", self.config.dead_letter_topic))
        })
    }

    fn producer(&self) -> Result<FutureProducer, Error> {
        let mut producer = self.producer.lock();
        if let Some(producer) = &*producer {
            return Ok(producer.clone());
        }
        let mut settings = ClientConfig::new();
        settings.set("client.id", "freshline-sync-dead-letters");
        let connection = [
            "security.",
            "sasl.",
            "ssl.",
            "socket.",
            "broker.",
            "metadata.",
            "client.",
            "reconnect.",
            "api.",
        ];
        for (name, value) in self.config.properties.iter() {
            if connection.iter().any(|prefix| name.starts_with(prefix)) {
                settings.set(name, value);
            }
        }
        settings
            .set("bootstrap.servers", &self.config.brokers)
            .set("acks", "all")
            .set("message.timeout.ms", "10000");
        let made: FutureProducer<DefaultClientContext> =
            settings.create().map_err(|error| refused(&error))?;
        Ok(producer.insert(made).clone())
    }
}
