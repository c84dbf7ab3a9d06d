//! How an entry is written: one block of bytes with header, key and value.
//!
//! `flags, node, key length, key, slot, filled, time to live, group, generation, acquisition, value length, [length before compression],
//! [number of tags], value, [tags]`. The node's number has 3 bytes, the slot 2, the time of the fill 5, a tag 8; all other numbers take as many bytes as
//! they need, which is 1 for most. An entry that is larger than a block may be has key, value and tags in a [`Bytes`] of their own, and the
//! block has its number in the key's place.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    arena::MAX_BLOCK,
    entry::{Entry, Stamp, Tags},
    nodes::NUMBER,
};
use crate::store::compress::{Codec, Packed};

const VALUE: u8 = 1;
const LARGE: u8 = 1 << 1;
const TAGGED: u8 = 1 << 2;
const CODEC: u32 = 3;
const CODEC_MASK: u8 = 7;
/// What times are counted from lies this many milliseconds before the store began: entries may be older than the store.
const BEFORE: i64 = 1 << 38;
/// Bytes of a time.
const TIME: usize = 5;
/// Most bytes of a header; the numbers of an entry of usual size take a third of that.
pub(super) const HEADER: usize = 59;

/// The moment that a store's times are counted from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base(pub(super) Instant);

impl Base {
    /// Milliseconds, rounded down: never later than `at`.
    fn ticks(self, at: Instant) -> i64 {
        let signed = if at >= self.0 {
            i64::try_from(at.duration_since(self.0).as_millis()).unwrap_or(i64::MAX / 2)
        } else {
            let before = self.0.duration_since(at);
            let whole = before.as_millis() + u128::from(!before.as_nanos().is_multiple_of(1_000_000));
            -i64::try_from(whole).unwrap_or(BEFORE)
        };
        (signed + BEFORE).clamp(0, (1 << (8 * TIME)) - 1)
    }

    fn instant(self, ticks: i64) -> Instant {
        let signed = ticks - BEFORE;
        let distance = Duration::from_millis(signed.unsigned_abs());
        let at = if signed < 0 { self.0.checked_sub(distance) } else { self.0.checked_add(distance) };
        // A clock that reached back to it once still does.
        at.unwrap_or(self.0)
    }
}

/// An entry on its way in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) key: &'a str,
    pub(super) entry: &'a Entry,
    /// The value as it is to be kept, if it is compressed.
    pub(super) packed: Option<&'a Packed>,
}

impl<'a> Incoming<'a> {
    pub(super) fn bytes(&self) -> &'a [u8] {
        match self.packed {
            Some(packed) => &packed.bytes,
            None => self.entry.value.as_deref().unwrap_or_default(),
        }
    }

    /// Bytes of key, value and tags.
    pub(super) fn data(&self) -> usize {
        self.key.len() + self.bytes().len() + self.entry.tags.as_ref().map_or(0, |tags| 8 * tags.len())
    }

    /// Whether key, value and tags have to be kept apart from the block.
    pub(super) fn is_large(&self, limit: usize) -> bool {
        HEADER + self.data() > limit.min(MAX_BLOCK)
    }

    /// Key, value and tags in one.
    pub(super) fn blob(&self) -> Bytes {
        let mut blob = Vec::with_capacity(self.data());
        blob.extend_from_slice(self.key.as_bytes());
        blob.extend_from_slice(self.bytes());
        self.put_tags(&mut blob);
        blob.into()
    }

    fn put_tags(&self, into: &mut Vec<u8>) {
        for tag in self.entry.tags.iter().flat_map(|tags| tags.iter()) {
            into.extend_from_slice(&tag.to_le_bytes());
        }
    }

    /// Writes the block, its node left open; with the number of its blob if it is large.
    pub(super) fn write(&self, base: Base, blob: Option<u32>, into: &mut Vec<u8>) {
        let Entry { stamp, filled, expires, tags, value } = self.entry;
        let codec = self.packed.map_or(0, |packed| packed.codec.number());
        let flags = (u8::from(value.is_some()) * VALUE)
            | (u8::from(blob.is_some()) * LARGE)
            | (u8::from(tags.is_some()) * TAGGED)
            | codec << CODEC;
        into.clear();
        into.push(flags);
        into.extend_from_slice(&[0; NUMBER]);
        put(into, self.key.len() as u64);
        match blob {
            Some(number) => into.extend_from_slice(&number.to_le_bytes()),
            None => into.extend_from_slice(self.key.as_bytes()),
        }
        into.extend_from_slice(&stamp.slot.to_le_bytes());
        let expires = base.ticks(*expires);
        let filled = base.ticks(*filled).min(expires);
        into.extend_from_slice(&filled.to_le_bytes()[..TIME]);
        put(into, (expires - filled).unsigned_abs());
        put(into, u64::from(stamp.group));
        put(into, stamp.generation);
        put(into, stamp.acquisition);
        put(into, self.bytes().len() as u64);
        if let Some(packed) = self.packed {
            put(into, packed.plain as u64);
        }
        if let Some(tags) = tags {
            put(into, tags.len() as u64);
        }
        if blob.is_none() {
            into.extend_from_slice(self.bytes());
            self.put_tags(into);
        }
    }
}

/// What a block says.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) stamp: Stamp,
    filled: i64,
    expires: i64,
    pub(super) has_value: bool,
    pub(super) codec: Option<Codec>,
    /// Bytes of the value before it was compressed.
    pub(super) plain: usize,
    /// In the block, or in the blob.
    value: Range<usize>,
    pub(super) blob: Option<u32>,
    tags: Option<Range<usize>>,
    /// Of the block.
    pub(super) len: usize,
    pub(super) node: u32,
}

impl Meta {
    pub(super) fn read(block: &[u8]) -> Self {
        let (flags, blob, key, at) = head(block);
        let mut rest = Reader { bytes: block, at };
        let slot = u16::from_le_bytes(rest.take());
        let time: [u8; TIME] = rest.take();
        let mut wide = [0; 8];
        wide[..TIME].copy_from_slice(&time);
        let filled = i64::from_le_bytes(wide);
        let expires = filled + rest.number().cast_signed();
        let group = rest.number() as u16;
        let stamp = Stamp { group, slot, generation: rest.number(), acquisition: rest.number() };
        let len = rest.number() as usize;
        let codec = Codec::from_number(flags >> CODEC & CODEC_MASK);
        let plain = if codec.is_some() { rest.number() as usize } else { len };
        let tags = (flags & TAGGED != 0).then(|| rest.number() as usize * 8);
        // What comes after the header, or in the blob after the key.
        let from = if blob.is_some() { key.len() } else { rest.at };
        let value = from..from + len;
        let tags = tags.map(|bytes| value.end..value.end + bytes);
        let end = tags.as_ref().map_or(value.end, |tags| tags.end);
        let len = if blob.is_some() { rest.at } else { end };
        let has_value = flags & VALUE != 0;
        Self { stamp, filled, expires, has_value, codec, plain, value, blob, tags, len, node: node_of(block) }
    }

    pub(super) fn filled(&self, base: Base) -> Instant {
        base.instant(self.filled)
    }

    pub(super) fn expires(&self, base: Base) -> Instant {
        base.instant(self.expires)
    }

    /// Bytes of the value as they are kept.
    pub(super) fn kept(&self) -> usize {
        self.value.len()
    }

    /// The value's place in its block, or in its blob.
    pub(super) fn value(&self) -> Range<usize> {
        self.value.clone()
    }

    /// The tags, from the block, or from the blob if there is one.
    pub(super) fn tags(&self, data: &[u8]) -> Tags {
        let tags = data.get(self.tags.clone()?)?;
        Some(tags.as_chunks::<8>().0.iter().map(|tag| u64::from_le_bytes(*tag)).collect::<Arc<[u64]>>())
    }
}

/// The length of a block in use.
pub(super) fn len_of(block: &[u8]) -> usize {
    Meta::read(block).len
}

/// The number of a block's node.
pub(super) fn node_of(block: &[u8]) -> u32 {
    u32::from_le_bytes([block[1], block[2], block[3], 0])
}

/// Notes a block's node.
pub(super) fn set_node(block: &mut [u8], node: u32) {
    block[1..=NUMBER].copy_from_slice(&node.to_le_bytes()[..NUMBER]);
}

/// A block's key, or the number of the blob that begins with it and how long it is.
pub(super) fn key_of(block: &[u8]) -> Result<&[u8], (u32, usize)> {
    let (_, blob, key, _) = head(block);
    match blob {
        Some(number) => Err((number, key.len())),
        None => Ok(&block[key]),
    }
}

/// Flags, blob, where the key is (in the blob if there is one), and where to read on.
fn head(block: &[u8]) -> (u8, Option<u32>, Range<usize>, usize) {
    let mut reader = Reader { bytes: block, at: 1 + NUMBER };
    let flags = block[0];
    let len = reader.number() as usize;
    if flags & LARGE != 0 {
        let number = u32::from_le_bytes(reader.take());
        (flags, Some(number), 0..len, reader.at)
    } else {
        (flags, None, reader.at..reader.at + len, reader.at + len)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes[self.at..].first_chunk().copied().unwrap_or([0; N]);
        self.at += N;
        taken
    }

    /// A number as LEB128.
    fn number(&mut self) -> u64 {
        let first = self.bytes[self.at];
        self.at += 1;
        if first < 0x80 {
            return u64::from(first);
        }
        let (mut number, mut shift) = (u64::from(first & 0x7f), 7);
        loop {
            let byte = self.bytes[self.at];
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (shift & 63);
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }
}

/// Writes a number as LEB128.
fn put(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_times_only_round_down(
            key in "[a-z0-9:]{1,40}",
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            stamp in (any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>()),
            filled in -10_000_000_000_i64..10_000_000_000,
            ttl in 0_u64..30_000_000_000_000,
            tags in proptest::option::of(proptest::collection::vec(any::<u64>(), 0..4)),
            node in 0_u32..1 << 24,
        ) {
            let start = Instant::now() + Duration::from_secs(1000);
            let base = Base(start);
            let distance = Duration::from_nanos(filled.unsigned_abs());
            let filled = if filled < 0 { start.checked_sub(distance).unwrap() } else { start + distance };
            let expires = filled + Duration::from_micros(ttl);
            let (group, slot, generation, acquisition) = stamp;
            let stamp = Stamp { group, slot, generation, acquisition };
            let entry = Entry { value: value.clone().map(Into::into), stamp, filled, expires, tags: tags.map(Into::into) };
            let mut block = Vec::new();
            Incoming { key: &key, entry: &entry, packed: None }.write(base, None, &mut block);
            let incoming = Incoming { key: &key, entry: &entry, packed: None };
            prop_assert!(block.len() <= HEADER + incoming.data());
            let len = block.len();
            block.extend_from_slice(b"what comes after it");
            set_node(&mut block, node);
            let meta = Meta::read(&block);
            prop_assert_eq!((meta.len, meta.node), (len, node));
            prop_assert_eq!(key_of(&block).unwrap(), key.as_bytes());
            prop_assert_eq!(meta.stamp, stamp);
            prop_assert_eq!(meta.has_value, value.is_some());
            prop_assert_eq!(&block[meta.value()], value.unwrap_or_default());
            prop_assert_eq!(meta.tags(&block), entry.tags);
            let ms = Duration::from_millis(1);
            prop_assert!(meta.filled(base) <= filled && filled - meta.filled(base) < ms);
            prop_assert!(meta.expires(base) <= expires && expires - meta.expires(base) < ms);
        }
    }

    #[test]
    fn a_small_entry_costs_20_bytes_of_header() {
        let now = Instant::now();
        let stamp = Stamp { group: 3, slot: 9000, generation: 1, acquisition: 16_000 };
        let entry = Entry {
            value: Some(vec![0; 100].into()),
            stamp,
            filled: now,
            expires: now + Duration::from_mins(10),
            tags: None,
        };
        let mut block = Vec::new();
        Incoming { key: "user:00000000042", entry: &entry, packed: None }.write(Base(now), None, &mut block);
        assert_eq!(block.len(), 116 + 20);
    }
}
