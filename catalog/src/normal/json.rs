//! JSON values of columns whose type is not told: what can be read in two ways is no key part.
//!
//! A wrong key removes nothing that is stale, and nobody would notice; an error flushes the groups concerned.

use super::{ColumnError, JsonForm, Normal};
use crate::param::{self, ParamType};

/// Digits that a double keeps.
const DOUBLE_DIGITS: usize = 15;

impl ParamType {
    /// The key part that a JSON value stands for, if it can stand for one only.
    pub(super) fn of_json(&self, text: &str, form: JsonForm) -> Result<Normal, ColumnError> {
        let is_number = matches!(form, JsonForm::Number | JsonForm::Java);
        match self {
            // A date as a number may count days, milliseconds or microseconds; no text column writes numbers.
            Self::Str(_) | Self::Date | Self::DateTime | Self::Time | Self::Uuid | Self::Hex if is_number => {
                Err(self.bad(text))
            }
            Self::Uuid if param::read_uuid(text).is_some() => self.of_text(text),
            Self::Uuid => match base64(text) {
                Some(bytes) if bytes.len() == 16 => self.of_bytes(&bytes),
                _ => Err(self.bad(text)),
            },
            Self::Hex => match (base64(text), param::read_hex(text)) {
                _ if text.is_empty() => Ok(Normal::NoKey),
                (Some(bytes), None) | (None, Some(bytes)) => self.of_bytes(&bytes),
                _ => Err(self.bad(text)),
            },
            // Of a text column or a number's: what can be read as a number is one by the number's rules, and what may be a packed one is none.
            Self::Compared
                if is_number || plain(text.trim_matches(' ')).is_some_and(|plain| is_decimal(&plain)) =>
            {
                self.of_json_number(text.trim_matches(' '), form)
            }
            Self::Compared if form == JsonForm::Packed && base64(text).is_some() => Err(self.bad(text)),
            Self::Str(_) | Self::Date | Self::DateTime | Self::Time | Self::Compared => self.of_text(text),
            Self::U64 | Self::I64 | Self::Bool | Self::Decimal => self.of_json_number(text, form),
        }
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

/// Standard base64 with its padding; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let body = text.trim_end_matches('=').as_bytes();
    let padding = bytes.len() - body.len();
    if padding > 2 {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len() / 4 * 3);
    for chunk in body.chunks(4) {
        let mut word = 0u32;
        for byte in chunk {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            word = word << 6 | u32::from(digit);
        }
        word <<= 6 * (4 - chunk.len());
        decoded.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

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
