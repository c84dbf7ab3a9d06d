//! `decode`: what reading and mapping a message costs, without Kafka and nodes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use catalog::{Effect, Op, RowImage};
use serde::de::IgnoredAny;
use sync_service::decode::{Decoder, Meaning, Scratch, Zone};

use crate::{
    catalog_file, core, messages,
    report::{self, Report},
    side,
};

/// Different messages, so that branches can't be learnt by heart; they fit into the second-level cache no more.
const MESSAGES: u64 = 10_000;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Most seconds to measure
    #[arg(long, default_value_t = 9.0)]
    seconds: f64,
    /// How often the readers take turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Freshline: decoded, mapped to keys.
    Ours,
    /// `serde_json`, which only looks whether it is JSON.
    Checked,
    /// `serde_json`, into a tree of values.
    Tree,
}

/// Reads the same messages with all readers in turn.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "decode: canal messages to keys on one core, against serde_json",
        &["reader", "messages/s", "MB/s", "µs/message"],
    );
    let readers = [Reader::Ours, Reader::Checked, Reader::Tree];
    let turns = readers.len() as f64 * f64::from(options.rounds);
    let slice = Duration::from_secs_f64((options.seconds.max(0.1) / turns).min(60.0));
    let rounds = options.rounds;
    let (rates, size) = side::on_core(core::MEASURED, move || -> anyhow::Result<_> {
        let mut texts = Vec::new();
        for number in 0..MESSAGES {
            let mut text = String::new();
            messages::write(number, &mut text);
            texts.push(text);
        }
        let size = texts.iter().map(String::len).sum::<usize>() as f64 / texts.len() as f64;
        let mut totals = [(0_u64, Duration::ZERO); 3];
        for round in 0..=rounds {
            for (reader, total) in readers.into_iter().zip(&mut totals) {
                // The first round warms up.
                let turn = if round == 0 { slice.min(Duration::from_millis(300)) } else { slice };
                let (count, took) = read(reader, &texts, turn)?;
                if round > 0 {
                    *total = (total.0 + count, total.1 + took);
                }
            }
        }
        Ok((totals.map(|(count, took)| report::ratio(count as f64, took.as_secs_f64())), size))
    })
    .await??;
    report.fact(format!("{MESSAGES} different UPDATE messages of {size:.0} bytes on average, 12 columns, 2 keys each; one core"));
    let names =
        ["freshline: decode and map to keys", "serde_json: syntax alone", "serde_json: tree of values"];
    for (name, rate) in names.into_iter().zip(rates) {
        report.row([
            name.to_owned(),
            report::count(rate),
            report::count(rate * size / 1e6),
            format!("{:.2}", report::ratio(1e6, rate)),
        ]);
    }
    report.ratio("decode_to_syntax", report::ratio(rates[0], rates[1]));
    report.ratio("decode_to_tree", report::ratio(rates[0], rates[2]));
    Ok(report)
}

/// Reads the messages again and again for a while; returns how many and how long that took.
fn read(reader: Reader, texts: &[String], turn: Duration) -> anyhow::Result<(u64, Duration)> {
    let mut decoder = Decoder::new(catalog_file::catalog("shop")?, Zone::default());
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < turn {
        for batch in texts.chunks(500) {
            match reader {
                Reader::Ours => {
                    let keys = map(&mut decoder, batch)?;
                    ensure!(keys == batch.len() * 2, "map messages: {keys} keys of {} messages", batch.len());
                }
                Reader::Checked => {
                    for text in batch {
                        std::hint::black_box(
                            serde_json::from_str::<IgnoredAny>(text).context("read a message")?,
                        );
                    }
                }
                Reader::Tree => {
                    for text in batch {
                        std::hint::black_box(
                            serde_json::from_str::<serde_json::Value>(text).context("read a message")?,
                        );
                    }
                }
            }
            count += batch.len() as u64;
        }
    }
    Ok((count, begun.elapsed()))
}

/// Maps messages as the sync service does; returns how many keys came out.
fn map(decoder: &mut Decoder, batch: &[String]) -> anyhow::Result<usize> {
    let mut scratch = Scratch::default();
    let mut keys = 0;
    for text in batch {
        let event = decoder.canal(text.as_bytes(), &mut scratch).context("decode a message")?;
        let Meaning::Rows { rules, op: Op::Update } = event.meaning else {
            anyhow::bail!("decode a message: it is no update");
        };
        let columns = decoder.columns();
        for row in 0..scratch.data.len() {
            let (before, after) = (scratch.before(row, columns), scratch.image(row, columns));
            let before = before.as_ref().map(|image| image as &dyn RowImage);
            rules.map(Op::Update, before, Some(&after), &mut |effect| {
                if let Effect::Remove(key) = std::hint::black_box(effect) {
                    keys += usize::from(!key.is_empty());
                }
            });
        }
    }
    Ok(keys)
}
