//! A node's decisions by the freshness protocol, as pure functions of what it knows at one moment.
//!
//! Whether a value may be stored is [`gate::may_store`](crate::gate::may_store); who must acknowledge a removal is
//! [`ring::plan`]. The node's own code and the model that checks the protocol exhaustively (`tests/tests/model`) call the
//! same functions.

use ring::Epoch;

/// What a node knows about itself when it is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether the lease is provably alive, and the memory belongs to it (R6).
    pub live: bool,
    /// The epoch of the ring that the node goes by.
    pub epoch: Epoch,
    /// The last epoch of which it keeps nothing that it lost.
    pub confirmed: Epoch,
}

/// Whether an entry may be served to a reader: only under the acquisition under which it came in, and only by a node that can
/// prove its membership (R5, R6).
pub fn may_serve(standing: Standing, held_under: Option<u64>, stored_under: u64) -> bool {
    standing.live && held_under == Some(stored_under)
}

/// Why a pull was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PullRefused {
    /// The answering node can't prove that it is a member.
    #[error("the node cannot prove that it is a member")]
    Fenced,
    /// The answering node is at an older epoch than the asker.
    #[error("the node is at epoch {own}, the asker at {asked}")]
    Behind {
        /// The answering node's.
        own: Epoch,
        /// The asker's.
        asked: Epoch,
    },
    /// The asker speaks another version of the protocol.
    #[error("the asker speaks protocol {asked} (0: an older version), this node {}", ring::terms::PROTOCOL)]
    OtherProtocol {
        /// The asker's.
        asked: u32,
    },
    /// The asker goes by another list of members.
    #[error("the node is at epoch {own}, the asker at {asked} of another list of members")]
    OtherMembers {
        /// The answering node's.
        own: Epoch,
        /// The asker's.
        asked: Epoch,
    },
    /// The asker has not confirmed its epoch: it still keeps what it lost, and answers pulls instead of taking any.
    #[error("the asker has not confirmed its epoch yet")]
    Unconfirmed,
    /// The asker's ring has changed since it asked.
    #[error("the ring has changed since the pull began")]
    Moved,
}

impl PullRefused {
    /// The reason as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Behind { .. } => "behind",
            Self::OtherProtocol { .. } => "other_protocol",
            Self::OtherMembers { .. } => "other_members",
            Self::Unconfirmed => "unconfirmed",
            Self::Moved => "moved",
        }
    }
}

/// Whether a node may answer a pull of an asker that is at epoch `asked` (R10): unfenced, and at that epoch or a later one.
///
/// *Otherwise: the new owner at epoch 2 applies a removal that was planned at 2 for it alone; it then pulls the old value from a
/// node that is still at 1, and that nobody sent the removal to.*
pub fn may_answer_pull(source: Standing, asked: Epoch) -> Result<(), PullRefused> {
    if !source.live {
        Err(PullRefused::Fenced)
    } else if !source.epoch.is_of_same_history(asked) {
        Err(PullRefused::OtherMembers { own: source.epoch, asked })
    } else if source.epoch < asked {
        Err(PullRefused::Behind { own: source.epoch, asked })
    } else {
        Ok(())
    }
}

/// Whether a node may store what it asked for at epoch `asked` (R10), beside what its gate says: it has confirmed its epoch, and
/// that has not changed since.
///
/// *Two nodes that each keep what they lost to the other, and pull from each other, can keep an old value alive for ever.*
pub fn may_take_pull(taker: Standing, asked: Epoch) -> Result<(), PullRefused> {
    if !taker.live {
        Err(PullRefused::Fenced)
    } else if taker.epoch != asked {
        Err(PullRefused::Moved)
    } else if taker.confirmed < taker.epoch {
        Err(PullRefused::Unconfirmed)
    } else {
        Ok(())
    }
}

/// Whether a node may store a plain value that it asked for at epoch `asked`, beside what its gate says. It need not have confirmed its epoch: what
/// protects a plain value is that nothing has happened to its key at the taker (`Gate::store_pulled`).
pub fn may_take_plain(taker: Standing, asked: Epoch) -> Result<(), PullRefused> {
    may_take_pull(Standing { confirmed: taker.epoch, ..taker }, asked)
}

/// Whether an entry may be given to a node that pulls it (R10): one of a departing slot, or one of a slot that the answering node
/// owns. A replica gives nothing away, but for what it owned by the ring before, as long as it has not confirmed its epoch: until then removals
/// reach it before the owner, and it takes nothing itself.
///
/// *Values flow one way. The owner applies a removal; were it to pull from its replica, which gets the removal after it, it would
/// bring the old value back.*
pub fn may_give(departing_under: Option<u64>, owned_under: Option<u64>, stored_under: u64) -> bool {
    departing_under == Some(stored_under) || owned_under == Some(stored_under)
}

/// Whether a node may grant a mirror of an entry to one that asks at epoch `asked`: like an answer to a pull, and as the slot's owner
/// alone, of what it has as the owner. Asked after the grant is noted.
///
/// *A node that has lost the slot grants; it had ended its mirrors and confirms; the next removal passes it and its mirror by.*
pub fn may_grant(
    owner: Standing,
    asked: Epoch,
    owned_under: Option<u64>,
    stored_under: u64,
) -> Result<(), PullRefused> {
    may_answer_pull(owner, asked)?;
    if owned_under == Some(stored_under) { Ok(()) } else { Err(PullRefused::Moved) }
}

/// Whether a mirror whose lease lasts may be served: by a node that can prove its membership, does not hold the slot itself, and by whose
/// ring the owner is still the one that granted it.
pub fn may_serve_mirror(live: bool, holds: bool, same_owner: bool) -> bool {
    live && !holds && same_owner
}

/// Whether a node keeps the values of what it has lost, to give them away, and so has not confirmed its epoch; else it drops them
/// at once, and may take what others have lost. It can't do both (R10): it does what it has more of. `departing` counts all slots that it would
/// give the values of, lost ones and those that it is only a replica of now, of earlier rings too.
pub fn gives(gained: usize, departing: usize) -> bool {
    departing > gained
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(live: bool, epoch: u64, confirmed: u64) -> Standing {
        Standing { live, epoch: Epoch(epoch), confirmed: Epoch(confirmed) }
    }

    #[test]
    fn only_what_came_in_under_the_acquisition_of_now_is_served_and_only_by_a_member() {
        assert!(may_serve(standing(true, 1, 1), Some(3), 3));
        assert!(!may_serve(standing(true, 1, 1), Some(4), 3));
        assert!(!may_serve(standing(true, 1, 1), None, 3));
        assert!(!may_serve(standing(false, 1, 1), Some(3), 3));
    }

    #[test]
    fn only_a_departing_holder_and_the_owner_give() {
        assert!(may_give(Some(3), None, 3) && may_give(None, Some(3), 3));
        assert!(!may_give(None, None, 3) && !may_give(Some(2), Some(4), 3));
    }

    #[test]
    fn only_the_owner_grants_mirrors_and_a_mirror_is_served_by_members_that_hold_nothing_themselves() {
        let owner = standing(true, 5, 5);
        assert_eq!(may_grant(owner, Epoch(5), Some(3), 3), Ok(()));
        assert_eq!(may_grant(owner, Epoch(5), None, 3), Err(PullRefused::Moved), "a replica, or lost");
        assert_eq!(may_grant(owner, Epoch(5), Some(4), 3), Err(PullRefused::Moved), "lost and gained again");
        assert!(matches!(may_grant(owner, Epoch(6), Some(3), 3), Err(PullRefused::Behind { .. })));
        assert_eq!(may_grant(standing(false, 5, 5), Epoch(5), Some(3), 3), Err(PullRefused::Fenced));
        assert!(may_serve_mirror(true, false, true));
        assert!(!may_serve_mirror(false, false, true));
        assert!(!may_serve_mirror(true, true, true) && !may_serve_mirror(true, false, false));
    }

    #[test]
    fn a_node_gives_or_takes_and_never_both() {
        assert!(gives(0, 1) && gives(3, 4));
        assert!(!gives(4, 4) && !gives(1, 0) && !gives(0, 0));
    }

    #[test]
    fn a_pull_is_answered_at_the_askers_epoch_or_later_and_taken_by_one_that_has_confirmed() {
        let asked = Epoch(5);
        assert_eq!(may_answer_pull(standing(true, 5, 4), asked), Ok(()));
        assert_eq!(may_answer_pull(standing(true, 6, 4), asked), Ok(()));
        assert!(matches!(may_answer_pull(standing(true, 4, 4), asked), Err(PullRefused::Behind { .. })));
        assert_eq!(may_answer_pull(standing(false, 5, 5), asked), Err(PullRefused::Fenced));
        assert_eq!(may_take_pull(standing(true, 5, 5), asked), Ok(()));
        assert_eq!(may_take_pull(standing(true, 5, 4), asked), Err(PullRefused::Unconfirmed));
        assert_eq!(may_take_pull(standing(true, 6, 6), asked), Err(PullRefused::Moved));
        assert_eq!(may_take_pull(standing(false, 5, 5), asked), Err(PullRefused::Fenced));
    }
}
