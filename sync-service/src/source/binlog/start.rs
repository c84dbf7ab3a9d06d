//! Where reading begins, and what may have been missed before it.
//!
//! What is left to read is judged here alone, when reading begins: by its transactions at once, by the time that it spans when the first
//! of them comes. While it is read, freshness tells how far behind it is.

use mysql_async::Conn;

use super::gtid::{GtidSet, ParseError};
use super::position::Position;
use super::reader::{Long, Reader};
use super::server::Transactions;
use crate::config::{Backlog, OnFirstStart, OnLag, OnOutOfRange};
use crate::decode::Reason;
use crate::source::{Error, Event, Gap, Missed, Reaction};

/// What is told of changes that were missed, or may have been.
type Told = (Reason, String, Reaction);

impl Reader {
    /// Where reading begins: behind what was read, or what was applied, or at a gap's end. Changes that may have been missed are told.
    /// With it comes a backlog that is too long if it spans too much time.
    pub(super) async fn start(
        &mut self,
        conn: &mut Conn,
        read: &mut Option<GtidSet>,
    ) -> Result<(GtidSet, Option<Long>), Error> {
        let fresh = read.is_none();
        let kept = match &read {
            Some(set) => Some(Position::new(set, false)),
            None => self.shared.place.read().await?,
        };
        let Transactions { executed, purged } = self.server.transactions(conn).await?;
        let missed = |reason, detail: String| Some((reason, detail, Reaction::Flush));
        let mut long = None;
        let (set, gap) = match kept {
            None => {
                let detail = "no position is kept: this is the first start".to_owned();
                match self.on_first_start {
                    OnFirstStart::Flush => (executed, missed(Reason::FirstStart, detail)),
                    OnFirstStart::Replay => (purged, missed(Reason::FirstStart, detail)),
                    OnFirstStart::Halt => return Err(Error::Halted(format!("halt: binlog: {detail}"))),
                }
            }
            Some(position) => {
                let set: GtidSet = position
                    .gtid_set
                    .parse()
                    .map_err(|error: ParseError| Error::Config(error.to_string()))?;
                let known = self.server.is_subset(conn, &set, &executed).await?;
                let there = self.server.is_subset(conn, &purged, &set).await?;
                if known && there {
                    let transactions = set.lacks(&executed);
                    let owed = position.owed.then(|| "a flush was to come before the end".to_owned());
                    match self.catch_up.judge(i64::try_from(transactions).unwrap_or(i64::MAX)) {
                        Backlog::Long => self.too_long(transactions, set, executed)?,
                        by_span => {
                            if by_span == Backlog::BySpan {
                                long = Some(Long { transactions, now_ms: self.server.now_ms(conn).await? });
                            }
                            (set, owed.and_then(|detail| missed(Reason::Owed, detail)))
                        }
                    }
                } else {
                    let (reason, detail) = if known {
                        (Reason::Purged, format!("{set} is applied, and the server has purged {purged}"))
                    } else {
                        (Reason::OtherServer, format!("{set} is applied, and the server has only {executed}"))
                    };
                    match self.on_out_of_range {
                        OnOutOfRange::Latest => (executed, missed(reason, detail)),
                        OnOutOfRange::Earliest => (purged, missed(reason, detail)),
                        OnOutOfRange::Halt => return Err(Error::Halted(format!("halt: binlog: {detail}"))),
                    }
                }
            }
        };
        if fresh {
            self.offsets.assign(std::slice::from_ref(&self.shared.partition));
            self.shared.marks.lock().begin(set.clone());
        }
        if let Some((reason, detail, reaction)) = gap {
            self.gap(reason, &detail, reaction, &set).await?;
            if fresh && reaction == Reaction::Read {
                self.offsets.begins_at(&self.shared.partition, self.next);
            }
        } else if fresh {
            self.offsets.begins_at(&self.shared.partition, self.next);
        }
        *read = Some(set.clone());
        Ok((set, long))
    }

    /// What is done about a backlog that is too long: where reading goes on, and what is told of it.
    fn too_long(
        &self,
        transactions: u64,
        set: GtidSet,
        executed: GtidSet,
    ) -> Result<(GtidSet, Option<Told>), Error> {
        let limits = &self.catch_up;
        let what = format!(
            "{transactions} transactions are left to read, more than sync.catch_up allows ({:?} or {} of them)",
            limits.max_lag, limits.max_messages
        );
        match limits.on_lag {
            OnLag::Flush => Ok((executed, Some((Reason::Lag, what, Reaction::Flush)))),
            OnLag::Replay => Ok((set, Some((Reason::Lag, format!("{what}; all are read"), Reaction::Read)))),
            OnLag::Halt => Err(Error::Halted(format!(
                "halt: binlog: {what}; set sync.catch_up.on_lag to flush or replay"
            ))),
        }
    }

    /// Judges a backlog by when its first transaction was committed. True: it is skipped, and reading has to begin anew.
    pub(super) async fn spans_too_much(
        &mut self,
        conn: &mut Conn,
        read: &mut Option<GtidSet>,
        long: &Long,
        committed_ms: i64,
    ) -> Result<bool, Error> {
        let span = u128::try_from(long.now_ms.saturating_sub(committed_ms)).unwrap_or(0);
        if span <= self.catch_up.max_lag.as_millis() {
            return Ok(false);
        }
        let Transactions { executed, .. } = self.server.transactions(conn).await?;
        let set = read.clone().unwrap_or_default();
        let (set, gap) = self.too_long(long.transactions, set, executed)?;
        let Some((reason, detail, reaction)) = gap else { return Ok(false) };
        self.gap(reason, &detail, reaction, &set).await?;
        *read = Some(set);
        Ok(reaction == Reaction::Flush)
    }

    /// Tells of changes that were missed, or may have been, and that reading goes on after `set`.
    async fn gap(
        &mut self,
        reason: Reason,
        detail: &str,
        reaction: Reaction,
        set: &GtidSet,
    ) -> Result<(), Error> {
        let after = set.to_string();
        let after = if after.is_empty() { "no transaction, from the first on" } else { &after };
        let detail = format!("{detail}; reading goes on after {after}");
        // Messages that were read before go first; the mark behind the gap stands for its end.
        self.shared.marks.lock().set(self.next, set.clone());
        let partition = self.shared.partition.clone();
        let missed = Missed { partition, reason, next: self.next, detail, reaction };
        let gap = Gap::begin(vec![missed], &self.offsets);
        self.events
            .send(Event::Gap(gap))
            .await
            .map_err(|_| Error::Unavailable("the service has ended".to_owned()))
    }
}
