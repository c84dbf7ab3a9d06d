//! Sequences of keys that caches are asked for.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::zipf::{Random, Zipf};

/// A trace: who asks for what, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) keys: Vec<u64>,
}

/// A trace from a file: one key in a line, a number or any word; empty lines and those that begin with `*` or `#` say nothing. So are
/// the LIRS traces (`gli`, `cpp`, `2_pools`) and many others.
pub(crate) fn read(path: &Path) -> anyhow::Result<Trace> {
    let text = fs::read_to_string(path).with_context(|| format!("read trace {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['*', '#']));
    let keys: Vec<u64> = lines.map(number).collect();
    anyhow::ensure!(!keys.is_empty(), "read trace {}: it has no keys", path.display());
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Trace { name, keys })
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| {
        word.bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    })
}

/// Made-up traces of `len` keys, after shapes that papers publish.
pub(crate) fn made_up(len: usize) -> Vec<Trace> {
    let keys = (len / 10).max(100);
    let mut traces: Vec<Trace> =
        [0.7, 0.99, 1.2].into_iter().map(|exponent| zipf(len, keys, exponent)).collect();
    traces.push(with_scans(len, keys));
    traces.push(shifting(len, keys));
    traces.push(looping(len, keys));
    traces.push(mixed(len, keys));
    traces
}

fn zipf(len: usize, keys: usize, exponent: f64) -> Trace {
    let (zipf, mut random) = (Zipf::new(keys, exponent), Random::new(1));
    let keys = (0..len).map(|_| zipf.draw(&mut random) as u64).collect();
    Trace { name: format!("zipf {exponent}"), keys }
}

/// Zipf, and now and then a run through keys that nobody asks for again.
fn with_scans(len: usize, keys: usize) -> Trace {
    let (zipf, mut random) = (Zipf::new(keys, 0.99), Random::new(2));
    let scan = keys / 5;
    let mut next = keys as u64;
    let mut trace = Vec::with_capacity(len);
    while trace.len() < len {
        trace.extend((0..scan * 3).map(|_| zipf.draw(&mut random) as u64));
        trace.extend(next..next + scan as u64);
        next += scan as u64;
    }
    trace.truncate(len);
    Trace { name: "zipf 0.99 and scans".into(), keys: trace }
}

/// Zipf, whose popular keys are others after each tenth.
fn shifting(len: usize, keys: usize) -> Trace {
    let (zipf, mut random) = (Zipf::new(keys, 0.99), Random::new(3));
    let keys = keys as u64;
    let of = |at: usize, drawn: u64| (drawn + at as u64 * 10 / len as u64 * (keys / 7)) % keys;
    Trace {
        name: "zipf 0.99, shifting".into(),
        keys: (0..len).map(|at| of(at, zipf.draw(&mut random) as u64)).collect(),
    }
}

/// The same keys in the same order, again and again.
fn looping(len: usize, keys: usize) -> Trace {
    let around = keys as u64 / 5;
    Trace { name: "loop".into(), keys: (0..len as u64).map(|at| at % around).collect() }
}

/// Like a transactional database: popular rows, rows that were written a moment ago, and now and then a report over old ones.
fn mixed(len: usize, keys: usize) -> Trace {
    let (zipf, mut random) = (Zipf::new(keys, 0.9), Random::new(4));
    let keys = keys as u64;
    let (mut newest, mut report) = (keys, 0_u64);
    let next = |_| match random.below(100) {
        0..60 => zipf.draw(&mut random) as u64,
        60..90 => {
            // The younger, the likelier.
            #[expect(clippy::cast_sign_loss, reason = "none of it is negative")]
            let back = (random.share().powi(3) * 0.05 * keys as f64) as u64;
            newest.saturating_sub(back)
        }
        90..95 => {
            newest += 1;
            newest
        }
        _ => {
            report += 1;
            report % (keys * 2)
        }
    };
    Trace { name: "mix like OLTP".into(), keys: (0..len).map(next).collect() }
}
