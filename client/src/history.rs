//! What all nodes know about one key, as one story: why was this stale, and since when?

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;
use wire::{EntryState, Event, Explanation, time::millis};

use crate::Error;

/// Ages that differ by less than this may be the same moment: they are told by several nodes, one after the other.
const CLOSE: Duration = Duration::from_millis(20);

/// What all live nodes know about one key. Serializes with times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// The key.
    pub key: String,
    /// The group whose template it matches.
    pub group: String,
    /// Its slot.
    pub slot: u16,
    /// Who owns that slot, by the newest ring that a node knows; empty if nobody does.
    pub owner: String,
    /// Who else holds it.
    pub replicas: Vec<String>,
    /// The newest epoch that a node knows.
    pub epoch: u64,
    /// The query that fills the group; empty for a look-aside group.
    pub query: String,
    /// The answer to "why was this stale, and since when?", as well as it can be told.
    pub verdict: String,
    /// How the entries compare with the row in the database; empty if nobody has looked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compared: Vec<Compared>,
    /// What each node says of itself, by id.
    pub nodes: Vec<Explanation>,
    /// Nodes that did not answer.
    pub unreachable: Vec<Unreachable>,
    /// What happened to the key on all nodes, newest first.
    pub timeline: Vec<Moment>,
}

/// A node that did not say what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// The node.
    pub node: String,
    /// Why.
    pub error: String,
}

/// One thing that happened to a key, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// How long ago.
    #[serde(rename = "age_ms", serialize_with = "millis")]
    pub age: Duration,
    /// On which node.
    pub node: String,
    /// A word from a small set, such as `filled` or `removed`.
    pub what: String,
    /// Why, or where it came from.
    pub detail: String,
}

/// How a node's entry compares with the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// The node.
    pub node: String,
    /// Whether the entry is what the database says now.
    pub same: bool,
}

impl History {
    /// Puts together what the nodes said of one key.
    ///
    /// # Errors
    ///
    /// The first node's, if none has answered.
    pub fn of(answers: Vec<(String, Result<Explanation, Error>)>) -> Result<Self, Error> {
        let (mut nodes, mut unreachable, mut first) = (Vec::new(), Vec::new(), None);
        for (node, answer) in answers {
            match answer {
                Ok(explanation) => nodes.push(explanation),
                Err(error) => {
                    unreachable.push(Unreachable { node, error: error.to_string() });
                    first.get_or_insert(error);
                }
            }
        }
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        let Some(newest) = nodes.iter().max_by_key(|node| node.epoch) else {
            return Err(first.unwrap_or_else(|| Error::NoNodes { reason: "there is no member".to_owned() }));
        };
        let mut history = Self {
            key: newest.key.clone(),
            group: newest.group.clone(),
            slot: newest.slot,
            owner: newest.owner.clone(),
            replicas: newest.replicas.clone(),
            epoch: newest.epoch,
            query: newest.query.clone(),
            verdict: String::new(),
            compared: Vec::new(),
            timeline: timeline(&nodes),
            nodes,
            unreachable,
        };
        history.verdict = history.judge();
        Ok(history)
    }

    /// Adds how the entries compare with the database, which the verdict then tells.
    #[must_use]
    pub fn with_compared(mut self, compared: Vec<Compared>) -> Self {
        self.compared = compared;
        self.verdict = self.judge();
        self
    }

    /// The nodes that have the key in memory.
    pub fn holders(&self) -> impl Iterator<Item = &Explanation> {
        self.nodes.iter().filter(|node| node.entry != EntryState::Absent)
    }

    fn judge(&self) -> String {
        let mut parts: Vec<String> = self.holders().map(|node| self.judge_entry(node)).collect();
        if parts.is_empty() {
            parts.push(self.judge_absence());
        }
        for node in &self.unreachable {
            parts.push(format!("{} did not answer", node.node));
        }
        parts.join("; ")
    }

    /// Why nobody has the key.
    fn judge_absence(&self) -> String {
        if let Some(node) = self.nodes.iter().find(|node| node.fill_in_flight) {
            return format!("in no node's memory, being filled on {} now", node.node);
        }
        match self.timeline.iter().find(|moment| moment.what != "slot acquired") {
            Some(last) => {
                format!("in no node's memory: {} {} ago on {}", told(last), ago(last.age), last.node)
            }
            None => "in no node's memory, and nothing is remembered of it".to_owned(),
        }
    }

    /// Why a node has what it has, and whether it should.
    fn judge_entry(&self, node: &Explanation) -> String {
        let age = node.age.unwrap_or_default();
        let came = node.events.iter().find(|event| matches!(&*event.what, "filled" | "set" | "pulled"));
        let came = match came {
            Some(event) if event.what == "pulled" => format!("pulled {}", event.detail),
            Some(event) => event.what.clone(),
            None => "read".to_owned(),
        };
        let mut text = if node.entry == EntryState::Negative {
            format!("\"no such row\" on {}, {came} {} ago", node.node, ago(age))
        } else {
            format!("{came} {} ago on {}", ago(age), node.node)
        };
        let compared = self.compared.iter().find(|compared| compared.node == node.node);
        if let Some(compared) = compared {
            text +=
                if compared.same { ", the same as in the database" } else { ", not what the database says" };
        }
        let stale = compared.is_some_and(|compared| !compared.same);
        if let Some(missed) = self.missed(node, age) {
            let _ = write!(
                text,
                ", {} applied {} ago on {}, not on {}",
                told(missed),
                ago(missed.age),
                missed.node,
                node.node
            );
            if compared.is_none_or(|compared| !compared.same) {
                let _ = write!(text, ": stale since then, {} ago", ago(missed.age));
            }
        } else if stale {
            text += ": no removal of it has reached any node since, so its change is in no change stream, or still under way";
            if node.freshness + CLOSE < age {
                let _ =
                    write!(text, " (all that was committed until {} ago is applied)", ago(node.freshness));
            }
        } else if let Some(last) = &node.last_removal {
            let _ = write!(text, ", after its last removal by {}, {} ago", last.origin, ago(last.age));
        }
        text
    }

    /// The newest removal or flush that another node has applied after this node's entry was read, and this one has not.
    fn missed(&self, node: &Explanation, age: Duration) -> Option<&Moment> {
        self.timeline.iter().find(|moment| {
            moment.node != node.node
                && takes_out(&moment.what)
                && moment.age + CLOSE < age
                && !node
                    .events
                    .iter()
                    .any(|event| takes_out(&event.what) && origin(&event.detail) == origin(&moment.detail))
        })
    }
}

fn takes_out(what: &str) -> bool {
    matches!(what, "removed" | "flushed")
}

/// The origin of a removal, without what is said beside it.
fn origin(detail: &str) -> &str {
    detail.split(',').next().unwrap_or(detail)
}

fn timeline(nodes: &[Explanation]) -> Vec<Moment> {
    let moment = |node: &Explanation, event: &Event| Moment {
        age: event.age,
        node: node.node.clone(),
        what: event.what.clone(),
        detail: event.detail.clone(),
    };
    let mut timeline: Vec<Moment> =
        nodes.iter().flat_map(|node| node.events.iter().map(move |event| moment(node, event))).collect();
    timeline.sort_by_key(|moment| moment.age);
    timeline
}

/// `removal shop/0@42`, `evicted`.
fn told(moment: &Moment) -> String {
    match &*moment.what {
        "removed" => format!("removal {}", origin(&moment.detail)),
        "flushed" => format!("flush {}", origin(&moment.detail)),
        "refused" => format!("served, not stored ({})", moment.detail),
        other => other.to_owned(),
    }
}

/// `45 ms`, `12.3 s`, `9 min`, `5.2 h`.
fn ago(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{} ms", time.as_millis()),
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Removal;

    fn event(age: u64, what: &str, detail: &str) -> Event {
        Event { age: Duration::from_millis(age), what: what.to_owned(), detail: detail.to_owned() }
    }

    fn node(id: &str, entry: Option<u64>, events: Vec<Event>) -> Explanation {
        let last = events.iter().find(|event| event.what == "removed");
        Explanation {
            key: "user:42".to_owned(),
            group: "user".to_owned(),
            slot: 7,
            owner: "a".to_owned(),
            replicas: vec!["b".to_owned()],
            epoch: 3,
            node: id.to_owned(),
            holds: true,
            entry: if entry.is_some() { EntryState::Value } else { EntryState::Absent },
            age: entry.map(Duration::from_millis),
            ttl: entry.map(|_| Duration::from_mins(1)),
            size: 10,
            last_removal: last
                .map(|event| Removal { age: event.age, origin: origin(&event.detail).to_owned() }),
            fill_in_flight: false,
            query: String::new(),
            freshness: entry.map_or_else(Duration::default, Duration::from_millis),
            events,
        }
    }

    fn history(nodes: Vec<Explanation>) -> History {
        History::of(nodes.into_iter().map(|node| (node.node.clone(), Ok(node))).collect()).unwrap()
    }

    #[test]
    fn a_removal_that_one_node_applied_and_another_did_not_is_named_with_since_when() {
        let filled = || event(12_300, "filled", "from the database, in 1.0 ms");
        let stale = history(vec![
            node("b", None, vec![event(2_100, "removed", "shop/0@42, was not in memory")]),
            node("a", Some(12_300), vec![filled()]),
        ]);
        assert_eq!(
            stale.verdict,
            "filled 12.3 s ago on a, removal shop/0@42 applied 2.1 s ago on b, not on a: stale since then, 2.1 s ago"
        );
        let what: Vec<(&str, &str)> =
            stale.timeline.iter().map(|moment| (&*moment.node, &*moment.what)).collect();
        assert_eq!(what, [("b", "removed"), ("a", "filled")]);

        // Applied on a as well, a little earlier; then a filled it anew.
        let fresh = history(vec![
            node("b", None, vec![event(2_100, "removed", "shop/0@42, was not in memory")]),
            node("a", Some(2_200), vec![event(2_199, "filled", ""), event(2_500, "removed", "shop/0@42")]),
        ]);
        assert_eq!(fresh.verdict, "filled 2.2 s ago on a, after its last removal by shop/0@42, 2.5 s ago");
    }

    #[test]
    fn a_difference_without_a_removal_says_that_the_stream_has_not_brought_it() {
        let mut holder = node("a", Some(60_000), vec![event(60_000, "filled", "")]);
        holder.freshness = Duration::from_millis(300);
        let plain = history(vec![holder]);
        assert_eq!(plain.verdict, "filled 60.0 s ago on a");
        let compared = |same| plain.clone().with_compared(vec![Compared { node: "a".to_owned(), same }]);
        assert_eq!(compared(true).verdict, "filled 60.0 s ago on a, the same as in the database");
        let verdict = compared(false).verdict;
        assert!(
            verdict.contains("not what the database says: no removal of it has reached any node"),
            "{verdict}"
        );
        assert!(verdict.ends_with("(all that was committed until 300 ms ago is applied)"), "{verdict}");
    }

    #[test]
    fn an_absent_key_is_explained_by_what_happened_last_and_by_who_is_silent() {
        let gone = vec![event(50, "slot acquired", "epoch 3"), event(900, "evicted", "")];
        let answers = vec![
            ("a".to_owned(), Ok(node("a", None, gone))),
            ("b".to_owned(), Err(Error::NoNodes { reason: "down".to_owned() })),
        ];
        let history = History::of(answers).unwrap();
        assert_eq!(history.verdict, "in no node's memory: evicted 900 ms ago on a; b did not answer");
        assert!(History::of(Vec::new()).is_err());
    }
}
