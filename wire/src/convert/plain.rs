//! Writes of plain groups.

use std::time::Duration;

use proto::v1;
use ring::{Epoch, NodeId};

use crate::{HolderToken, Kept, Lifetime, Only, Ordered, Put, Written, time::to_millis};

impl From<Put> for v1::PlainPut {
    fn from(put: Put) -> Self {
        let ttl_ms = match put.lifetime {
            Lifetime::For(ttl) => to_millis(ttl).max(1),
            Lifetime::Group | Lifetime::Keep => 0,
        };
        Self {
            value: put.value,
            ttl_ms,
            keep_ttl: put.lifetime == Lifetime::Keep,
            only_if_absent: put.only == Only::IfAbsent,
            only_if_present: put.only == Only::IfPresent,
        }
    }
}

impl From<v1::PlainPut> for Put {
    /// Both conditions at once are one that never holds; the first counts, and the second makes it no worse.
    fn from(put: v1::PlainPut) -> Self {
        let lifetime = match (put.keep_ttl, put.ttl_ms) {
            (true, _) => Lifetime::Keep,
            (false, 0) => Lifetime::Group,
            (false, ttl) => Lifetime::For(Duration::from_millis(ttl)),
        };
        let only = match (put.only_if_absent, put.only_if_present) {
            (true, _) => Only::IfAbsent,
            (false, true) => Only::IfPresent,
            (false, false) => Only::Always,
        };
        Self { value: put.value, lifetime, only }
    }
}

impl From<Ordered> for v1::PlainWriteReply {
    fn from(ordered: Ordered) -> Self {
        match ordered {
            Ordered::Written(Written { refused, node, epoch }) => {
                Self { refused: refused.unwrap_or_default(), node, epoch, not_owner: false }
            }
            Ordered::NotOwner(epoch) => Self { epoch: epoch.0, not_owner: true, ..Self::default() },
        }
    }
}

/// Tokens travel under the same names on both sides.
macro_rules! token {
    ($from:expr) => {{
        let from = $from;
        Self {
            life: from.life,
            incarnation: from.incarnation,
            seq: from.seq,
            generation: from.generation,
            acquisition: from.acquisition,
            tags: from.tags,
            at: from.at,
        }
    }};
}

impl From<HolderToken> for v1::PlainToken {
    fn from(token: HolderToken) -> Self {
        token!(token)
    }
}

impl From<v1::PlainToken> for HolderToken {
    fn from(token: v1::PlainToken) -> Self {
        token!(token)
    }
}

impl From<Kept> for v1::PlainKeepRequest {
    fn from(kept: Kept) -> Self {
        Self {
            node: kept.node.to_string(),
            epoch: kept.epoch.0,
            key: kept.key,
            token: Some(kept.token.into()),
            value: kept.value,
            ttl_ms: to_millis(kept.ttl),
            group_digest: kept.group_digest,
        }
    }
}

impl From<v1::PlainKeepRequest> for Kept {
    /// Without a token it has one of no life, which no holder takes.
    fn from(request: v1::PlainKeepRequest) -> Self {
        Self {
            node: NodeId::from(request.node),
            epoch: Epoch(request.epoch),
            key: request.key,
            token: request.token.unwrap_or_default().into(),
            value: request.value,
            ttl: Duration::from_millis(request.ttl_ms),
            group_digest: request.group_digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_put_and_kept_comes_as_it_was_sent() {
        for lifetime in [Lifetime::Group, Lifetime::For(Duration::from_millis(7)), Lifetime::Keep] {
            for only in [Only::Always, Only::IfAbsent, Only::IfPresent] {
                let put = Put { value: Bytes::from_static(b"v"), lifetime, only };
                assert_eq!(Put::from(v1::PlainPut::from(put.clone())), put);
            }
        }
        let token =
            HolderToken { life: 1, incarnation: 2, seq: 3, generation: 4, acquisition: 5, tags: 6, at: 7 };
        let kept = Kept {
            node: "a".into(),
            epoch: Epoch(8),
            key: "session:1".to_owned(),
            token,
            value: None,
            ttl: Duration::from_millis(9),
            group_digest: 10,
        };
        assert_eq!(Kept::from(v1::PlainKeepRequest::from(kept.clone())), kept);
    }
}
