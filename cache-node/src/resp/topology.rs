//! The ring as Redis Cluster's clients are told it.
//!
//! Every node is a master of the slots that it owns. Replicas are not told: a node is a replica of some slots and the owner of
//! others, which a Redis cluster can't say; a client that wants to read from one just asks it. Slots whose owner serves no Redis
//! clients are told as this node's, which fetches their keys.

use std::sync::Arc;

use parking_lot::Mutex;
use ring::{Epoch, Member, MemberState, NodeId, Ring, Slot};

/// One node with its slots.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// 40 hexadecimal digits, as Redis Cluster's ids are.
    pub(crate) id: String,
    pub(crate) name: NodeId,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// First and last slot of each range.
    pub(crate) ranges: Vec<(u16, u16)>,
    /// Whether it is the node that answers.
    pub(crate) own: bool,
}

/// The ring at one epoch.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) epoch: Epoch,
    pub(crate) seats: Vec<Seat>,
}

/// The last topology that was made.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Option<Arc<Topology>>>);

impl Cache {
    pub(crate) fn of(&self, ring: &Ring, own: &NodeId, fallback: &str) -> Arc<Topology> {
        let mut cached = self.0.lock();
        match &*cached {
            Some(topology) if topology.epoch == ring.epoch() => topology.clone(),
            _ => {
                let made = Arc::new(Topology::of(ring, own, fallback));
                *cached = Some(made.clone());
                made
            }
        }
    }
}

impl Topology {
    /// `fallback` is where this node is reached, should the ring not say.
    fn of(ring: &Ring, own: &NodeId, fallback: &str) -> Self {
        let told = |member: &&Member| {
            !member.resp.is_empty() && member.state == MemberState::Active && member.id != *own
        };
        let mut seats: Vec<Seat> =
            ring.members().iter().filter(told).map(|member| seat(member, false)).collect();
        let listed = ring.member(own).map(|member| member.resp.as_str()).filter(|resp| !resp.is_empty());
        let (host, port) = host_port(listed.unwrap_or(fallback));
        seats.push(Seat { id: hex_id(own), name: own.clone(), host, port, ranges: Vec::new(), own: true });
        let here = seats.len() - 1;
        for slot in Slot::all() {
            let owner = ring.owner(slot);
            let at =
                owner.and_then(|owner| seats.iter().position(|seat| seat.name == owner.id)).unwrap_or(here);
            let ranges = &mut seats[at].ranges;
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot.get() => *last = slot.get(),
                _ => ranges.push((slot.get(), slot.get())),
            }
        }
        Self { epoch: ring.epoch(), seats }
    }
}

fn seat(member: &Member, own: bool) -> Seat {
    let (host, port) = host_port(&member.resp);
    Seat { id: hex_id(&member.id), name: member.id.clone(), host, port, ranges: Vec::new(), own }
}

/// The parts of `host:port`; an IPv6 address loses its brackets, as Redis writes it.
pub(crate) fn host_port(text: &str) -> (String, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().unwrap_or(0))
}

/// The id that a node has for Redis Cluster's clients: made of its name, the same everywhere.
pub(crate) fn hex_id(id: &NodeId) -> String {
    let bytes = id.as_str().as_bytes();
    let (high, low) = (xxhash_rust::xxh3::xxh3_128(bytes), xxhash_rust::xxh3::xxh3_64_with_seed(bytes, 1));
    format!("{high:032x}{:08x}", low >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, resp: &str) -> Member {
        Member {
            id: id.into(),
            incarnation: 1,
            grpc: String::new(),
            http: String::new(),
            resp: resp.into(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        }
    }

    #[test]
    fn every_slot_is_told_once_and_those_of_silent_nodes_as_the_answering_ones() {
        let members = vec![member("a", "a:1"), member("b", "[::1]:2"), member("c", "")];
        let ring = Ring::build(Epoch(1), members, 1);
        let topology = Topology::of(&ring, &"a".into(), "");
        let slots: usize = topology
            .seats
            .iter()
            .flat_map(|seat| &seat.ranges)
            .map(|(first, last)| usize::from(last - first) + 1)
            .sum();
        assert_eq!(slots, 16384);
        let [b, a] = &topology.seats[..] else { panic!("two nodes serve Redis clients") };
        assert_eq!((b.host.as_str(), b.port, a.host.as_str(), a.own), ("::1", 2, "a", true));
        let of = |seat: &Seat| {
            seat.ranges.iter().map(|(first, last)| usize::from(last - first) + 1).sum::<usize>()
        };
        assert_eq!(of(b), ring.owned_by(&"b".into()));
        assert_eq!(of(a), ring.owned_by(&"a".into()) + ring.owned_by(&"c".into()));
        assert_eq!(hex_id(&"a".into()).len(), 40);
    }
}
