//! `store`: the node's store beside caches that others use: bytes for each entry, and how fast it is.

use std::{
    fs,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    report::{self, Report},
    stores::{Cache, Who},
    zipf::{Random, Zipf},
};

const KEY: usize = 16;
const VALUE: usize = 100;
/// Keys that are drawn before they are asked for, again and again.
const DRAWN: usize = 1 << 22;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Seconds of each measurement; there are about 9 for each store
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Entries
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    entries: u32,
    /// How often all stores are measured; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    rounds: u32,
    /// Only this store, in this process, and its figures in one line: how the measurement calls itself, so that none finds another's memory
    #[arg(long, hide = true)]
    only: Option<usize>,
}

/// One store's figures, in the order of the table's columns.
type Figures = [f64; 8];

/// Measures each store in a process of its own, in turns.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Report> {
    let all = Who::all();
    if let Some(index) = options.only {
        let who = *all.get(index).ok_or_else(|| anyhow::anyhow!("measure store {index}: there is none"))?;
        let figures = one(who, options);
        println!("figures {}", figures.map(|figure| figure.to_string()).join(" "));
        std::process::exit(0);
    }
    let mut report = Report::new(
        "store: the node's store beside quick_cache, moka and foyer",
        &[
            "store",
            "bytes beyond data",
            "get/s, 1 thread",
            "2 threads",
            "into a reply/s, 1 thread",
            "2 threads",
            "insert/s, 1 thread",
            "2 threads",
            "insert/s when full",
        ],
    );
    let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); all.len()];
    for round in 0..options.rounds {
        for (index, who) in all.iter().enumerate() {
            eprintln!("round {} of {}: {}", round + 1, options.rounds, who.name());
            figures[index].push(elsewhere(index, options)?);
        }
    }
    report.fact(format!(
        "{} keys of {KEY} bytes, values of {VALUE}; gets of keys by zipf 0.99, all hits; medians of {} rounds, each store in a process of its own",
        options.entries, options.rounds
    ));
    report.fact("bytes: growth of the process's resident memory from empty to full, the keys' and values' own 116 bytes taken off");
    report.fact("get: the value as the store hands it out, which nobody looks at; into a reply: its bytes at the end of a buffer, as a server needs them");
    report.fact(
        "when full: new keys into a store of a quarter of the size, where each insert makes another go",
    );
    report.fact("the system's allocator for all; get and insert of freshline as the node does them, expiry and stamp checked, and no gate");
    let medians: Vec<Figures> = figures.iter().map(|rounds| median(rounds)).collect();
    for (who, figures) in all.iter().zip(&medians) {
        let [bytes, rates @ ..] = figures;
        let cells = rates.iter().map(|rate| report::count(*rate));
        report.row([who.name(), format!("{bytes:.0}")].into_iter().chain(cells));
    }
    let quick = all.iter().position(|who| *who == Who::QuickCache).unwrap_or_default();
    let names = ["bytes", "get_1", "get_2", "reply_1", "reply_2", "insert_1", "insert_2", "insert_full"];
    for (index, name) in names.into_iter().enumerate() {
        report.ratio(
            format!("store_{name}_to_quick_cache"),
            report::ratio(medians[0][index], medians[quick][index]),
        );
    }
    Ok(report)
}

fn median(rounds: &[Figures]) -> Figures {
    std::array::from_fn(|index| {
        let mut values: Vec<f64> = rounds.iter().map(|figures| figures[index]).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    })
}

/// Runs this program again for one store alone.
fn elsewhere(index: usize, options: &Options) -> anyhow::Result<Figures> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(["store", "--only", &index.to_string()])
        .args(["--seconds", &options.seconds.to_string(), "--entries", &options.entries.to_string()])
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("figures "));
    let numbers: Vec<f64> =
        line.unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().map_err(|_| anyhow::anyhow!("measure store {index}: it printed no figures: {text}"))
}

fn one(who: Who, options: &Options) -> Figures {
    let count = options.entries as usize;
    // Room enough for all of any store's overhead.
    let room = count as u64 * 1024;
    let keys: Arc<[Arc<str>]> = (0..count * 2).map(|n| Arc::from(format!("user:{n:011}"))).collect();
    let slice = Duration::from_secs_f64(options.seconds.clamp(0.05, 60.0));

    let cache: Arc<dyn Cache> = Arc::from(who.make(room, count * 2));
    let before = resident();
    for key in &keys[..count] {
        // Keys as a node has them: of a request, and not the store's.
        cache.insert(&Arc::from(&**key), value());
    }
    cache.settle();
    let bytes = resident().saturating_sub(before) as f64 / cache.len().max(1) as f64 - (KEY + VALUE) as f64;

    // Drawn before, so that drawing is not what is measured.
    let (zipf, mut random) = (Zipf::new(count, 0.99), Random::new(7));
    let drawn: Vec<u32> = (0..DRAWN).map(|_| zipf.draw(&mut random) as u32).collect();
    let get = |threads| {
        rate(threads, slice, |at, _| {
            let key = &keys[drawn[at % DRAWN] as usize];
            u64::from(black_box(cache.get(key)).is_some())
        })
    };
    let (get_1, get_2) = (get(1), get(2));
    let reply = |threads| {
        rate(threads, slice, |at, reply| {
            let key = &keys[drawn[at % DRAWN] as usize];
            u64::from(cache.get_into(key, reply))
        })
    };
    let (reply_1, reply_2) = (reply(1), reply(2));
    drop(cache);
    let fill = |threads: usize| {
        let cache: Arc<dyn Cache> = Arc::from(who.make(room, count * 2));
        let begun = Instant::now();
        thread::scope(|scope| {
            for thread in 0..threads {
                let (cache, keys) = (&cache, &keys);
                scope.spawn(move || {
                    for key in keys[..count].iter().skip(thread).step_by(threads) {
                        cache.insert(&Arc::from(&**key), value());
                    }
                });
            }
        });
        count as f64 / begun.elapsed().as_secs_f64()
    };
    let (insert_1, insert_2) = (fill(1), fill(2));
    let crowded: Arc<dyn Cache> = Arc::from(who.make(count as u64 / 4 * 180, count / 4));
    keys[..count].iter().for_each(|key| crowded.insert(&Arc::from(&**key), value()));
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    while begun.elapsed() < slice {
        for _ in 0..1000 {
            let n = next.fetch_add(1, Relaxed) as usize;
            crowded.insert(&Arc::from(&*keys[(count + n) % keys.len()]), value());
        }
    }
    let insert_full = next.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    [bytes, get_1, get_2, reply_1, reply_2, insert_1, insert_2, insert_full]
}

/// A value in a buffer of its own.
fn value() -> Bytes {
    vec![b'x'; VALUE].into()
}

/// Calls per second of all threads together; each call is given a number and its thread's reply, and says how many it counts for.
fn rate(threads: usize, slice: Duration, call: impl Fn(usize, &mut Vec<u8>) -> u64 + Send + Sync) -> f64 {
    let stop = AtomicBool::new(false);
    let total = AtomicU64::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, total, call) = (&stop, &total, &call);
            scope.spawn(move || {
                let (mut at, mut count) = (thread * DRAWN / 3, 0);
                let mut reply = Vec::new();
                while !stop.load(Relaxed) {
                    for _ in 0..256 {
                        count += call(at, &mut reply);
                        at += 1;
                    }
                    black_box(&reply);
                    reply.clear();
                }
                total.fetch_add(count, Relaxed);
            });
        }
        thread::sleep(slice);
        stop.store(true, Relaxed);
    });
    total.load(Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
