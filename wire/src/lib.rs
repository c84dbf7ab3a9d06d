//! What travels between clients, nodes and the sync service: the shared vocabulary and, with the feature `proto`, its messages.
//!
//! Everybody speaks of an [`Answer`], of what is [`Held`] in memory, of a [`Pull`]; here is what these words mean. [`convert`] is the only place
//! where they become the messages of `freshline.v1` and come back, both ways side by side. Nothing here opens a connection: that is `client`'s.

mod answer;
mod apply;
#[cfg(feature = "proto")]
pub mod convert;
mod explanation;
mod hot;
mod options;
mod plain;
mod pull;
mod scan;
mod set;
mod stats;
pub mod time;
mod watermark;

pub use answer::{Answer, Outcome};
pub use apply::{Ack, Apply};
pub use explanation::{EntryState, Event, Explanation, Removal};
pub use hot::{HotKey, HotKeys, Merged, Mirrored};
pub use options::ReadOptions;
pub use plain::{HolderToken, Kept, Lifetime, Only, Ordered, Put, Write, Written};
pub use pull::{Announcement, Of, Pull, Pulled, Wanted};
pub use scan::{Held, Page, Scan};
pub use set::Set;
pub use stats::{GroupStats, NodeStats};
pub use watermark::{Clock, Heartbeat, HeartbeatReply, PartitionName, Watermark, Watermarks};

/// The largest message that any side sends or takes, in bytes.
pub const MAX_MESSAGE: usize = 64 << 20;
