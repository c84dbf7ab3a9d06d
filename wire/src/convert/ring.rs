//! The ring, as nodes tell it to clients without a membership of their own.

use proto::v1;
use ring::{Epoch, Member, MemberState, NodeId, Ring};

/// A member in a state of a later version counts as joining: it gets removals and holds nothing.
fn member(member: v1::Member) -> Member {
    Member {
        id: NodeId::from(member.id),
        incarnation: member.incarnation,
        grpc: member.grpc,
        http: member.http,
        resp: member.resp,
        weight: member.weight,
        state: member.state.parse().unwrap_or(MemberState::Joining),
        terms: ring::Terms::default(),
    }
}

/// The ring that a node told; built here, since same members give the same ring everywhere.
pub fn ring_of_reply(reply: v1::RingReply) -> Ring {
    let members = reply.members.into_iter().map(member).collect();
    Ring::build(Epoch(reply.epoch), members, reply.replicas as usize)
}

/// A ring as a node tells it; `node`, of `cluster`, is who answers.
pub fn ring_reply(cluster: &str, node: &str, ring: &Ring) -> v1::RingReply {
    v1::RingReply {
        epoch: ring.epoch().0,
        members: ring
            .members()
            .iter()
            .map(|member| v1::Member {
                id: member.id.to_string(),
                incarnation: member.incarnation,
                grpc: member.grpc.clone(),
                http: member.http.clone(),
                resp: member.resp.clone(),
                weight: member.weight,
                state: member.state.to_string(),
            })
            .collect(),
        replicas: u32::try_from(ring.replicas()).unwrap_or(u32::MAX),
        node: node.to_owned(),
        cluster: cluster.to_owned(),
    }
}
