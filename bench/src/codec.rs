//! `codec`: what finding requests in a Redis client's bytes costs, with the node's parser and with the crate `redis-protocol`.

use std::{
    fmt::Write as _,
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::BytesMut;
use cache_node::resp::codec::{Limits, Parser};
use redis_protocol::resp2::{
    decode,
    types::{BytesFrame, RangeFrame},
};

use crate::{
    core,
    report::{self, Report},
    side,
};

/// Bytes that come at once, full of requests.
const BUFFER: usize = 16 << 10;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Most seconds to measure
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
    /// How often the parsers take turns
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Who parses.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// The node's: ranges of the connection's buffer.
    Ours,
    /// The crate's frames of ranges, which is the least that it does.
    Ranges,
    /// The crate's frames of shared bytes, as its Tokio codec makes them.
    Shared,
}

/// Parses the same requests with all of them in turn.
pub(crate) async fn measure(options: Options) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "codec: requests of Redis clients found in full buffers, on one core",
        &["requests", "node/s", "redis-protocol, ranges/s", "redis-protocol, shared bytes/s"],
    );
    let all = [Who::Ours, Who::Ranges, Who::Shared];
    let rounds = options.rounds;
    let slice = Duration::from_secs_f64((options.seconds.max(0.1) / (6.0 * f64::from(rounds))).min(60.0));
    report.fact(format!(
        "buffers of {} KiB full of requests, all complete; every argument is looked at",
        BUFFER >> 10
    ));
    for (name, keys) in [("get", 1), ("mget_16", 16)] {
        let rates = side::on_core(core::MEASURED, move || -> anyhow::Result<_> {
            let buffer = buffer(keys);
            let mut totals = [(0_u64, Duration::ZERO); 3];
            for round in 0..=rounds {
                for (who, total) in all.into_iter().zip(&mut totals) {
                    // The first round warms up.
                    let turn = if round == 0 { slice.min(Duration::from_millis(300)) } else { slice };
                    let (count, took) = run(who, &buffer, keys + 1, turn)?;
                    if round > 0 {
                        *total = (total.0 + count, total.1 + took);
                    }
                }
            }
            Ok(totals.map(|(count, took)| report::ratio(count as f64, took.as_secs_f64())))
        })
        .await??;
        let mut cells = vec![if keys == 1 { "GET".to_owned() } else { format!("MGET of {keys}") }];
        cells.extend(rates.map(report::count));
        report.row(cells);
        report.ratio(format!("codec_{name}_to_ranges"), report::ratio(rates[0], rates[1]));
        report.ratio(format!("codec_{name}_to_shared"), report::ratio(rates[0], rates[2]));
    }
    Ok(report)
}

/// As many whole requests as there is room for.
fn buffer(keys: usize) -> Vec<u8> {
    let mut request = format!("*{}\r\n", keys + 1);
    request += if keys == 1 { "$3\r\nGET\r\n" } else { "$4\r\nMGET\r\n" };
    for number in 0..keys {
        let _ = write!(request, "$16\r\nrow:{number:012}\r\n");
    }
    request.repeat(BUFFER / request.len()).into_bytes()
}

/// Parses the buffer again and again for a while; returns how many requests and how long that took.
fn run(who: Who, buffer: &[u8], arguments: usize, turn: Duration) -> anyhow::Result<(u64, Duration)> {
    let (begun, mut count) = (Instant::now(), 0);
    let mut parser = Parser::default();
    while begun.elapsed() < turn {
        for _ in 0..16 {
            // What a socket was read into is new bytes each time, for all alike.
            let mut bytes = BytesMut::from(buffer);
            count += match who {
                Who::Ours => ours(&mut parser, &bytes, arguments)?,
                Who::Ranges => ranges(&bytes, arguments)?,
                Who::Shared => shared(&mut bytes, arguments)?,
            };
        }
    }
    Ok((count, begun.elapsed()))
}

fn ours(parser: &mut Parser, bytes: &[u8], arguments: usize) -> anyhow::Result<u64> {
    let limits = Limits { argument: 1 << 20, request: 4 << 20, authenticated: true };
    let (mut count, mut at) = (0, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = parser.parse(rest, &limits)?.context("find a request: it is not whole")?;
        let found = parser.arguments(rest).from(0).map(black_box).count();
        ensure!(found == arguments, "find a request: {found} arguments");
        parser.next();
        (count, at) = (count + 1, at + length);
    }
    Ok(count)
}

fn ranges(bytes: &[u8], arguments: usize) -> anyhow::Result<u64> {
    let (mut count, mut at) = (0, 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let (frame, length) = decode::decode_range(rest)?.context("find a request: it is not whole")?;
        let RangeFrame::Array(parts) = frame else { anyhow::bail!("find a request: it is no array") };
        let mut found = 0;
        for part in &parts {
            if let RangeFrame::BulkString((start, end)) = part {
                black_box(&rest[*start..*end]);
                found += 1;
            }
        }
        ensure!(found == arguments, "find a request: {found} arguments");
        (count, at) = (count + 1, at + length);
    }
    Ok(count)
}

fn shared(bytes: &mut BytesMut, arguments: usize) -> anyhow::Result<u64> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (frame, _, _) = decode::decode_bytes_mut(bytes)?.context("find a request: it is not whole")?;
        let BytesFrame::Array(parts) = frame else { anyhow::bail!("find a request: it is no array") };
        let mut found = 0;
        for part in &parts {
            if let BytesFrame::BulkString(text) = part {
                black_box(text);
                found += 1;
            }
        }
        ensure!(found == arguments, "find a request: {found} arguments");
        count += 1;
    }
    Ok(count)
}
