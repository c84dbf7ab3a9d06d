//! Keys to slots, exactly as Redis Cluster does it, so that every Redis client can find the owner of a key by itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many slots the keyspace is divided into.
pub const SLOTS: u16 = 16384;

/// One of the [`SLOTS`] shares of the keyspace.
///
/// Invariant: less than [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// The slot's number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The slot's number, to index with.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots, in order.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..SLOTS).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl TryFrom<u16> for Slot {
    type Error = String;

    fn try_from(number: u16) -> Result<Self, String> {
        Self::new(number)
            .ok_or_else(|| format!("slot {number} does not exist, the last one is {}", SLOTS - 1))
    }
}

/// The slot of `key`: CRC16 of the key, or of its hash tag, modulo [`SLOTS`].
///
/// The hash tag is what stands between the first `{` and the first `}` after it, if that is not empty. Keys with the same tag share a slot.
/// Defined by the [Redis Cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
pub fn slot_of(key: &str) -> Slot {
    Slot(crc16(hashed_part(key.as_bytes())) % SLOTS)
}

fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let rest = &key[open + 1..];
    match rest.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

static CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn crc_agrees_with_the_published_vector() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn slots_agree_with_redis() {
        // Answers of CLUSTER KEYSLOT.
        for (key, slot) in [
            ("foo", 12182),
            ("bar", 5061),
            ("hello", 866),
            ("", 0),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
        ] {
            assert_eq!(slot_of(key).get(), slot, "{key}");
        }
    }

    #[test]
    fn hash_tags_follow_the_rules_of_redis() {
        let same = |a: &str, b: &str| assert_eq!(slot_of(a), slot_of(b), "{a} and {b}");
        same("{user1000}.following", "{user1000}.followers");
        same("{user1000}.following", "user1000");
        same("foo{{bar}}zap", "{bar"); // from the first `{` to the first `}` after it
        same("foo{bar}{zap}", "bar"); // the first tag counts
        same("}a{bar}", "bar"); // a `}` before the first `{` is no end
        for whole in ["foo{}{bar}", "foo{bar", "foo}bar", "{}"] {
            assert_eq!(hashed_part(whole.as_bytes()), whole.as_bytes(), "{whole}"); // no tag, or an empty one: the whole key counts
        }
    }

    #[test]
    fn only_existing_slots_can_be_made() {
        assert_eq!(Slot::new(SLOTS - 1).map(Slot::get), Some(16383));
        assert_eq!(Slot::new(SLOTS), None);
        assert!(serde_json::from_str::<Slot>("16384").unwrap_err().to_string().contains("does not exist"));
    }

    proptest! {
        #[test]
        fn every_key_has_a_slot_and_its_tag_decides(before in "[^{}]*", tag in "[^{}]+", after in ".*") {
            prop_assert!(slot_of(&after).get() < SLOTS);
            prop_assert_eq!(slot_of(&format!("{before}{{{tag}}}{after}")), slot_of(&tag));
        }
    }
}
