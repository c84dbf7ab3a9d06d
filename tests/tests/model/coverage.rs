//! Counts of what happened in a search, so that a property doesn't hold because nothing happens.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Something that must be seen for a configuration to say anything about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    FillStored,
    FillRefused,
    OwnersPullStored,
    DepartingPullStored,
    PullRefused,
    SourceRefused,
    Departed,
    Demoted,
    Delivered,
    DeliveredToEverybody,
    PlannedAgain,
    TargetLeft,
    TookOver,
    CameBack,
    MirrorKept,
    MirrorRefused,
    MirrorAwaited,
    ConfirmAwaited,
    EndedByTag,
    ForgottenTag,
    SweptByTag,
}

impl Seen {
    pub(crate) const ALL: [Self; 21] = [
        Self::FillStored,
        Self::FillRefused,
        Self::OwnersPullStored,
        Self::DepartingPullStored,
        Self::PullRefused,
        Self::SourceRefused,
        Self::Departed,
        Self::Demoted,
        Self::Delivered,
        Self::DeliveredToEverybody,
        Self::PlannedAgain,
        Self::TargetLeft,
        Self::TookOver,
        Self::CameBack,
        Self::MirrorKept,
        Self::MirrorRefused,
        Self::MirrorAwaited,
        Self::ConfirmAwaited,
        Self::EndedByTag,
        Self::ForgottenTag,
        Self::SweptByTag,
    ];
}

/// How often each was seen.
#[derive(Debug, Default)]
pub(crate) struct Coverage([AtomicU64; Seen::ALL.len()]);

impl Coverage {
    pub(crate) fn see(&self, seen: Seen) {
        self.0[seen as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn count(&self, seen: Seen) -> u64 {
        self.0[seen as usize].load(Relaxed)
    }
}
