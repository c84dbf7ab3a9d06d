//! A value of MySQL's binary protocol becomes a cell. `docs/values.md` is the table of all types, and its tests are in
//! `tests/mysql.rs`.
//!
//! The bytes are read here and not by sqlx's own decoders, which have no place for zero dates and no use for a column's
//! precision. The format is that of [MySQL's documentation][1].
//!
//! [1]: https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html

use std::{borrow::Cow, fmt::Write};

use sqlx::{
    Column as _, Decode, Row as _, Type, TypeInfo as _,
    mysql::{MySql, MySqlColumn, MySqlRow, MySqlTypeInfo},
};

use crate::cell::Cell;

/// How the values of one result column are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Signed,
    Unsigned,
    Single,
    Double,
    Decimal,
    Bit,
    Date,
    /// Digits of the fraction, where known; UTC for TIMESTAMP.
    DateTime {
        digits: Option<usize>,
        utc: bool,
    },
    Time {
        digits: Option<usize>,
    },
    Text,
    Json,
    Bytes,
    /// MySQL's own form of a shape, of which bytes are all that is known.
    Geometry,
}

impl Form {
    pub(crate) fn of(column: &MySqlColumn) -> Self {
        let info = column.type_info();
        match info.name() {
            "YEAR" => Self::Unsigned,
            // TINYINT(1) is called so, signed or not.
            "BOOLEAN" if *info == <u8 as Type<MySql>>::type_info() => Self::Unsigned,
            "BOOLEAN" => Self::Signed,
            name if name.ends_with("INT UNSIGNED") => Self::Unsigned,
            name if name.ends_with("INT") => Self::Signed,
            "FLOAT" => Self::Single,
            "DOUBLE" => Self::Double,
            "DECIMAL" => Self::Decimal,
            "BIT" => Self::Bit,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime { digits: fraction_digits(info, 19), utc: false },
            "TIMESTAMP" => Self::DateTime { digits: fraction_digits(info, 19), utc: true },
            "TIME" => Self::Time { digits: fraction_digits(info, 10) },
            "JSON" => Self::Json,
            "GEOMETRY" => Self::Geometry,
            // The flag that makes sqlx say BINARY is set for text with a binary collation too; the character set tells.
            _ if <str as Type<MySql>>::compatible(info) => Self::Text,
            "SET" | "NULL" => Self::Text,
            _ => Self::Bytes,
        }
    }

    /// Reads the value of the column at `index`.
    pub(crate) fn read(self, row: &MySqlRow, index: usize) -> Result<Cell<'_>, String> {
        let value = row.try_get_raw(index).map_err(|error| error.to_string())?;
        // sqlx calls zero dates null; its undecoded bytes are there only for what isn't.
        let Ok(raw) = <&[u8] as Decode<MySql>>::decode(value) else { return Ok(Cell::Null) };
        self.decode(raw).ok_or_else(|| {
            let column = &row.columns()[index];
            format!(
                "column {} ({}) can't be read: its {} bytes have another form",
                column.name(),
                column.type_info(),
                raw.len()
            )
        })
    }

    fn decode(self, raw: &[u8]) -> Option<Cell<'_>> {
        Some(match self {
            Self::Signed => Cell::Signed(match *raw {
                [a] => i64::from(i8::from_le_bytes([a])),
                [a, b] => i64::from(i16::from_le_bytes([a, b])),
                [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
                _ => i64::from_le_bytes(raw.try_into().ok()?),
            }),
            Self::Unsigned => Cell::Unsigned(match *raw {
                [a] => u64::from(a),
                [a, b] => u64::from(u16::from_le_bytes([a, b])),
                [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
                _ => u64::from_le_bytes(raw.try_into().ok()?),
            }),
            Self::Single => Cell::Single(f32::from_le_bytes(raw.try_into().ok()?)),
            Self::Double => Cell::Double(f64::from_le_bytes(raw.try_into().ok()?)),
            Self::Decimal => Cell::Plain(Cow::Borrowed(ascii(raw)?)),
            Self::Bit if raw.len() <= 8 => {
                Cell::Unsigned(raw.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
            }
            Self::Bit => return None,
            Self::Date => Cell::Plain(date(raw)?.into()),
            Self::DateTime { digits, utc } => Cell::Plain(date_time(raw, digits, utc)?.into()),
            Self::Time { digits } => Cell::Plain(time(raw, digits)?.into()),
            Self::Text => Cell::Text(std::str::from_utf8(raw).ok()?),
            Self::Json => Cell::Json(std::str::from_utf8(raw).ok()?),
            Self::Bytes | Self::Geometry => Cell::Bytes(raw),
        })
    }
}

/// Digits of the fraction, from the width that the server gives the column: `width` without one, else a point and the digits.
///
/// sqlx keeps the width private, but shows it. Where it should show it differently one day, a fraction is written as it comes:
/// none or six digits.
fn fraction_digits(info: &MySqlTypeInfo, width: usize) -> Option<usize> {
    match shown_width(info)?.checked_sub(width)? {
        0 => Some(0),
        digits @ 2..=7 => Some(digits - 1),
        _ => None,
    }
}

/// The width that the server gives a column: the bytes of a BINARY(n).
pub(crate) fn shown_width(info: &MySqlTypeInfo) -> Option<usize> {
    let shown = format!("{info:?}");
    let (_, rest) = shown.split_once("max_size: Some(")?;
    rest.split_once(')')?.0.parse().ok()
}

fn ascii(raw: &[u8]) -> Option<&str> {
    std::str::from_utf8(raw)
        .ok()
        .filter(|text| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'.')))
}

/// The parts of a date or time, cut by the length byte that comes first; missing parts are zero.
fn parts<const N: usize>(raw: &[u8]) -> Option<[u8; N]> {
    let (length, parts) = raw.split_first()?;
    if usize::from(*length) != parts.len() || parts.len() > N {
        return None;
    }
    let mut all = [0; N];
    all[..parts.len()].copy_from_slice(parts);
    Some(all)
}

fn date(raw: &[u8]) -> Option<String> {
    let [year_low, year_high, month, day, ..] = parts::<11>(raw)?;
    Some(format!("{:04}-{month:02}-{day:02}", u16::from_le_bytes([year_low, year_high])))
}

fn date_time(raw: &[u8], digits: Option<usize>, utc: bool) -> Option<String> {
    let [.., hour, minute, second, a, b, c, d] = parts::<11>(raw)?;
    let mut text = date(raw)?;
    let _ = write!(text, "T{hour:02}:{minute:02}:{second:02}");
    push_fraction(&mut text, u32::from_le_bytes([a, b, c, d]), digits);
    if utc {
        text.push('Z');
    }
    Some(text)
}

fn time(raw: &[u8], digits: Option<usize>) -> Option<String> {
    let [negative, d0, d1, d2, d3, hour, minute, second, a, b, c, d] = parts::<12>(raw)?;
    let hours = u64::from(u32::from_le_bytes([d0, d1, d2, d3])) * 24 + u64::from(hour);
    let mut text = format!("{}{hours:02}:{minute:02}:{second:02}", if negative == 0 { "" } else { "-" });
    push_fraction(&mut text, u32::from_le_bytes([a, b, c, d]), digits);
    Some(text)
}

fn push_fraction(text: &mut String, micros: u32, digits: Option<usize>) {
    let digits = digits.unwrap_or(if micros == 0 { 0 } else { 6 });
    if digits > 0 {
        let fraction = format!("{micros:06}");
        text.push('.');
        text.push_str(&fraction[..digits.min(6)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(form: Form, raw: &[u8]) -> Option<String> {
        let mut out = Vec::new();
        form.decode(raw)?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates_and_times_keep_zero_sign_and_precision() {
        let date_time = |digits, utc| Form::DateTime { digits, utc };
        let cases: &[(Form, &[u8], &str)] = &[
            (Form::Date, &[4, 0xea, 0x07, 11, 20], "2026-11-20"),
            (Form::Date, &[0], "0000-00-00"),
            (Form::Date, &[4, 0xea, 0x07, 0, 0], "2026-00-00"),
            (date_time(Some(0), false), &[0], "0000-00-00T00:00:00"),
            (date_time(Some(3), false), &[4, 0xea, 0x07, 11, 20], "2026-11-20T00:00:00.000"),
            (date_time(Some(0), true), &[7, 0xea, 0x07, 11, 20, 12, 34, 56], "2026-11-20T12:34:56Z"),
            (
                date_time(Some(6), false),
                &[11, 0xea, 0x07, 11, 20, 12, 34, 56, 0x40, 0xe2, 1, 0],
                "2026-11-20T12:34:56.123456",
            ),
            (
                date_time(Some(2), true),
                &[11, 0xea, 0x07, 11, 20, 12, 34, 56, 0xd0, 0xfb, 1, 0],
                "2026-11-20T12:34:56.13Z",
            ),
            (date_time(None, false), &[7, 0xea, 0x07, 11, 20, 12, 34, 56], "2026-11-20T12:34:56"),
            (Form::Time { digits: Some(0) }, &[0], "00:00:00"),
            (Form::Time { digits: Some(0) }, &[8, 1, 34, 0, 0, 0, 22, 59, 59], "-838:59:59"),
            (Form::Time { digits: Some(1) }, &[12, 0, 1, 0, 0, 0, 1, 2, 3, 0x20, 0xa1, 7, 0], "25:02:03.5"),
        ];
        for (form, raw, expected) in cases {
            assert_eq!(
                json(*form, raw).as_deref(),
                Some(format!("\"{expected}\"").as_str()),
                "{form:?} {raw:?}"
            );
        }
    }

    #[test]
    fn integers_and_bits_keep_all_digits() {
        let cases: &[(Form, &[u8], &str)] = &[
            (Form::Signed, &[0xff], "-1"),
            (Form::Unsigned, &[0xff], "255"),
            (Form::Signed, &[0, 0x80], "-32768"),
            (Form::Unsigned, &[0xea, 0x07], "2026"),
            (Form::Signed, &[0, 0, 0x80, 0xff], "-8388608"),
            (Form::Unsigned, &[0xff; 8], "18446744073709551615"),
            (Form::Bit, &[0xff; 8], "18446744073709551615"),
            (Form::Bit, &[1, 0], "256"),
            (Form::Decimal, b"-0.50", "\"-0.50\""),
        ];
        for (form, raw, expected) in cases {
            assert_eq!(json(*form, raw).as_deref(), Some(*expected), "{form:?} {raw:?}");
        }
    }

    #[test]
    fn bytes_of_another_form_are_refused_not_guessed() {
        let utc = Form::DateTime { digits: None, utc: true };
        for (form, raw) in [
            (Form::Signed, &[1, 2, 3][..]),
            (Form::Double, &[1]),
            (Form::Bit, &[0; 9]),
            (Form::Decimal, b"1\""),
            (Form::Text, &[0xff]),
            (Form::Date, &[]),
            (utc, &[5, 1, 2]),
            (utc, &[12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(form.decode(raw), None, "{form:?} {raw:?}");
        }
    }
}
