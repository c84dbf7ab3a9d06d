//! The keys that are read most, and mirrors of them.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::Answer;

/// What one node is asked for most.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HotKeys {
    /// The node.
    pub node: String,
    /// Its epoch.
    pub epoch: u64,
    /// Reads per second of all keys, about.
    pub reads: f64,
    /// Hottest first.
    pub keys: Vec<HotKey>,
}

/// A key and how often it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HotKey {
    /// The key.
    pub key: String,
    /// Its group.
    pub group: String,
    /// Reads per second that were answered, about.
    pub reads: f64,
    /// Reads per second that were passed on to the owner.
    pub forwarded: f64,
    /// By how much both together may be too high.
    pub error: f64,
    /// Whether it counts as hot.
    pub hot: bool,
    /// Whether it is served from a mirror.
    pub mirrored: bool,
    /// Nodes that have a mirror of it, as far as who granted them knows.
    pub mirrors: u32,
}

/// What several nodes are asked for most, put together: each read is counted where it was answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Merged {
    /// Reads per second of all keys on all nodes that answered.
    pub reads: f64,
    /// Hottest first.
    pub keys: Vec<HotKey>,
    /// The nodes that answered.
    pub nodes: Vec<String>,
    /// Those that did not, each with its error.
    pub unreachable: BTreeMap<String, String>,
}

/// An owner's answer to one who asks for a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// As to a forwarded get.
    pub answer: Answer,
    /// How long it may be served from a mirror, counted from the asking; `None`: not at all.
    pub lease: Option<Duration>,
    /// The owner's incarnation.
    pub incarnation: u64,
    /// The digest of the key's group by the owner's catalog; 0: not told.
    pub group_digest: u64,
}

impl Merged {
    /// How many keys to ask each node for, so that the `top` of all are among them: more, since a key that is tenth everywhere may be the
    /// first of all.
    pub fn of_each(top: usize) -> usize {
        top.saturating_mul(4)
    }

    /// Puts the nodes' answers together.
    pub fn of<E: fmt::Display>(answers: Vec<(String, Result<HotKeys, E>)>, top: usize) -> Self {
        let mut merged = Self::default();
        let mut keys: BTreeMap<String, HotKey> = BTreeMap::new();
        for (node, answer) in answers {
            let hot = match answer {
                Ok(hot) => hot,
                Err(error) => {
                    merged.unreachable.insert(node, error.to_string());
                    continue;
                }
            };
            merged.reads += hot.reads;
            merged.nodes.push(node);
            for key in hot.keys {
                match keys.get_mut(&key.key) {
                    None => {
                        keys.insert(key.key.clone(), key);
                    }
                    Some(known) => {
                        known.reads += key.reads;
                        known.forwarded += key.forwarded;
                        known.error += key.error;
                        known.hot |= key.hot;
                        known.mirrored |= key.mirrored;
                        known.mirrors += key.mirrors;
                    }
                }
            }
        }
        merged.keys = keys.into_values().collect();
        merged.keys.sort_by(|a, b| b.reads.total_cmp(&a.reads).then_with(|| a.key.cmp(&b.key)));
        merged.keys.truncate(top);
        merged
    }

    /// The share of all reads that go to the keys listed, 0 to 1.
    pub fn share(&self) -> f64 {
        let listed: f64 = self.keys.iter().map(|key| key.reads).sum();
        if self.reads > 0.0 { (listed / self.reads).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_nodes_are_added_up_and_who_does_not_answer_is_named() {
        let key = |key: &str, reads| HotKey { key: key.to_owned(), reads, ..HotKey::default() };
        let hot = |reads, keys| Ok(HotKeys { reads, keys, ..HotKeys::default() });
        let merged = Merged::of(
            vec![
                ("a".to_owned(), hot(100.0, vec![key("user:1", 50.0), key("user:2", 30.0)])),
                ("b".to_owned(), hot(60.0, vec![key("user:2", 40.0), key("user:3", 1.0)])),
                ("c".to_owned(), Err("gone")),
            ],
            2,
        );
        let found: Vec<_> = merged.keys.iter().map(|key| (&*key.key, key.reads)).collect();
        assert_eq!(found, [("user:2", 70.0), ("user:1", 50.0)]);
        assert!((merged.share() - 0.75).abs() < 1e-9, "{}", merged.share());
        assert_eq!((merged.nodes.len(), merged.unreachable.len()), (2, 1));
    }
}
