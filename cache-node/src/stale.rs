//! What is answered when the database can't be: nothing, or, where the group allows it, what was right until its time was over.
//!
//! Never hidden is a change that was delivered: an entry that was removed or flushed, or whose slot was lost, is gone, and a node that
//! can't prove its membership answers nothing from memory here either. The entry is looked up *after* the fill has failed, so that
//! a removal that came meanwhile counts.

use std::time::Duration;

use catalog::{Catalog, Key};
use memory::{
    place::Place,
    watermarks::{Fresh, within},
};
use tokio::time::Instant;
use wire::{Answer, Outcome, ReadOptions};

use crate::{error::Error, fill::Read, node::Node};

/// How long the entries of each group are kept beyond their time.
pub(crate) fn graces(catalog: &Catalog) -> impl Iterator<Item = Duration> {
    catalog.groups().iter().map(|group| group.stale_if_error.unwrap_or_default())
}

impl Node {
    /// The answer to a fill that failed with `error`, if the group allows one and there is one.
    ///
    /// The TTL and the group's own `max_staleness` may be over by up to `stale_if_error`; what the reader demands of this one read is
    /// kept to the letter.
    pub(crate) fn stale_instead(
        &self,
        key: &Key,
        place: Place,
        options: ReadOptions,
        error: &Error,
    ) -> Option<Answer> {
        let grace = key.group.stale_if_error?;
        if !cannot_answer(error) {
            return None;
        }
        let incarnation = self.life.incarnation();
        let Fresh { entry, as_of } =
            self.watermarks.look_stale(&self.gate, place, &key.text, options.max_staleness)?;
        if !within(as_of, key.group.max_staleness.map(|declared| declared.saturating_add(grace)))
            || !self.life.vouches_for(incarnation)
        {
            return None;
        }
        self.metrics.group(key.group.id).stale.inc();
        tracing::debug!(group = %key.group.name, %error, "served stale");
        let now = Instant::now();
        let read = Read { value: entry.value, started: entry.filled, expires: None, elsewhere: None };
        let answer = self.answer_at(read, Outcome::Stale, now);
        Some(Answer { freshness: now.saturating_duration_since(as_of), ..answer })
    }
}

/// Whether the database can't answer now, rather than that its answer is not liked.
fn cannot_answer(error: &Error) -> bool {
    matches!(
        error,
        Error::Fill(
            loader::Error::Deadline { .. }
                | loader::Error::Overloaded { .. }
                | loader::Error::Unavailable(_)
                | loader::Error::BreakerOpen { .. }
                | loader::Error::Query { .. }
        )
    )
}
