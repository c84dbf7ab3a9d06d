//! Connections to MySQL.
//!
//! sqlx's own pool is made for services that would rather wait: it retries a refused connection until its timeout and pings each
//! connection after use. A fill wants the truth at once. Here a failed connection marks the database as down, one task asks it
//! again with backoff, and until it answers every fill fails at once with the reason.
//!
//! A connection is used for a limited time, and what was read on it counts only if the server is still the one that it was
//! ([`identity`](super::identity)).

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use daemon::admin::Warnings;
use parking_lot::Mutex;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _,
    mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::identity::{self, Look, Servers, VERIFY};
use crate::{Error, Server};

/// Between two attempts to reach a database that is down.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that was not used for so long is closed.
const LONGEST_IDLE: Duration = Duration::from_mins(5);
/// While the database stays down, the log says so this often.
const REMINDER: Duration = Duration::from_secs(30);

/// At most `size` connections, opened when they are needed.
pub(crate) struct Pool {
    options: MySqlConnectOptions,
    /// Where the database is, without its password.
    address: Arc<str>,
    connect_timeout: Duration,
    query_timeout: Duration,
    /// A connection that is older is not used again.
    lifetime: Duration,
    server: watch::Sender<Server>,
    warnings: Warnings,
    slots: Arc<Semaphore>,
    /// Guards the idle connections and the state; never held while anything waits.
    state: Mutex<State>,
    me: Weak<Self>,
}

#[derive(Default)]
struct State {
    idle: Vec<Idle>,
    /// Connections of an older generation are not used again.
    generation: u64,
    down: Option<Arc<str>>,
    servers: Servers,
    /// How often the server has turned out to be another one: what was read across such a moment does not count.
    switches: u64,
    /// When something was read last without asking afterwards who the server is.
    unverified: Option<Instant>,
}

/// When a connection was taken, as far as it matters to whoever gives it back.
#[derive(Clone, Copy)]
struct Age {
    generation: u64,
    switches: u64,
}

impl State {
    fn age(&self) -> Age {
        Age { generation: self.generation, switches: self.switches }
    }
}

struct Idle {
    connection: MySqlConnection,
    since: Instant,
    known: Known,
}

/// What is known of a connection.
#[derive(Clone, Copy)]
struct Known {
    born: Instant,
    /// When its server was last asked who it is.
    verified: Instant,
    /// Whether what is read there may be kept.
    keep: bool,
}

/// What became of a reading when its connection was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// It counts. `keep`: whether it may be kept too.
    Counts { keep: bool },
    /// It may be of a server that is not the one any more: read again.
    Void,
}

impl Pool {
    pub(crate) fn new(
        options: MySqlConnectOptions,
        size: u32,
        deadline: Duration,
        lifetime: Duration,
    ) -> Arc<Self> {
        let database = options.get_database().map(|name| format!("/{name}")).unwrap_or_default();
        let address = match options.get_socket() {
            Some(socket) => format!("{}{database}", socket.display()),
            None if options.get_host().contains(':') => {
                format!("[{}]:{}{database}", options.get_host(), options.get_port())
            }
            None => format!("{}:{}{database}", options.get_host(), options.get_port()),
        };
        Arc::new_cyclic(|me| Self {
            // An answer must not depend on what sqlx adds to the server's sql_mode; TIMESTAMP is read in UTC.
            options: options
                .pipes_as_concat(false)
                .no_engine_substitution(false)
                .timezone(Some("+00:00".to_owned()))
                .charset("utf8mb4")
                .disable_statement_logging(),
            address: address.into(),
            connect_timeout: deadline.mul_f64(0.75).min(Duration::from_secs(5)),
            query_timeout: deadline,
            lifetime,
            server: watch::Sender::default(),
            warnings: Warnings::new(),
            slots: Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(usize::MAX).clamp(1, 10_000))),
            state: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Where the database is: host, port and database, never the password.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Takes a connection: an idle one, else a new one. Fails at once while the database is known to be down.
    pub(crate) async fn take(&self) -> Result<Lease, Error> {
        self.fail_if_down()?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the slots are never closed");
        self.fail_if_down()?;
        let mut old = Vec::new();
        let idle = {
            let mut state = self.state.lock();
            loop {
                match state.idle.pop() {
                    Some(idle) if idle.known.born.elapsed() >= self.lifetime => old.push(idle.connection),
                    idle => break idle.map(|idle| (idle, state.age())),
                }
            }
        };
        close(old);
        if let Some((Idle { connection, known, .. }, age)) = idle {
            return Ok(self.lease(connection, slot, age, known, true));
        }
        match self.connect().await {
            Ok((connection, known, age)) => Ok(self.lease(connection, slot, age, known, false)),
            Err(failure) => {
                if failure.is_down {
                    self.mark_down(&failure.reason);
                }
                Err(self.unavailable(&failure.reason))
            }
        }
    }

    /// What is known of the server, and each change of it.
    pub(crate) fn server(&self) -> &watch::Sender<Server> {
        &self.server
    }

    /// What a person should know of the server.
    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// Asks the server who it is if something was read since the last time: whoever reads nothing more shall hear of a switch too.
    pub(crate) async fn verify(&self) {
        if self.state.lock().unverified.is_none() {
            return;
        }
        // Down, or as many readers as there are connections: then they find out.
        if let Ok(lease) = self.take().await {
            lease.finish_verified(true).await;
        }
    }

    /// Takes note of who answers on a connection; returns what it means and the age from then on.
    fn saw(&self, who: &identity::Identity) -> (Look, Age) {
        let mut state = self.state.lock();
        let look = state.servers.look(who, Instant::now());
        self.warnings.set("server", state.servers.warning());
        if let Look::Switched { keep } = look {
            state.generation += 1;
            state.switches += 1;
            let dead = std::mem::take(&mut state.idle);
            let (generation, switches) = (state.generation, state.switches);
            drop(state);
            drop(dead);
            warn!(
                database = %self.address, server = who.id, read_only = who.read_only, keep,
                "the database's server has changed, or takes no writes any more: connections are opened anew, and what was read \
                 shortly before is dropped"
            );
            self.server.send_modify(|server| server.switches += 1);
            return (look, Age { generation, switches });
        }
        let age = state.age();
        drop(state);
        if let Look::Turned { .. } = look {
            self.server.send_modify(|server| server.switches += 1);
        }
        (look, age)
    }

    /// Closes all idle connections, after one of them turned out to be dead.
    pub(crate) fn forget_idle(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        let dead = std::mem::take(&mut state.idle);
        drop(state);
        drop(dead);
    }

    pub(crate) fn unavailable(&self, reason: &str) -> Error {
        Error::Unavailable(format!("database {} is unavailable: {reason}", self.address).into())
    }

    fn fail_if_down(&self) -> Result<(), Error> {
        let down = self.state.lock().down.clone();
        down.map_or(Ok(()), |reason| Err(self.unavailable(&reason)))
    }

    fn lease(
        &self,
        connection: MySqlConnection,
        slot: OwnedSemaphorePermit,
        age: Age,
        known: Known,
        reused: bool,
    ) -> Lease {
        Lease { connection, reused, age, known, pool: self.me.clone(), _slot: slot }
    }

    /// A new connection, and its age.
    async fn connect(&self) -> Result<(MySqlConnection, Known, Age), Failure> {
        match timeout(self.connect_timeout, self.open()).await {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(Failure::of(&error)),
            Err(_) => Err(Failure {
                reason: format!("no connection within {:?}", self.connect_timeout),
                is_down: true,
            }),
        }
    }

    async fn open(&self) -> sqlx::Result<(MySqlConnection, Known, Age)> {
        let mut connection = self.options.connect().await?;
        // Every statement reads what is committed when it begins, also where the server's defaults say otherwise.
        connection.execute("SET SESSION autocommit = 1").await?;
        connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        // A query that nobody waits for any more shall not go on; MariaDB has another name for it and is left alone.
        let limit = format!("SET SESSION max_execution_time = {}", self.query_timeout.as_millis().max(1));
        match connection.execute(sqlx::AssertSqlSafe(limit)).await {
            Err(error @ sqlx::Error::Database(_)) => {
                tracing::debug!(%error, "the server has no max_execution_time");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let born = Instant::now();
        let who = identity::ask(&mut connection).await?;
        let (look, age) = self.saw(&who);
        let (Look::Same { keep } | Look::Turned { keep } | Look::Switched { keep }) = look;
        Ok((connection, Known { born, verified: born, keep }, age))
    }

    /// Remembers that the database is down and starts the one task that asks it again.
    fn mark_down(&self, reason: &str) {
        let mut state = self.state.lock();
        let first = state.down.replace(reason.into()).is_none();
        drop(state);
        if first {
            warn!(database = %self.address, reason, "the database is unavailable, trying again until it answers");
            tokio::spawn(probe(self.me.clone()));
        }
    }

    fn mark_up(&self, connection: MySqlConnection, known: Known) {
        let mut state = self.state.lock();
        state.down = None;
        // Whatever was connected before belongs to a server that went away.
        state.generation += 1;
        let dead =
            std::mem::replace(&mut state.idle, vec![Idle { connection, since: Instant::now(), known }]);
        drop(state);
        drop(dead);
    }

    /// Takes a connection back; whether what was read on it counts. `verified`: when its server was asked, if it was since the reading.
    fn give_back(
        &self,
        connection: MySqlConnection,
        age: Age,
        known: Known,
        verified: Option<Instant>,
    ) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut closed = Vec::new();
        let counts = age.switches == state.switches;
        if counts {
            match verified {
                // What was given back unasked after this asking began is not answered for by it.
                Some(asked) if state.unverified.is_none_or(|read| read < asked) => state.unverified = None,
                Some(_) => {}
                None => state.unverified = Some(now),
            }
        }
        if age.generation == state.generation && now - known.born < self.lifetime {
            state.idle.push(Idle { connection, since: now, known });
            // The last one in is the first one out, so the idlest are in front.
            let old = state.idle.iter().take_while(|idle| now - idle.since > LONGEST_IDLE).count();
            closed.extend(state.idle.drain(..old).map(|idle| idle.connection));
        } else {
            closed.push(connection);
        }
        drop(state);
        close(closed);
        counts
    }
}

fn close(connections: Vec<MySqlConnection>) {
    for connection in connections {
        tokio::spawn(async move { timeout(Duration::from_secs(1), connection.close()).await });
    }
}

/// Asks a database that is down again until it answers, or until nobody has a use for it.
async fn probe(pool: Weak<Pool>) {
    let started = Instant::now();
    let mut reminded = started;
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(pool) = pool.upgrade() else { return };
        match pool.connect().await {
            Ok((connection, known, _)) => {
                pool.mark_up(connection, known);
                info!(database = %pool.address, after = ?started.elapsed(), "the database answers again");
                return;
            }
            Err(Failure { reason, .. }) => {
                if reminded.elapsed() >= REMINDER {
                    reminded = Instant::now();
                    warn!(database = %pool.address, reason, since = ?started.elapsed(), "the database is still unavailable");
                }
                pool.state.lock().down = Some(reason.into());
            }
        }
    }
}

struct Failure {
    reason: String,
    is_down: bool,
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        // A server that has no connection left for us still serves those that we have.
        let full = matches!(server_error(error), Some(1040 | 1203 | 1226));
        Self { reason: reason(error), is_down: !full }
    }
}

/// The server's error number, if the server answered with one.
pub(crate) fn server_error(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// What went wrong, in the shortest words that still tell.
pub(crate) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref::<MySqlDatabaseError>().map_or_else(
            || error.to_string(),
            |error| format!("{} (error {})", error.message(), error.number()),
        ),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// A connection in use. It goes back to the pool by [`finish`](Self::finish) alone: one that is dropped in the middle of a query is
/// closed, since whatever still arrives on it belongs to nobody.
pub(crate) struct Lease {
    pub(crate) connection: MySqlConnection,
    /// Whether it was used before, and may have died meanwhile.
    pub(crate) reused: bool,
    age: Age,
    known: Known,
    pool: Weak<Pool>,
    _slot: OwnedSemaphorePermit,
}

impl Lease {
    /// Returns the connection after a query whose answer was read to its end, and tells whether the answer counts: the server is asked who it
    /// is, unless it was a moment ago.
    pub(crate) async fn finish(self) -> Finished {
        let due = self.known.verified.elapsed() >= VERIFY;
        self.finish_verified(due).await
    }

    async fn finish_verified(mut self, due: bool) -> Finished {
        let before = self.known.keep;
        let Some(pool) = self.pool.upgrade() else { return Finished::Counts { keep: before } };
        if self.age.switches != pool.state.lock().switches {
            return Finished::Void; // of an older server: it is not asked, so that it is not taken for one that takes turns
        }
        let asked = Instant::now();
        if due {
            let limit = pool.connect_timeout;
            let Ok(Ok(who)) = timeout(limit, identity::ask(&mut self.connection)).await else {
                return Finished::Void; // the connection is lost, and nothing is known of its server
            };
            self.known.verified = asked;
            match pool.saw(&who) {
                (Look::Same { keep } | Look::Turned { keep }, _) => self.known.keep = keep,
                (Look::Switched { .. }, _) => return Finished::Void,
            }
        }
        // What was read before a server was promoted is not the primary's.
        let keep = before && self.known.keep;
        if pool.give_back(self.connection, self.age, self.known, due.then_some(asked)) {
            Finished::Counts { keep }
        } else {
            Finished::Void
        }
    }
}
