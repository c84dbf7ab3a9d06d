//! Which way each key goes.

use std::sync::Arc;

use parking_lot::Mutex;
use ring::plan::Plan;
use ring::rules::{self, Rule};
use ring::{Epoch, NodeId, Ring, SLOTS, slot_of};

use super::payload::Payload;

/// Phases in their order; each is acknowledged as a whole before the next is sent.
pub(super) type Route = Arc<[Vec<NodeId>]>;

/// Keys, tags and groups that go the same way.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) route: Route,
    pub(super) payload: Arc<Payload>,
}

/// Plans paths; keeps the routes of the last ring, since batches are many and rings few.
#[derive(Default)]
pub(super) struct Planner {
    /// Guards the cache; held while one batch's keys are sorted to their routes.
    routes: Mutex<Option<Routes>>,
}

struct Routes {
    ring: Arc<Ring>,
    settled: bool,
    /// Index into `known` by slot; [`UNKNOWN`] where it has not been worked out.
    by_slot: Box<[u16]>,
    known: Vec<Route>,
}

const UNKNOWN: u16 = u16::MAX;

impl Planner {
    /// Sorts keys, tags and groups into paths. Every one of them is on exactly one path; a path without phases is one that
    /// nobody has to acknowledge.
    pub(super) fn paths(
        &self,
        ring: &Arc<Ring>,
        confirmed: &dyn Fn(&NodeId) -> Option<Epoch>,
        keys: Vec<Arc<str>>,
        tags: Vec<Arc<str>>,
        groups: Vec<Arc<str>>,
    ) -> Vec<Path> {
        let plan = Plan::new(ring, confirmed);
        let settled = plan.everyone().is_none();
        let mut paths = Vec::new();
        let (tags, misled) = if rules::holds(Rule::Tags) { (tags, Vec::new()) } else { (Vec::new(), tags) };
        for tag in misled {
            let route = plan.phases(slot_of(&tag)).into();
            paths.push(Path { route, payload: Payload::new(Vec::new(), vec![tag], []) });
        }
        if !groups.is_empty() || !tags.is_empty() {
            let payload = Payload::new(Vec::new(), tags, groups);
            paths.push(Path { route: plan.flush_phases().into(), payload });
        }
        let mut cache = self.routes.lock();
        if !cache.as_ref().is_some_and(|routes| Arc::ptr_eq(&routes.ring, ring) && routes.settled == settled)
        {
            let by_slot = vec![UNKNOWN; usize::from(SLOTS)].into_boxed_slice();
            *cache = Some(Routes { ring: ring.clone(), settled, by_slot, known: Vec::new() });
        }
        let routes = cache.as_mut().expect("it was just filled");
        let mut by_route: Vec<Vec<Arc<str>>> = Vec::new();
        for key in keys {
            let route = usize::from(routes.of(&key, &plan));
            if by_route.len() <= route {
                by_route.resize_with(route + 1, Vec::new);
            }
            by_route[route].push(key);
        }
        for (route, keys) in by_route.into_iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            paths.push(Path {
                route: routes.known[route].clone(),
                payload: Payload::new(keys, Vec::new(), []),
            });
        }
        paths
    }
}

impl Routes {
    fn of(&mut self, key: &str, plan: &Plan<'_>) -> u16 {
        let slot = slot_of(key);
        let known = &mut self.by_slot[usize::from(slot.get())];
        if *known == UNKNOWN {
            let phases = plan.phases(slot);
            let at = self.known.iter().position(|route| **route == *phases).unwrap_or_else(|| {
                self.known.push(phases.into());
                self.known.len() - 1
            });
            // There are fewer routes than slots.
            *known = u16::try_from(at).unwrap_or(UNKNOWN - 1);
        }
        *known
    }
}
