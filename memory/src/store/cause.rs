//! Why entries leave memory by themselves.

use prometheus_client::encoding::EncodeLabelSet;

/// Why an entry left memory, other than by a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Room was needed.
    Evicted,
    /// Its time was over.
    Expired,
    /// Its group was flushed.
    Flushed,
    /// Its slot was lost, or the node came back as a new incarnation.
    SlotLost,
}

impl Cause {
    /// All causes, for metrics.
    pub(crate) const ALL: [Self; 4] = [Self::Evicted, Self::Expired, Self::Flushed, Self::SlotLost];

    /// The cause as a metric's label.
    pub(crate) fn label(self) -> CauseLabel {
        let cause = match self {
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Flushed => "flushed",
            Self::SlotLost => "slot_lost",
        };
        CauseLabel { cause }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    cause: &'static str,
}
