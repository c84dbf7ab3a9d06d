//! The protocol's decision, as a pure function: may a filled value still be stored?

use std::time::Duration;

use tokio::time::Instant;

/// What a fill takes from the gate before it reads the database, and shows when it wants to store (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The number of the last removal that the key's gate had logged.
    pub seq: u64,
    /// When the fill began; read before everything else of the token.
    pub started: Instant,
    /// The generation of the key's group.
    pub generation: u64,
    /// The acquisition of the key's slot.
    pub acquisition: u64,
    /// The number of the last removal of a tag.
    pub tags: u64,
}

/// A logged removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// Its number in its gate's order.
    pub seq: u64,
    /// When it was applied.
    pub at: Instant,
}

/// What the gate knows about a key at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The last removal of the key that the log still has.
    pub removed: Option<Logged>,
    /// The newest removal, of any key, that the log had to forget.
    pub forgotten: Option<Logged>,
    /// The generation of the key's group.
    pub generation: u64,
    /// When that generation began by a flush; `None` if the group was never flushed.
    pub flushed: Option<Instant>,
    /// The acquisition of the key's slot and when it was; `None` if the node does not hold the slot.
    pub acquired: Option<(u64, Instant)>,
    /// Whether the node can prove that it still is a member (R6).
    pub live: bool,
    /// The last removal of one of the value's tags; its number is one of tags.
    pub tagged: Option<Logged>,
    /// The newest removal of a tag that had to be forgotten; `None` for a value without tags.
    pub tags_forgotten: Option<Logged>,
}

/// Why a filled value was served but not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The key was removed since the fill began.
    #[error("the key was removed since the fill began")]
    Removed,
    /// The fill began so soon after a removal that the database may have shown it the old row.
    #[error("the fill began within the quarantine of a removal")]
    Quarantine,
    /// One of the value's tags was removed since the fill began.
    #[error("a tag of the value was removed since the fill began")]
    TagRemoved,
    /// The value has more tags than its group allows.
    #[error("the value has too many tags")]
    TooManyTags,
    /// The value has a row that a tag can't be made of.
    #[error("a tag of the value can't be told")]
    UnreadableTag,
    /// The value was read from a server that is not the primary any more.
    #[error("the database's server is not the primary any more")]
    NotPrimary,
    /// The log of removals no longer reaches back to the fill's beginning.
    #[error("the log of removals does not reach back to the fill's beginning")]
    LogOverrun,
    /// The group was flushed since the fill began.
    #[error("the group was flushed since the fill began")]
    Flushed,
    /// The node lost the key's slot since the fill began.
    #[error("the slot was lost since the fill began")]
    SlotLost,
    /// The node can't prove that it still is a member.
    #[error("the node cannot prove that it is a member")]
    Fenced,
}

impl Refused {
    /// All reasons, for metrics.
    pub const ALL: [Self; 10] = [
        Self::Removed,
        Self::Quarantine,
        Self::TagRemoved,
        Self::TooManyTags,
        Self::UnreadableTag,
        Self::NotPrimary,
        Self::LogOverrun,
        Self::Flushed,
        Self::SlotLost,
        Self::Fenced,
    ];

    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Quarantine => "quarantine",
            Self::TagRemoved => "tag_removed",
            Self::TooManyTags => "too_many_tags",
            Self::UnreadableTag => "unreadable_tag",
            Self::NotPrimary => "not_primary",
            Self::LogOverrun => "log_overrun",
            Self::Flushed => "flushed",
            Self::SlotLost => "slot_lost",
            Self::Fenced => "fenced",
        }
    }
}

/// Says whether a value filled under `token` may be stored, given what the gate knows now (R1, R2, R6).
///
/// A false refusal costs a later miss; a false permission would cost truth. So all that is unknown refuses.
pub fn may_store(token: &Token, view: &View, quarantine: Duration) -> Result<(), Refused> {
    not_overtaken(token, view)?;
    if unsettled(view, quarantine).is_some_and(|until| token.started < until) {
        return Err(Refused::Quarantine);
    }
    let forgotten = [view.forgotten, view.tags_forgotten];
    if forgotten.iter().flatten().any(|forgotten| token.started < forgotten.at + quarantine) {
        return Err(Refused::LogOverrun);
    }
    Ok(())
}

/// Says whether nothing has happened since `token` that makes a value old which was asked for under it (R1, R6).
///
/// It is all that a pulled value is checked for here: no quarantine, which is about what the database may still show, since
/// a pull reads no database and what it brings has been through the quarantine of the node that read it. Nodes whose quarantines differ for a
/// moment, since each sees by itself that its database shows changes late, flush each other (`switchover`).
pub fn not_overtaken(token: &Token, view: &View) -> Result<(), Refused> {
    if !view.live {
        return Err(Refused::Fenced);
    }
    if view.acquired.map(|(id, _)| id) != Some(token.acquisition) {
        return Err(Refused::SlotLost);
    }
    if view.generation != token.generation {
        return Err(Refused::Flushed);
    }
    if view.removed.is_some_and(|removed| removed.seq > token.seq) {
        return Err(Refused::Removed);
    }
    if view.tagged.is_some_and(|removed| removed.seq > token.tags) {
        return Err(Refused::TagRemoved);
    }
    if view.forgotten.is_some_and(|forgotten| forgotten.seq > token.seq)
        || view.tags_forgotten.is_some_and(|forgotten| forgotten.seq > token.tags)
    {
        return Err(Refused::LogOverrun);
    }
    Ok(())
}

/// Says whether an entry that carries tags is still valid, or which removal has ended it. `stamp` is the number of the last removal of a tag
/// that the entry's token knew of, `tagged` the last removal of one of its own tags, `forgotten` the newest, of any tag, that was forgotten,
/// and `swept` the number up to which a sweep has looked at all entries.
pub fn not_ended(
    stamp: u64,
    tagged: Option<Logged>,
    forgotten: Option<Logged>,
    swept: u64,
) -> Result<(), Logged> {
    let tagged = tagged.filter(|removed| removed.seq > stamp);
    let forgotten = forgotten.filter(|forgotten| forgotten.seq > stamp.max(swept));
    match tagged.or(forgotten) {
        Some(removed) => Err(removed),
        None => Ok(()),
    }
}

/// Until when the database may still show the row from before the last removal of the key or a tag, flush or acquisition of the slot (R2).
pub fn unsettled(view: &View, quarantine: Duration) -> Option<Instant> {
    let removed = view.removed.map(|removed| removed.at);
    let acquired = view.acquired.map(|(_, at)| at);
    let tagged = view.tagged.map(|removed| removed.at);
    removed.max(view.flushed).max(acquired).max(tagged).map(|at| at + quarantine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARANTINE: Duration = Duration::from_millis(100);
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A token taken at 1000 ms, and a view in which nothing stands in its way.
    fn calm() -> (Instant, Token, View) {
        let zero = Instant::now();
        let token = Token { seq: 7, started: zero + ms(1000), generation: 3, acquisition: 5, tags: 4 };
        let view = View {
            removed: Some(Logged { seq: 7, at: zero + ms(900) }),
            forgotten: Some(Logged { seq: 6, at: zero + ms(900) }),
            generation: 3,
            flushed: Some(zero + ms(900)),
            acquired: Some((5, zero + ms(900))),
            live: true,
            tagged: Some(Logged { seq: 4, at: zero + ms(900) }),
            tags_forgotten: Some(Logged { seq: 3, at: zero + ms(900) }),
        };
        (zero, token, view)
    }

    fn check(change: impl Fn(Instant, &mut View), expected: Result<(), Refused>) {
        let (zero, token, mut view) = calm();
        change(zero, &mut view);
        assert_eq!(may_store(&token, &view, QUARANTINE), expected);
    }

    #[test]
    fn a_fill_that_nothing_overlaps_may_store() {
        check(|_, _| (), Ok(()));
        check(|_, view| (view.removed, view.forgotten, view.flushed) = (None, None, None), Ok(()));
    }

    #[test]
    fn a_removal_since_the_token_refuses_at_any_age() {
        check(
            |zero, view| view.removed = Some(Logged { seq: 8, at: zero + ms(5000) }),
            Err(Refused::Removed),
        );
        check(|zero, view| view.removed = Some(Logged { seq: 8, at: zero }), Err(Refused::Removed));
    }

    #[test]
    fn a_removal_of_a_tag_refuses_as_one_of_the_key_does_by_numbers_of_its_own() {
        let tagged =
            |seq, at| move |zero, view: &mut View| view.tagged = Some(Logged { seq, at: zero + ms(at) });
        check(tagged(5, 0), Err(Refused::TagRemoved));
        check(tagged(5, 5000), Err(Refused::TagRemoved));
        check(tagged(4, 901), Err(Refused::Quarantine));
        check(tagged(4, 900), Ok(()));
        let forgotten = |seq, at| {
            move |zero, view: &mut View| view.tags_forgotten = Some(Logged { seq, at: zero + ms(at) })
        };
        check(forgotten(5, 0), Err(Refused::LogOverrun));
        check(forgotten(4, 901), Err(Refused::LogOverrun));
        check(|_, view| (view.tagged, view.tags_forgotten) = (None, None), Ok(()));
    }

    #[test]
    fn a_removal_of_a_tag_ends_an_entry_until_it_is_forgotten_and_then_what_no_sweep_has_looked_at() {
        let logged = |seq| Logged { seq, at: Instant::now() };
        let (four, five) = (logged(4), logged(5));
        assert_eq!(not_ended(4, None, None, 0), Ok(()));
        assert_eq!(not_ended(4, Some(four), Some(four), 0), Ok(()), "its token knew of it");
        assert_eq!(not_ended(4, Some(five), Some(four), 9), Err(five), "a sweep does not make up for it");
        assert_eq!(not_ended(4, None, Some(five), 4), Err(five));
        assert_eq!(not_ended(4, None, Some(five), 5), Ok(()));
    }

    #[test]
    fn a_flush_since_the_token_refuses() {
        check(|_, view| view.generation = 4, Err(Refused::Flushed));
    }

    #[test]
    fn a_slot_lost_since_the_token_refuses_also_when_it_came_back() {
        check(|_, view| view.acquired = None, Err(Refused::SlotLost));
        check(|zero, view| view.acquired = Some((6, zero)), Err(Refused::SlotLost));
    }

    #[test]
    fn a_fenced_node_stores_nothing() {
        check(|_, view| view.live = false, Err(Refused::Fenced));
    }

    #[test]
    fn a_token_within_the_quarantine_of_a_removal_flush_or_acquisition_is_refused() {
        for at in [901, 999, 1000, 1001] {
            check(
                |zero, view| view.removed = Some(Logged { seq: 7, at: zero + ms(at) }),
                Err(Refused::Quarantine),
            );
            check(|zero, view| view.flushed = Some(zero + ms(at)), Err(Refused::Quarantine));
            check(|zero, view| view.acquired = Some((5, zero + ms(at))), Err(Refused::Quarantine));
        }
    }

    #[test]
    fn what_the_log_forgot_counts_as_a_removal_of_every_key() {
        check(|zero, view| view.forgotten = Some(Logged { seq: 8, at: zero }), Err(Refused::LogOverrun));
        check(
            |zero, view| view.forgotten = Some(Logged { seq: 7, at: zero + ms(901) }),
            Err(Refused::LogOverrun),
        );
    }
}
