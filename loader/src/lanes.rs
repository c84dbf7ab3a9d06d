//! Keys that wait for the budget, one lane per group.

use std::collections::{BTreeMap, HashMap};

use catalog::{GroupId, Key};
use tokio::{sync::oneshot, time::Instant};

use crate::{Error, Loaded};

/// What a waiting caller is answered.
pub(crate) type Answer = Result<Loaded, Error>;

/// A caller that waits for its key.
pub(crate) struct Waiter {
    pub(crate) key: Key,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// A caller's place in its lane, by which it can leave.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    group: GroupId,
    number: u64,
}

/// All waiting callers. At most one dispatcher per lane waits for the budget, so groups take turns however long their lanes are.
#[derive(Default)]
pub(crate) struct Lanes {
    groups: HashMap<GroupId, Lane>,
    waiting: usize,
    next: u64,
}

#[derive(Default)]
struct Lane {
    waiters: BTreeMap<u64, Waiter>,
    dispatcher: bool,
}

impl Lanes {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Makes room for a waiter of `group` among as many as there may be: the longest lane gives up its newest waiter, who is answered
    /// `error`. False if the group's own lane would be the longest: its storm shall not cost others their places.
    pub(crate) fn make_room(&mut self, group: GroupId, error: &Error) -> bool {
        let own = self.groups.get(&group).map_or(0, |lane| lane.waiters.len());
        let longest = self.groups.values_mut().max_by_key(|lane| lane.waiters.len());
        let Some(longest) = longest.filter(|lane| lane.waiters.len() > own + 1) else { return false };
        if let Some((_, newest)) = longest.waiters.pop_last() {
            self.waiting -= 1;
            // A caller that went away meanwhile needs no answer.
            let _ = newest.reply.send(Err(error.clone()));
        }
        true
    }

    /// Adds a waiter at the end of its group's lane; `true` if the lane needs a dispatcher.
    pub(crate) fn join(&mut self, waiter: Waiter) -> (Place, bool) {
        let group = waiter.key.group.id;
        let number = self.next;
        self.next += 1;
        self.waiting += 1;
        let lane = self.groups.entry(group).or_default();
        lane.waiters.insert(number, waiter);
        (Place { group, number }, !std::mem::replace(&mut lane.dispatcher, true))
    }

    /// Takes a waiter out whose caller went away; one that was taken already is left alone.
    pub(crate) fn leave(&mut self, place: Place) {
        if self.groups.get_mut(&place.group).is_some_and(|lane| lane.waiters.remove(&place.number).is_some())
        {
            self.waiting -= 1;
        }
    }

    /// Takes up to `most` waiters from the front of a lane; `true` if some are left, and the dispatcher must stay.
    pub(crate) fn take(&mut self, group: GroupId, most: usize) -> (Vec<Waiter>, bool) {
        let Some(lane) = self.groups.get_mut(&group) else { return (Vec::new(), false) };
        let mut taken = Vec::with_capacity(most.min(lane.waiters.len()));
        while taken.len() < most {
            let Some((_, waiter)) = lane.waiters.pop_first() else { break };
            taken.push(waiter);
        }
        self.waiting -= taken.len();
        lane.dispatcher = !lane.waiters.is_empty();
        (taken, lane.dispatcher)
    }
}
