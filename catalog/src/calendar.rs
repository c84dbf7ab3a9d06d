//! Dates and times as MySQL knows them: zero dates, microseconds, durations up to 838 hours. No time zones.

use std::fmt;

/// A DATE. Zero parts are MySQL's zero dates (`0000-00-00`, `2026-00-00`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31, and within the month.
    pub day: u8,
}

/// A DATETIME or TIMESTAMP, without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime {
    /// The day.
    pub date: Date,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999 999.
    pub micros: u32,
}

/// A TIME: a time of day or a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Time {
    /// Before zero; never set for zero itself.
    pub negative: bool,
    /// 0 to 838.
    pub hours: u16,
    /// 0 to 59.
    pub minutes: u8,
    /// 0 to 59.
    pub seconds: u8,
    /// 0 to 999 999.
    pub micros: u32,
}

impl Date {
    /// Reads `2026-11-20` or `20261120`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (year, month, day) = match bytes.len() {
            10 if bytes[4] == b'-' && bytes[7] == b'-' => (&bytes[..4], &bytes[5..7], &bytes[8..]),
            8 => (&bytes[..4], &bytes[4..6], &bytes[6..]),
            _ => return None,
        };
        let (year, month, day) = (digits(year)?, digits(month)?, digits(day)?);
        let last = match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            0..=12 => 31,
            _ => return None,
        };
        (day <= last).then_some(Self { year: year as u16, month: month as u8, day: day as u8 })
    }
}

impl DateTime {
    /// Reads `2026-11-20 12:34:56.5`, the same with `T`, and the compact `20261120T123456.5`; a date alone is midnight.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('Z').unwrap_or(text);
        let Some((date, time)) = text.split_once(['T', ' ']) else {
            return Some(Self { date: Date::parse(text)?, hour: 0, minute: 0, second: 0, micros: 0 });
        };
        let (clock, micros) = split_fraction(time)?;
        let (hour, minute, second) = clock_parts(clock)?;
        let fits = clock.split(':').next()?.len().min(clock.len() - 4) == 2 && hour <= 23;
        fits.then_some(Self { date: Date::parse(date)?, hour: hour as u8, minute, second, micros })
    }

    /// `2026-11-20 12:34:56.5`, as MySQL reads it.
    pub fn sql_text(&self) -> String {
        let Self { date, hour, minute, second, micros } = self;
        format!("{date} {hour:02}:{minute:02}:{second:02}{}", Fraction(*micros))
    }

    /// Whether the time of day is midnight, so that the date says it all.
    pub fn is_midnight(&self) -> bool {
        self.hour == 0 && self.minute == 0 && self.second == 0 && self.micros == 0
    }
}

impl Time {
    /// Reads `12:34:56.5`, `-838:59:59` and the compact `123456.5`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (clock, micros) = split_fraction(rest)?;
        let (hours, minutes, seconds) = clock_parts(clock)?;
        if hours > 838 {
            return None;
        }
        let zero = hours == 0 && minutes == 0 && seconds == 0 && micros == 0;
        Some(Self { negative: negative && !zero, hours: hours as u16, minutes, seconds, micros })
    }

    /// `-12:34:56.5`, as MySQL reads it.
    pub fn sql_text(&self) -> String {
        let Self { hours, minutes, seconds, micros, .. } = self;
        format!("{}{hours:02}:{minutes:02}:{seconds:02}{}", self.sign(), Fraction(*micros))
    }

    fn sign(&self) -> &'static str {
        if self.negative { "-" } else { "" }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Date { year, month, day } = self.date;
        write!(f, "{year:04}{month:02}{day:02}T{:02}{:02}{:02}", self.hour, self.minute, self.second)?;
        Fraction(self.micros).fmt(f)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:02}{:02}{:02}", self.sign(), self.hours, self.minutes, self.seconds)?;
        Fraction(self.micros).fmt(f)
    }
}

/// Microseconds as `.5`, without trailing zeros; nothing for zero.
struct Fraction(u32);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{:06}", self.0).trim_end_matches('0'))
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 {
        return None;
    }
    text.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
}

/// Cuts `.5` off and reads it as microseconds. More than six digits are refused: MySQL has no more.
fn split_fraction(text: &str) -> Option<(&str, u32)> {
    let Some((clock, fraction)) = text.split_once('.') else { return Some((text, 0)) };
    if fraction.len() > 6 {
        return None;
    }
    let value = digits(fraction.as_bytes())?;
    Some((clock, value * 10u32.pow(6 - fraction.len() as u32)))
}

/// Hours, minutes and seconds of `12:34:56` or `123456`; hours may have three digits.
fn clock_parts(clock: &str) -> Option<(u32, u8, u8)> {
    let bytes = clock.as_bytes();
    let (hours, minutes, seconds) = if clock.contains(':') {
        let mut parts = clock.split(':').map(str::as_bytes);
        let all = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || all.1.len() != 2 || all.2.len() != 2 {
            return None;
        }
        all
    } else {
        let hours = bytes.len().checked_sub(4).filter(|hours| *hours > 0)?;
        (&bytes[..hours], &bytes[hours..hours + 2], &bytes[hours + 2..])
    };
    let (hours, minutes, seconds) = (digits(hours)?, digits(minutes)?, digits(seconds)?);
    (minutes <= 59 && seconds <= 59).then_some((hours, minutes as u8, seconds as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_moment_is_one_moment() {
        for text in ["2026-11-20 12:34:56.500000", "2026-11-20T12:34:56.5Z", "20261120T123456.5"] {
            let value = DateTime::parse(text).unwrap();
            assert_eq!(value.to_string(), "20261120T123456.5");
            assert_eq!(value.sql_text(), "2026-11-20 12:34:56.5");
        }
        assert_eq!(DateTime::parse("2026-11-20").unwrap().to_string(), "20261120T000000");
        assert_eq!(DateTime::parse("0000-00-00 00:00:00").unwrap().sql_text(), "0000-00-00 00:00:00");
    }

    #[test]
    fn times_keep_sign_and_long_hours() {
        for (text, key, sql) in [
            ("-01:02:03.000004", "-010203.000004", "-01:02:03.000004"),
            ("838:59:59", "8385959", "838:59:59"),
            ("12:34:56.780", "123456.78", "12:34:56.78"),
            ("-00:00:00", "000000", "00:00:00"),
        ] {
            let value = Time::parse(text).unwrap();
            assert_eq!(value.to_string(), key);
            assert_eq!(value.sql_text(), sql);
            assert_eq!(Time::parse(key), Some(value));
        }
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in ["2026-02-29", "2026-13-01", "2026-11-31", "2026-1-1", "abc", "", "2026-11-2x"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        for text in [
            "2026-11-20 24:00:00",
            "2026-11-20 1:00:00",
            "2026-11-20 12:34:56.1234567",
            "2026-11-20 ",
            "T",
            "2026-11-20 12:60:00",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
        for text in ["839:00:00", "1:2:3", "", "-", "12:34", "12:34:56:78", "1234"] {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
