//! What members must agree on to exchange values and claims (rule R11): each tells it in its record, and whoever reads the records compares.
//!
//! A difference is of one of three kinds. Of `replicas` the greatest that any member tells counts, for everybody ([`Ring::build`]): the ring
//! stays a function of the members alone, and the setting can be changed node by node. Another `protocol` or another number of slots can't be
//! reconciled: such a node does not join ([`conflict`]), and removals go to all nodes, one after the other, while one is a member
//! ([`Terms::are_plain`]). A group whose digest differs is not exchanged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Member, NodeId, Ring, SLOTS};

/// The version of what nodes and the sync service say to each other, and of how slots are given to nodes. Another number means: no values and no
/// claims between the two.
pub const PROTOCOL: u32 = 2;

/// What a member goes by. The default is that of a member of this version that tells nothing of its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The version of the protocol; 0 for a version that does not tell.
    #[serde(default)]
    pub protocol: u32,
    /// How many slots there are.
    #[serde(default)]
    pub slots: u16,
    /// `cluster.replicas`; 0: not told.
    #[serde(default)]
    pub replicas: usize,
    /// `node.mirror_lease` in milliseconds; 0: it grants no mirrors, or does not tell.
    #[serde(default)]
    pub mirror_lease_ms: u64,
    /// The digest of each group, by name.
    #[serde(default)]
    pub groups: Arc<BTreeMap<String, u64>>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { protocol: PROTOCOL, slots: SLOTS, replicas: 0, mirror_lease_ms: 0, groups: Arc::default() }
    }
}

impl Terms {
    /// Those of a member whose record, written by an older version, has none.
    pub fn untold() -> Self {
        Self { protocol: 0, slots: 0, ..Self::default() }
    }

    /// Whether a member that goes by these can be planned for as this version plans.
    pub fn are_plain(&self) -> bool {
        self.protocol == PROTOCOL && self.slots == SLOTS
    }

    /// How long mirrors are granted for; zero for not at all.
    pub fn mirror_lease(&self) -> Duration {
        Duration::from_millis(self.mirror_lease_ms)
    }
}

/// Why a node of this version can't be a member beside those of a ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {other} is a member and goes by {theirs}, this node by {ours}: values and removals can't be exchanged between the two; run \
     nodes of one version, or start this one when that node has left"
)]
pub struct Conflict {
    /// The member.
    pub other: NodeId,
    theirs: String,
    ours: String,
}

/// What keeps a node from joining the members of `ring`, if anything does. A member of an older version that tells no terms is none: it is
/// planned for as if it had confirmed nothing, and exchanges no values.
pub fn conflict(ring: &Ring, own: &NodeId) -> Option<Conflict> {
    let others = ring.members().iter().filter(|member| member.id != *own);
    let told = others.filter(|member| member.terms.protocol != 0);
    let other = told.into_iter().find(|member| !member.terms.are_plain())?;
    let words = |protocol, slots| format!("protocol {protocol} with {slots} slots");
    Some(Conflict {
        other: other.id.clone(),
        theirs: words(other.terms.protocol, other.terms.slots),
        ours: words(PROTOCOL, SLOTS),
    })
}

/// A setting on which the parties of a cluster differ, in words for a log and for `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which setting, as a label: `replicas`, `mirror_lease`, `groups`, `protocol`.
    pub what: &'static str,
    /// Who goes by what, what happens, and what to do.
    pub text: String,
}

/// All labels of [`Difference::what`].
pub const DIFFERENCES: [&str; 4] = ["protocol", "replicas", "mirror_lease", "groups"];

/// How the members of `ring` differ from `own`, one line a setting. `own` may leave settings untold, as the sync service does, which has no
/// mirrors.
pub fn differences(ring: &Ring, own: &Terms) -> Vec<Difference> {
    let mut found = Vec::new();
    let named = |differs: &dyn Fn(&Member) -> bool, value: &dyn Fn(&Terms) -> String| -> Option<String> {
        let all: Vec<_> = ring.members().iter().filter(|member| differs(member)).collect();
        let shown = all.iter().take(NAMED).map(|member| format!("{} on {}", value(&member.terms), member.id));
        let more = all.len().saturating_sub(NAMED);
        let list = shown.collect::<Vec<_>>().join(", ");
        (!list.is_empty()).then(|| if more > 0 { format!("{list} and {more} more") } else { list })
    };
    if let Some(others) = named(&|member| !member.terms.are_plain(), &|terms| match terms.protocol {
        0 => "an older version".to_owned(),
        protocol => format!("protocol {protocol}"),
    }) {
        let text = format!(
            "{others}, protocol {PROTOCOL} here: removals go to all nodes and values are not exchanged until all run one version"
        );
        found.push(Difference { what: "protocol", text });
    }
    if own.replicas > 0
        && let Some(others) =
            named(&|member| member.terms.replicas != 0 && member.terms.replicas != own.replicas, &|terms| {
                terms.replicas.to_string()
            })
    {
        let text = format!(
            "cluster.replicas is {} here and {others}: the greatest counts for all; set it alike everywhere",
            own.replicas
        );
        found.push(Difference { what: "replicas", text });
    }
    if own.mirror_lease_ms > 0
        && let Some(others) = named(
            &|member| {
                member.terms.mirror_lease_ms != 0 && member.terms.mirror_lease_ms != own.mirror_lease_ms
            },
            &|terms| format!("{:?}", terms.mirror_lease()),
        )
    {
        let text = format!(
            "node.mirror_lease is {:?} here and {others}: the shorter one counts between two nodes; set it alike on all",
            own.mirror_lease()
        );
        found.push(Difference { what: "mirror_lease", text });
    }
    if let Some(text) = groups(ring, own) {
        found.push(Difference { what: "groups", text });
    }
    found
}

/// Members, and groups, that a difference names; the rest is counted.
const NAMED: usize = 3;

fn groups(ring: &Ring, own: &Terms) -> Option<String> {
    if own.groups.is_empty() {
        return None;
    }
    let mut names = std::collections::BTreeSet::new();
    let mut nodes = Vec::new();
    for member in ring.members().iter().filter(|member| !member.terms.groups.is_empty()) {
        let theirs = &member.terms.groups;
        let all = own.groups.keys().chain(theirs.keys());
        let other: Vec<_> = all.filter(|name| own.groups.get(*name) != theirs.get(*name)).collect();
        if !other.is_empty() {
            nodes.push(member.id.as_str());
            names.extend(other.into_iter().map(String::as_str));
        }
    }
    let few = |all: Vec<&str>| {
        let more = all.len().saturating_sub(NAMED);
        let list = all.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        if more > 0 { format!("{list} and {more} more") } else { list }
    };
    (!nodes.is_empty()).then(|| {
        format!(
            "groups {} are declared otherwise on {}: values are not exchanged between the two, and a rule that the sync service lacks \
             removes nothing; give all nodes and the sync service one catalog",
            few(names.into_iter().collect()),
            few(nodes)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Epoch, MemberState};

    fn ring(terms: &[(&str, Terms)]) -> Ring {
        let member = |(id, terms): &(&str, Terms)| Member {
            id: (*id).into(),
            incarnation: 1,
            grpc: String::new(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: terms.clone(),
        };
        Ring::build(Epoch(7), terms.iter().map(member).collect(), 1)
    }

    fn groups_of(groups: &[(&str, u64)]) -> Arc<BTreeMap<String, u64>> {
        Arc::new(groups.iter().map(|(name, digest)| ((*name).to_owned(), *digest)).collect())
    }

    #[test]
    fn the_greatest_replicas_that_a_member_tells_count_for_everybody() {
        let told = |replicas| Terms { replicas, ..Terms::default() };
        assert_eq!(ring(&[("a", told(1)), ("b", told(2))]).replicas(), 2);
        assert_eq!(ring(&[("a", told(1)), ("b", told(1))]).replicas(), 1);
        let mixed = ring(&[("a", told(3)), ("b", Terms::untold())]);
        assert_eq!(mixed.replicas(), 3);
        let one_by_one = mixed.advance(Epoch(8), ring(&[("a", told(1)), ("b", told(1))]).members().to_vec());
        assert_eq!(one_by_one.replicas(), 1, "the last with more has left");
        assert_eq!(one_by_one.holders(crate::slot_of("k")).count(), 1);
    }

    #[test]
    fn another_protocol_keeps_a_node_out_and_an_older_version_does_not() {
        let other = Terms { protocol: PROTOCOL + 1, ..Terms::default() };
        let found = conflict(&ring(&[("a", Terms::default()), ("b", other.clone())]), &"a".into()).unwrap();
        assert!(found.to_string().contains("node b is a member and goes by protocol 3"), "{found}");
        assert_eq!(conflict(&ring(&[("a", Terms::default()), ("b", Terms::untold())]), &"a".into()), None);
        assert_eq!(conflict(&ring(&[("b", other)]), &"b".into()), None, "its own record from before");
    }

    #[test]
    fn differences_say_who_and_what_to_do() {
        let own = Terms {
            replicas: 1,
            mirror_lease_ms: 1000,
            groups: groups_of(&[("user", 1), ("order", 2)]),
            ..Terms::default()
        };
        assert_eq!(differences(&ring(&[("a", own.clone())]), &own), []);
        let b = Terms {
            replicas: 2,
            mirror_lease_ms: 5000,
            groups: groups_of(&[("user", 9), ("order", 2)]),
            ..own.clone()
        };
        let found = differences(&ring(&[("a", own.clone()), ("b", b), ("c", Terms::untold())]), &own);
        let texts: Vec<_> = found.iter().map(|difference| (difference.what, &*difference.text)).collect();
        assert_eq!(
            found.iter().map(|difference| difference.what).collect::<Vec<_>>(),
            DIFFERENCES,
            "{texts:?}"
        );
        assert!(found[0].text.contains("an older version on c"), "{texts:?}");
        assert!(found[1].text.contains("is 1 here and 2 on b"), "{texts:?}");
        assert!(found[2].text.contains("is 1s here and 5s on b"), "{texts:?}");
        assert!(found[3].text.contains("groups user are declared otherwise on b"), "{texts:?}");
        let sync = Terms { replicas: 2, ..Terms::default() };
        let found = differences(&ring(&[("a", own)]), &sync);
        assert_eq!(found.len(), 1, "who tells no groups and no mirrors differs in none: {found:?}");
    }

    #[test]
    fn terms_of_a_record_without_them_are_untold() {
        let read: Terms = serde_json::from_str("{}").unwrap();
        assert_eq!(read, Terms::untold());
        let whole = Terms { replicas: 2, groups: groups_of(&[("user", u64::MAX)]), ..Terms::default() };
        assert_eq!(serde_json::from_str::<Terms>(&serde_json::to_string(&whole).unwrap()).unwrap(), whole);
    }
}
