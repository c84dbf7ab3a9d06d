//! The real decisions, asked about a moment of the model.
//!
//! The model keeps of a token only what has become of it since. Here that is turned back into the numbers and times that the
//! real functions take. Time is the only thing with a scale of its own: a quarantine lasts 100 ms, and what happened within it
//! happened 50 ms ago.

use std::sync::LazyLock;
use std::time::Duration;

use memory::gate::{Logged, Refused, Token, View, may_store, not_ended, not_overtaken};
use memory::protocol::{self, PullRefused, Standing};
use ring::Epoch;
use tokio::time::Instant;

use super::state::{Entry, Fetch, Node, Tag};

const QUARANTINE: Duration = Duration::from_millis(100);
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The acquisition of now, and one that has ended.
const ACQUISITION: u64 = 5;
const ENDED: u64 = 4;

fn at(ms: u64) -> Instant {
    *ZERO + Duration::from_millis(ms)
}

fn epoch(epoch: u8) -> Epoch {
    Epoch(u64::from(epoch))
}

fn standing(node: &Node) -> Standing {
    Standing { live: node.live, epoch: epoch(node.view), confirmed: epoch(node.confirmed) }
}

/// The numbers of tags' removals: the one that tokens and entries know, and the next.
const KNOWN: u64 = 4;
const NEXT: u64 = 5;

/// All that can matter to the gate: live, held, removed, lost, after a removal, after an acquisition; and of the tag: removed, after a removal,
/// that removal forgotten.
struct Case([bool; 9]);

impl Case {
    fn new(node: &Node, holds: bool, fetch: Fetch) -> Self {
        let Fetch { removed, lost, tagged, after_removal, after_acquisition, after_tag, .. } = fetch;
        let of_key = [node.live, holds, removed, lost, after_removal, after_acquisition];
        let of_tag = [tagged, after_tag, node.forgot];
        Self(std::array::from_fn(|at| if at < 6 { of_key[at] } else { of_tag[at - 6] }))
    }

    fn number(&self) -> usize {
        self.0.iter().fold(0, |number, &is| number << 1 | usize::from(is))
    }

    fn of_number(number: usize) -> Self {
        Self([8, 7, 6, 5, 4, 3, 2, 1, 0].map(|bit| number >> bit & 1 == 1))
    }
}

/// What the gate is shown, and what it knows.
fn shown(case: &Case) -> (Token, View) {
    let &Case([live, holds, removed, lost, after_removal, after_acquisition, tagged, after_tag, forgot]) =
        case;
    let acquisition = if lost { ENDED } else { ACQUISITION };
    let token = Token { seq: 7, started: at(1000), generation: 1, acquisition, tags: KNOWN };
    let removed = if removed {
        Logged { seq: 8, at: at(1050) }
    } else {
        Logged { seq: 7, at: at(if after_removal { 950 } else { 0 }) }
    };
    let tagged = if tagged {
        Logged { seq: NEXT, at: at(1050) }
    } else {
        Logged { seq: KNOWN, at: at(if after_tag { 950 } else { 0 }) }
    };
    let view = View {
        removed: Some(removed),
        forgotten: None,
        generation: 1,
        flushed: None,
        acquired: holds.then(|| (ACQUISITION, at(if after_acquisition { 950 } else { 0 }))),
        live,
        tagged: (!forgot).then_some(tagged),
        tags_forgotten: forgot.then_some(tagged),
    };
    (token, view)
}

/// The gate's verdicts on a fill and on a pull, for each [`Case`]: asked once, since a search asks millions of times.
type Verdicts = [(Result<(), Refused>, Result<(), Refused>); 512];
static VERDICTS: LazyLock<Verdicts> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let (token, view) = shown(&Case::of_number(number));
        (may_store(&token, &view, QUARANTINE), not_overtaken(&token, &view))
    })
});

/// Whether the gate lets a fill in.
pub(crate) fn stores_fill(node: &Node, holds: bool, fetch: Fetch) -> Result<(), Refused> {
    VERDICTS[Case::new(node, holds, fetch).number()].0
}

/// Whether the gate lets a pull in, as far as the token goes.
pub(crate) fn stores_pull(node: &Node, holds: bool, fetch: Fetch) -> Result<(), Refused> {
    VERDICTS[Case::new(node, holds, fetch).number()].1
}

/// Whether an entry is valid though its tag was removed or not: for removed, forgotten and swept.
static STANDS: LazyLock<[bool; 8]> = LazyLock::new(|| {
    std::array::from_fn(|number| {
        let [removed, forgot, swept] = [2, 1, 0].map(|bit| number >> bit & 1 == 1);
        let last = Logged { seq: if removed { NEXT } else { KNOWN }, at: at(1000) };
        let looked_at = if swept { last.seq } else { 0 };
        not_ended(KNOWN, (!forgot).then_some(last), forgot.then_some(last), looked_at).is_ok()
    })
});

/// Whether no removal of its tag has ended the entry, as far as the node knows.
pub(crate) fn stands(node: &Node, entry: Entry) -> bool {
    let number = [entry.tag == Tag::Removed, node.forgot, node.swept];
    STANDS[number.iter().fold(0, |number, &is| number << 1 | usize::from(is))]
}

/// Whether the node may take what it asked for.
pub(crate) fn takes(node: &Node, asked: u8) -> Result<(), PullRefused> {
    protocol::may_take_pull(standing(node), epoch(asked))
}

/// Whether the node may answer one that asks at epoch `asked`.
pub(crate) fn answers(node: &Node, asked: u8) -> Result<(), PullRefused> {
    protocol::may_answer_pull(standing(node), epoch(asked))
}

/// Whether the owner may grant a mirror of its entry to one that asks at epoch `asked`.
pub(crate) fn grants(owner: &Node, owns: bool, asked: u8, entry: Entry) -> Result<(), PullRefused> {
    protocol::may_grant(standing(owner), epoch(asked), owns.then_some(ACQUISITION), stored_under(entry))
}

/// Whether the node may serve its mirror.
pub(crate) fn serves_mirror(node: &Node, holds: bool, same_owner: bool) -> bool {
    protocol::may_serve_mirror(node.live, holds, same_owner)
}

/// Whether the node may serve the entry to a reader.
pub(crate) fn serves(node: &Node, holds: bool, entry: Entry) -> bool {
    protocol::may_serve(standing(node), holds.then_some(ACQUISITION), stored_under(entry))
}

/// Whether the node may give the entry to one that pulls it.
pub(crate) fn gives(node: &Node, owns: bool, entry: Entry) -> bool {
    let departing_under = if node.giving { Some(ACQUISITION) } else { entry.departing.then_some(ENDED) };
    protocol::may_give(departing_under, owns.then_some(ACQUISITION), stored_under(entry))
}

fn stored_under(entry: Entry) -> u64 {
    if entry.departing { ENDED } else { ACQUISITION }
}
