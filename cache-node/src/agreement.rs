//! What this node goes by where members must agree, and what it notices of others that go by something else (R11).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catalog::Catalog;
use client::identity::Answering;
use daemon::admin::Warnings;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use ring::{Epoch, Ring, Terms, terms};

use crate::{config::Config, node::Node};

/// How long a caller of another membership is spoken of after its last call.
const LASTING: Duration = Duration::from_mins(1);

/// What a node with these settings tells others in its record.
pub(crate) fn terms(config: &Config, catalog: &Catalog, replicas: usize) -> Terms {
    let digests = catalog.groups().iter().map(|group| (group.name.to_string(), group.digest));
    Terms {
        replicas,
        mirror_lease_ms: u64::try_from(config.mirror_lease.as_millis()).unwrap_or(u64::MAX),
        groups: Arc::new(digests.collect::<BTreeMap<_, _>>()),
        ..Terms::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct What {
    what: &'static str,
}

/// One node's view of what its cluster agrees on.
#[derive(Debug)]
pub(crate) struct Agreement {
    own: Terms,
    answering: Answering,
    warnings: Warnings,
    differences: Family<What, Gauge>,
    other_memberships: Counter,
    misdirected: Counter,
}

impl Agreement {
    pub(crate) fn register(own: Terms, answering: Answering, registry: &mut Registry) -> Self {
        let differences = Family::<What, Gauge>::default();
        for what in terms::DIFFERENCES {
            drop(differences.get_or_create(&What { what }));
        }
        let (other_memberships, misdirected) = (Counter::default(), Counter::default());
        registry.register(
            "differences",
            "1 while a member goes by another value of a setting on which members must agree, by setting",
            differences.clone(),
        );
        registry.register(
            "other_memberships",
            "Calls under an epoch of another list of members than this node's; they are refused",
            other_memberships.clone(),
        );
        registry.register(
            "misdirected_calls",
            "Calls that were meant for another node or another cluster; they are refused",
            misdirected.clone(),
        );
        Self { own, answering, warnings: Warnings::new(), differences, other_memberships, misdirected }
    }

    /// Compares the members of a new ring with this node.
    pub(crate) fn compare(&self, ring: &Ring) {
        let mut found: BTreeMap<_, _> = terms::differences(ring, &self.own)
            .into_iter()
            .map(|difference| (difference.what, difference.text))
            .collect();
        for what in terms::DIFFERENCES {
            let text = found.remove(what);
            self.differences.get_or_create(&What { what }).set(i64::from(text.is_some()));
            self.warnings.set(what, text);
        }
    }

    /// Takes note of a call under the epoch of another membership.
    pub(crate) fn other_membership(&self, asked: Epoch, own: Epoch) {
        self.other_memberships.inc();
        let text = format!(
            "asked to go by epoch {asked} where this node is at {own}, of another list of members: cluster.members (ids and weights) \
             and cluster.replicas must be the same for all nodes and the sync service, or all use etcd; nothing is acknowledged to the \
             caller"
        );
        self.warnings.note("members", text, LASTING);
    }

    /// Takes note of the epoch of a node that has answered.
    pub(crate) fn heard(&self, told: Epoch, own: Epoch) {
        if !told.is_of_same_history(own) {
            let text = format!(
                "another node goes by epoch {told}, of another list of members than this node's ({own}): if the sync service goes by that \
                 list too, it tells this node of no change; cluster.members (ids and weights) and cluster.replicas must be the same for all"
            );
            self.warnings.note("members", text, LASTING);
        }
    }

    /// Shows how many calls were meant for others.
    pub(crate) fn publish(&self) {
        let refused = self.answering.refused();
        let news = refused.saturating_sub(self.misdirected.get());
        if news > 0 {
            self.misdirected.inc_by(news);
            let text = format!(
                "{refused} calls came here that were meant for another node or cluster: is an address of a member that is gone in use \
                 again, or cluster.name not the same everywhere?"
            );
            self.warnings.note("misdirected", text, LASTING);
        }
    }
}

impl Node {
    /// The name of this node's cluster; empty if it was started without.
    pub fn cluster(&self) -> &str {
        self.peers.cluster()
    }

    /// What this node knows that a person should: parties of its cluster that go by other settings.
    pub fn warnings(&self) -> &Warnings {
        &self.agreement.warnings
    }

    /// What a person should know of the server behind the database.
    pub fn database_warnings(&self) -> Warnings {
        self.loader.source().warnings()
    }

    /// Who answers here, for the services.
    pub(crate) fn answering(&self) -> &Answering {
        &self.agreement.answering
    }

    /// How this node declares the group of a key; 0 for none.
    pub(crate) fn group_digest(&self, key: &str) -> u64 {
        self.catalog.resolve(key).map_or(0, |key| key.group.digest)
    }
}
