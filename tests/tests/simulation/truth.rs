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
    /// `None`: there is no row.
    value: Option<u32>,
    /// When it was logged: no removal of it is older.
    logged: Millis,
    /// From when on the database shows it.
    visible: Millis,
    /// From when on everybody who had to has acknowledged its removal.
    delivered: Option<Millis>,
}

/// What an answer must know, by the moment at which the reader asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    at: Millis,
    /// The newest version that was delivered.
    delivered: usize,
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
    pub(crate) fn begin(&mut self, key: &str, value: Option<u32>) {
        self.keys.insert(key.to_owned(), vec![Version { value, logged: 0, visible: 0, delivered: Some(0) }]);
    }

    /// The keys, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// A new version of a key, logged now, and shown from `visible` on; told by no message yet.
    pub(crate) fn change(&mut self, key: &str, value: Option<u32>, visible: Millis) -> usize {
        let versions = self.keys.get_mut(key).expect("a known key");
        versions.push(Version { value, logged: clock::now(), visible, delivered: None });
        versions.len() - 1
    }

    /// The newest version of a key, shown or not: its value, and from when on it is shown.
    pub(crate) fn newest(&self, key: &str) -> (Option<u32>, Millis) {
        let newest = self.keys[key].last().expect("a first version");
        (newest.value, newest.visible)
    }

    /// What the database shows now.
    pub(crate) fn shown(&self, key: &str) -> Option<u32> {
        let versions = self.keys.get(key)?;
        versions.iter().rev().find(|version| version.visible <= clock::now())?.value
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

    /// Whether every version is delivered.
    pub(crate) fn all_delivered(&self) -> bool {
        self.keys.values().flatten().all(|version| version.delivered.is_some())
    }

    /// Someone asks for a key.
    pub(crate) fn ask(&self, key: &str) -> Asked {
        let at = clock::now();
        Asked {
            at,
            delivered: self.latest(key, |version| version.delivered.is_some()),
            visible: self.latest(key, |version| version.visible <= at),
        }
    }

    /// Checks an answer that has come now.
    ///
    /// From memory: no value older than what was delivered before it was asked for. From the database: none older than what it showed then.
    /// By a read that another one began: none older than what was delivered one quarantine before, nor than what was delivered and logged
    /// after that read began. And in every case: nothing is missing that the database showed when the value was as fresh as the answer
    /// claims.
    pub(crate) fn check(
        &self,
        key: &str,
        asked: Asked,
        answer: &Answer,
        accepted: Option<Duration>,
        quarantine: Millis,
    ) -> Result<(), Broken> {
        let value = version_of(answer);
        let known = self.keys[key].iter().rposition(|version| version.value == value);
        let asked_for = match answer.outcome {
            Outcome::Hit | Outcome::NegativeHit => asked.delivered,
            Outcome::Shared => {
                let settled = asked.at.saturating_sub(quarantine);
                // At the latest: a node that asked the owner, and an owner that asked a departing holder, count the age from their asking, as
                // if the answer had been made then.
                let waited = 2 * (clock::now() - asked.at);
                let began = clock::now().saturating_sub(millis(answer.age).saturating_sub(waited));
                self.latest(key, |version| {
                    version
                        .delivered
                        .is_some_and(|at| at < asked.at && (at < settled || began + 1 < version.logged))
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
                version.value.map_or("no row".to_owned(), |value| value.to_string()),
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
        if newest.value == version_of(answer) {
            return Ok(());
        }
        let what = format!(
            "{key}: at the end {} answers {:?} ({}), the database has {:?}",
            answer.node,
            version_of(answer),
            answer.outcome.as_str(),
            newest.value
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
