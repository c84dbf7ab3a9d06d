//! Dead letters: messages that can't be decoded, kept in a topic of their own.

use std::time::Duration;

use daemon::config::KafkaSource;
use parking_lot::Mutex;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tracing::warn;

use super::refused;
use crate::source::{Error, Letter};

/// How much is kept of a message that is larger than the topic allows; a broker allows 1 MB by default.
const KEPT: usize = 100_000;

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
        let payload = letter.payload.as_deref();
        let sent = self.produce(&producer, letter.key.as_deref(), payload, headers.clone()).await;
        let error = match (sent, payload) {
            (Ok(()), _) => return Ok(()),
            // Kept in part: the whole of it stays in its own topic for as long as that keeps it.
            (Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge)), Some(whole))
                if whole.len() > KEPT =>
            {
                let size = whole.len().to_string();
                let headers =
                    headers.insert(Header { key: "freshline.truncated", value: Some(size.as_str()) });
                warn!(
                    partition = %letter.partition,
                    offset = letter.offset,
                    bytes = whole.len(),
                    kept = KEPT,
                    topic = self.config.dead_letter_topic,
                    "dead letter is larger than its topic allows: only its beginning is kept there"
                );
                match self.produce(&producer, letter.key.as_deref(), Some(&whole[..KEPT]), headers).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            (Err(error), _) => error,
        };
        let hint = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                "; create it, or set source.kafka.dead_letter_topic"
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "; allow this client to write to it",
            _ => "",
        };
        Err(Error::Unavailable(format!("topic {}: {error}{hint}", self.config.dead_letter_topic)))
    }

    async fn produce(
        &self,
        producer: &FutureProducer,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: OwnedHeaders,
    ) -> Result<(), KafkaError> {
        let mut record: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.config.dead_letter_topic).headers(headers);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(payload) = payload {
            record = record.payload(payload);
        }
        producer.send(record, Duration::from_secs(5)).await.map(|_| ()).map_err(|(error, _)| error)
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
            // What is too large is for the broker to say.
            .set("message.max.bytes", "1000000000")
            .set("message.timeout.ms", "10000");
        let made: FutureProducer<DefaultClientContext> =
            settings.create().map_err(|error| refused(&error))?;
        Ok(producer.insert(made).clone())
    }
}
