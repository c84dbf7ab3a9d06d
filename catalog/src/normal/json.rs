//! JSON values of columns whose type is not told: what can be read in two ways is no key part.
//!
//! A wrong key removes nothing that is stale, and nobody would notice; an error flushes the groups concerned.

use super::packed::{STANDARD, base64, is_text, unpacked};
use super::{ColumnError, JsonForm, Normal};
use crate::calendar::DateTime;
use crate::param::{self, ParamType};
use crate::value::Value;

/// Digits that a double keeps.
const DOUBLE_DIGITS: usize = 15;

impl ParamType {
    /// The key part that a JSON value stands for, if it can stand for one only. Bytes are taken for base64, or hex where they can't be that.
    pub(super) fn of_json(&self, text: &str, form: JsonForm) -> Result<Normal, ColumnError> {
        let is_number = matches!(form, JsonForm::Number | JsonForm::Java);
        match (self, form) {
            (Self::Date | Self::DateTime, JsonForm::Null) => Err(self.bad("null, or a date with zeros")),
            (_, JsonForm::Null) => Ok(Normal::NoKey),
            // Debezium puts it in the place of dates with zeros where a column is NOT NULL.
            (Self::Date | Self::DateTime, JsonForm::String | JsonForm::Packed | JsonForm::Exact)
                if text.starts_with("1970-01-01")
                    && DateTime::parse(text).is_some_and(|moment| moment.is_midnight()) =>
            {
                Err(self.bad(text))
            }
            (Self::Bool, JsonForm::Boolean) => self.of_number(text),
            // Whatever is not 0 is true.
            (Self::U64 | Self::I64, JsonForm::Boolean) if text == "0" => self.of_number(text),
            (Self::Decimal, JsonForm::Boolean) if text == "0" => self.of_text(text),
            (_, JsonForm::Boolean) => Err(self.bad(if text == "0" { "false" } else { "true" })),
            // A date as a number may count days, milliseconds or microseconds; no text column writes numbers.
            (Self::Str(_) | Self::Date | Self::DateTime | Self::Time | Self::Uuid | Self::Hex, _)
                if is_number =>
            {
                Err(self.bad(text))
            }
            (Self::Uuid, _) => match self.of_json_bytes(text, form)?.into_iter().next() {
                Some(value) => Ok(Normal::Value(value)),
                None => Ok(Normal::NoKey),
            },
            // Zeros at the end are missing, or days: a day and an hour are written as an hour.
            (Self::Hex | Self::Time, JsonForm::Stripped) => Err(self.bad(text)),
            (Self::Hex, _) if text.is_empty() => Ok(Normal::NoKey),
            (Self::Hex, _) => match self.of_json_bytes(text, form)?.as_slice() {
                [value] => Ok(Normal::Value(value.clone())),
                _ => Err(self.bad(text)),
            },
            // Of bytes whose zeros are missing nobody knows how many there were.
            (Self::Str(_), JsonForm::Stripped)
                if base64(text, STANDARD).is_some_and(|bytes| is_text(&bytes)) =>
            {
                Err(self.bad(text))
            }
            // Of a text column or a number's: what can be read as a number is one by the number's rules, and what may be a packed one is none.
            (Self::Compared, _)
                if is_number || plain(text.trim_matches(' ')).is_some_and(|plain| is_decimal(&plain)) =>
            {
                self.of_json_number(text.trim_matches(' '), form)
            }
            (Self::Compared, JsonForm::Packed) if base64(text, STANDARD).is_some() => Err(self.bad(text)),
            (Self::Str(_) | Self::Date | Self::DateTime | Self::Time | Self::Compared, _) => {
                self.of_text(text)
            }
            (Self::U64 | Self::I64 | Self::Bool | Self::Decimal, _) => self.of_json_number(text, form),
        }
    }

    /// All key parts that a JSON value may stand for: of text, that text and what it may be the base64 or hex of.
    pub(super) fn of_json_readings(&self, text: &str, form: JsonForm) -> Result<Vec<Value>, ColumnError> {
        let strings = matches!(form, JsonForm::String | JsonForm::Packed);
        let single = match self {
            Self::Hex if strings && !text.is_empty() => return self.of_json_bytes(text, form),
            Self::Uuid if strings || form == JsonForm::Stripped => return self.of_json_bytes(text, form),
            _ => self.of_json(text, form)?,
        };
        let mut values = match single {
            Normal::Value(value) => vec![value],
            Normal::NoKey => Vec::new(),
        };
        if (strings || form == JsonForm::Stripped) && *self == Self::Compared {
            // Of a column of bytes; nothing is the base64 of nothing, or of zeros that are left out.
            let bytes = unpacked(text);
            values.extend(bytes.iter().filter_map(|bytes| param::compared_bytes(bytes)));
            values.extend(text.is_empty().then(|| param::compared_bytes(&[])).flatten());
        }
        if strings && matches!(self, Self::Str(_)) {
            for bytes in unpacked(text).into_iter().filter(|bytes| is_text(bytes)) {
                if let Ok(Normal::Value(value)) = self.of_bytes(&bytes)
                    && !values.contains(&value)
                {
                    values.push(value);
                }
            }
        }
        Ok(values)
    }

    /// All that bytes in a string may be: base64 in either alphabet, hex; an error where they can be none of it.
    fn of_json_bytes(&self, text: &str, form: JsonForm) -> Result<Vec<Value>, ColumnError> {
        let mut values: Vec<Value> = Vec::new();
        let mut add = |value: Value| {
            if !values.contains(&value) {
                values.push(value);
            }
        };
        if *self == Self::Uuid {
            if let Some(uuid) = param::read_uuid(text) {
                add(Value::Uuid(uuid));
            }
            for mut bytes in unpacked(text) {
                if form == JsonForm::Stripped && bytes.len() < 16 {
                    bytes.resize(16, 0);
                }
                if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
                    add(Value::Uuid(bytes));
                }
            }
            if text.is_empty() && form == JsonForm::Stripped {
                add(Value::Uuid([0; 16]));
            }
        } else {
            for bytes in unpacked(text) {
                add(Value::Bytes(bytes));
            }
        }
        if values.is_empty() { Err(self.bad(text)) } else { Ok(values) }
    }

    fn of_json_number(&self, text: &str, form: JsonForm) -> Result<Normal, ColumnError> {
        let plain = plain(text).ok_or_else(|| self.bad(text))?;
        let whole = !plain.contains('.');
        let negative = plain.starts_with('-');
        let digits = plain.bytes().filter(u8::is_ascii_digit).count();
        match form {
            // `1234` may be three bytes.
            JsonForm::Packed if whole && !negative && digits.is_multiple_of(4) => return Err(self.bad(text)),
            JsonForm::Java if text.contains(['.', 'e', 'E']) && digits > DOUBLE_DIGITS => {
                return Err(self.bad(text));
            }
            JsonForm::Java if whole && negative => match self {
                // BIGINT UNSIGNED above the signed range. Of a signed column it is in no key, and one removed in vain does no harm.
                Self::U64 => {
                    let number: i64 = plain.parse().map_err(|_| self.bad(text))?;
                    return self.of_number(&number.cast_unsigned().to_string());
                }
                Self::Decimal | Self::Compared => return Err(self.bad(text)),
                _ => {}
            },
            _ => {}
        }
        if matches!(self, Self::Decimal | Self::Compared) {
            self.of_text(&plain)
        } else {
            self.of_number(&plain)
        }
    }
}

fn is_decimal(text: &str) -> bool {
    param::canonical_decimal(text).is_some()
}

/// A number without an exponent.
fn plain(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return Some(text.into()) };
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 400)?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let number = match usize::try_from(point) {
        Err(_) | Ok(0) => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        Ok(point) if point >= digits.len() => format!("{digits}{}", "0".repeat(point - digits.len())),
        Ok(point) => {
            let (whole, fraction) = digits.split_at(point);
            format!("{whole}.{fraction}")
        }
    };
    let trimmed =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    Some(format!("{sign}{trimmed}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(param: &ParamType, text: &str, form: JsonForm) -> String {
        match param.of_json_readings(text, form) {
            Ok(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
            Err(_) => "flush".to_owned(),
        }
    }

    #[test]
    fn what_is_written_in_several_ways_is_each_of_them_or_none() {
        let str = &ParamType::Str(Box::default());
        let uuid = "01020000-0000-0000-0000-000000000000";
        for (param, text, form, expected) in [
            // `abc` in base64, hex and itself.
            (str, "YWJj", JsonForm::String, "YWJj or abc"),
            (str, "616263", JsonForm::Packed, "616263 or abc"),
            (str, "john", JsonForm::String, "john"),
            (str, "Pj4-", JsonForm::String, "Pj4- or >>>"),
            (str, "", JsonForm::String, ""),
            (str, "john", JsonForm::Stripped, "john"),
            (str, "YWJj", JsonForm::Stripped, "flush"),
            (&ParamType::Hex, "00010203", JsonForm::String, "d34d35d36d37 or 00010203"),
            (&ParamType::Hex, "-_-_", JsonForm::Packed, "fbffbf"),
            (&ParamType::Hex, "AQI=", JsonForm::Stripped, "flush"),
            (&ParamType::Hex, "", JsonForm::Stripped, "flush"),
            (&ParamType::Hex, "", JsonForm::String, ""),
            (&ParamType::Hex, "no bytes", JsonForm::String, "flush"),
            (&ParamType::Uuid, "AQI=", JsonForm::Stripped, uuid),
            (&ParamType::Uuid, "AQI=", JsonForm::String, "flush"),
            (&ParamType::Uuid, "01020000000000000000000000000000", JsonForm::String, uuid),
            (&ParamType::Uuid, "", JsonForm::Stripped, "00000000-0000-0000-0000-000000000000"),
            (&ParamType::Time, "01:00:00", JsonForm::Stripped, "flush"),
            (&ParamType::Time, "01:00:00", JsonForm::Exact, "010000"),
            (&ParamType::U64, "1", JsonForm::Boolean, "flush"),
            (&ParamType::I64, "0", JsonForm::Boolean, "0"),
            (&ParamType::Decimal, "1", JsonForm::Boolean, "flush"),
            (&ParamType::Bool, "1", JsonForm::Boolean, "true"),
            (str, "1", JsonForm::Boolean, "flush"),
            (&ParamType::Date, "", JsonForm::Null, "flush"),
            (&ParamType::Date, "1970-01-01", JsonForm::Exact, "flush"),
            (&ParamType::DateTime, "1970-01-01T00:00:00", JsonForm::Packed, "flush"),
            (&ParamType::DateTime, "1970-01-01 00:00:01", JsonForm::Exact, "19700101T000001"),
            (&ParamType::Date, "1970-01-01", JsonForm::Stripped, "1970-01-01"),
            (&ParamType::DateTime, "", JsonForm::Null, "flush"),
            (str, "", JsonForm::Null, ""),
            (&ParamType::U64, "", JsonForm::Null, ""),
        ] {
            assert_eq!(all(param, text, form), expected, "{param} {text:?} {form:?}");
        }
    }

    fn part(param: &ParamType, text: &str, form: JsonForm) -> Option<Normal> {
        param.of_json(text, form).ok()
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_key_part() {
        let str = ParamType::Str(Box::default());
        assert_eq!(part(&ParamType::U64, "1234", JsonForm::String), Some(Normal::Value(Value::U64(1234))));
        assert_eq!(part(&ParamType::U64, "1234", JsonForm::Packed), None);
        assert_eq!(part(&ParamType::U64, "123", JsonForm::Packed), Some(Normal::Value(Value::U64(123))));
        assert_eq!(
            part(&ParamType::Decimal, "12.5", JsonForm::Packed),
            Some(Normal::Value(Value::Decimal("12.5".into())))
        );
        assert_eq!(part(&ParamType::Date, "19000", JsonForm::Number), None);
        assert_eq!(part(&ParamType::Hex, "00010203", JsonForm::String), None);
        assert_eq!(
            part(&ParamType::Hex, "AAECAw==", JsonForm::String),
            Some(Normal::Value(Value::Bytes(vec![0, 1, 2, 3])))
        );
        assert_eq!(
            part(&ParamType::Hex, "000102", JsonForm::String),
            Some(Normal::Value(Value::Bytes(vec![0, 1, 2])))
        );
        assert_eq!(part(&str, "1234", JsonForm::Number), None);
        assert_eq!(part(&str, "1234", JsonForm::Packed), Some(Normal::Value(Value::Str("1234".into()))));
    }

    #[test]
    fn numbers_of_java_are_taken_only_where_nothing_is_lost() {
        let java = |param: &ParamType, text: &str| part(param, text, JsonForm::Java);
        assert_eq!(java(&ParamType::U64, "-1"), Some(Normal::Value(Value::U64(u64::MAX))));
        assert_eq!(java(&ParamType::I64, "-1"), Some(Normal::Value(Value::I64(-1))));
        assert_eq!(java(&ParamType::Decimal, "-1"), None);
        assert_eq!(java(&ParamType::Decimal, "100.0"), Some(Normal::Value(Value::Decimal("100".into()))));
        assert_eq!(java(&ParamType::Decimal, "1.0E-3"), Some(Normal::Value(Value::Decimal("0.001".into()))));
        assert_eq!(java(&ParamType::Decimal, "12345678901234.567"), None);
        let exact = part(&ParamType::Decimal, "12345678901234567890.123", JsonForm::Number);
        assert_eq!(exact, Some(Normal::Value(Value::Decimal("12345678901234567890.123".into()))));
        assert_eq!(part(&ParamType::U64, "1.5E+3", JsonForm::Number), Some(Normal::Value(Value::U64(1500))));
    }
}
