//! Times in whole milliseconds.

use std::time::Duration;

use serde::Serializer;

/// A time as JSON.
pub fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(to_millis(*time))
}

/// A time as JSON, if there is one.
pub fn optional_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&to_millis(*time)),
        None => serializer.serialize_none(),
    }
}

/// Rounded down; a time that has no such number is the longest that there is. *A bound that is a little too strict is kept, one that is too loose is not.*
pub fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
