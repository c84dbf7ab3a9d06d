//! Which entries are looked at.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use client::Client;
use rand::Rng as _;
use rand::seq::SliceRandom as _;
use ring::NodeId;
use tokio::time::Instant;
use wire::Scan;

use super::Error;

/// Entries that one page of a random place adds at most: neighbours in memory came at about the same time.
const NEIGHBOURS: usize = 8;
/// Places of a random page; many where only some groups are wanted.
const LOOK: u32 = 64;
const LOOK_FOR_GROUPS: u32 = 2000;
/// Random pages in a row that bring nothing new, after which there is nothing more to find.
const FRUITLESS: usize = 500;
/// Entries of a page when all are wanted.
const PAGE: u32 = 1000;
/// How often an endless sampler asks the nodes how much they have.
const REFRESH: Duration = Duration::from_secs(30);
/// The pause when there is nothing to sample.
const IDLE: Duration = Duration::from_secs(1);

/// An entry to look at: a key and the node that has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// The key.
    pub key: String,
}

/// Draws entries from the memories of all nodes: each about as likely as the others.
#[derive(Debug)]
pub struct Sampler {
    client: Client,
    groups: Vec<String>,
    /// Entries of each node, by which nodes are drawn.
    nodes: Vec<(NodeId, u64)>,
    asked: Instant,
    found: Vec<Target>,
    unreachable: BTreeMap<NodeId, String>,
    mode: Mode,
}

#[derive(Debug)]
enum Mode {
    /// Every entry of every node once; the cursor of the last node of the list.
    All(u64),
    /// So many more, none twice.
    Some { left: u64, seen: HashSet<Target>, fruitless: usize },
    /// Without end.
    Endless,
}

impl Sampler {
    /// A sample of `count` entries of the groups, all of them if there are no more or `None` is asked for.
    ///
    /// # Errors
    ///
    /// If no node can be asked.
    pub async fn once(client: Client, groups: Vec<String>, count: Option<u64>) -> Result<Self, Error> {
        let mut sampler = Self::endless(client, groups);
        let failed = sampler.ask_sizes().await;
        if sampler.nodes.is_empty()
            && let Some(error) = failed
        {
            return Err(error.into());
        }
        let total: u64 = sampler.nodes.iter().map(|(_, entries)| entries).sum();
        sampler.mode = match count {
            Some(left) if left < total => Mode::Some { left, seen: HashSet::new(), fruitless: 0 },
            _ => Mode::All(0),
        };
        Ok(sampler)
    }

    /// A sample without end, of entries that are there at the time.
    pub fn endless(client: Client, groups: Vec<String>) -> Self {
        let (asked, unreachable) = (Instant::now(), BTreeMap::new());
        Self { client, groups, nodes: Vec::new(), asked, found: Vec::new(), unreachable, mode: Mode::Endless }
    }

    /// How many entries the nodes have, of all groups.
    pub fn total(&self) -> u64 {
        self.nodes.iter().map(|(_, entries)| entries).sum()
    }

    /// The next entry; `None` at the end. An endless sampler waits until there is one.
    pub async fn next(&mut self) -> Option<Target> {
        loop {
            if let Mode::Some { left: 0, .. } = self.mode {
                return None;
            }
            if let Some(target) = self.found.pop() {
                if let Mode::Some { left, .. } = &mut self.mode {
                    *left -= 1;
                }
                return Some(target);
            }
            if matches!(self.mode, Mode::Endless)
                && (self.nodes.is_empty() || self.asked.elapsed() >= REFRESH)
            {
                self.unreachable.clear();
                self.ask_sizes().await;
            }
            let more = if matches!(self.mode, Mode::All(_)) { self.page().await } else { self.draw().await };
            if !more {
                if !matches!(self.mode, Mode::Endless) {
                    return None;
                }
                self.nodes.clear();
                tokio::time::sleep(IDLE).await;
            }
        }
    }

    /// Nodes that could not be asked, with why.
    pub fn unreachable(&self) -> Vec<String> {
        self.unreachable.values().cloned().collect()
    }

    /// The next page of all entries; false after the last.
    async fn page(&mut self) -> bool {
        let Mode::All(cursor) = self.mode else { return false };
        let Some((node, _)) = self.nodes.last().cloned() else { return false };
        let next = self.scan(&node, cursor, PAGE, usize::MAX).await;
        if next.unwrap_or(0) == 0 {
            self.nodes.pop();
        }
        self.mode = Mode::All(next.unwrap_or(0));
        true
    }

    /// Some entries from a random place; false if there is nothing (more) to find.
    async fn draw(&mut self) -> bool {
        let total = self.total();
        if total == 0 {
            return false;
        }
        let (mut at, cursor) = {
            let mut random = rand::rng();
            (random.random_range(0..total), random.random_range(1..1_u64 << 62))
        };
        let drawn = self.nodes.iter().find(|(_, entries)| {
            let here = at < *entries;
            at = at.saturating_sub(*entries);
            here
        });
        let Some((node, _)) = drawn.cloned() else { return false };
        let look = if self.groups.is_empty() { LOOK } else { LOOK_FOR_GROUPS };
        if self.scan(&node, cursor, look, NEIGHBOURS).await.is_none() {
            self.nodes.retain(|(id, _)| *id != node);
        }
        if let Mode::Some { seen, fruitless, .. } = &mut self.mode {
            self.found.retain(|target| seen.insert(target.clone()));
            *fruitless = if self.found.is_empty() { *fruitless + 1 } else { 0 };
            return *fruitless < FRUITLESS;
        }
        true
    }

    /// Adds some of a page's entries to what is found; returns where to go on, or `None` if the node did not answer.
    async fn scan(&mut self, node: &NodeId, cursor: u64, count: u32, most: usize) -> Option<u64> {
        let scan = Scan { groups: self.groups.clone(), cursor, count, ..Scan::default() };
        match self.client.scan(node, scan).await {
            Ok(mut page) => {
                page.entries.shuffle(&mut rand::rng());
                page.entries.truncate(most);
                let target = |key| Target { node: node.clone(), key };
                self.found.extend(page.entries.into_iter().map(|held| target(held.key)));
                Some(page.cursor)
            }
            Err(error) => {
                // One that has left meanwhile has no entries any more.
                if self.client.ring().member(node).is_some() {
                    self.unreachable.insert(node.clone(), error.to_string());
                }
                None
            }
        }
    }

    /// Asks every node how many entries it has; returns one that did not answer.
    async fn ask_sizes(&mut self) -> Option<client::Error> {
        self.asked = Instant::now();
        self.nodes.clear();
        let mut failed = None;
        for (node, stats) in self.client.stats().await {
            let node = NodeId::from(node);
            match stats {
                Ok(stats) => self.nodes.push((node, stats.entries + stats.negative_entries)),
                Err(error) => {
                    self.unreachable.insert(node, error.to_string());
                    failed = Some(error);
                }
            }
        }
        failed
    }
}
