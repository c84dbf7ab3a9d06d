//! Which server answers, and whether it still is one that takes writes.
//!
//! A connection outlives a switchover: *the address moves to the new primary; the old one becomes read-only and follows it, or does not; what
//! pooled connections go on reading there is old, and no removal will come for it, since the change was delivered before.* So the server is
//! asked who it is when a connection is made and, at most every [`VERIFY`], when one is given back, before what was read on it counts.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor as _, Row as _, mysql::MySqlConnection};
use tokio::time::Instant;

use super::pool::server_error;

/// What is read on a connection counts without asking for so long after the server was asked.
pub(crate) const VERIFY: Duration = Duration::from_millis(200);
/// Servers that take turns behind one address within this time are several, and no switchover.
const TURNS: Duration = Duration::from_mins(1);
/// Servers that are remembered.
const REMEMBERED: usize = 16;

/// Who a server says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// MySQL's `server_uuid`; of MariaDB, which has none, its id, host and port.
    pub(crate) id: String,
    /// Whether it refuses writes: a replica, or a primary that is handed over.
    pub(crate) read_only: bool,
}

/// Asks a server who it is: one statement in one round trip.
pub(crate) async fn ask(connection: &mut MySqlConnection) -> sqlx::Result<Identity> {
    const WRITABLE: &str = "CONCAT(@@global.read_only), CONCAT(@@global.innodb_read_only)";
    let mysql = format!("SELECT @@server_uuid, {WRITABLE}");
    let row = match connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(mysql))).await {
        // No such variable.
        Err(error) if server_error(&error) == Some(1193) => {
            let mariadb = format!("SELECT CONCAT(@@server_id, '@', @@hostname, ':', @@port), {WRITABLE}");
            connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(mariadb))).await?
        }
        row => row?,
    };
    let text = |at: usize| row.try_get_unchecked::<String, _>(at);
    // MariaDB 12 has words for degrees of it.
    let refuses = |value: String| !matches!(value.to_ascii_uppercase().as_str(), "0" | "OFF");
    Ok(Identity { id: text(0)?, read_only: refuses(text(1)?) || refuses(text(2)?) })
}

/// What has been seen of the servers behind one address. Pure: time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    seen: BTreeMap<String, Seen>,
    current: Option<String>,
    /// Whether the address leads to several servers at a time.
    several: bool,
}

#[derive(Debug)]
struct Seen {
    read_only: bool,
    /// Whether it refuses writes and is not the replica that was meant from the start: it took them before, or another one did.
    demoted: bool,
    last: Instant,
}

/// What follows from a look at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is as before. `keep`: whether what is read there may be kept.
    Same { keep: bool },
    /// It is one of several that take turns. What is read on either counts for its reader; what was kept may be old.
    Turned { keep: bool },
    /// What was read shortly before may be old: here a server that takes no writes any more, or another server than before.
    Switched { keep: bool },
}

impl Servers {
    /// Takes note of who has answered at `now`.
    pub(crate) fn look(&mut self, who: &Identity, now: Instant) -> Look {
        let recently = |seen: &Seen| now.saturating_duration_since(seen.last) < TURNS;
        // One that has been alone for a while is one again.
        self.several &= self.seen.iter().any(|(id, seen)| *id != who.id && recently(seen));
        let known = self.seen.get(&who.id);
        let another = self.current.as_ref().is_some_and(|current| *current != who.id);
        let demoted_now = known.is_some_and(|seen| who.read_only && !seen.read_only);
        // Also one that refuses writes where another one took them: it may not have applied all that was delivered.
        let before = self.current.as_ref().and_then(|current| self.seen.get(current));
        let follows = another && before.is_some_and(|before| !before.read_only || before.demoted);
        let demoted = who.read_only && (demoted_now || follows || known.is_some_and(|seen| seen.demoted));
        let turns = another && !demoted && known.is_some_and(recently);
        let switched = demoted_now || (another && (known.is_none() || !self.several));
        self.several |= turns;
        self.seen.insert(who.id.clone(), Seen { read_only: who.read_only, demoted, last: now });
        if self.seen.len() > REMEMBERED {
            let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.last).map(|(id, _)| id.clone());
            oldest.and_then(|oldest| self.seen.remove(&oldest));
        }
        self.current = Some(who.id.clone());
        let keep = !demoted;
        match (switched, another) {
            (true, _) => Look::Switched { keep },
            (false, true) => Look::Turned { keep },
            (false, false) => Look::Same { keep },
        }
    }

    /// What a person should know; `None` if nothing.
    pub(crate) fn warning(&self) -> Option<String> {
        let current = self.current.as_ref()?;
        if self.seen.get(current).is_some_and(|seen| seen.demoted) {
            return Some(format!(
                "server {current} takes no writes any more, or follows one that did: its rows are served and not kept, until database.url \
                 leads to the new primary"
            ));
        }
        self.several.then(|| {
            format!(
                "database.url leads to several servers at a time ({} and others): what one of them has not applied yet is read there as \
                 old, so all groups are flushed at each turn; let it lead to the primary alone",
                self.seen.keys().take(2).cloned().collect::<Vec<_>>().join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(id: &str, read_only: bool) -> Identity {
        Identity { id: id.to_owned(), read_only }
    }

    const SAME: Look = Look::Same { keep: true };
    const SWITCHED: Look = Look::Switched { keep: true };
    const TURNED: Look = Look::Turned { keep: true };

    #[test]
    fn a_primary_that_becomes_read_only_is_left_and_nothing_of_it_is_kept() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        assert_eq!(servers.look(&who("a", false), now), SAME);
        assert_eq!(servers.look(&who("a", true), now), Look::Switched { keep: false });
        assert_eq!(servers.look(&who("a", true), now), Look::Same { keep: false });
        assert!(servers.warning().unwrap().contains("takes no writes any more"));
        assert_eq!(servers.look(&who("b", false), now), SWITCHED, "the address moved");
        assert_eq!(servers.warning(), None);
        assert_eq!(servers.look(&who("b", false), now), SAME);
        assert_eq!(servers.look(&who("a", true), now), Look::Switched { keep: false }, "an old connection");
    }

    #[test]
    fn a_primary_that_takes_writes_again_is_one_again() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.look(&who("a", false), now);
        servers.look(&who("a", true), now);
        assert_eq!(servers.look(&who("a", false), now), SAME);
        assert_eq!(servers.warning(), None);
    }

    #[test]
    fn a_replica_that_was_one_from_the_start_is_read_as_configured() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        assert_eq!(servers.look(&who("r", true), now), SAME);
        assert_eq!(servers.look(&who("r", true), now), SAME);
        assert_eq!(servers.look(&who("r", false), now), SAME, "promoted");
        assert_eq!(servers.look(&who("r", true), now), Look::Switched { keep: false });
    }

    #[test]
    fn a_switch_and_a_switch_back_much_later_are_two_and_servers_that_take_turns_are_several() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.look(&who("a", false), now);
        assert_eq!(servers.look(&who("b", false), now + TURNS), SWITCHED);
        assert_eq!(servers.look(&who("a", false), now + 3 * TURNS), SWITCHED);
        assert_eq!(servers.warning(), None);
        assert_eq!(servers.look(&who("b", false), now + 3 * TURNS), SWITCHED);
        assert_eq!(servers.look(&who("a", false), now + 3 * TURNS), SWITCHED, "a step back at once");
        assert_eq!(servers.look(&who("b", false), now + 3 * TURNS), TURNED, "a proxy that spreads");
        assert_eq!(servers.look(&who("b", false), now + 3 * TURNS), SAME);
        assert_eq!(
            servers.look(&who("a", false), now + 3 * TURNS),
            TURNED,
            "or a third switch within a minute"
        );
        assert!(servers.warning().unwrap().contains("several servers at a time"), "{servers:?}");
        assert_eq!(servers.look(&who("b", false), now + 3 * TURNS), TURNED);
        assert_eq!(servers.look(&who("c", false), now + 3 * TURNS), SWITCHED, "a third");
        assert_eq!(servers.look(&who("b", true), now + 3 * TURNS), Look::Switched { keep: false });
        assert_eq!(servers.look(&who("a", false), now + 3 * TURNS), TURNED);
        for passed in 4..6 {
            assert_eq!(servers.look(&who("a", false), now + passed * TURNS), SAME);
        }
        assert_eq!(servers.warning(), None, "alone for a while");
        assert_eq!(servers.look(&who("c", false), now + 6 * TURNS), SWITCHED);
    }

    #[test]
    fn a_new_server_that_still_follows_is_not_kept_before_it_takes_writes() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.look(&who("a", false), now);
        assert_eq!(servers.look(&who("b", true), now), Look::Switched { keep: false });
        assert_eq!(servers.look(&who("b", true), now), Look::Same { keep: false });
        assert_eq!(servers.look(&who("b", false), now), SAME, "promoted, with all that was delivered");
    }

    #[test]
    fn a_name_that_changes_each_time_takes_no_memory() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        for number in 0..100 {
            servers.look(&who(&number.to_string(), false), now + TURNS * number);
        }
        assert_eq!(servers.seen.len(), REMEMBERED);
    }
}
