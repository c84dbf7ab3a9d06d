//! Who the members are, and a node's place among them: by the etcd that stands in for the real one, or by a fixed list that everybody has.

use std::sync::Arc;

use ring::{Member, MemberState, Membership, NodeId, Registration, Ring, fixed::Fixed};

use crate::{
    clock::Party,
    etcd::View,
    registration::Lease,
    scenario::{NODES, Scenario},
    world::Shared,
};

/// A node as it registers, or as it stands on the list.
pub(crate) fn member(party: Party) -> Member {
    Member {
        id: NodeId::from(party.to_string()),
        incarnation: 0,
        grpc: format!("http://{party}:7400"),
        http: format!("http://{party}:7401"),
        resp: String::new(),
        weight: 1,
        state: MemberState::Joining,
        terms: ring::Terms::default(),
    }
}

/// The list, if the scenario has one. Made once: placing slots costs more than all the rest.
pub(crate) fn list(scenario: &Scenario) -> Option<Fixed> {
    let members = || (1..=NODES).map(|number| member(Party::Node(number))).collect();
    scenario.fixed.then(|| Fixed::new(members(), scenario.replicas))
}

/// What a party knows of the members: the list, as from a file, or a view that can lag.
pub(crate) fn view(shared: &Shared, party: Party) -> Arc<dyn Membership> {
    match &shared.list {
        Some(list) => Arc::new(list.clone()),
        None => View::new(&shared.etcd, party),
    }
}

/// A node's place. Must be called in the node's runtime.
pub(crate) fn registration(shared: &Shared, party: Party) -> Arc<dyn Registration> {
    if let Some(list) = &shared.list {
        let id = NodeId::from(party.to_string());
        return Arc::new(list.registration(&id).expect("it is on the list"));
    }
    Lease::begin(party, member(party), shared.etcd.clone(), shared.network.clone())
}

/// The members now, as nobody in the simulation can know them.
pub(crate) fn ring(shared: &Shared) -> Arc<Ring> {
    shared.list.as_ref().map_or_else(|| shared.etcd.ring(), Membership::ring)
}
