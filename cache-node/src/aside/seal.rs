//! The gate's token on its way through an application: what it looks like outside, and what is taken back.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use memory::gate::Token;
use ring::NodeId;
use tokio::time::Instant;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The first byte. A node takes no token of another version: a rolling upgrade costs the sets of the tokens that are out.
const VERSION: u8 = 1;
/// Version, node, life, key, incarnation, seq, started, generation, acquisition, checksum.
const LEN: usize = 1 + 4 + 8 * 8;

/// Seals tokens of one life of one node, and opens them again.
///
/// The seal keeps a token from being taken for what it is not: one of another node, of an earlier life of this process, of another key, or
/// one that was cut, mixed up or made by hand. Its checksum is keyed with a secret that nobody else has, but it is a hash and no MAC: it
/// authenticates nobody, and who may call `Set` at all may set what he likes under a token that a miss gave him.
#[derive(Debug)]
pub(crate) struct Seal {
    node: u32,
    life: u64,
    secret: u64,
    base: Instant,
}

/// A token that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) token: Token,
    /// The incarnation under which it was given.
    pub(crate) incarnation: u64,
}

/// Why a token was not taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// No token of this version, or one that was changed.
    Malformed,
    /// Given by another node.
    Foreign,
    /// Given by this node before it was restarted.
    PastLife,
    /// Given for another key.
    OtherKey,
    /// Given longer ago than `node.token_ttl`.
    Expired,
}

impl BadToken {
    /// All of them, for metrics.
    pub(crate) const ALL: [Self; 5] =
        [Self::Malformed, Self::Foreign, Self::PastLife, Self::OtherKey, Self::Expired];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Foreign => "token_foreign",
            Self::PastLife => "token_past_life",
            Self::OtherKey => "token_other_key",
            Self::Expired => "token_expired",
        }
    }
}

impl Seal {
    /// A new life of a node, whose times count from `base`.
    pub(crate) fn new(node: &NodeId, base: Instant) -> Self {
        Self { node: node_hash(node), life: rand::random(), secret: rand::random(), base }
    }

    /// The node, as its tokens name it.
    pub(crate) fn node(&self) -> u32 {
        self.node
    }

    /// Makes a token that can leave the node.
    pub(crate) fn close(&self, token: &Token, incarnation: u64, key: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(VERSION);
        out.put_u32(self.node);
        out.put_u64(self.life);
        out.put_u64(key);
        out.put_u64(incarnation);
        out.put_u64(token.seq);
        out.put_u64(self.micros(token.started));
        out.put_u64(token.generation);
        out.put_u64(token.acquisition);
        out.put_u64(self.checksum(&out));
        out.freeze()
    }

    /// Takes a token back that was given for the key of this hash, at most `ttl` ago.
    ///
    /// The beginning that it tells is rounded down to microseconds: it refuses a little more, and permits nothing.
    pub(crate) fn open(
        &self,
        sealed: &[u8],
        key: u64,
        now: Instant,
        ttl: Duration,
    ) -> Result<Opened, BadToken> {
        if sealed.len() != LEN || sealed[0] != VERSION {
            return Err(BadToken::Malformed);
        }
        let (body, mut checksum) = sealed.split_at(LEN - 8);
        let mut fields = &body[1..];
        if fields.get_u32() != self.node {
            return Err(BadToken::Foreign);
        }
        if fields.get_u64() != self.life {
            return Err(BadToken::PastLife);
        }
        if checksum.get_u64() != self.checksum(body) {
            return Err(BadToken::Malformed);
        }
        if fields.get_u64() != key {
            return Err(BadToken::OtherKey);
        }
        let incarnation = fields.get_u64();
        let seq = fields.get_u64();
        let started = self.base + Duration::from_micros(fields.get_u64());
        // A value that is set has no tags, so it needs no number of theirs.
        let token =
            Token { seq, started, generation: fields.get_u64(), acquisition: fields.get_u64(), tags: 0 };
        if now.saturating_duration_since(started) > ttl {
            return Err(BadToken::Expired);
        }
        Ok(Opened { token, incarnation })
    }

    fn checksum(&self, body: &[u8]) -> u64 {
        xxh3_64_with_seed(body, self.secret)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }
}

/// The node that gave a token, as [`node_hash`] tells it; `None` if it is no token.
pub(crate) fn issuer(sealed: &[u8]) -> Option<u32> {
    (sealed.len() == LEN && sealed[0] == VERSION).then(|| (&sealed[1..]).get_u32())
}

/// A node's id in its tokens.
pub(crate) fn node_hash(node: &NodeId) -> u32 {
    xxh3_64(node.as_str().as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_mins(1);

    fn token(base: Instant, seq: u64, micros: u64, generation: u64, acquisition: u64) -> Token {
        Token { seq, started: base + Duration::from_micros(micros), generation, acquisition, tags: 0 }
    }

    proptest! {
        #[test]
        fn what_was_sealed_is_opened_again(
            seq: u64, generation: u64, acquisition: u64, incarnation: u64, key: u64, micros in 0..1_u64 << 50, nanos in 0..1000_u64,
        ) {
            let base = Instant::now();
            let seal = Seal::new(&NodeId::from("a"), base);
            let given = token(base, seq, micros, generation, acquisition);
            let fine = Token { started: given.started + Duration::from_nanos(nanos), ..given };
            let sealed = seal.close(&fine, incarnation, key);
            prop_assert_eq!(issuer(&sealed), Some(node_hash(&NodeId::from("a"))));
            let opened = seal.open(&sealed, key, given.started + TTL, TTL);
            prop_assert_eq!(opened, Ok(Opened { token: given, incarnation }), "and its time is rounded down");
        }

        #[test]
        fn a_token_that_was_changed_anywhere_is_refused(
            seq: u64, at in 0..LEN, bit in 0..8_u32, cut in 0..LEN,
        ) {
            let base = Instant::now();
            let seal = Seal::new(&NodeId::from("a"), base);
            let sealed = seal.close(&token(base, seq, 7, 1, 1), 1, 42);
            let mut changed = sealed.to_vec();
            changed[at] ^= 1 << bit;
            prop_assert!(seal.open(&changed, 42, base, TTL).is_err());
            prop_assert_eq!(seal.open(&sealed[..cut], 42, base, TTL), Err(BadToken::Malformed));
        }

        #[test]
        fn no_bytes_are_a_token_by_chance(bytes: Vec<u8>) {
            let seal = Seal::new(&NodeId::from("a"), Instant::now());
            prop_assert!(seal.open(&bytes, 42, Instant::now(), TTL).is_err());
            let _ = issuer(&bytes);
        }
    }

    #[test]
    fn tokens_of_other_nodes_lives_keys_and_times_each_have_their_reason() {
        let base = Instant::now();
        let seal = Seal::new(&NodeId::from("a"), base);
        let given = token(base, 1, 1, 1, 1);
        let check = |sealed: &Bytes, key, now, expected| {
            assert_eq!(seal.open(sealed, key, now, TTL).map(|_| ()), expected);
        };
        let sealed = seal.close(&given, 1, 42);
        check(&sealed, 42, given.started + TTL, Ok(()));
        check(&sealed, 43, base, Err(BadToken::OtherKey));
        check(&sealed, 42, given.started + TTL + Duration::from_micros(1), Err(BadToken::Expired));
        check(&Seal::new(&NodeId::from("b"), base).close(&given, 1, 42), 42, base, Err(BadToken::Foreign));
        check(&Seal::new(&NodeId::from("a"), base).close(&given, 1, 42), 42, base, Err(BadToken::PastLife));
        let forged = Seal { secret: seal.secret ^ 1, ..Seal::new(&NodeId::from("a"), base) };
        let forged = Seal { life: seal.life, ..forged }.close(&given, 1, 42);
        check(&forged, 42, base, Err(BadToken::Malformed));
    }
}
