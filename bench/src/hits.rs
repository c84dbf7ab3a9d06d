//! `hits`: what share of lookups each policy finds in memory, beside moka, `quick_cache`, and what no policy can exceed.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
};

use memory::store::{Eviction, bare::Trial};

use crate::{
    report::{self, Report},
    traces::{self, Trace},
};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Files of traces, one key in a line, instead of those made up
    #[arg(long)]
    trace: Vec<PathBuf>,
    /// Keys of a trace that is made up
    #[arg(long, default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    len: u32,
    /// Sizes of the cache, as shares of a trace's different keys
    #[arg(long, value_delimiter = ',', default_values_t = [0.01, 0.1])]
    share: Vec<f64>,
}

/// Plays each trace to each policy.
pub(crate) fn measure(options: &Options) -> anyhow::Result<Report> {
    let mut columns = vec!["trace", "keys kept"];
    columns.extend(Eviction::ALL.iter().map(|eviction| eviction.name()));
    columns.extend(["moka", "quick_cache", "optimum"]);
    let mut report = Report::new("hits: hit ratio by policy and trace, in percent", &columns);
    let traces = if options.trace.is_empty() {
        traces::made_up(options.len as usize)
    } else {
        options.trace.iter().map(|path| traces::read(path)).collect::<Result<_, _>>()?
    };
    if options.trace.is_empty() {
        report.fact(format!(
            "traces made up after published shapes, {} lookups of a tenth as many keys each",
            options.len
        ));
    }
    report.fact("each miss is kept; the cache is counted in keys, one thread, one shard; optimum: Belady's, which knows what comes");
    let mut sums = vec![0.0; columns.len() - 2];
    let mut rows = 0;
    for trace in &traces {
        let different = trace.keys.iter().collect::<HashSet<_>>().len();
        for share in &options.share {
            eprintln!("{} at {share}", trace.name);
            #[expect(clippy::cast_sign_loss, reason = "clamped to what is positive")]
            let capacity = ((different as f64 * share.clamp(0.0001, 1.0)) as usize).max(10);
            let mut ratios: Vec<f64> =
                Eviction::ALL.into_iter().map(|eviction| ours(eviction, trace, capacity)).collect();
            ratios.extend([moka(trace, capacity), quick_cache(trace, capacity), optimum(trace, capacity)]);
            let cells = ratios.iter().map(|ratio| format!("{:.1}", ratio * 100.0));
            let kept = format!("{} of {}", report::count(capacity as f64), report::count(different as f64));
            report.row([trace.name.clone(), kept].into_iter().chain(cells));
            sums.iter_mut().zip(&ratios).for_each(|(sum, ratio)| *sum += ratio);
            rows += 1;
        }
    }
    let best = sums.last().copied().unwrap_or_default();
    let mean = sums.iter().map(|sum| format!("{:.1}", sum / f64::from(rows.max(1)) * 100.0));
    report.row(["mean".to_owned(), String::new()].into_iter().chain(mean));
    for (name, sum) in columns[2..].iter().zip(&sums) {
        report.ratio(format!("hits_{name}_to_optimum"), report::ratio(*sum, best));
    }
    Ok(report)
}

fn ratio(trace: &Trace, mut ask: impl FnMut(u64) -> bool) -> f64 {
    let hits = trace.keys.iter().filter(|key| ask(**key)).count();
    report::ratio(hits as f64, trace.keys.len() as f64)
}

fn ours(eviction: Eviction, trace: &Trace, capacity: usize) -> f64 {
    let mut trial = Trial::new(eviction, capacity);
    ratio(trace, |key| trial.ask(key))
}

fn moka(trace: &Trace, capacity: usize) -> f64 {
    let cache = moka::sync::Cache::new(capacity as u64);
    ratio(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, ());
        }
        // It puts work off; a thread of its own would have done it by now.
        cache.run_pending_tasks();
        hit
    })
}

fn quick_cache(trace: &Trace, capacity: usize) -> f64 {
    let cache = quick_cache::unsync::Cache::new(capacity);
    let mut cache = cache;
    ratio(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.insert(key, ());
        }
        hit
    })
}

/// Drops what is asked for again the latest.
fn optimum(trace: &Trace, capacity: usize) -> f64 {
    let mut next = vec![usize::MAX; trace.keys.len()];
    let mut last = HashMap::new();
    for (at, key) in trace.keys.iter().enumerate().rev() {
        if let Some(later) = last.insert(*key, at) {
            next[at] = later;
        }
    }
    let mut kept: HashMap<u64, usize> = HashMap::new();
    let mut order = BTreeSet::new();
    let mut at = 0;
    ratio(trace, |key| {
        let hit = kept.insert(key, next[at]);
        if let Some(planned) = hit {
            order.remove(&(planned, key));
        }
        order.insert((next[at], key));
        if kept.len() > capacity
            && let Some((_, latest)) = order.pop_last()
        {
            kept.remove(&latest);
        }
        at += 1;
        hit.is_some()
    })
}
