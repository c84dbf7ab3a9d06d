//! Groups: the declared kinds of cached values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::binary::Binary;
use crate::codec::Compress;
use crate::query::{BatchedQuery, Query, TableName};
use crate::tagging::Tagging;
use crate::template::Template;

/// A group's place in the catalog's list. Stable only as long as the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// How many rows make a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rows {
    /// The first row, as a JSON object; no row is a negative entry.
    #[default]
    One,
    /// All rows, as a JSON array; no row is an empty array.
    Many,
}

/// What a change does to the keys that it makes stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnChange {
    /// They leave memory; the next reader fills them.
    #[default]
    Remove,
    /// They leave memory, and those that were in it are filled again in the background.
    Reload,
}

/// Where a group's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its query fills what is missing.
    Filled,
    /// Applications read what is missing by themselves, and set it under the token that their miss was given.
    LookAside,
    /// Applications set, read and remove its values without a token: the last write wins.
    Plain,
}

/// A declared kind of cached value.
#[derive(Debug)]
pub struct Group {
    /// Its place in [`Catalog::groups`](crate::Catalog::groups).
    pub id: GroupId,
    /// Its name; what flushes and metrics speak of.
    pub name: Arc<str>,
    /// Where its values come from.
    pub kind: Kind,
    /// What its keys look like.
    pub template: Template,
    /// What fills them; `None` for a group whose values applications set.
    pub query: Option<Query>,
    /// What the query's rows become.
    pub rows: Rows,
    /// How bytes are written in its values.
    pub binary: Binary,
    /// How long a value may be served.
    pub ttl: Duration,
    /// By which share a TTL may be shorter, at random, so that keys filled together don't expire together. 0 to 1.
    pub ttl_jitter: f64,
    /// How long "no such row" may be served.
    pub negative_ttl: Duration,
    /// How old a value from memory may be at worst; one that can't be proven to be fresher is read from the database.
    pub max_staleness: Option<Duration>,
    /// For how long after its time a value may be served, marked as stale, when the database can't answer; `None` for never.
    pub stale_if_error: Option<Duration>,
    /// Most bytes of a value of this group; `None` leaves the node's limit.
    pub max_value: Option<u64>,
    /// How its values are compressed in memory; `None` leaves it to the node.
    pub compress: Option<Compress>,
    /// Values of fewer bytes are not compressed; `None` leaves it to the node.
    pub compress_above: Option<u64>,
    /// What its entries are tagged by.
    pub tagging: Tagging,
    /// What a change does to its keys.
    pub on_change: OnChange,
    /// The last share of a hot key's TTL in which it is filled again ahead of its end, 0 to below 1; `None` leaves the node's.
    pub refresh_ahead: Option<f64>,
    /// The same wherever the group is declared alike, with every rule that reaches it; never 0. TTLs and sizes are not in it.
    pub digest: u64,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Group {
    /// Whether a query fills its keys.
    pub fn is_filled(&self) -> bool {
        self.kind == Kind::Filled
    }

    /// Whether applications read its values by themselves, and set them under a token.
    pub fn is_look_aside(&self) -> bool {
        self.kind == Kind::LookAside
    }

    /// Whether its values are set, read and removed without a token.
    pub fn is_plain(&self) -> bool {
        self.kind == Kind::Plain
    }

    /// The tables that its query reads; none of a group without one.
    pub fn tables(&self) -> &[TableName] {
        self.query.as_ref().map_or(&[], Query::tables)
    }

    /// Its query for many keys at once, if there is one.
    pub fn batched(&self) -> Option<&BatchedQuery> {
        self.query.as_ref()?.batched()
    }

    /// A TTL for one fill: [`ttl`](Self::ttl), shortened by up to [`ttl_jitter`](Self::ttl_jitter).
    ///
    /// `random` is a number from 0 up to 1; the caller owns the dice.
    pub fn jittered_ttl(&self, random: f64) -> Duration {
        self.ttl.mul_f64(1.0 - self.ttl_jitter * random.clamp(0.0, 1.0))
    }
}
