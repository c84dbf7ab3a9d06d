//! Who is called and who answers: addresses pass from one node to another, and from one cluster to another.
//!
//! A call says whom it is meant for, in the header [`TO`]; every reply says who answered, in [`FROM`]; both are `CLUSTER/NODE`. The node that is
//! called refuses what is meant for another one, and the caller believes nobody else than it has called. *A node's address is given to a node of
//! another cluster, which has the same groups: reads that are forwarded there return its rows, and removals that it acknowledges have
//! reached nobody.*

mod answering;

use std::sync::{Arc, OnceLock};

use ring::NodeId;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

pub use self::answering::{Answered, Answering};
use crate::Error;

/// The header of a call that says whom it is meant for.
pub const TO: &str = "freshline-to";
/// The header of a reply that says who answered.
pub const FROM: &str = "freshline-from";

/// The cluster that is called, as far as it is known: configured, or as the first node told that was asked for its ring.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterName(Arc<OnceLock<String>>);

impl ClusterName {
    pub(crate) fn new(configured: &str) -> Self {
        let name = Self::default();
        name.learn(configured);
        name
    }

    /// Takes the name if none is known yet; whether it is the name now.
    pub(crate) fn learn(&self, name: &str) -> bool {
        name.is_empty() || self.0.get_or_init(|| name.to_owned()) == name
    }

    pub(crate) fn get(&self) -> &str {
        self.0.get().map_or("", String::as_str)
    }
}

/// Whom the calls of one connection are meant for.
#[derive(Debug)]
pub(crate) struct Callee {
    cluster: ClusterName,
    /// `None` at an address of which only a ring is asked, and that any node may have.
    node: Option<NodeId>,
    header: OnceLock<Option<MetadataValue<Ascii>>>,
}

impl Callee {
    pub(crate) fn new(cluster: ClusterName, node: Option<NodeId>) -> Self {
        Self { cluster, node, header: OnceLock::new() }
    }

    /// Writes into a call whom it is meant for.
    pub(crate) fn address(&self, call: &mut MetadataMap) {
        let Some(node) = &self.node else { return };
        let header = || MetadataValue::try_from(format!("{}/{node}", self.cluster.get())).ok();
        // The cluster's name may be learnt after the first call; until then it is left empty, and not remembered so.
        let value = match self.cluster.get() {
            "" => header(),
            _ => self.header.get_or_init(header).clone(),
        };
        if let Some(value) = value {
            call.insert(TO, value);
        }
    }

    /// Checks who has answered.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it is not the one that was called: what it says is of no worth.
    pub(crate) fn check(&self, reply: &MetadataMap, address: &str) -> Result<(), Error> {
        if self.node.is_none() && self.cluster.get().is_empty() {
            return Ok(());
        }
        let from = reply.get(FROM).and_then(|from| from.to_str().ok());
        let Some((cluster, node)) = from.and_then(|from| from.rsplit_once('/')) else {
            return Err(self.strange(format!(
                "who answers at {address} does not say which node it is: no freshline node, or one of an older version"
            )));
        };
        let right_cluster = [cluster, ""].contains(&self.cluster.get());
        let right_node = self.node.as_ref().is_none_or(|wanted| wanted.as_str() == node);
        if right_cluster && right_node {
            return Ok(());
        }
        Err(self.strange(if right_cluster {
            format!("node {node} answers at its address {address}")
        } else {
            let meant = self.cluster.get();
            format!("node {node} of cluster {cluster} answers at its address {address}, and cluster {meant} was meant")
        }))
    }

    /// As [`check`](Self::check), of an answer that is an error: one that says nothing comes from something in between.
    pub(crate) fn check_error(&self, reply: &MetadataMap, address: &str) -> Result<(), Error> {
        if reply.get(FROM).is_some() { self.check(reply, address) } else { Ok(()) }
    }

    fn strange(&self, reason: String) -> Error {
        let node = self.node.as_ref().map_or_else(String::new, NodeId::to_string);
        Error::Unavailable { node, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(from: &str) -> MetadataMap {
        let mut reply = MetadataMap::new();
        reply.insert(FROM, from.parse().unwrap());
        reply
    }

    #[test]
    fn only_the_node_that_was_called_is_believed() {
        let callee = Callee::new(ClusterName::new("shop"), Some("a".into()));
        let mut call = MetadataMap::new();
        callee.address(&mut call);
        assert_eq!(call.get(TO).unwrap(), "shop/a");
        assert_eq!(callee.check(&reply("shop/a"), "x"), Ok(()));
        for other in ["shop/b", "other/a", "other/b", "a"] {
            let error = callee.check(&reply(other), "http://10.0.0.1:7400").unwrap_err();
            assert!(error.is_transient() && error.to_string().contains("10.0.0.1"), "{error}");
        }
        assert!(callee.check(&MetadataMap::new(), "x").is_err(), "who says nothing is nobody");
        assert_eq!(callee.check_error(&MetadataMap::new(), "x"), Ok(()), "an error of a proxy");
        assert!(callee.check_error(&reply("other/a"), "x").is_err());
    }

    #[test]
    fn the_cluster_is_the_first_that_answers_where_none_is_configured() {
        let cluster = ClusterName::new("");
        let (seed, member) =
            (Callee::new(cluster.clone(), None), Callee::new(cluster.clone(), Some("a".into())));
        let mut call = MetadataMap::new();
        seed.address(&mut call);
        assert!(call.get(TO).is_none());
        assert_eq!(seed.check(&MetadataMap::new(), "x"), Ok(()));
        member.address(&mut call);
        assert_eq!(call.get(TO).unwrap(), "/a");
        assert_eq!(member.check(&reply("any/a"), "x"), Ok(()));
        assert!(cluster.learn("shop") && !cluster.learn("other") && cluster.learn("shop"));
        member.address(&mut call);
        assert_eq!(call.get(TO).unwrap(), "shop/a");
        assert!(member.check(&reply("any/a"), "x").is_err() && seed.check(&reply("any/b"), "x").is_err());
        assert_eq!(seed.check(&reply("shop/b"), "x"), Ok(()), "any node of the cluster tells the ring");
    }
}
