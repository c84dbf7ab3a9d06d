//! Values compressed in memory: by which codec, when it is worth it, and back.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Read as _, Write as _},
};

use bytes::Bytes;

/// How values are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
    /// Snappy.
    Snappy,
    /// Gzip.
    Gzip,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 4] = [Self::Lz4, Self::Zstd, Self::Snappy, Self::Gzip];

    /// A number from 1 to 7 that stands for it in memory; 0 is none.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Lz4 => 1,
            Self::Zstd => 2,
            Self::Snappy => 3,
            Self::Gzip => 4,
        }
    }

    /// The codec of a [`number`](Self::number).
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.number() == number)
    }
}

/// A value is kept compressed only if that saves this share of it.
const WORTH: usize = 10;

/// Whether the values of one group are compressed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compression {
    /// How; `None` keeps all values as they are.
    pub codec: Option<Codec>,
    /// Values of fewer bytes are kept as they are.
    pub above: u64,
}

/// A compressed value.
#[derive(Debug, Clone)]
pub struct Packed {
    /// What it became.
    pub bytes: Bytes,
    /// How.
    pub codec: Codec,
    /// How many bytes it had.
    pub plain: usize,
}

/// What was kept is no compressed value of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

impl Compression {
    /// Compresses a value; `None` if it is not to be, or if that saves less than a tenth.
    pub fn pack(&self, value: &[u8]) -> Option<Packed> {
        let codec = self.codec.filter(|_| value.len() as u64 >= self.above.max(1))?;
        let bytes = pack(codec, value)?;
        let worth = bytes.len() + value.len().div_ceil(WORTH) <= value.len();
        worth.then(|| Packed { bytes: bytes.into(), codec, plain: value.len() })
    }
}

/// The value that `bytes` were made of; it had `plain` bytes. Takes no more memory than that, whatever the bytes say.
pub(crate) fn unpack(codec: Codec, bytes: &[u8], plain: usize) -> Result<Bytes, Damaged> {
    let value = match codec {
        Codec::Lz4 => lz4_flex::block::decompress(bytes, plain).map_err(|_| Damaged)?,
        Codec::Zstd => with_zstd(|zstd| zstd.decompressor.decompress(bytes, plain)).ok_or(Damaged)?,
        Codec::Snappy => {
            if snap::raw::decompress_len(bytes) != Ok(plain) {
                return Err(Damaged);
            }
            snap::raw::Decoder::new().decompress_vec(bytes).map_err(|_| Damaged)?
        }
        Codec::Gzip => {
            let mut value = Vec::with_capacity(plain);
            // One byte more than there may be: longer is damaged too.
            let mut reader = flate2::read::GzDecoder::new(bytes).take(plain as u64 + 1);
            reader.read_to_end(&mut value).map_err(|_| Damaged)?;
            value
        }
    };
    if value.len() == plain { Ok(value.into()) } else { Err(Damaged) }
}

fn pack(codec: Codec, value: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = match codec {
        Codec::Lz4 => lz4_flex::block::compress(value),
        Codec::Zstd => with_zstd(|zstd| zstd.compressor.compress(value))?,
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(value).ok()?,
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(value).ok()?;
            encoder.finish().ok()?
        }
    };
    bytes.shrink_to_fit();
    Some(bytes)
}

struct Zstd {
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
}

thread_local! {
    /// What zstd works with is large, and making it takes longer than a small value: each thread keeps its own.
    static ZSTD: RefCell<Option<Zstd>> = const { RefCell::new(None) };
}

fn with_zstd<T>(work: impl FnOnce(&mut Zstd) -> io::Result<T>) -> Option<T> {
    ZSTD.with_borrow_mut(|kept| {
        let zstd = match kept {
            Some(zstd) => zstd,
            None => kept.insert(Zstd {
                compressor: zstd::bulk::Compressor::new(1).ok()?,
                decompressor: zstd::bulk::Decompressor::new().ok()?,
            }),
        };
        work(zstd).ok()
    })
}

/// Measurements compress values without a store.
#[cfg(feature = "bare-store")]
pub fn unpack_bare(packed: &Packed) -> Option<Bytes> {
    unpack(packed.codec, &packed.bytes, packed.plain).ok()
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a compressed value is damaged")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Codec; 4] = [Codec::Lz4, Codec::Zstd, Codec::Snappy, Codec::Gzip];

    fn row() -> Vec<u8> {
        r#"{"id":1,"name":"a name","email":"name@example.com"}"#.repeat(40).into_bytes()
    }

    #[test]
    fn a_value_comes_back_whatever_the_codec() {
        for codec in ALL {
            let compression = Compression { codec: Some(codec), above: 1024 };
            let packed = compression.pack(&row()).unwrap();
            assert!(
                packed.bytes.len() * 4 < packed.plain,
                "{codec:?}: {} of {}",
                packed.bytes.len(),
                packed.plain
            );
            assert_eq!(unpack(codec, &packed.bytes, packed.plain).unwrap(), row());
        }
    }

    #[test]
    fn a_value_that_is_small_or_saves_less_than_a_tenth_is_kept_as_it_is() {
        let noise: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
        for codec in ALL {
            let compression = Compression { codec: Some(codec), above: 1024 };
            assert!(compression.pack(&row()[..1023]).is_none());
            assert!(compression.pack(&row()[..1024]).is_some());
            assert!(compression.pack(&noise).is_none(), "{codec:?}");
            assert!(Compression { codec: None, above: 0 }.pack(&row()).is_none());
        }
    }

    proptest! {
        #[test]
        fn damage_is_told_or_harmless_and_never_panics(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), plain in 0_usize..10_000,
        ) {
            for codec in ALL {
                let packed = Compression { codec: Some(codec), above: 0 }.pack(&row()).unwrap();
                let mut bytes = packed.bytes.to_vec();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                    for plain in [packed.plain, plain] {
                        if let Ok(value) = unpack(codec, bytes, plain) {
                            prop_assert_eq!(value.len(), plain);
                        }
                    }
                }
            }
        }
    }
}
