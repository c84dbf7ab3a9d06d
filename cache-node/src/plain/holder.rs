//! The part of the other holders: they give tokens, and keep what the owner has ordered.

use std::{sync::Arc, time::Duration};

use memory::{
    gate::{Keeping, Refused, Token},
    protocol::PullRefused,
    recorder::What,
};
use ring::{Epoch, NodeId, terms::PROTOCOL};
use tokio::time::Instant;
use wire::{HolderToken, Kept};

use super::tags;
use crate::{
    error::Error,
    node::{Node, place},
};

/// A holder refuses what the owner declares otherwise.
const OTHER_CATALOG: &str = "other_catalog";
/// The token is of another process, or of another life of this one.
const OTHER_LIFE: &str = "slot_lost";

impl Node {
    /// Goes by an owner's epoch, and gives this node's token of a key, if it holds its slot. Returns its epoch, read after that.
    ///
    /// # Errors
    ///
    /// [`Error::Pull`] for another protocol, [`Error::Behind`] and [`Error::OtherMembers`] if this node can't go by the epoch.
    pub(crate) async fn attend(
        &self,
        from: &NodeId,
        epoch: Epoch,
        protocol: u32,
        key: Option<&str>,
    ) -> Result<(Epoch, Option<HolderToken>), Error> {
        if protocol != PROTOCOL {
            return Err(PullRefused::OtherProtocol { asked: protocol }.into());
        }
        self.catch_up(epoch).await?;
        let token = match key {
            None => None,
            Some(key) => {
                let key = self.resolve(key)?;
                let incarnation = self.life.incarnation();
                self.gate.token(place(&key)).map(|(token, _)| self.holder_token(&token, incarnation))
            }
        };
        tracing::trace!(node = %self.id, owner = %from, epoch = epoch.0, "goes by an owner's epoch");
        Ok((self.epoch(), token))
    }

    /// Keeps what an owner has ordered: why not (`None`: it is kept), and this node's epoch, read after that.
    pub(crate) async fn keep(&self, kept: Kept) -> Result<(Option<&'static str>, Epoch), Error> {
        self.catch_up(kept.epoch).await?;
        if self.epoch() != kept.epoch {
            // Another epoch's order may be another owner's.
            return Ok((Some(Refused::SlotLost.label()), self.epoch()));
        }
        let refused = self.keep_here(&kept);
        Ok((refused, self.epoch()))
    }

    fn keep_here(&self, kept: &Kept) -> Option<&'static str> {
        let Ok(key) = self.resolve(&kept.key) else { return Some(OTHER_CATALOG) };
        if key.group.digest != kept.group_digest {
            return Some(OTHER_CATALOG);
        }
        if kept.token.life != self.plain.life {
            return Some(OTHER_LIFE);
        }
        let place = place(&key);
        let token = Token {
            seq: kept.token.seq,
            started: self.plain.base + Duration::from_micros(kept.token.at),
            generation: kept.token.generation,
            acquisition: kept.token.acquisition,
            tags: kept.token.tags,
        };
        let origin = Arc::from(kept.node.as_str());
        let incarnation = kept.token.incarnation;
        let keeping = Keeping {
            key: key.text.clone(),
            // A copy of its own: the message's buffer may be larger than the value and is not counted.
            value: kept.value.as_ref().map(|value| bytes::Bytes::copy_from_slice(value)),
            ttl: kept.ttl,
            tags: tags(&key),
        };
        let kept_value = keeping.value.is_some();
        let now = Instant::now();
        match self.gate.keep(&token, place, keeping, &origin, || self.life.vouches_for(incarnation)) {
            Ok(()) => {
                // After it is stored: who reads the key from here on does not get the old value.
                self.resp.removed(&key.text);
                let what = if kept_value { What::Set } else { What::Removed { origin } };
                self.gate.recorder().record_at(place.hash, now, what);
                None
            }
            Err(refused) => {
                self.gate.recorder().record(place.hash, What::Refused { why: refused.label() });
                Some(refused.label())
            }
        }
    }

    fn holder_token(&self, token: &Token, incarnation: u64) -> HolderToken {
        let at = token.started.saturating_duration_since(self.plain.base).as_micros();
        HolderToken {
            life: self.plain.life,
            incarnation,
            seq: token.seq,
            generation: token.generation,
            acquisition: token.acquisition,
            tags: token.tags,
            // Rounded down: what it vouches for is older, not younger.
            at: u64::try_from(at).unwrap_or(u64::MAX),
        }
    }
}
