//! The time zone that a stream writes TIMESTAMP columns in.

use std::str::FromStr;

/// A fixed offset from UTC.
///
/// Canal renders TIMESTAMP in the zone of its JVM. A zone with daylight saving writes two instants alike once a year, so
/// no key could be told from it; only fixed offsets are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Zone {
    seconds_east: i64,
}

/// A zone that can't be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "time zone {0:?} is not UTC or a fixed offset such as \"+08:00\"; start canal with -Duser.timezone=UTC"
)]
pub struct ZoneError(String);

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        let error = || ZoneError(text.to_owned());
        let name = text.trim();
        if name.is_empty() || ["utc", "z", "gmt", "etc/utc"].contains(&name.to_ascii_lowercase().as_str()) {
            return Ok(Self::default());
        }
        let name = name.strip_prefix("GMT").or_else(|| name.strip_prefix("UTC")).unwrap_or(name);
        let (sign, rest) = match name.as_bytes().first() {
            Some(b'+') => (1, &name[1..]),
            Some(b'-') => (-1, &name[1..]),
            _ => return Err(error()),
        };
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
        let number = |text: &str, most: i64| {
            let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten().filter(|number: &i64| *number <= most)
        };
        let hours = number(hours, 14).ok_or_else(error)?;
        let minutes = number(minutes, 59).ok_or_else(error)?;
        Ok(Self { seconds_east: sign * (hours * 3600 + minutes * 60) })
    }
}

impl Zone {
    /// Whether text needs no change.
    pub fn is_utc(self) -> bool {
        self.seconds_east == 0
    }

    /// Rewrites `YYYY-MM-DD hh:mm:ss[.fraction]` from this zone to UTC; `None` for anything else, the zero date included.
    pub fn to_utc(self, text: &str) -> Option<String> {
        let bytes = text.as_bytes();
        let shape = b"0000-00-00 00:00:00";
        let fits = bytes.len() >= shape.len()
            && shape
                .iter()
                .zip(bytes)
                .all(|(shape, byte)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape });
        if !fits {
            return None;
        }
        let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        if month == 0 || day == 0 {
            return None;
        }
        let second = days_from_civil(year, month, day) * 86_400
            + number(11, 13)? * 3600
            + number(14, 16)? * 60
            + number(17, 19)?
            - self.seconds_east;
        let (year, month, day) = civil_from_days(second.div_euclid(86_400));
        let of_day = second.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{}", &text[19..]))
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day since 1970-01-01.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_move_to_utc() {
        let shanghai: Zone = "+08:00".parse().expect("an offset");
        for (local, utc) in [
            ("2026-11-20 08:00:00", "2026-11-20 00:00:00"),
            ("2024-03-01 07:59:59.123", "2024-02-29 23:59:59.123"),
            ("1970-01-01 00:00:00", "1969-12-31 16:00:00"),
        ] {
            assert_eq!(shanghai.to_utc(local).as_deref(), Some(utc));
        }
        for other in ["0000-00-00 00:00:00", "2026-11-20", "", "日本語日本語日本語"] {
            assert_eq!(shanghai.to_utc(other), None);
        }
        let west: Zone = "-03:30".parse().expect("an offset");
        assert_eq!(west.to_utc("2026-12-31 23:00:00").as_deref(), Some("2027-01-01 02:30:00"));
    }

    #[test]
    fn only_zones_without_daylight_saving_are_taken() {
        assert!("UTC".parse::<Zone>().expect("utc").is_utc());
        assert!("GMT+08:00".parse::<Zone>().is_ok());
        for bad in ["Europe/Berlin", "+8x", "+15:00", "+08:60", "+é1"] {
            assert!(bad.parse::<Zone>().is_err(), "{bad}");
        }
    }
}
