//! What is true: every version of every key, when readers of the database could see it, and when it was delivered. Checks each answer.

use std::{collections::BTreeMap, time::Duration};

use client::{Answer, Outcome};

use crate::{
    clock::{self, Millis},
    etcd::millis,
    trace,
};

/// Every key's versions, the oldest first.
#[derive(Default)]
pub(crate) struct Truth {
    keys: BTreeMap<String, Vec<Version>>,
    /// Which versions a message tells of.
    messages: BTreeMap<(usize, i64), Vec<(String, usize)>>,
    /// Up to where each partition is delivered.
    delivered: BTreeMap<usize, i64>,
}

struct Version {
    change: Change,
    /// When it was logged: no removal of it is older.
    logged: Millis,
    /// From when on the database shows it.
    visible: Millis,
    /// From when on everybody who had to has acknowledged its removal.
    delivered: Option<Millis>,
    /// When the last read began that the database showed it to.
    read: Millis,
}

/// What makes a version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// `None`: there is no row.
    pub(crate) value: Option<u32>,
    /// The product that is in it: a value of this version carries its tag.
    pub(crate) carries: Option<u64>,
    /// The product whose change it is, told by its tag alone; otherwise it is told by the key.
    pub(crate) by: Option<u64>,
}

impl Change {
    /// A change that is told by the key, to what no tag is on.
    pub(crate) fn of(value: Option<u32>) -> Self {
        Self { value, carries: None, by: None }
    }
}

/// What an answer must know, by the moment at which the reader asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Millis,
    /// The newest version that the database showed.
    visible: usize,
}

/// An answer that breaks the promise.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
}

impl Truth {
    /// Sets a key's first version, which everybody may know.
    pub(crate) fn begin(&mut self, key: &str, change: Change) {
        self.keys.insert(
            key.to_owned(),
            vec![Version { change, logged: 0, visible: 0, delivered: Some(0), read: 0 }],
        );
    }

    /// The keys, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// A new version of a key, logged now, and shown from `visible` on; told by no message yet.
    pub(crate) fn change(&mut self, key: &str, change: Change, visible: Millis) -> usize {
        let versions = self.keys.get_mut(key).expect("a known key");
        versions.push(Version { change, logged: clock::now(), visible, delivered: None, read: 0 });
        versions.len() - 1
    }

    /// The newest version of a key, shown or not: its value, and from when on it is shown.
    pub(crate) fn newest(&self, key: &str) -> (Option<u32>, Millis) {
        let newest = self.keys[key].last().expect("a first version");
        (newest.change.value, newest.visible)
    }

    /// The product that is in the newest version of a key, shown or not.
    pub(crate) fn carried(&self, key: &str) -> Option<u64> {
        self.keys[key].last()?.change.carries
    }

    /// What the database shows now to a read that began at `begun`, and the product that is in it.
    pub(crate) fn read(&mut self, key: &str, begun: Millis) -> (Option<u32>, Option<u64>) {
        let versions = self.keys.get_mut(key).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(shown) = versions.iter_mut().rev().find(|version| version.visible <= clock::now()) else {
            return (None, None);
        };
        shown.read = shown.read.max(begun);
        (shown.change.value, shown.change.carries)
    }

    /// Notes that a message tells of versions.
    pub(crate) fn told(&mut self, partition: usize, offset: i64, versions: Vec<(String, usize)>) {
        self.messages.insert((partition, offset), versions);
    }

    /// Notes that everything before `next` is acknowledged by all who had to.
    pub(crate) fn deliver(&mut self, partition: usize, next: i64) {
        let before = self.delivered.entry(partition).or_default();
        if *before >= next {
            return;
        }
        let range = (partition, *before)..(partition, next);
        *before = next;
        for (place, versions) in self.messages.range(range) {
            for (key, number) in versions {
                let version = &mut self.keys.get_mut(key).expect("a known key")[*number];
                version.delivered.get_or_insert(clock::now());
                trace::note(format_args!("truth: {key} v{number} delivered ({}@{})", place.0, place.1));
            }
        }
    }

    /// The changes of a key that were told by its own key: when each was logged, and when it was delivered. But for the first version.
    pub(crate) fn delivered(&self, key: &str) -> Vec<(Millis, Millis)> {
        let versions = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        versions.iter().skip(1).filter_map(|version| Some((version.logged, version.delivered?))).collect()
    }

    /// Whether every version is delivered.
    pub(crate) fn all_delivered(&self) -> bool {
        self.keys.values().flatten().all(|version| version.delivered.is_some())
    }

    /// Someone asks for a key.
    pub(crate) fn ask(&self, key: &str) -> Asked {
        let at = clock::now();
        Asked { at, visible: self.latest(key, |version| version.visible <= at) }
    }

    /// Checks an answer that has come now.
    ///
    /// From memory: no value older than what was delivered before it was asked for. From the database: none older than what it showed then.
    /// By a read that another one began: none older than what was delivered one quarantine before, nor than what was delivered and logged
    /// after that read began. And in every case: nothing is missing that the database showed when the value was as fresh as the answer
    /// claims.
    ///
    /// What was delivered by a tag counts for values that carry it. *A row of this product was put into the list, which is under way still; the
    /// product changes, and that is delivered: the list of before is old by the first change, not by the second.*
    pub(crate) fn check(
        &self,
        key: &str,
        asked: Asked,
        answer: &Answer,
        accepted: Option<Duration>,
        quarantine: Millis,
    ) -> Result<(), Broken> {
        let value = version_of(answer);
        let known = self.keys[key].iter().rposition(|version| version.change.value == value);
        let carries = known.and_then(|known| self.keys[key][known].change.carries);
        let delivered = |version: &Version, counts: &dyn Fn(Millis) -> bool| {
            let concerns = version.change.by.is_none() || version.change.by == carries;
            concerns && version.delivered.is_some_and(|at| at < asked.at && counts(at))
        };
        let asked_for = match answer.outcome {
            Outcome::Hit | Outcome::NegativeHit => self.latest(key, |version| delivered(version, &|_| true)),
            Outcome::Shared => {
                let settled = asked.at.saturating_sub(quarantine);
                // At the latest: a node that asked the owner, and an owner that asked a departing holder, count the age from their asking, as
                // if the answer had been made then. What is shared may have waited so for longer than its reader has: hence no earlier than
                // the last read that the database showed this version to.
                let waited = 2 * (clock::now() - asked.at);
                let began = clock::now().saturating_sub(millis(answer.age).saturating_sub(waited));
                let began = known.map_or(began, |known| began.max(self.keys[key][known].read));
                self.latest(key, |version| {
                    delivered(version, &|at| at < settled || began + 1 < version.logged)
                })
            }
            _ => asked.visible,
        };
        // Held when the answering node looks; each hop then adds how long it waited: the client, and a node that forwarded.
        if let Some(accepted) =
            accepted.filter(|_| matches!(answer.outcome, Outcome::Hit | Outcome::NegativeHit))
            && millis(answer.freshness) > millis(accepted) + 2 * (clock::now() - asked.at) + 2
        {
            let what = format!("{key}: {} answered {answer:?}, and {accepted:?} was accepted", answer.node);
            return Err(Broken { what });
        }
        let claim = clock::now().saturating_sub(millis(answer.freshness) + 2);
        let claimed = self.latest(key, |version| version.visible <= claim);
        let broken = |rule: &str, wanted: usize| {
            let version = &self.keys[key][wanted];
            let what = format!(
                "{key}: {} answered {} ({}), {rule} v{wanted} = {} (shown at {}, delivered at {:?}); asked at {}, answered at {}, \
                 age {:?}, freshness {:?}",
                answer.node,
                known.map_or("a value that never was".to_owned(), |known| format!("v{known}")),
                answer.outcome.as_str(),
                version.change.value.map_or("no row".to_owned(), |value| value.to_string()),
                version.visible,
                version.delivered,
                asked.at,
                clock::now(),
                answer.age,
                answer.freshness,
            );
            Err(Broken { what })
        };
        if known.is_none_or(|known| known < asked_for) {
            return broken("stale: it was asked for after", asked_for);
        }
        if known.is_none_or(|known| known < claimed) {
            return broken("its freshness is not true: the database showed", claimed);
        }
        Ok(())
    }

    /// Checks an answer after everything has settled: it must be the newest.
    pub(crate) fn check_last(&self, key: &str, answer: &Answer) -> Result<(), Broken> {
        let versions = &self.keys[key];
        let newest = versions.last().expect("a first version");
        if newest.change.value == version_of(answer) {
            return Ok(());
        }
        let what = format!(
            "{key}: at the end {} answers {:?} ({}), the database has {:?}",
            answer.node,
            version_of(answer),
            answer.outcome.as_str(),
            newest.change.value
        );
        Err(Broken { what })
    }

    fn latest(&self, key: &str, holds: impl Fn(&Version) -> bool) -> usize {
        self.keys[key].iter().rposition(holds).unwrap_or(0)
    }
}

/// The number in an answer's row: `"v":12` in an object, or in the one object of a list.
fn version_of(answer: &Answer) -> Option<u32> {
    let value = answer.value.as_ref()?;
    let text = std::str::from_utf8(value).expect("JSON is UTF-8");
    let digits = text.split_once("\"v\":").map(|(_, rest)| rest)?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
