//! `compression`: what values shrink to in memory, and how fast that goes.

use std::{
    fmt::Write as _,
    hint::black_box,
    time::{Duration, Instant},
};

use memory::store::compress::{Codec, Compression, unpack_bare};

use crate::{
    report::{self, Report},
    zipf::Random,
};

/// Different values of each size.
const VALUES: u64 = 64;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each of the 24 measurements
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
}

/// Compresses and decompresses rows of three sizes with each codec.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "compression: JSON rows in memory, one core",
        &["codec", "value", "compressed", "share", "compress MB/s", "decompress MB/s", "µs to decompress"],
    );
    report.fact(format!("{VALUES} different values of each size: rows of a group with rows = \"many\", as the loader writes them"));
    let slice = Duration::from_secs_f64(options.seconds.clamp(0.01, 60.0));
    for kib in [1, 4, 32] {
        let values: Vec<Vec<u8>> = (0..VALUES).map(|seed| rows(seed, kib << 10)).collect();
        let plain = values.iter().map(Vec::len).sum::<usize>() as f64 / values.len() as f64;
        for codec in Codec::ALL {
            let name = format!("{codec:?}").to_lowercase();
            let compression = Compression { codec: Some(codec), above: 0 };
            let packed: Vec<_> = values.iter().filter_map(|value| compression.pack(value)).collect();
            anyhow::ensure!(packed.len() == values.len(), "compress rows: {codec:?} saves less than a tenth");
            let small =
                packed.iter().map(|packed| packed.bytes.len()).sum::<usize>() as f64 / packed.len() as f64;
            let pack = rate(slice, |at| drop(black_box(compression.pack(&values[at % values.len()]))));
            let unpack = rate(slice, |at| drop(black_box(unpack_bare(&packed[at % packed.len()]))));
            report.row([
                name.clone(),
                format!("{kib} KiB"),
                report::count(small),
                report::percent(small / plain),
                report::count(pack * plain / 1e6),
                report::count(unpack * plain / 1e6),
                format!("{:.1}", 1e6 / unpack),
            ]);
            report.ratio(format!("compression_{name}_{kib}k"), small / plain);
        }
    }
    Ok(report)
}

/// Calls per second.
fn rate(slice: Duration, mut call: impl FnMut(usize)) -> f64 {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < slice {
        for _ in 0..16 {
            call(count);
            count += 1;
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// A JSON array of orders, of about as many bytes.
fn rows(seed: u64, len: usize) -> Vec<u8> {
    const STATES: [&str; 5] = ["new", "paid", "shipped", "delivered", "cancelled"];
    const WORDS: [&str; 12] = [
        "blue", "large", "cotton", "shirt", "summer", "gift", "fragile", "express", "sample", "second",
        "spare", "leather",
    ];
    let mut random = Random::new(seed + 1);
    let mut text = String::from("[");
    while text.len() < len {
        if text.len() > 1 {
            text.push(',');
        }
        let (id, user) = (1_000_000 + random.below(9_000_000), random.below(500_000));
        let (state, cents) = (STATES[random.below(5) as usize], random.below(100_000));
        let day = random.below(28) + 1;
        let note: Vec<&str> = (0..random.below(6) + 2).map(|_| WORDS[random.below(12) as usize]).collect();
        let second = random.below(60);
        // Writing to a string can't fail.
        let _ = write!(
            text,
            r#"{{"id":{id},"user_id":{user},"state":"{state}","total":"{}.{:02}","created_at":"2026-0{}-{day:02}T1{}:{second:02}:{second:02}Z","note":"{}"}}"#,
            cents / 100,
            cents % 100,
            random.below(9) + 1,
            random.below(10),
            note.join(" ")
        );
    }
    text.push(']');
    text.into_bytes()
}
