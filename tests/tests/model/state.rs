//! One moment of the whole system: etcd, the nodes, the database's changes and the sync service, for one key.

use super::rings::{EPOCHS, Members, NODES, Set};

/// One moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    /// The epoch of the membership as etcd has it.
    pub(crate) epoch: u8,
    /// The members at each epoch. What nobody can look at any more is zero.
    pub(crate) history: [Members; EPOCHS],
    pub(crate) nodes: [Node; NODES],
    /// How far the sync service is with each change.
    pub(crate) changes: [Delivery; 2],
    /// Changes that are in the binlog.
    pub(crate) logged: Set,
    /// Changes that readers of the database see.
    pub(crate) visible: Set,
    /// Changes whose offset is committed though nobody has acknowledged them (only when R7 is out).
    pub(crate) committed: Set,
    /// Whether another instance of the sync service has taken over.
    pub(crate) taken_over: bool,
}

/// A cache node.
#[expect(clippy::struct_excessive_bools, reason = "each may be so without the others")]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Node {
    /// Whether its lease is provably alive, as it believes, and its memory belongs to it.
    pub(crate) live: bool,
    /// The epoch that began its present life.
    pub(crate) born: u8,
    /// The epoch of the ring that it goes by; 0 for none that this life could hold anything by.
    pub(crate) view: u8,
    /// The last epoch that it has confirmed.
    pub(crate) confirmed: u8,
    /// Whether it gives what it owned, though it is only a replica by its ring now.
    pub(crate) giving: bool,
    /// Changes that were logged and not visible when the key was last removed: its quarantine lasts until all of them are.
    pub(crate) removed_with: Set,
    /// The same, of when the slot was acquired.
    pub(crate) acquired_with: Set,
    /// The same, of when the tag was last removed.
    pub(crate) tagged_with: Set,
    /// Whether the note of that removal of the tag had to make room.
    pub(crate) forgot: bool,
    /// Whether a sweep has looked at all entries since.
    pub(crate) swept: bool,
    /// The key's value, if it lacks any change. One that has all is of no interest: it can't become stale.
    pub(crate) entry: Option<Entry>,
    /// A fill under way.
    pub(crate) fill: Option<Fetch>,
    /// A pull under way.
    pub(crate) pull: Option<Fetch>,
    /// A mirror of the key, with the node that granted it. A lease that is over is no mirror.
    pub(crate) mirror: Option<Mirror>,
    /// A mirror asked for and granted, not here yet.
    pub(crate) mirroring: Option<Mirror>,
    /// Nodes that may have a mirror by this node's grant, as far as this node knows.
    pub(crate) grants: Set,
    /// Of each change whose removal has taken effect here and is not acknowledged yet: the mirrors that it waits for.
    pub(crate) owed: [Option<Set>; 2],
}

/// A value in a mirror, or on its way there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Mirror {
    /// The changes that it has.
    pub(crate) value: Set,
    /// The node that granted it, and the epoch that began its life of then.
    pub(crate) from: usize,
    pub(crate) life: u8,
    /// Whether the key was removed since the token.
    pub(crate) removed: bool,
}

/// A value in memory: the changes that it has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Set,
    /// Whether it came in under an acquisition that has ended: it is kept to answer pulls alone.
    pub(crate) departing: bool,
    pub(crate) tag: Tag,
}

/// What has become of the tag that an entry carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Tag {
    /// It was not removed since the entry's token, or changes remove no tag.
    #[default]
    Stands,
    /// It was removed.
    Removed,
    /// The node does not know that the entry carries it (only when the rule is out).
    Untold,
}

/// A value on its way into memory, with what has become of its token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so without the others")]
pub(crate) struct Fetch {
    /// The changes that it has.
    pub(crate) value: Set,
    /// The epoch at which a pull was asked; 0 for a fill.
    pub(crate) asked: u8,
    /// Whether the key was removed since the token.
    pub(crate) removed: bool,
    /// Whether the acquisition has ended since the token.
    pub(crate) lost: bool,
    /// Whether the tag was removed since the token.
    pub(crate) tagged: bool,
    /// Whether the token was taken in the quarantine of a removal.
    pub(crate) after_removal: bool,
    /// Whether the token was taken in the quarantine of an acquisition.
    pub(crate) after_acquisition: bool,
    /// Whether the token was taken in the quarantine of a removal of the tag.
    pub(crate) after_tag: bool,
    /// Whether requests that come now would share it.
    pub(crate) shared: bool,
}

impl Node {
    /// Whether the last removal of the tag can still matter to anything here.
    pub(crate) fn minds_tag(&self) -> bool {
        let fetches = [self.fill, self.pull];
        self.tagged_with != 0
            || self.entry.is_some_and(|entry| entry.tag == Tag::Removed)
            || fetches.iter().flatten().any(|fetch| fetch.tagged || fetch.after_tag)
    }
}

/// How far the sync service is with one change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Delivery {
    /// Not planned: the change is not in the binlog yet, or its plan has become void.
    #[default]
    Open,
    /// Planned by the ring of `epoch`; `waits` are the nodes of each phase that have yet to acknowledge, the phase under way first.
    Planned { epoch: u8, waits: [Set; 3] },
    /// All have acknowledged, and the offset may be committed: delivered.
    Done,
    /// Never sent, because its offset was committed before (only when R7 is out): delivered as far as anybody can tell.
    Skipped,
}

impl State {
    /// The members at an epoch.
    pub(crate) fn members(&self, epoch: u8) -> Members {
        self.history[usize::from(epoch)]
    }

    /// The members now.
    pub(crate) fn members_now(&self) -> Members {
        self.members(self.epoch)
    }

    /// The changes that are delivered.
    pub(crate) fn delivered(&self) -> Set {
        let done = |delivery: &Delivery| matches!(delivery, Delivery::Done | Delivery::Skipped);
        (0..2).filter(|&change| done(&self.changes[change])).map(|change| 1 << change).sum()
    }

    /// Values under way.
    pub(crate) fn fetches(&self) -> usize {
        self.nodes
            .iter()
            .map(|node| {
                usize::from(node.fill.is_some())
                    + usize::from(node.pull.is_some())
                    + usize::from(node.mirroring.is_some())
            })
            .sum()
    }

    /// Whether `node` was absent at any time after `epoch`: its life of then is over.
    pub(crate) fn gone_since(&self, epoch: u8, node: usize) -> bool {
        (epoch + 1..=self.epoch).any(|later| self.members(later).get(node).is_none())
    }
}
