//! The server: how it is reached, whether its binlog can be used, and what it says of itself.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts, OptsBuilder, Row, SslOpts};

use super::gtid::GtidSet;
use crate::source::Error;

/// The longest that connecting or one question may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A place in the binlog, in the order of the log.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct LogPlace {
    /// Numbers in names of logs grow longer.
    length: usize,
    file: String,
    pub(super) offset: u64,
}

impl LogPlace {
    pub(super) fn new(file: impl Into<String>, offset: u64) -> Self {
        let file = file.into();
        Self { length: file.len(), file, offset }
    }

    /// The number that the file's name ends with.
    pub(super) fn number(&self) -> u64 {
        self.file.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

/// How the server is reached.
#[derive(Clone)]
pub(super) struct Server {
    opts: Opts,
    /// The same without TLS, where that is preferred and not demanded.
    fallback: Option<Opts>,
    /// For logs.
    pub(super) address: String,
}

/// What the server says of its transactions.
pub(super) struct Transactions {
    pub(super) executed: GtidSet,
    pub(super) purged: GtidSet,
}

impl Server {
    /// Reads a URL as `database.url` is written.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let opts = Opts::from_url(base).map_err(|error| {
            Error::Config(format!(
                "source.binlog.url: {error}; write it like mysql://user:password@host:3306/"
            ))
        })?;
        let address = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port());
        let part = |names: [&str; 2]| {
            let mut parts = query.split('&').filter_map(|part| part.split_once('='));
            let (_, value) = parts.find(|(name, _)| names.contains(name))?;
            Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let mode =
            part(["ssl-mode", "sslmode"]).unwrap_or_else(|| "preferred".to_owned()).to_ascii_lowercase();
        let mut ssl = SslOpts::default();
        if let Some(file) = part(["ssl-ca", "sslca"]) {
            ssl = ssl.with_root_certs(vec![std::path::PathBuf::from(file).into()]);
        }
        // A URL has an IPv6 address in brackets, and nothing else has.
        let host = opts.ip_or_hostname().trim_start_matches('[').trim_end_matches(']').to_owned();
        let builder = || {
            let builder = OptsBuilder::from_opts(opts.clone()).ip_or_hostname(host.clone());
            builder.prefer_socket(false).tcp_nodelay(true)
        };
        let plain: Opts = builder().into();
        let unverified = || {
            let ssl =
                ssl.clone().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
            builder().ssl_opts(ssl).into()
        };
        let (opts, fallback) = match mode.as_str() {
            "disabled" => (plain, None),
            "preferred" => (unverified(), Some(plain)),
            "required" => (unverified(), None),
            "verify_ca" => (builder().ssl_opts(ssl.with_danger_skip_domain_validation(true)).into(), None),
            "verify_identity" => (builder().ssl_opts(ssl).into(), None),
            other => {
                return Err(Error::Config(format!(
                    "source.binlog.url: ssl-mode={other} is not known; write disabled, preferred, required, verify_ca or verify_identity"
                )));
            }
        };
        Ok(Self { opts, fallback, address })
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Conn, Error> {
        let connect = |opts: Opts| async move {
            match tokio::time::timeout(ANSWER, Conn::new(opts)).await {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {ANSWER:?}")),
            }
        };
        let connected = match (connect(self.opts.clone()).await, &self.fallback) {
            (Err(_), Some(plain)) => connect(plain.clone()).await,
            (connected, _) => connected,
        };
        connected.map_err(|error| Error::Unavailable(format!("mysql {}: {error}", self.address)))
    }

    /// Checks what the server must have been set to.
    pub(super) async fn check(&self, conn: &mut Conn) -> Result<(), Error> {
        let bad = |what: &str| Err(Error::Config(format!("source.binlog: mysql {}: {what}", self.address)));
        let names = "'version', 'log_bin', 'binlog_format', 'binlog_row_image', 'gtid_mode'";
        let rows: Vec<(String, String)> =
            ask(conn, &format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")).await?;
        let value = |name: &str| rows.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
        if value("version").is_some_and(|version| version.contains("MariaDB")) {
            return bad(
                "MariaDB's GTIDs are others than MySQL's; read it through Canal, Debezium or Maxwell",
            );
        }
        if value("log_bin") != Some("ON") {
            return bad("log_bin is OFF, so there is no binlog; start the server with --log-bin");
        }
        // A server without the setting knows no other format.
        if value("binlog_format").is_some_and(|format| format != "ROW") {
            return bad(
                "binlog_format is not ROW; set it with SET PERSIST binlog_format = 'ROW', and let clients reconnect",
            );
        }
        if value("gtid_mode") != Some("ON") {
            return bad("gtid_mode is not ON, and the position is a set of GTIDs; \
                 see https://dev.mysql.com/doc/refman/8.4/en/replication-mode-change-online-enable-gtids.html");
        }
        if value("binlog_row_image").is_some_and(|image| image == "MINIMAL") {
            tracing::warn!(
                "binlog_row_image is MINIMAL: groups are flushed where a row's key columns are missing; SET PERSIST binlog_row_image = 'FULL'"
            );
        }
        self.place(conn).await.map(drop)
    }

    /// Where the binlog ends.
    pub(super) async fn place(&self, conn: &mut Conn) -> Result<LogPlace, Error> {
        // The second is for servers before 8.2.
        let mut row = ask::<Row>(conn, "SHOW BINARY LOG STATUS").await;
        if row.is_err() {
            row = ask::<Row>(conn, "SHOW MASTER STATUS").await;
        }
        let rows = row.map_err(|error| match error {
            Error::Unavailable(text) if text.contains("1227") => Error::Config(format!(
                "source.binlog: mysql {}: {text}; GRANT REPLICATION CLIENT, REPLICATION SLAVE ON *.* to the account, and SELECT on the tables",
                self.address
            )),
            error => error,
        })?;
        let row = rows.into_iter().next();
        let (file, offset) =
            row.and_then(|row| Some((row.get::<String, _>(0)?, row.get::<u64, _>(1)?))).ok_or_else(|| {
                Error::Unavailable(format!("mysql {}: the server tells no place in its binlog", self.address))
            })?;
        Ok(LogPlace::new(file, offset))
    }

    /// Which transactions the server has, and which of them its binlog has no more.
    pub(super) async fn transactions(&self, conn: &mut Conn) -> Result<Transactions, Error> {
        let rows: Vec<(String, String)> =
            ask(conn, "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged").await?;
        let (executed, purged) = rows.into_iter().next().unwrap_or_default();
        let set = |text: String| {
            text.replace('\n', "")
                .parse()
                .map_err(|error: super::gtid::ParseError| Error::Unavailable(error.to_string()))
        };
        Ok(Transactions { executed: set(executed)?, purged: set(purged)? })
    }

    /// The server's own time, in milliseconds since 1970.
    pub(super) async fn now_ms(&self, conn: &mut Conn) -> Result<i64, Error> {
        let rows: Vec<i64> = ask(conn, "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS SIGNED)").await?;
        rows.first()
            .copied()
            .ok_or_else(|| Error::Unavailable(format!("mysql {}: the server tells no time", self.address)))
    }

    /// Whether all transactions of one set are in the other.
    pub(super) async fn is_subset(
        &self,
        conn: &mut Conn,
        part: &GtidSet,
        whole: &GtidSet,
    ) -> Result<bool, Error> {
        // Nothing in a set's text needs quoting.
        let rows: Vec<u8> = ask(conn, &format!("SELECT GTID_SUBSET('{part}', '{whole}')")).await?;
        Ok(rows.first() == Some(&1))
    }
}

/// Asks one question, within bounded time.
pub(super) async fn ask<T: mysql_async::prelude::FromRow + Send + 'static>(
    conn: &mut Conn,
    question: &str,
) -> Result<Vec<T>, Error> {
    match tokio::time::timeout(ANSWER, conn.query(question)).await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(Error::Unavailable(format!("mysql: {error}"))),
        Err(_) => Err(Error::Unavailable(format!("mysql: no answer within {ANSWER:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_in_order_also_beyond_six_digits() {
        let place = LogPlace::new;
        assert!(place("binlog.000009", 900) < place("binlog.000010", 4));
        assert!(place("binlog.999999", 900) < place("binlog.1000000", 4));
        assert!(place("binlog.000010", 4) < place("binlog.000010", 5));
        assert_eq!((place("a.b.000010", 4).number(), LogPlace::default().number()), (10, 0));
    }

    #[test]
    fn urls_are_read_as_those_of_the_database() {
        let server =
            Server::new("mysql://app:p%40ss@db:3307/shop?ssl-mode=VERIFY_IDENTITY").expect("a good url");
        assert_eq!(server.address, "db:3307");
        assert_eq!(server.opts.pass(), Some("p@ss"));
        assert!(server.opts.ssl_opts().is_some() && server.fallback.is_none());
        assert!(Server::new("mysql://app@db").expect("a good url").fallback.is_some());
        let server = Server::new("mysql://app@[2001:db8::1]:3307/").expect("a good url");
        assert_eq!((&*server.address, server.opts.ip_or_hostname()), ("[2001:db8::1]:3307", "2001:db8::1"));
        for bad in ["mysql://db/?ssl-mode=maybe", "http://db/"] {
            assert!(matches!(Server::new(bad), Err(Error::Config(_))), "{bad}");
        }
    }
}
