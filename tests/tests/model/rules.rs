//! The rules that can be taken out, one at a time.

use std::fmt;

use super::configurations::{
    Configuration, FILLS, HANDOVER, MIRRORS, MIRRORS_HANDOVER, MIRRORS_RETURN, NEWCOMERS, REPLICAS, TAGS,
    TAGS_HANDOVER,
};

/// A rule of the protocol, or a part of one that can be taken out alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    TokenBeforeRead,
    TokenKnowsRemovals,
    TokenKnowsLostSlots,
    QuarantineOfRemovals,
    QuarantineOfAcquisitions,
    SharingEnds,
    SharingOfUnsettledEnds,
    LinearizableRead,
    CatchUpFirst,
    EverybodyIfUnconfirmed,
    Phases,
    ReplanOnNewerEpoch,
    ReplanOnLostTarget,
    LostSlotsEnd,
    DropBeforeConfirm,
    DepartingNotServed,
    Fence,
    FencedStoresNothing,
    EmptyReturn,
    ReturnByNewRing,
    CommitLast,
    SourceNotBehind,
    SourceLive,
    TakerUnmoved,
    TakerConfirmed,
    PullTokenFirst,
    OneWay,
    DemotedUnconfirmed,
    TagsGoToAll,
    EndedByTagNotServed,
    EndedByTagNotGiven,
    PulledWithTags,
    TokenKnowsTags,
    QuarantineOfTags,
    SharingEndsByTags,
    SharingOfUnsettledTagsEnds,
    ForgottenTagsRefuse,
    ForgottenTagsEnd,
    StampOfToken,
    SweepLooks,
    SweepWaits,
    MirrorsAcknowledge,
    MirrorsEndBeforeConfirm,
    MirrorLeaseWithinOwners,
    MirrorToken,
    OwnerGrants,
    MirrorOfOwnerNow,
}

impl Rule {
    /// The rule's number in the design, and what is taken out.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::TokenBeforeRead => ("R1", "a fill takes its token after it has read, not before"),
            Self::TokenKnowsRemovals => ("R1", "a removal since the token refuses nothing"),
            Self::TokenKnowsLostSlots => {
                ("R1", "a slot lost and gained again since the token refuses nothing")
            }
            Self::QuarantineOfRemovals => ("R2", "no quarantine after a removal"),
            Self::QuarantineOfAcquisitions => ("R2", "no quarantine after a slot was acquired"),
            Self::SharingEnds => ("R3", "requests share a fill that began before a removal"),
            Self::SharingOfUnsettledEnds => {
                ("R3", "requests share a fill of the quarantine when that is over")
            }
            Self::LinearizableRead => ("R4", "plans go by any older membership"),
            Self::CatchUpFirst => ("R4", "a node applies and acknowledges at an older epoch than the plan's"),
            Self::EverybodyIfUnconfirmed => ("R4", "holders alone, though somebody has not confirmed"),
            Self::Phases => ("R4", "all phases at once"),
            Self::ReplanOnNewerEpoch => ("R4", "an acknowledgement at a newer epoch counts"),
            Self::ReplanOnLostTarget => ("R4", "a target that has left counts as acknowledged"),
            Self::LostSlotsEnd => ("R5", "a node confirms and goes on serving what it had of a lost slot"),
            Self::DepartingNotServed => {
                ("R5", "a node serves what it keeps of a lost slot until it confirms")
            }
            Self::DropBeforeConfirm => ("R5", "a node confirms before it has dropped what it lost"),
            Self::Fence => ("R6", "a node serves, fills and answers after its lease has ended"),
            Self::FencedStoresNothing => {
                ("R6", "a fill that began before the lease ended is stored in the next life")
            }
            Self::EmptyReturn => ("R6", "a node comes back with its old store"),
            Self::ReturnByNewRing => ("R6", "a node that came back holds slots by a ring of its former life"),
            Self::CommitLast => ("R7", "an offset is committed before all have acknowledged"),
            Self::SourceNotBehind => ("R10", "a source at an older epoch answers"),
            Self::SourceLive => ("R10", "a fenced source answers"),
            Self::TakerUnmoved => ("R10", "a pull is stored under a newer ring than it was asked by"),
            Self::TakerConfirmed => ("R10", "a node that has not confirmed takes"),
            Self::PullTokenFirst => ("R10", "a pull takes its token after the answer, not before it asks"),
            Self::OneWay => ("R10", "replicas give too"),
            Self::DemotedUnconfirmed => {
                ("R10", "a node confirms while it gives what it owned and is a replica of now")
            }
            Self::TagsGoToAll => ("tags", "a removal of a tag goes to the holders of the tag's own slot"),
            Self::EndedByTagNotServed => ("tags", "an entry is served whose tag was removed since its token"),
            Self::EndedByTagNotGiven => {
                ("tags", "a source gives an entry whose tag was removed since its token")
            }
            Self::PulledWithTags => ("tags", "a pulled value is stored without its tags"),
            Self::TokenKnowsTags => ("tags", "a removal of a tag since the token refuses nothing"),
            Self::QuarantineOfTags => ("tags", "no quarantine after a removal of a tag"),
            Self::SharingEndsByTags => ("tags", "requests share a fill that began before a removal of a tag"),
            Self::SharingOfUnsettledTagsEnds => {
                ("tags", "requests share a fill of a tag's quarantine when that is over")
            }
            Self::ForgottenTagsRefuse => ("tags", "removals of tags that are forgotten refuse nothing"),
            Self::ForgottenTagsEnd => ("tags", "removals of tags that are forgotten end no entry"),
            Self::StampOfToken => ("tags", "an entry is stored under the number of now, not its token's"),
            Self::SweepWaits => ("tags", "a sweep looks before what was checked before it is stored"),
            Self::SweepLooks => ("tags", "a sweep answers for removals of tags that came after its look"),
            Self::MirrorsAcknowledge => ("mirrors", "an owner acknowledges without its mirrors"),
            Self::MirrorsEndBeforeConfirm => ("mirrors", "a node confirms with mirrors of what it lost"),
            Self::MirrorLeaseWithinOwners => {
                ("mirrors", "a mirror outlives the lease of the owner that granted it")
            }
            Self::MirrorToken => ("mirrors", "a mirror that was asked for before a removal is kept"),
            Self::OwnerGrants => ("mirrors", "a node grants mirrors of what departs"),
            Self::MirrorOfOwnerNow => ("mirrors", "a mirror is served whoever owns the slot now"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, words) = self.words();
        write!(f, "{number}: {words}")
    }
}

/// A rule to be taken out, and where that must be noticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removal {
    pub(crate) rule: Rule,
    pub(crate) configuration: Configuration,
}

const fn out(rule: Rule, configuration: Configuration) -> Removal {
    Removal { rule, configuration }
}

/// Every rule, each with the configuration in which its counterexample is short.
pub(crate) const REMOVALS: &[Removal] = &[
    out(Rule::TokenBeforeRead, FILLS),
    out(Rule::TokenKnowsRemovals, FILLS),
    out(Rule::TokenKnowsLostSlots, FILLS),
    out(Rule::QuarantineOfRemovals, FILLS),
    out(Rule::QuarantineOfAcquisitions, FILLS),
    out(Rule::SharingEnds, FILLS),
    out(Rule::SharingOfUnsettledEnds, FILLS),
    out(Rule::LinearizableRead, HANDOVER),
    out(Rule::CatchUpFirst, HANDOVER),
    out(Rule::EverybodyIfUnconfirmed, HANDOVER),
    out(Rule::Phases, HANDOVER),
    out(Rule::ReplanOnNewerEpoch, HANDOVER),
    out(Rule::ReplanOnLostTarget, HANDOVER),
    out(Rule::LostSlotsEnd, HANDOVER),
    out(Rule::DropBeforeConfirm, HANDOVER),
    out(Rule::Fence, FILLS),
    out(Rule::FencedStoresNothing, FILLS),
    out(Rule::EmptyReturn, FILLS),
    out(Rule::ReturnByNewRing, REPLICAS),
    out(Rule::CommitLast, NEWCOMERS),
    out(Rule::SourceNotBehind, HANDOVER),
    out(Rule::SourceLive, HANDOVER),
    out(Rule::PullTokenFirst, HANDOVER),
    out(Rule::OneWay, REPLICAS),
    out(Rule::DemotedUnconfirmed, NEWCOMERS),
    out(Rule::TakerConfirmed, NEWCOMERS),
    out(Rule::TagsGoToAll, TAGS),
    out(Rule::EndedByTagNotServed, TAGS),
    out(Rule::EndedByTagNotGiven, TAGS_HANDOVER),
    out(Rule::PulledWithTags, TAGS_HANDOVER),
    out(Rule::TokenKnowsTags, TAGS),
    out(Rule::QuarantineOfTags, TAGS),
    out(Rule::SharingEndsByTags, TAGS),
    out(Rule::SharingOfUnsettledTagsEnds, TAGS),
    out(Rule::ForgottenTagsRefuse, TAGS),
    out(Rule::ForgottenTagsEnd, TAGS),
    out(Rule::StampOfToken, TAGS),
    out(Rule::SweepLooks, TAGS),
    out(Rule::SweepWaits, TAGS),
    // A tag's removal goes other ways than a key's, and what it ends is told by a number: the same once more.
    out(Rule::EverybodyIfUnconfirmed, TAGS),
    out(Rule::Phases, TAGS_HANDOVER),
    out(Rule::PullTokenFirst, TAGS_HANDOVER),
    out(Rule::MirrorsAcknowledge, MIRRORS),
    out(Rule::MirrorsEndBeforeConfirm, MIRRORS_RETURN),
    out(Rule::MirrorToken, MIRRORS),
];

/// Rules that other rules imply as far as the promise goes: without them it still holds. `docs/proof.md` says why they stay.
pub(crate) const IMPLIED: &[Rule] = &[Rule::DepartingNotServed, Rule::TakerUnmoved];

/// The same of mirrors' rules, and where that is checked.
pub(crate) const IMPLIED_OF_MIRRORS: &[(Rule, Configuration)] = &[
    (Rule::MirrorLeaseWithinOwners, MIRRORS),
    (Rule::OwnerGrants, MIRRORS_HANDOVER),
    (Rule::MirrorOfOwnerNow, MIRRORS),
    (Rule::MirrorOfOwnerNow, MIRRORS_HANDOVER),
    (Rule::MirrorOfOwnerNow, MIRRORS_RETURN),
];

/// Where that is checked; at every run in the first of them.
pub(crate) const IMPLIED_WIDELY: &[Configuration] = &[
    REPLICAS,
    HANDOVER,
    Configuration { ends: true, ..NEWCOMERS },
    Configuration { epochs: 4, ends: false, ..NEWCOMERS },
];
