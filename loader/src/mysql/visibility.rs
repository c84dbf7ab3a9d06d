//! How long a change may be in the binary log before readers see it.
//!
//! Usually that is milliseconds. Semi-synchronous replication with the wait point `AFTER_SYNC`, MySQL's default, makes it as long as the
//! replica takes to acknowledge, up to its timeout: *the event is in Kafka after 68 ms; the commit waits; a fill reads the old row; the removal
//! is long over when the commit becomes visible after 3 s, and the old row stays.*
//! See "Semisynchronous Replication" in MySQL's reference manual and in MariaDB's knowledge base; the older names are those of MariaDB and of
//! MySQL before 8.0.26.

use std::collections::HashMap;
use std::time::Duration;

/// The most that is ever waited for: whoever sets a longer timeout means "for ever".
const LONGEST: Duration = Duration::from_hours(1);
/// MySQL's and MariaDB's default of the timeout.
const USUAL: Duration = Duration::from_secs(10);

/// How long a change may be in the stream and unseen by these settings (names in lower case).
pub(super) fn unseen_for(variables: &HashMap<String, String>) -> Duration {
    let of = |name: &str| {
        ["source", "master"].iter().find_map(|role| variables.get(&format!("rpl_semi_sync_{role}_{name}")))
    };
    let on = of("enabled").is_some_and(|value| matches!(value.to_ascii_uppercase().as_str(), "ON" | "1"));
    let after_sync = of("wait_point").is_some_and(|value| value.eq_ignore_ascii_case("AFTER_SYNC"));
    if !(on && after_sync) {
        return Duration::ZERO;
    }
    let timeout = of("timeout").and_then(|millis| millis.parse().ok()).map_or(USUAL, Duration::from_millis);
    timeout.min(LONGEST)
}

/// What is to be said of it; `None` for nothing.
pub(super) fn warning(unseen_for: Duration) -> Option<(String, &'static str)> {
    (!unseen_for.is_zero()).then(|| {
        (
            format!(
                "semi-synchronous replication waits AFTER_SYNC: a change is in the stream up to {unseen_for:?} {}before readers see it, so \
                 what is read for so long after a removal is served and not kept",
                if unseen_for == LONGEST { "or longer, by its timeout, which the promise does not cover, " } else { "" }
            ),
            "set rpl_semi_sync_source_wait_point = AFTER_COMMIT (MariaDB: rpl_semi_sync_master_wait_point), or lower \
             rpl_semi_sync_source_timeout",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unseen(settings: &[(&str, &str)]) -> Duration {
        unseen_for(&settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn only_a_wait_before_the_commit_hides_a_change() {
        let of = |role: &str, enabled: &str, point: &str, timeout: &str| {
            unseen(&[
                (&format!("rpl_semi_sync_{role}_enabled"), enabled),
                (&format!("rpl_semi_sync_{role}_wait_point"), point),
                (&format!("rpl_semi_sync_{role}_timeout"), timeout),
            ])
        };
        assert_eq!(of("source", "ON", "AFTER_SYNC", "3000"), Duration::from_secs(3));
        assert_eq!(of("master", "ON", "after_sync", "10000"), Duration::from_secs(10));
        assert_eq!(of("source", "ON", "AFTER_COMMIT", "3000"), Duration::ZERO);
        assert_eq!(of("source", "OFF", "AFTER_SYNC", "3000"), Duration::ZERO);
        assert_eq!(of("master", "1", "AFTER_SYNC", "4294967295"), LONGEST);
        assert_eq!(of("source", "ON", "AFTER_SYNC", "?"), USUAL);
        assert_eq!(unseen(&[]), Duration::ZERO, "without the plugin");
        assert!(warning(Duration::from_secs(3)).unwrap().0.contains("up to 3s"));
        assert_eq!(warning(Duration::ZERO), None);
    }
}
