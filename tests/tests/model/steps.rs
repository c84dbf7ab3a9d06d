//! What can happen next, and how a trace tells it.

use std::fmt;

use super::rings::NAMES;

/// One step. Each is atomic; everything else may happen between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The database writes a change to its binlog.
    Log { change: usize },
    /// Readers of the database see the change.
    Show { change: usize },
    /// A node takes a token and reads the row.
    Fill { node: usize },
    /// A node takes a token and asks another one, which answers from its memory.
    Pull { node: usize, from: usize },
    /// A node takes a token and asks the owner for a mirror, which is granted.
    AskMirror { node: usize, from: usize },
    /// A mirror reaches the gate.
    StoreMirror { node: usize },
    /// A mirror has acknowledged the end of its lease, or that is over, and the owner knows.
    EndMirror { owner: usize, node: usize },
    /// A fill reaches the gate.
    StoreFill { node: usize },
    /// A pull reaches the gate.
    StorePull { node: usize },
    /// An entry leaves memory by itself.
    Evict { node: usize },
    /// A node's note of the tag's removal makes room for others.
    Forget { node: usize },
    /// A node looks at the tags of all that it has in memory.
    Sweep { node: usize },
    /// A node goes by a newer ring.
    Advance { node: usize, to: u8, keep: bool },
    /// A node drops what it lost and confirms.
    Confirm { node: usize },
    /// A node registers, anew if it was a member before.
    Register { node: usize },
    /// A joining node becomes active.
    Activate { node: usize },
    /// A node retires.
    Retire { node: usize },
    /// A node's lease ends.
    End { node: usize },
    /// The sync service plans the removal.
    Plan { change: usize, epoch: u8, knows: bool },
    /// A node applies a removal, and its acknowledgement arrives, if no mirror has to be waited for; one that had to wait acknowledges.
    Apply { change: usize, node: usize },
    /// A node applies a removal of the tag, which takes no lock of the key, between the check of a fill and its storing.
    ApplyWithin { change: usize, node: usize },
    /// The sync service learns that a target has left.
    Miss { change: usize, node: usize },
    /// The offset is committed too early.
    CommitEarly { change: usize },
    /// Another instance of the sync service takes over.
    TakeOver,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = |node: usize| NAMES[node];
        let c = |change: usize| change + 1;
        match *self {
            Self::Log { change } => write!(f, "change {} is in the binlog, not yet visible", c(change)),
            Self::Show { change } => write!(f, "change {} is visible in the database", c(change)),
            Self::Fill { node } => write!(f, "{} takes a token and reads the row", n(node)),
            Self::Pull { node, from } => write!(f, "{} asks {}, which answers from memory", n(node), n(from)),
            Self::AskMirror { node, from } => {
                write!(f, "{} asks {} for a mirror and is granted it", n(node), n(from))
            }
            Self::StoreMirror { node } => write!(f, "{} keeps the mirror", n(node)),
            Self::EndMirror { owner, node } => {
                write!(f, "the mirror that {} granted {} has ended", n(owner), n(node))
            }
            Self::StoreFill { node } => write!(f, "{} stores what it filled", n(node)),
            Self::StorePull { node } => write!(f, "{} stores what it pulled", n(node)),
            Self::Evict { node } => write!(f, "{} evicts the entry", n(node)),
            Self::Forget { node } => write!(f, "{} forgets that the tag was removed", n(node)),
            Self::Sweep { node } => write!(f, "{} sweeps what removals of tags have ended", n(node)),
            Self::Advance { node, to, keep: false } => {
                write!(f, "{} goes by the ring of epoch {to}", n(node))
            }
            Self::Advance { node, to, keep: true } => {
                write!(f, "{} goes by the ring of epoch {to}, keeps what it lost for others", n(node))
            }
            Self::Confirm { node } => write!(f, "{} confirms its epoch", n(node)),
            Self::Register { node } => write!(f, "{} registers, joining", n(node)),
            Self::Activate { node } => write!(f, "{} becomes active", n(node)),
            Self::Retire { node } => write!(f, "{} is leaving", n(node)),
            Self::End { node } => write!(f, "the lease of {} ends", n(node)),
            Self::Plan { change, epoch, knows } => {
                let confirmed = if knows { "knows who has confirmed" } else { "knows of no confirmation" };
                write!(f, "the sync service plans change {} by epoch {epoch}, {confirmed}", c(change))
            }
            Self::Apply { change, node } => {
                write!(f, "{} applies change {} and acknowledges", n(node), c(change))
            }
            Self::ApplyWithin { change, node } => {
                write!(
                    f,
                    "{} checks its fill, applies change {}, and stores what it filled",
                    n(node),
                    c(change)
                )
            }
            Self::Miss { change, node } => {
                write!(f, "{} has left, change {} does not wait for it", n(node), c(change))
            }
            Self::CommitEarly { change } => write!(f, "the offset of change {} is committed", c(change)),
            Self::TakeOver => write!(f, "another sync service takes over at the committed offset"),
        }
    }
}
