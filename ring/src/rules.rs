//! Switches that take one rule of the freshness protocol out, for the tests that show that it is needed.
//!
//! Each rule is asked for at exactly one place of the real code. Without the feature `rule-switches`, which no released binary has, every
//! rule holds and the question costs nothing.

/// A rule that a test may take out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// A fill shows the token that it took before its read.
    Token,
    /// A removal ends the sharing of fills that began before it.
    Sharing,
    /// While a live node has not confirmed the epoch, removals go to all live nodes.
    Everyone,
    /// A removal of a tag goes to all nodes that hold slots, not to the holders of one.
    Tags,
    /// Removals go in phases, each acknowledged before the next.
    Phases,
    /// A node stops serving the slots that it lost.
    Leaving,
    /// A node serves from memory only while its lease is provably alive.
    Fencing,
    /// An offset is committed only after every change before it is acknowledged.
    CommitLast,
    /// An owner acknowledges a removal only when its mirrors have, or their leases are over; and ends them before it confirms.
    Mirrors,
    /// An owner orders plain writes only when all members go by its ring.
    PlainAttended,
}

impl Rule {
    /// All that values of rows rest on.
    pub const ALL: [Self; 9] = [
        Self::Token,
        Self::Sharing,
        Self::Everyone,
        Self::Tags,
        Self::Phases,
        Self::Leaving,
        Self::Fencing,
        Self::CommitLast,
        Self::Mirrors,
    ];

    /// Those that plain groups rest on, besides.
    pub const PLAIN: [Self; 1] = [Self::PlainAttended];

    /// Its name in the design: `R1`, `R3` ... R4 has two parts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "R1",
            Self::Sharing => "R3",
            Self::Everyone => "R4-everyone",
            Self::Tags => "R4-tags",
            Self::Phases => "R4-phases",
            Self::Leaving => "R5",
            Self::Fencing => "R6",
            Self::CommitLast => "R7",
            Self::Mirrors => "mirrors",
            Self::PlainAttended => "plain-attended",
        }
    }
}

/// Whether `rule` holds on this thread. Always, but in a test that has taken it out.
#[cfg(not(feature = "rule-switches"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "it must vanish from the paths that ask it")]
pub const fn holds(_rule: Rule) -> bool {
    true
}

#[cfg(feature = "rule-switches")]
pub use switches::{holds, take_out};

#[cfg(feature = "rule-switches")]
mod switches {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static OUT: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// Whether `rule` holds on this thread. Always, but in a test that has taken it out.
    pub fn holds(rule: Rule) -> bool {
        OUT.get() != Some(rule)
    }

    /// Takes one rule out on this thread, or none.
    pub fn take_out(rule: Option<Rule>) {
        OUT.set(rule);
    }
}
