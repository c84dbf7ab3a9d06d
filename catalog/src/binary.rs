//! How bytes are written in a value.

/// How BINARY, VARBINARY and BLOB columns become JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Binary {
    /// Standard base64, with padding.
    #[default]
    Base64,
    /// Lower-case hex.
    Hex,
    /// Columns of 16 bytes as a uuid of 36 characters, as keys write it; others in base64, which has no hyphens.
    Uuid,
}

impl Binary {
    /// All that can be written.
    pub const NAMES: [&'static str; 3] = ["base64", "hex", "uuid"];

    /// The choice of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Base64, Self::Hex, Self::Uuid].into_iter().find(|binary| binary.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Uuid => "uuid",
        }
    }
}
