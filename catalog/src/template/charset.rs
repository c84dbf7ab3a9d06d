//! Which characters a parameter's canonical text can have: what ends a part, and what two templates could share.

use super::escape;
use crate::param::ParamType;

/// A set of characters: any of ASCII, and all or none of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charset {
    ascii: u128,
    others: bool,
}

pub(crate) const DIGIT: Charset = of("0123456789");
pub(crate) const DASH: Charset = of("-");
pub(crate) const HEX: Charset = of("0123456789abcdef");
pub(crate) const SIGNED: Charset = of("-0123456789");
pub(crate) const NUMBER: Charset = of("-.0123456789");
pub(crate) const FRACTION: Charset = of(".0123456789");
const MOMENT: Charset = of(".0123456789T");
const UUID: Charset = of("-0123456789abcdef");
const LOWER: Charset = of("abcdefghijklmnopqrstuvwxyz");
/// All but the special characters; `%` begins an escape.
pub(crate) const TEXT: Charset = text();

const fn of(letters: &str) -> Charset {
    let bytes = letters.as_bytes();
    let (mut ascii, mut at) = (0u128, 0);
    while at < bytes.len() {
        ascii |= 1 << bytes[at];
        at += 1;
    }
    Charset { ascii, others: false }
}

const fn text() -> Charset {
    let mut ascii = 0u128;
    let mut byte = 0x21u8;
    while byte < 0x7f {
        if !matches!(byte, b':' | b'{' | b'}') {
            ascii |= 1 << byte;
        }
        byte += 1;
    }
    Charset { ascii, others: true }
}

impl Charset {
    pub(crate) const fn one(letter: u8) -> Self {
        Self { ascii: 1 << letter, others: false }
    }

    pub(crate) fn contains(self, letter: char) -> bool {
        match u32::from(letter) {
            code @ 0..128 => self.ascii >> code & 1 == 1,
            _ => self.others && !escape::is_special(letter),
        }
    }

    /// Whether both could have a character in common; may say yes for the rarest of others.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.ascii & other.ascii != 0 || (self.others && other.others)
    }

    /// Bytes at the start of `text` that are of the set.
    pub(crate) fn run(self, text: &str) -> usize {
        text.find(|letter| !self.contains(letter)).unwrap_or(text.len())
    }
}

impl ParamType {
    /// The characters of the type's canonical texts.
    pub(crate) fn charset(&self) -> Charset {
        match self {
            Self::U64 => DIGIT,
            Self::I64 | Self::Date => SIGNED,
            Self::Bool => LOWER,
            Self::Str(_) | Self::Compared => TEXT,
            Self::Decimal | Self::Time => NUMBER,
            Self::DateTime => MOMENT,
            Self::Uuid => UUID,
            Self::Hex => HEX,
        }
    }
}
