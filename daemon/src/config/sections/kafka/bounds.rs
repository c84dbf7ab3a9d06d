//! How much of the log is held at once.
//!
//! A broker answers with whole batches of messages, and a batch is unpacked as a whole: what one answer takes is known only when it is there.
//! So there are three bounds: of what one answer brings packed, of what one batch may be unpacked, and of what waits to be decoded.

use crate::config::{ByteSize, KafkaSource, Layers, Problems};

/// Bytes of one answer of a broker, of all its partitions.
const ANSWER: u64 = 16 << 20;
/// What librdkafka wants an answer to be allowed at least: its own `message.max.bytes`.
const LEAST_ANSWER: u64 = 1_000_000;
/// What the protocol adds to an answer's batches, at most.
const OVERHEAD: u64 = 64 << 10;
/// The least and the most that a batch may be bounded by; librdkafka counts in 31 bits.
const BATCH: (u64, u64) = (2 << 20, 2_000_000_000);

impl KafkaSource {
    /// The properties of librdkafka that its bounds are made of.
    pub fn bounds(&self) -> [(&'static str, String); 4] {
        let batch = self.max_batch.0.clamp(BATCH.0, BATCH.1);
        let answer = self.answer();
        [
            ("receive.message.max.bytes", batch.to_string()),
            ("fetch.max.bytes", answer.to_string()),
            ("max.partition.fetch.bytes", self.fetch.0.min(answer).to_string()),
            ("queued.max.messages.kbytes", (self.memory.0 / 2 / 1000).clamp(1, 2_097_151).to_string()),
        ]
    }

    /// Most bytes of one answer of a broker.
    fn answer(&self) -> u64 {
        ANSWER.min(self.max_batch.0.clamp(BATCH.0, BATCH.1) - OVERHEAD).max(LEAST_ANSWER)
    }

    /// Bytes of messages that may be on their way to be decoded: the other half of `memory`.
    pub fn batch_memory(&self) -> u64 {
        (self.memory.0 / 2).max(1)
    }

    pub(super) fn check_bounds(&self, layers: &Layers, problems: &mut Problems) {
        let mut within = |field: &str, value: ByteSize, least: u64, most: u64| {
            if !(least..=most).contains(&value.0) {
                let (place, least, most) =
                    (layers.place(&format!("source.kafka.{field}")), ByteSize(least), ByteSize(most));
                problems.push(format!("{place}: is {value}, write {least} to {most}"));
            }
        };
        within("fetch", self.fetch, 1 << 10, ANSWER);
        within("max_batch", self.max_batch, BATCH.0, BATCH.1);
        within("memory", self.memory, 1 << 20, 4 << 30);
        let instead = [
            ("fetch.message.max.bytes", "fetch"),
            ("max.partition.fetch.bytes", "fetch"),
            ("receive.message.max.bytes", "max_batch"),
            ("fetch.max.bytes", "max_batch"),
            ("queued.max.messages.kbytes", "memory"),
        ];
        for (property, field) in instead {
            if self.properties.get(property).is_some() {
                let place = layers.place("source.kafka.properties");
                problems.push(format!(
                    "{place}: `{property}` follows from source.kafka.{field}, set that instead"
                ));
            }
        }
        // librdkafka refuses to start with messages larger than an answer.
        let answer = self.answer();
        if let Some(most) = self.properties.get("message.max.bytes").and_then(|text| text.parse::<u64>().ok())
            && most > answer
        {
            let place = layers.place("source.kafka.properties");
            problems.push(format!(
                "{place}: `message.max.bytes` is {most}, more than the {answer} bytes that one answer of a broker may have; it is for producers, so \
                 leave it out: what a broker sends is bounded by source.kafka.max_batch"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let text = format!("[source.kafka]\nbrokers = \"kafka:9092\"\ntopics = [\"shop\"]\n{text}");
        let layers = Layers::from_text("freshline.toml", &text, []).unwrap();
        let mut problems = Problems::default();
        layers.section::<KafkaSource>("source.kafka", &mut problems).check(&layers, &mut problems);
        problems.to_string()
    }

    #[test]
    fn bounds_that_can_not_work_are_refused_with_what_can() {
        assert_eq!(problems("fetch = \"64KiB\"\nmax_batch = \"2MiB\"\nmemory = \"1MiB\"\n"), "");
        for (wrong, told) in [
            ("fetch = \"17MiB\"", "source.kafka.fetch"),
            ("fetch = 0", "write 1KiB to 16MiB"),
            ("max_batch = \"1MiB\"", "write 2MiB to "),
            ("max_batch = \"3GiB\"", "source.kafka.max_batch"),
            ("memory = \"64KiB\"", "write 1MiB to 4GiB"),
            ("properties = { \"fetch.message.max.bytes\" = 9 }", "set that instead"),
            ("properties = { \"message.max.bytes\" = 16777217 }", "leave it out"),
            ("properties = { \"queued.max.messages.kbytes\" = 9 }", "follows from source.kafka.memory"),
        ] {
            let text = problems(wrong);
            assert!(text.contains(told) && text.contains("freshline.toml:"), "{wrong}: {text}");
        }
    }

    #[test]
    fn an_answer_has_room_for_the_largest_batch() {
        for (max_batch, answer) in [(2 << 20, (2 << 20) - OVERHEAD), (100 << 20, ANSWER)] {
            let source = KafkaSource { max_batch: ByteSize(max_batch), ..KafkaSource::default() };
            let [receive, fetch, ..] = source.bounds();
            assert_eq!((receive.1, fetch.1), (max_batch.to_string(), answer.to_string()));
        }
    }
}
