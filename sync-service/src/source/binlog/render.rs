//! Rows of the binlog as messages in Canal's form, so that one decoder maps them, and a dead letter can be read.

use std::borrow::Cow;

use mysql_async::Value;
use mysql_async::binlog::value::BinlogValue;

use super::tables::ColumnInfo;
use crate::decode::civil_from_days;

/// Appends a JSON string.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    // Writing into memory does not fail.
    serde_json::to_writer(out, text).expect("text is written into memory");
}

/// Appends a column's value as Canal writes it: a string or null; an empty object where it can't be told.
pub(super) fn value(out: &mut Vec<u8>, value: &BinlogValue<'_>, column: &ColumnInfo) {
    match value {
        BinlogValue::Value(Value::NULL) => out.extend_from_slice(b"null"),
        BinlogValue::Value(value) => match text(value, column) {
            Some(text) => string(out, &text),
            None => out.extend_from_slice(b"{}"),
        },
        // No key is made of JSON.
        BinlogValue::Jsonb(_) | BinlogValue::JsonDiff(_) => out.extend_from_slice(b"{}"),
    }
}

fn text<'a>(value: &'a Value, column: &ColumnInfo) -> Option<Cow<'a, str>> {
    let lower = column.mysql_type.to_ascii_lowercase();
    let word = lower.split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
    if let Some(labels) = &column.labels {
        return label(value, word, labels).map(Cow::Owned);
    }
    Some(match value {
        Value::Int(seconds) if word == "timestamp" => moment(*seconds, 0)?.into(),
        Value::Int(number) => integer(*number, word, &lower).into(),
        Value::UInt(number) => integer(number.cast_signed(), word, &lower).into(),
        Value::Float(number) => number.to_string().into(),
        Value::Double(number) => number.to_string().into(),
        Value::Date(year, month, day, ..) if word == "date" => {
            format!("{year:04}-{month:02}-{day:02}").into()
        }
        Value::Date(year, month, day, hour, minute, second, micros) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{}", Fraction(*micros))
                .into()
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if *negative { "-" } else { "" };
            let hours = u64::from(*days) * 24 + u64::from(*hours);
            format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", Fraction(*micros)).into()
        }
        Value::Bytes(bytes) => match word {
            "decimal" | "numeric" => std::str::from_utf8(bytes).ok()?.into(),
            // The zero year is sent as 1900, which YEAR doesn't have.
            "year" => {
                std::str::from_utf8(bytes).ok().map(|year| if year == "1900" { "0000" } else { year })?.into()
            }
            "timestamp" => {
                let text = std::str::from_utf8(bytes).ok()?;
                let (seconds, micros) = text.split_once('.').unwrap_or((text, "0"));
                moment(seconds.parse().ok()?, micros.parse().ok()?)?.into()
            }
            "bit" if bytes.len() <= 8 => {
                bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)).to_string().into()
            }
            "set" if bytes.len() <= 8 => {
                bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)).to_string().into()
            }
            "char" | "varchar" | "text" | "tinytext" | "mediumtext" | "longtext" => {
                characters(bytes, column.charset.as_deref()?)?
            }
            "binary" | "varbinary" | "blob" | "tinyblob" | "mediumblob" | "longblob" => {
                bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into()
            }
            _ => return None,
        },
        Value::NULL => return None,
    })
}

/// The label of an ENUM, empty for the value that is none; the labels of a SET.
fn label(value: &Value, word: &str, labels: &[String]) -> Option<String> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok()?,
        Value::UInt(number) => *number,
        Value::Bytes(bytes) if bytes.len() <= 8 => {
            bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        }
        _ => return None,
    };
    if word == "enum" {
        let Some(index) = number.checked_sub(1) else { return Some(String::new()) };
        return labels.get(usize::try_from(index).ok()?).cloned();
    }
    if labels.len() < 64 && number >> labels.len() != 0 {
        return None;
    }
    let chosen = labels.iter().enumerate().filter(|(bit, _)| number >> bit & 1 == 1);
    Some(chosen.map(|(_, label)| &**label).collect::<Vec<_>>().join(","))
}

/// Text in the character sets that need no tables, and others as far as they agree with ASCII.
fn characters<'a>(bytes: &'a [u8], charset: &str) -> Option<Cow<'a, str>> {
    match charset {
        "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        "latin1" => Some(bytes.iter().map(|byte| cp1252(*byte)).collect::<String>().into()),
        "binary" | "ucs2" | "utf16" | "utf16le" | "utf32" | "sjis" | "cp932" | "swe7" => None,
        _ if bytes.is_ascii() => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// MySQL's latin1 is Windows' code page, with control characters where that has nothing.
fn cp1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    if (0x80..0xa0).contains(&byte) { HIGH[usize::from(byte - 0x80)] } else { char::from(byte) }
}

/// A whole number, signed as its column is: the binlog of older servers doesn't tell, so it may have been read the other way.
fn integer(number: i64, word: &str, mysql_type: &str) -> String {
    let unused = match word {
        "tinyint" => 56,
        "smallint" => 48,
        "mediumint" => 40,
        "int" => 32,
        _ => 0,
    };
    let unsigned = mysql_type.contains("unsigned") || mysql_type.contains("zerofill");
    if unsigned {
        (number.cast_unsigned() & (u64::MAX >> unused)).to_string()
    } else {
        (number << unused >> unused).to_string()
    }
}

/// A TIMESTAMP in UTC; 0 is the zero date.
fn moment(seconds: i64, micros: u32) -> Option<String> {
    if seconds == 0 && micros == 0 {
        return Some("0000-00-00 00:00:00".to_owned());
    }
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    (0..=9999).contains(&year).then(|| {
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{}", Fraction(micros))
    })
}

struct Fraction(u32);

impl std::fmt::Display for Fraction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(formatter, ".{:06}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(value: Value, mysql_type: &str, charset: Option<&str>) -> String {
        let column = ColumnInfo::new("c".to_owned(), mysql_type.to_owned(), charset.map(str::to_owned));
        let mut out = Vec::new();
        super::value(&mut out, &BinlogValue::Value(value), &column);
        String::from_utf8(out).expect("json is text")
    }

    #[test]
    fn values_are_written_as_canal_writes_them() {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        for (value, mysql_type, charset, expected) in [
            (Value::NULL, "int", None, "null"),
            (Value::UInt(u64::MAX), "bigint unsigned", None, "\"18446744073709551615\""),
            (Value::Int(-1), "mediumint unsigned", None, "\"16777215\""),
            (Value::Int(-1), "bigint", None, "\"-1\""),
            (Value::Int(255), "tinyint", None, "\"-1\""),
            (Value::Date(2026, 11, 20, 0, 0, 0, 0), "date", None, "\"2026-11-20\""),
            (Value::Date(2026, 11, 20, 1, 2, 3, 40), "datetime(6)", None, "\"2026-11-20 01:02:03.000040\""),
            (Value::Time(true, 34, 22, 59, 59, 0), "time", None, "\"-838:59:59\""),
            (bytes(b"100.00"), "decimal(10,2)", None, "\"100.00\""),
            (bytes(b"1795219200.500000"), "timestamp(3)", None, "\"2026-11-21 00:00:00.500000\""),
            (bytes(b"0"), "timestamp", None, "\"0000-00-00 00:00:00\""),
            (bytes(&[1, 0xff]), "bit(9)", None, "\"511\""),
            (bytes(&[5, 0]), "set('a','b','c','d','e','f','g','h','i')", None, "\"5\""),
            (Value::Int(2), "enum('a','b')", Some("utf8mb4"), "\"2\""),
            (Value::Int(1), r"enum('a\\b','x')", Some("utf8mb4"), r#""a\\b""#),
            (Value::Int(0), r"enum('a\\b','x')", Some("utf8mb4"), "\"\""),
            (Value::Int(3), r"enum('a\\b','x')", Some("utf8mb4"), "{}"),
            (bytes(&[3]), r"set('a\\b','x')", Some("utf8mb4"), r#""a\\b,x""#),
            (bytes("é\"".as_bytes()), "varchar(9)", Some("utf8mb4"), "\"é\\\"\""),
            (bytes(&[0xe9, 0x80]), "char(2)", Some("latin1"), "\"é€\""),
            (bytes(&[0xe9]), "char(2)", Some("gbk"), "{}"),
            (bytes(&[0, 0xe9]), "varbinary(9)", None, "\"\\u0000é\""),
            (bytes(b"1900"), "year", None, "\"0000\""),
            (bytes(&[1]), "point", None, "{}"),
        ] {
            assert_eq!(told(value, mysql_type, charset), expected, "{mysql_type}");
        }
    }
}
