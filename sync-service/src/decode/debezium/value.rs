//! Values whose kind a schema tells, in the form that keys are rendered from.

use std::borrow::Cow;

use catalog::JsonForm;
use serde_json::value::RawValue;

use super::super::zone::civil_from_days;
use super::super::{Cell, json};
use super::schema::Kind;

/// A value of a known kind; one of another form than its kind says is unusable.
pub(super) fn cell(kind: Kind, raw: &RawValue) -> Cell<'_> {
    let text = raw.get();
    if text == "null" {
        return Cell::Null;
    }
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number = || is_number.then_some(Cow::Borrowed(text));
    let string = || json::text(Some(raw));
    let bytes = || json::bytes(&string()?);
    let whole = || text.parse::<i64>().ok();
    let exact = |text: Option<Cow<'static, str>>| text.map(|text| Cell::Json(text, JsonForm::Number));
    let told = |text: Option<String>| text.map(|text| Cell::Json(text.into(), JsonForm::Exact));
    let cell = match kind {
        Kind::Integer => number().map(|text| Cell::Json(text, JsonForm::Number)),
        // With `bigint.unsigned.handling.mode=long`, or `decimal.handling.mode=double`.
        Kind::Java => number().map(|text| Cell::Json(text, JsonForm::Java)),
        // With Connect's `decimal.format=NUMERIC`.
        Kind::Decimal(_) if is_number => Some(Cell::Json(text.into(), JsonForm::Number)),
        Kind::Decimal(scale) => exact(bytes().and_then(|bytes| decimal(&bytes, scale)).map(Cow::Owned)),
        Kind::Boolean => text.parse().ok().map(Cell::truth),
        Kind::Bits => bytes().map(|mut bytes| {
            bytes.reverse();
            while bytes.len() > 8 && bytes[0] == 0 {
                bytes.remove(0);
            }
            Cell::Bytes(bytes)
        }),
        Kind::Bytes => bytes().map(Cell::Bytes),
        Kind::Date => told(whole().and_then(date)),
        Kind::Timestamp(unit) => told(whole().and_then(|value| timestamp(micros(value, unit)?))),
        Kind::Time(unit) => told(whole().and_then(|value| Some(time(micros(value, unit)?)))),
        Kind::Iso => told(string().and_then(|text| {
            let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00")).unwrap_or(&text);
            let zoned = text.get(10..).unwrap_or("").contains(['+', '-', 'Z']);
            (!zoned).then(|| text.to_owned())
        })),
        Kind::Text => string()
            .filter(|text| text != "__debezium_unavailable_value")
            .map(|text| Cell::Json(text, JsonForm::String)),
        Kind::Unusable => None,
    };
    cell.unwrap_or(Cell::Unusable)
}

/// `None` where a finer fraction than MySQL keeps would be lost.
fn micros(value: i64, unit: i64) -> Option<i64> {
    match unit {
        0 => (value % 1000 == 0).then_some(value / 1000),
        unit => value.checked_mul(unit),
    }
}

fn date(days: i64) -> Option<String> {
    let (year, month, day) = civil_from_days(Some(days).filter(|days| days.abs() < 4_000_000)?);
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

fn timestamp(micros: i64) -> Option<String> {
    let date = date(micros.div_euclid(86_400_000_000))?;
    Some(format!("{date} {}", time(micros.rem_euclid(86_400_000_000))))
}

fn time(micros: i64) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{sign}{:02}:{:02}:{:02}{fraction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The digits of a big-endian two's complement integer, with `scale` of them after the point.
fn decimal(bytes: &[u8], scale: u32) -> Option<String> {
    // DECIMAL(65) fits 28 bytes.
    if bytes.is_empty() || bytes.len() > 32 || scale > 65 {
        return None;
    }
    let negative = bytes[0] & 0x80 != 0;
    let mut number: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in number.iter_mut().rev() {
            let (inverted, carried) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (inverted, carried);
        }
    }
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut number {
            let part = rest << 8 | u32::from(*byte);
            (*byte, rest) = ((part / 10) as u8, part % 10);
        }
        digits.push(b'0' + rest as u8);
    }
    let scale = scale as usize;
    while digits.len() <= scale {
        digits.push(b'0');
    }
    digits.reverse();
    let mut text = String::from_utf8(digits).ok()?;
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    if negative {
        text.insert(0, '-');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_from_their_bytes() {
        for (bytes, scale, text) in [
            (&[0x27, 0x10][..], 2, "100.00"),
            (&[0xff], 0, "-1"),
            (&[0xff], 2, "-0.01"),
            (&[0x80], 0, "-128"),
            (&[0x00], 3, "0.000"),
            (&[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0, "18446744073709551615"),
        ] {
            assert_eq!(decimal(bytes, scale).as_deref(), Some(text));
        }
        assert_eq!(decimal(&[], 0), None);
    }

    #[test]
    fn times_are_written_as_mysql_does() {
        assert_eq!(date(19_439).as_deref(), Some("2023-03-23"));
        assert_eq!(date(i64::MAX), None);
        assert_eq!(timestamp(-1).as_deref(), Some("1969-12-31 23:59:59.999999"));
        assert_eq!(time(-3_600_500_000), "-01:00:00.500000");
        assert_eq!(time(838 * 3_600_000_000), "838:00:00");
    }
}
