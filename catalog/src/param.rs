//! Parameter types of key templates: how a part of a key is read and what its canonical text is.

use std::fmt;

use crate::calendar::{Date, DateTime, Time};
use crate::template::escape;
use crate::value::Value;

/// The most digits that MySQL's DECIMAL has.
const DECIMAL_DIGITS: usize = 65;

/// The longest text that a tag derived from a join names.
const COMPARED_BYTES: usize = 512;

/// The type of one `{param:type}` of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ParamType {
    /// `u64`: unsigned integers, BIT, YEAR.
    U64,
    /// `i64`: signed integers.
    I64,
    /// `bool`: `true` and `false`, 1 and 0 in MySQL.
    Bool,
    /// `str`: text; ENUM by its label, SET by its labels joined with commas.
    Str(Box<[Filter]>),
    /// `decimal`: exact numbers.
    Decimal,
    /// `date`: `2026-11-20`.
    Date,
    /// `datetime`: `20261120T123456.5`; TIMESTAMP in UTC.
    DateTime,
    /// `time`: `123456.5`.
    Time,
    /// `uuid`: 36 characters; BINARY(16) or text.
    Uuid,
    /// `hex`: bytes in lower-case hex; BINARY, VARBINARY, BLOB.
    Hex,
    /// What a join compares, in tags that are derived from it: numbers by their value, ASCII text without regard to case and
    /// spaces around it, bytes without zeros at the end. It tells apart less than any collation does, never more. No template can be written with it.
    Compared,
}

/// What is done to the text of a `str` parameter on both sides, so that it agrees with the column's collation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// To lower case, by Unicode.
    Lower,
    /// To upper case, by Unicode.
    Upper,
    /// Without spaces at the end.
    TrimEnd,
}

/// Why a part of a key is not of its parameter's type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// Not of the type at all.
    #[error("{text:?} is not {expected}")]
    Invalid {
        /// The part, as written.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Means something, but is not the one way to write it.
    #[error("{text:?} is not the canonical form, write {canonical}")]
    NotCanonical {
        /// The part, as written.
        text: String,
        /// The same value, as keys write it.
        canonical: String,
    },
    /// Nothing, also after its filters.
    #[error("an empty part names nothing")]
    Empty,
}

impl ParamType {
    /// The names of all types, for messages.
    pub(crate) const NAMES: [&'static str; 10] =
        ["u64", "i64", "bool", "str", "decimal", "date", "datetime", "time", "uuid", "hex"];

    /// Reads a type as templates write it: `u64`, `str|lower|trim_end`.
    pub(crate) fn from_spec(spec: &str) -> Result<Self, String> {
        let mut parts = spec.split('|').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let simple = match name {
            "u64" => Self::U64,
            "i64" => Self::I64,
            "bool" => Self::Bool,
            "str" => {
                let mut filters = Vec::new();
                for filter in parts {
                    filters.push(Filter::from_name(filter)?);
                }
                if filters.contains(&Filter::Lower) && filters.contains(&Filter::Upper) {
                    return Err("a str is lower or upper, not both; keep one of the filters".to_owned());
                }
                return Ok(Self::Str(filters.into()));
            }
            "decimal" => Self::Decimal,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "time" => Self::Time,
            "uuid" => Self::Uuid,
            "hex" => Self::Hex,
            other => {
                let hint = crate::report::did_you_mean(other, Self::NAMES).map_or_else(
                    || format!("write one of {}", Self::NAMES.join(", ")),
                    |name| format!("did you mean {name}?"),
                );
                return Err(format!("there is no type {other:?}; {hint}"));
            }
        };
        match parts.next() {
            Some(filter) => Err(format!("{name} takes no filter, remove |{filter}; filters are for str")),
            None => Ok(simple),
        }
    }

    /// The type's name, without filters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::Str(_) => "str",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::DateTime => "datetime",
            Self::Time => "time",
            Self::Uuid => "uuid",
            Self::Hex => "hex",
            Self::Compared => "compared",
        }
    }

    /// What a value of the type is, in words.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::U64 => "an unsigned number (u64)",
            Self::I64 => "a whole number (i64)",
            Self::Bool => "true or false (bool)",
            Self::Str(_) => "text with %XX for special characters (str)",
            Self::Decimal => "a decimal number (decimal)",
            Self::Date => "a date like 2026-11-20 (date)",
            Self::DateTime => "a date and time like 20261120T123456.5 (datetime)",
            Self::Time => "a time like 123456.5 (time)",
            Self::Uuid => "a uuid of 36 characters (uuid)",
            Self::Hex => "bytes in hex (hex)",
            Self::Compared => "a number, a text of ASCII letters, or bytes",
        }
    }

    /// Reads a part of a key. Only the canonical text of a value is accepted.
    pub fn parse(&self, text: &str) -> Result<Value, ParamError> {
        let value = self.parse_any(text)?;
        if is_canonical(&value, text) {
            return Ok(value);
        }
        Err(ParamError::NotCanonical { text: text.to_owned(), canonical: value.to_string() })
    }

    /// Reads a part of a key in any spelling that has one clear meaning.
    pub(crate) fn parse_any(&self, text: &str) -> Result<Value, ParamError> {
        let read = match self {
            _ if text.is_empty() => return Err(ParamError::Empty),
            Self::U64 => read_u64(text).map(Value::U64),
            Self::I64 => read_i64(text).map(Value::I64),
            Self::Bool => match text {
                "true" | "1" => Some(Value::Bool(true)),
                "false" | "0" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Str(filters) => match escape::read(text) {
                None => None,
                Some(text) => return filter(filters, &text).map(Value::Str).ok_or(ParamError::Empty),
            },
            Self::Decimal => canonical_decimal(text).map(Value::Decimal),
            Self::Date => Date::parse(text).map(Value::Date),
            Self::DateTime => DateTime::parse(text).map(Value::DateTime),
            Self::Time => Time::parse(text).map(Value::Time),
            Self::Uuid => read_uuid(text).map(Value::Uuid),
            Self::Hex => read_hex(text).map(Value::Bytes),
            Self::Compared => escape::read(text).and_then(|text| match text.strip_prefix('\'') {
                Some(plain) => read_compared(plain).filter(|value| matches!(value, Value::Str(_))),
                None if text == "#" => Some(compared_bytes(&[])?),
                None if text.starts_with('#') => compared_bytes(&read_hex(&text[1..])?),
                None => read_compared(&text).filter(|value| matches!(value, Value::Decimal(_))),
            }),
        };
        read.ok_or_else(|| ParamError::Invalid { text: text.to_owned(), expected: self.describe() })
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        let Self::Str(filters) = self else { return Ok(()) };
        filters.iter().try_for_each(|filter| write!(f, "|{}", filter.name()))
    }
}

impl Filter {
    fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "lower" => Ok(Self::Lower),
            "upper" => Ok(Self::Upper),
            "trim_end" => Ok(Self::TrimEnd),
            other => Err(format!("there is no filter {other:?}; write lower, upper or trim_end")),
        }
    }

    /// The filter's name in templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::TrimEnd => "trim_end",
        }
    }
}

/// Whether `text` is how keys write `value`. The common types are compared without allocating.
fn is_canonical(value: &Value, text: &str) -> bool {
    match value {
        Value::U64(_) => text == "0" || !text.starts_with(['0', '+']),
        Value::I64(_) => text == "0" || !(text.starts_with(['0', '+']) || text.starts_with("-0")),
        Value::Bool(value) => text == if *value { "true" } else { "false" },
        Value::Decimal(canonical) => **canonical == *text,
        Value::Str(plain) if !text.contains('%') => **plain == *text && !text.contains(escape::is_special),
        Value::Bytes(_) => !text.bytes().any(|byte| byte.is_ascii_uppercase()),
        other => other.to_string() == text,
    }
}

/// Applies the filters in their order; `None` when nothing is left.
pub(crate) fn filter(filters: &[Filter], text: &str) -> Option<Box<str>> {
    let mut text = text.to_owned();
    for filter in filters {
        text = match filter {
            Filter::Lower => text.to_lowercase(),
            Filter::Upper => text.to_uppercase(),
            Filter::TrimEnd => text.trim_end_matches(' ').to_owned(),
        };
    }
    (!text.is_empty()).then(|| text.into())
}

pub(crate) fn read_u64(text: &str) -> Option<u64> {
    text.bytes().next().filter(|byte| *byte != b'-')?;
    text.parse().ok()
}

pub(crate) fn read_i64(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Reads a decimal number without exponent into its one canonical form: no `+`, no needless zeros, no `-0`.
pub(crate) fn canonical_decimal(text: &str) -> Option<Box<str>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if whole.len() + fraction.len() > DECIMAL_DIGITS {
        return None;
    }
    let mut canonical = String::with_capacity(whole.len() + fraction.len() + 3);
    if negative && whole.len() + fraction.len() > 0 {
        canonical.push('-');
    }
    canonical.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        canonical.push('.');
        canonical.push_str(fraction);
    }
    Some(canonical.into())
}

/// Reads what a join compares: a number by its value, other text folded, with a quote before it.
pub(crate) fn read_compared(text: &str) -> Option<Value> {
    let text = text.trim_matches(' ');
    if let Some(number) = canonical_decimal(text) {
        return Some(Value::Decimal(number));
    }
    let plain = text.len() <= COMPARED_BYTES && text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    plain.then(|| Value::Str(format!("'{}", text.to_ascii_lowercase()).into()))
}

/// What a join compares of bytes: them in hex, with a sign before it. Zeros at the end are left out, as sources leave them out.
pub(crate) fn compared_bytes(bytes: &[u8]) -> Option<Value> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let bytes = &bytes[..end];
    (2 * bytes.len() <= COMPARED_BYTES)
        .then(|| Value::Str(format!("#{}", Value::Bytes(bytes.to_vec())).into()))
}

/// Reads a uuid with or without its hyphens, in either case.
pub(crate) fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let plain = match bytes.len() {
        32 => text.to_owned(),
        36 if [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-') => text.replace('-', ""),
        _ => return None,
    };
    read_hex(&plain)?.try_into().ok()
}

pub(crate) fn read_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(spec: &str, text: &str) -> Result<String, String> {
        let param = ParamType::from_spec(spec).unwrap();
        param.parse(text).map(|value| value.to_string()).map_err(|error| match error {
            ParamError::NotCanonical { canonical, .. } => format!("write {canonical}"),
            ParamError::Invalid { .. } => "invalid".to_owned(),
            ParamError::Empty => "empty".to_owned(),
        })
    }

    #[test]
    fn one_value_has_one_text_and_others_get_it_as_a_hint() {
        let cases: &[(&str, &str, Result<&str, &str>)] = &[
            ("u64", "7", Ok("7")),
            ("u64", "0", Ok("0")),
            ("u64", "18446744073709551615", Ok("18446744073709551615")),
            ("u64", "18446744073709551616", Err("invalid")),
            ("u64", "007", Err("write 7")),
            ("u64", "+7", Err("write 7")),
            ("u64", "7x", Err("invalid")),
            ("u64", "-1", Err("invalid")),
            ("u64", "-0", Err("invalid")),
            ("u64", "", Err("empty")),
            ("i64", "-7", Ok("-7")),
            ("i64", "-0", Err("write 0")),
            ("i64", "-07", Err("write -7")),
            ("i64", "-9223372036854775808", Ok("-9223372036854775808")),
            ("bool", "true", Ok("true")),
            ("bool", "1", Err("write true")),
            ("bool", "yes", Err("invalid")),
            ("str", "Ann", Ok("Ann")),
            ("str", "a%3Ab%20c", Ok("a%3Ab%20c")),
            ("str", "a%3ab", Err("write a%3Ab")),
            ("str", "%41", Err("write A")),
            ("str", "a b", Err("write a%20b")),
            ("str", "100%", Err("invalid")),
            ("str", "%ff", Err("invalid")),
            ("str|lower", "Ann@Example.com", Err("write ann@example.com")),
            ("str|lower", "ann@example.com", Ok("ann@example.com")),
            ("str|upper", "ann", Err("write ANN")),
            ("str|trim_end", "ann%20", Err("write ann")),
            ("str|trim_end", "%20", Err("empty")),
            ("decimal", "-0.50", Err("write -0.5")),
            ("decimal", "100.0", Err("write 100")),
            ("decimal", "-0.0", Err("write 0")),
            ("decimal", ".5", Err("write 0.5")),
            ("decimal", "1e3", Err("invalid")),
            ("decimal", "0.5", Ok("0.5")),
            ("date", "2026-11-20", Ok("2026-11-20")),
            ("date", "20261120", Err("write 2026-11-20")),
            ("date", "2026-02-30", Err("invalid")),
            ("datetime", "20261120T123456.5", Ok("20261120T123456.5")),
            ("datetime", "20261120T123456.500", Err("write 20261120T123456.5")),
            ("time", "-010203.000004", Ok("-010203.000004")),
            ("uuid", "0188c9ce-1b6e-7c3a-9d2f-0123456789ab", Ok("0188c9ce-1b6e-7c3a-9d2f-0123456789ab")),
            ("uuid", "0188C9CE1B6E7C3A9D2F0123456789AB", Err("write 0188c9ce-1b6e-7c3a-9d2f-0123456789ab")),
            ("hex", "00ff", Ok("00ff")),
            ("hex", "00FF", Err("write 00ff")),
            ("hex", "0f0", Err("invalid")),
        ];
        for (spec, text, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(canonical(spec, text), expected, "{spec} {text:?}");
        }
    }

    #[test]
    fn a_wrong_type_or_filter_gets_a_remedy() {
        assert_eq!(ParamType::from_spec("u46").unwrap_err(), "there is no type \"u46\"; did you mean u64?");
        assert!(
            ParamType::from_spec("int").unwrap_err().contains("write one of")
                || ParamType::from_spec("int").is_err()
        );
        assert!(ParamType::from_spec("u64|lower").unwrap_err().contains("takes no filter"));
        assert!(ParamType::from_spec("str|lowr").unwrap_err().contains("lower, upper or trim_end"));
        assert!(ParamType::from_spec("str|lower|upper").is_err());
    }
}
