//! Names of the codecs that values can be compressed with. The catalog compresses nothing itself.

/// How a value is compressed in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// LZ4: fast both ways.
    Lz4,
    /// Zstandard: the smallest for its speed.
    Zstd,
    /// Snappy: fast both ways.
    Snappy,
    /// Gzip: small and slow.
    Gzip,
}

/// Whether values are compressed, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compress {
    /// They are kept as they are.
    #[default]
    No,
    /// They are compressed by this codec.
    By(Codec),
}

impl Compress {
    /// All that can be written.
    pub const NAMES: [&'static str; 5] = ["lz4", "zstd", "snappy", "gzip", "none"];

    /// The choice of a name: of a codec, or `none`.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "none" {
            return Some(Self::No);
        }
        Codec::ALL.into_iter().find(|codec| codec.name() == name).map(Self::By)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.codec().map_or("none", Codec::name)
    }

    /// The codec, if there is one.
    pub fn codec(self) -> Option<Codec> {
        match self {
            Self::No => None,
            Self::By(codec) => Some(codec),
        }
    }
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 4] = [Self::Lz4, Self::Zstd, Self::Snappy, Self::Gzip];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
        }
    }
}
