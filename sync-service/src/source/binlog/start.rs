//! Where reading begins, and what may have been missed before it.

use mysql_async::Conn;

use super::gtid::{GtidSet, ParseError};
use super::position::Position;
use super::reader::Reader;
use super::server::Transactions;
use crate::config::{OnFirstStart, OnOutOfRange};
use crate::decode::Reason;
use crate::source::{Error, Event, Gap, Missed, Reaction};

impl Reader {
    /// Where reading begins: behind what was read, or what was applied, or at a gap's end. Changes that may have been missed are told.
    pub(super) async fn start(
        &mut self,
        conn: &mut Conn,
        read: &mut Option<GtidSet>,
    ) -> Result<GtidSet, Error> {
        let fresh = read.is_none();
        let kept = match &read {
            Some(set) => Some(Position::new(set, false)),
            None => self.shared.place.read().await?,
        };
        let Transactions { executed, purged } = self.server.transactions(conn).await?;
        let missed = |reason, detail: String| Some((reason, detail));
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
                    let owed = position
                        .owed
                        .then(|| (Reason::Owed, "a flush was to come before the end".to_owned()));
                    (set, owed)
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
        if let Some((reason, detail)) = gap {
            let detail = format!("{detail}; reading goes on after {set}");
            // Messages that were read before go first; the mark behind the gap stands for its end.
            self.shared.marks.lock().set(self.next, set.clone());
            let partition = self.shared.partition.clone();
            let missed = Missed { partition, reason, next: self.next, detail, reaction: Reaction::Flush };
            let gap = Gap::begin(vec![missed], &self.offsets);
            self.events
                .send(Event::Gap(gap))
                .await
                .map_err(|_| Error::Unavailable("the service has ended".to_owned()))?;
        } else if fresh {
            self.offsets.begins_at(&self.shared.partition, self.next);
        }
        *read = Some(set.clone());
        Ok(set)
    }
}
