//! Who holds which key: slots, placement, epochs and the membership they come from.
//!
//! A key hashes to one of [`SLOTS`] slots ([`slot_of`]); a [`Ring`] says which member owns each slot and who else holds it. A ring is a
//! pure function of the members, so everybody who knows the same members has the same ring. A [`Membership`] tells which members there
//! are (`etcd`, with the feature of that name, a [`fixed`] list, or [`memory`] for many nodes in one process), and a [`Registration`] is a node's own place among them,
//! with the lease that lets it serve from memory. [`plan`] says who must acknowledge a removal, and in which order.

mod clocks;
mod epoch;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod fixed;
mod member;
mod membership;
pub mod memory;
mod moment;
mod placement;
pub mod plan;
pub mod rules;
mod slot;
pub mod terms;
mod view;

pub use epoch::Epoch;
pub use error::Error;
pub use member::{Member, MemberState, NodeId, ParseNodeIdError, ParseStateError};
pub use membership::{Membership, Registration, until_broken};
pub use moment::Moment;
pub use slot::{SLOTS, Slot, slot_of};
pub use terms::Terms;
pub use view::Ring;
