//! What is searched: each configuration bounds the system in another way, so that each stays small enough to be searched whole.

use ring::MemberState::{self, Active, Joining};

use super::coverage::Seen;
use super::rings::{NODES, Set};

/// Bounds of one search.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches one kind of step, independent of the others"
)]
pub(crate) struct Configuration {
    pub(crate) name: &'static str,
    /// Holders of the slot.
    pub(crate) replicas: usize,
    /// The members at epoch 1.
    pub(crate) start: [Option<MemberState>; NODES],
    /// Changes of the key: one or two.
    pub(crate) changes: usize,
    /// Those of them that remove a tag, which every value carries, and not the key.
    pub(crate) tags: Set,
    /// The last epoch.
    pub(crate) epochs: u8,
    /// Fills and pulls under way at once, on all nodes together.
    pub(crate) fetches: usize,
    /// Whether nodes pull from each other.
    pub(crate) pulls: bool,
    /// Whether nodes register and become active.
    pub(crate) joins: bool,
    /// Whether nodes retire.
    pub(crate) retires: bool,
    /// Whether leases end.
    pub(crate) ends: bool,
    /// Whether entries leave memory by themselves.
    pub(crate) evicts: bool,
    /// Whether nodes that don't hold the slot keep mirrors.
    pub(crate) mirrors: bool,
    /// Whether another sync service takes over, once.
    pub(crate) takes_over: bool,
    /// What must be seen.
    pub(crate) sees: &'static [Seen],
}

const BASE: Configuration = Configuration {
    name: "",
    replicas: 1,
    start: [None; NODES],
    changes: 1,
    tags: 0,
    epochs: 3,
    fetches: 2,
    pulls: true,
    joins: true,
    retires: true,
    ends: true,
    evicts: false,
    mirrors: false,
    takes_over: false,
    sees: &[],
};

const NEWCOMER: [Option<MemberState>; NODES] = [Some(Joining), Some(Active), Some(Active)];
const SETTLED: [Option<MemberState>; NODES] = [Some(Active); NODES];

use Seen::{
    CameBack, ConfirmAwaited, Delivered, DeliveredToEverybody, Demoted, Departed, DepartingPullStored,
    EndedByTag, FillRefused, FillStored, ForgottenTag, MirrorAwaited, MirrorKept, MirrorRefused,
    OwnersPullStored, PlannedAgain, PullRefused, SourceRefused, SweptByTag, TargetLeft, TookOver,
};

/// Searched at every run.
pub(crate) const SMALL: &[Configuration] = &[
    FILLS,
    HANDOVER,
    REPLICAS,
    NEWCOMERS,
    FILLS_TWICE,
    HANDOVER_TWICE,
    EVICTIONS,
    TAGS,
    TAGS_HANDOVER,
    TAGS_REPLICAS,
    MIRRORS,
    MIRRORS_RETURN,
    MIRRORS_HANDOVER,
    MIRRORS_REPLICAS,
];

/// One holder, no pulls.
pub(crate) const FILLS: Configuration = Configuration {
    name: "one holder, fills alone",
    start: NEWCOMER,
    epochs: 4,
    pulls: false,
    sees: &[FillStored, FillRefused, Delivered, DeliveredToEverybody, PlannedAgain, TargetLeft, CameBack],
    ..BASE
};

/// One holder, and pulls from departing ones.
pub(crate) const HANDOVER: Configuration = Configuration {
    name: "one holder, handover",
    start: NEWCOMER,
    epochs: 4,
    sees: &[FillStored, DepartingPullStored, PullRefused, SourceRefused, Departed, PlannedAgain, TargetLeft],
    ..BASE
};

/// Two holders.
pub(crate) const REPLICAS: Configuration = Configuration {
    name: "two holders",
    replicas: 2,
    start: SETTLED,
    sees: &[FillStored, OwnersPullStored, PullRefused, Departed, PlannedAgain, TargetLeft, CameBack],
    ..BASE
};

/// Two holders, one more joins, and another sync service takes over.
pub(crate) const NEWCOMERS: Configuration = Configuration {
    name: "two holders, a newcomer, a takeover",
    replicas: 2,
    start: NEWCOMER,
    ends: false,
    takes_over: true,
    sees: &[FillStored, OwnersPullStored, DepartingPullStored, Departed, Demoted, TookOver],
    ..BASE
};

/// Two changes, no pulls.
const FILLS_TWICE: Configuration = Configuration {
    name: "one holder, fills alone, two changes",
    start: NEWCOMER,
    changes: 2,
    ends: false,
    pulls: false,
    sees: &[FillStored, FillRefused, Delivered, PlannedAgain],
    ..BASE
};

/// Two changes, and pulls from departing holders.
const HANDOVER_TWICE: Configuration = Configuration {
    name: "one holder, handover, two changes",
    start: NEWCOMER,
    changes: 2,
    epochs: 2,
    sees: &[FillStored, DepartingPullStored, PullRefused, Departed, PlannedAgain],
    ..BASE
};

/// Entries that leave memory by themselves.
const EVICTIONS: Configuration = Configuration {
    name: "one holder, handover, evictions",
    start: NEWCOMER,
    evicts: true,
    sees: &[FillStored, DepartingPullStored, PullRefused, Departed, PlannedAgain],
    ..BASE
};

/// One holder, no pulls, a tag.
pub(crate) const TAGS: Configuration = Configuration {
    name: "one holder, a tag",
    start: NEWCOMER,
    tags: 1,
    pulls: false,
    sees: &[
        FillStored,
        FillRefused,
        EndedByTag,
        ForgottenTag,
        SweptByTag,
        Delivered,
        PlannedAgain,
        TargetLeft,
        CameBack,
    ],
    ..BASE
};

/// One holder, a tag, and pulls from departing holders.
pub(crate) const TAGS_HANDOVER: Configuration = Configuration {
    name: "one holder, handover, a tag",
    start: NEWCOMER,
    tags: 1,
    epochs: 2,
    sees: &[
        FillStored,
        DepartingPullStored,
        PullRefused,
        EndedByTag,
        ForgottenTag,
        SweptByTag,
        Departed,
        PlannedAgain,
    ],
    ..BASE
};

/// Two holders and a tag.
const TAGS_REPLICAS: Configuration = Configuration {
    name: "two holders, a tag",
    replicas: 2,
    start: SETTLED,
    tags: 1,
    epochs: 2,
    sees: &[FillStored, OwnersPullStored, PullRefused, EndedByTag, ForgottenTag, SweptByTag, PlannedAgain],
    ..BASE
};

/// One holder, no pulls, mirrors on the others.
pub(crate) const MIRRORS: Configuration = Configuration {
    name: "one holder, mirrors",
    start: SETTLED,
    pulls: false,
    mirrors: true,
    sees: &[
        FillStored,
        MirrorKept,
        MirrorRefused,
        MirrorAwaited,
        ConfirmAwaited,
        Delivered,
        PlannedAgain,
        TargetLeft,
        CameBack,
    ],
    ..BASE
};

/// A newcomer, which leaves again: the owner before it is the owner after it.
pub(crate) const MIRRORS_RETURN: Configuration = Configuration {
    name: "one holder, mirrors, a slot that comes back",
    start: NEWCOMER,
    pulls: false,
    ends: false,
    mirrors: true,
    sees: &[FillStored, MirrorKept, MirrorRefused, MirrorAwaited, ConfirmAwaited, Delivered],
    ..BASE
};

/// The same with a newcomer, which pulls.
pub(crate) const MIRRORS_HANDOVER: Configuration = Configuration {
    name: "one holder, handover, mirrors",
    start: NEWCOMER,
    epochs: 2,
    mirrors: true,
    sees: &[
        FillStored,
        DepartingPullStored,
        MirrorKept,
        MirrorRefused,
        MirrorAwaited,
        ConfirmAwaited,
        Departed,
    ],
    ..BASE
};

/// Two holders, and a mirror.
pub(crate) const MIRRORS_REPLICAS: Configuration = Configuration {
    name: "two holders, mirrors",
    replicas: 2,
    start: SETTLED,
    epochs: 2,
    mirrors: true,
    sees: &[FillStored, OwnersPullStored, MirrorKept, MirrorRefused, MirrorAwaited, Delivered],
    ..BASE
};

/// Searched with `FRESHLINE_MODEL=large`, beside the small ones.
pub(crate) const LARGE: &[Configuration] = &[
    Configuration { name: "large: fills alone, two changes", ends: true, ..FILLS_TWICE },
    Configuration { name: "large: handover, two changes", epochs: 3, ..HANDOVER_TWICE },
    Configuration { name: "large: handover, three fetches", fetches: 3, ..HANDOVER },
    Configuration { name: "large: handover, a tag", epochs: 3, ..TAGS_HANDOVER },
    Configuration {
        name: "large: handover, two changes, one of a tag",
        changes: 2,
        tags: 2,
        ..TAGS_HANDOVER
    },
    Configuration { name: "large: two holders, a tag", epochs: 3, ..TAGS_REPLICAS },
    Configuration { name: "large: handover, mirrors", epochs: 3, ..MIRRORS_HANDOVER },
    Configuration { name: "large: two holders, mirrors", epochs: 3, ..MIRRORS_REPLICAS },
    Configuration { name: "large: two holders, three ring changes", epochs: 4, ..REPLICAS },
    Configuration { name: "large: two holders, a newcomer, lease ends", epochs: 4, ends: true, ..NEWCOMERS },
];
