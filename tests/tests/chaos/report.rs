//! The figures of a run, and what was wrong.

use std::{collections::BTreeMap, fmt::Write as _, sync::OnceLock, time::Duration};

use tests::history::{Finding, Moment, Read, Seen, Write, check};

use crate::faults::{Kind, Past};

/// How many wrong reads are told in full.
const TOLD: usize = 20;

static LAST_LINE: OnceLock<String> = OnceLock::new();

/// What judging all reads of a run found.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) reads: u64,
    pub(crate) from_memory: u64,
    pub(crate) stale: u64,
    pub(crate) outside_claim: u64,
    pub(crate) unexplained: u64,
    /// The median of what was claimed for values from memory.
    pub(crate) claim: Duration,
    /// The first few, each with the writes and faults around it.
    pub(crate) told: Vec<String>,
}

/// The figures of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) changes: u64,
    pub(crate) failed: u64,
    pub(crate) judgement: Judgement,
    pub(crate) faults: Vec<Past>,
    pub(crate) compared: usize,
    pub(crate) remembered: usize,
    pub(crate) stale_at_end: usize,
    pub(crate) outages: BTreeMap<Option<Kind>, Duration>,
}

impl Judgement {
    /// Judges every read by the writes of its row.
    pub(crate) fn of(reads: &[Read], rows: &[Vec<Write>], faults: &[Past]) -> Self {
        let mut found = Self { reads: reads.len() as u64, ..Self::default() };
        let mut claims: Vec<Duration> =
            reads.iter().filter(|read| read.memory).map(|read| read.claim).collect();
        claims.sort_unstable();
        found.claim = claims.get(claims.len() / 2).copied().unwrap_or_default();
        for read in reads {
            found.from_memory += u64::from(read.memory);
            let writes = &rows[read.row as usize];
            let verdict = check(writes, read);
            found.stale += u64::from(verdict.stale.is_some());
            found.outside_claim += u64::from(verdict.outside_claim.is_some());
            found.unexplained += u64::from(verdict.unexplained);
            if !verdict.is_clean() && found.told.len() < TOLD {
                let mut text = describe(read);
                let mut due = |what: &str, finding: Option<Finding>| {
                    if let Some(Finding { shown, due, since }) = finding {
                        let _ = write!(
                            text,
                            "; {what}: write {shown} shown, write {due} due since {}",
                            at(since)
                        );
                    }
                };
                due("stale after delivery", verdict.stale);
                due("outside its claim", verdict.outside_claim);
                if verdict.unexplained {
                    text.push_str("; unexplained");
                }
                for (number, write) in writes.iter().enumerate() {
                    if write.ended > read.began.before(Duration::from_secs(20)) && write.began < read.ended {
                        let Write { present, began, ended, delivered } = *write;
                        let delivered = delivered.map_or("never".to_owned(), at);
                        let what = if present { "write" } else { "deletion" };
                        let _ = write!(
                            text,
                            "\n    {what} {number}: {} to {}, delivered {delivered}",
                            at(began),
                            at(ended)
                        );
                    }
                }
                for fault in faults {
                    let near =
                        fault.ended.is_none_or(|ended| ended > read.began.before(Duration::from_secs(20)));
                    if fault.began < read.ended && near {
                        let ended = fault.ended.map_or("now".to_owned(), at);
                        let _ = write!(text, "\n    {} to {ended}: {}", at(fault.began), fault.what);
                    }
                }
                found.told.push(text);
            }
        }
        found
    }
}

impl Figures {
    /// Whether the promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        let judged = &self.judgement;
        judged.stale + judged.outside_claim + judged.unexplained == 0 && self.stale_at_end == 0
    }

    /// All of it in one line.
    pub(crate) fn line(&self) -> String {
        let judged = &self.judgement;
        let mut line = format!(
            "chaos: seed {}, {:.0} s, {} operations, {} faults of {} kinds, {} changes, {} reads checked ({} from memory, {} more failed), \
             {} stale after delivery, {} outside their claimed freshness, {} unexplained; half of the claims for memory below {:.0} ms; at the end {} answers and {} entries in memory compared, {} stale; \
             longest time without an answer for a key:",
            self.seed,
            self.took.as_secs_f64(),
            judged.reads + self.failed + self.changes,
            self.faults.len(),
            self.faults.iter().map(|fault| fault.kind).collect::<std::collections::BTreeSet<_>>().len(),
            self.changes,
            judged.reads,
            judged.from_memory,
            self.failed,
            judged.stale,
            judged.outside_claim,
            judged.unexplained,
            judged.claim.as_secs_f64() * 1e3,
            self.compared,
            self.remembered,
            self.stale_at_end,
        );
        for (kind, longest) in &self.outages {
            let name = kind.map_or("no fault".to_owned(), |kind| kind.to_string());
            let _ = write!(line, " {name} {:.1} s,", longest.as_secs_f64());
        }
        line.trim_end_matches([',', ':']).to_owned()
    }

    /// Has it printed when all trials are over.
    pub(crate) fn keep_line(&self) {
        let _ = LAST_LINE.set(self.line());
    }
}

/// Prints the figures of the run, if there was one.
pub(crate) fn print_last_line() {
    if let Some(line) = LAST_LINE.get() {
        println!("{line}");
    }
}

fn describe(read: &Read) -> String {
    let seen = match read.seen {
        Seen::Version(version) => format!("version {version}"),
        Seen::Absent => "no row".to_owned(),
        Seen::Damaged => "a damaged value".to_owned(),
    };
    let from = if read.memory { "memory" } else { "database" };
    format!(
        "row {}: {seen} by node-{}'s {from}, asked {} answered {}, claim {:.3?}",
        read.row,
        read.node,
        at(read.began),
        at(read.ended),
        read.claim
    )
}

fn at(moment: Moment) -> String {
    format!("{:.4} s", Duration::from_nanos(moment.0).as_secs_f64())
}
