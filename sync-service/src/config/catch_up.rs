//! `[sync.catch_up]`: when a backlog is skipped instead of being read.

use std::time::Duration;

use daemon::config::{Layers, Problems, duration};
use serde::{Deserialize, Serialize};

/// `[sync.catch_up]`: from which backlog on it is skipped. A cache needs no replay: once everything is flushed, what the backlog says
/// is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CatchUp {
    /// The most time that a backlog may span, by the log's own timestamps: from the last message read to the newest one. `"0s"`:
    /// any. Default `"10m"`.
    #[serde(with = "duration")]
    pub max_lag: Duration,
    /// A backlog of up to as many messages of a partition is read whatever it spans: that is quicker than to fill a flushed cache
    /// again. Default 10000.
    pub min_messages: u64,
    /// The most messages that a partition's backlog may hold, whatever it spans. 0: any number. Default 0.
    pub max_messages: u64,
    /// What to do with a backlog that is longer. Default `"flush"`.
    pub on_lag: OnLag,
}

/// What to do with a backlog that is too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLag {
    /// Flush all groups and go on at the log's end.
    #[default]
    Flush,
    /// Say so, and read all of it.
    Replay,
    /// Stop with an error.
    Halt,
}

/// What the length of a backlog says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// To be read.
    Short,
    /// Too long if it spans more than [`CatchUp::max_lag`].
    BySpan,
    /// Too long.
    Long,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            max_lag: Duration::from_mins(10),
            min_messages: 10_000,
            max_messages: 0,
            on_lag: OnLag::default(),
        }
    }
}

impl CatchUp {
    /// Judges a backlog of one partition by its length.
    pub(crate) fn judge(&self, messages: i64) -> Backlog {
        let messages = u64::try_from(messages).unwrap_or(0);
        if self.max_messages > 0 && messages > self.max_messages {
            Backlog::Long
        } else if messages > self.min_messages && !self.max_lag.is_zero() {
            Backlog::BySpan
        } else {
            Backlog::Short
        }
    }

    pub(super) fn check(&self, layers: &Layers, problems: &mut Problems) {
        if self.max_messages > 0 && self.max_messages < self.min_messages {
            problems.push(format!(
                "{}: is {}, less than sync.catch_up.min_messages ({}), up to which a backlog is always read; raise it, or set it to 0",
                layers.place("sync.catch_up.max_messages"),
                self.max_messages,
                self.min_messages
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_long_by_its_messages_or_by_what_it_spans() {
        let limits = CatchUp { max_messages: 50_000, ..CatchUp::default() };
        let cases = [
            (limits, -5, Backlog::Short),
            (limits, 10_000, Backlog::Short),
            (limits, 10_001, Backlog::BySpan),
            (limits, 50_001, Backlog::Long),
            (CatchUp::default(), i64::MAX, Backlog::BySpan),
            (CatchUp { max_lag: Duration::ZERO, ..limits }, 50_000, Backlog::Short),
        ];
        for (limits, messages, expected) in cases {
            assert_eq!(limits.judge(messages), expected, "{messages} of {limits:?}");
        }
    }
}
