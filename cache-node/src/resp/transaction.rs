//! MULTI and EXEC: commands that are kept, and then answered one after the other in one reply.
//!
//! What it is in Redis because of its one thread, it is here on one connection: the commands are carried out in their order, and nothing
//! of this connection comes between. Others change keys meanwhile: a node has no snapshot over keys, here as in MGET. That is what
//! clients use it for that send their pipelines so, or ask for a value and its TTL together.
//!
//! Nothing that the client is to be told goes out before the whole reply: a push in the middle of an array would be none.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    codec::{Arguments, Kept},
    parts,
    session::{Next, Session, Silence},
    table::{COMMANDS, Id},
};

/// Commands that wait for EXEC.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    commands: Vec<Kept>,
    bytes: usize,
    /// Whether one of them was refused: then none is carried out.
    refused: bool,
}

impl Transaction {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that a command was refused.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }
}

/// What is not kept within MULTI, but done.
pub(super) fn is_done_at_once(id: Id) -> bool {
    matches!(id, Id::Multi | Id::Exec | Id::Discard | Id::Watch | Id::Quit | Id::Reset)
}

impl Session {
    pub(super) fn multi(&mut self) {
        if self.transaction.is_some() {
            return self.error("ERR MULTI calls can not be nested");
        }
        self.transaction = Some(Transaction::default());
        self.client.multi.store(0, Relaxed);
        self.reply.ok();
    }

    pub(super) fn discard(&mut self) {
        if self.end_transaction().is_none() {
            return self.error("ERR DISCARD without MULTI");
        }
        self.reply.ok();
    }

    pub(super) fn watch(&mut self) {
        if self.transaction.is_some() {
            return self.error("ERR WATCH inside MULTI is not allowed");
        }
        self.error(
            "ERR WATCH promises what a node can't keep: values change with the database, whatever this connection does; a look-aside SET \
             is refused by itself if its key was removed since the miss",
        );
    }

    /// Keeps a command for EXEC.
    pub(super) fn queue(&mut self, at: usize, arguments: Arguments<'_>) {
        if let Err(text) = self.may_wait(at, arguments) {
            return self.refuse(&text);
        }
        let (most_commands, most_bytes) = (self.node.config.max_keys, self.limits().request);
        let Some(transaction) = &mut self.transaction else { return };
        let kept = arguments.keep();
        let bytes = transaction.bytes + kept.bytes();
        if transaction.commands.len() >= most_commands || bytes > most_bytes {
            return self.refuse(&format!(
                "ERR a transaction has at most {most_commands} commands (node.max_keys) of {most_bytes} bytes together: send fewer at once"
            ));
        }
        transaction.bytes = bytes;
        transaction.commands.push(kept);
        self.client.multi.store(transaction.commands.len() as i64, Relaxed);
        self.reply.simple("QUEUED");
    }

    /// Says why a command can't be, and within MULTI that none of them will.
    pub(super) fn refuse(&mut self, text: &str) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refuse();
        }
        self.error(text);
    }

    /// Whether a command can be kept, as far as it can be told before it is carried out.
    fn may_wait(&self, at: usize, arguments: Arguments<'_>) -> Result<(), String> {
        let command = &COMMANDS[at];
        match command.id {
            Id::Subscribe | Id::Unsubscribe => {
                return Err(format!("ERR {} inside MULTI is not allowed", command.name.to_uppercase()));
            }
            _ if arguments.len() > 1 && !parts::all(command.name).is_empty() => {
                let part = parts::find(command.name, arguments).map_err(|wrong| wrong.text().to_owned())?;
                if part == "reply" {
                    // A reply in the middle of another that is not written would be none.
                    return Err("ERR CLIENT REPLY inside MULTI is not allowed".to_owned());
                }
            }
            _ => {}
        }
        self.are_here(at, arguments)
    }

    /// Whether a command's keys are this node's, or fetched by it. What is no key is told by the command itself.
    fn are_here(&self, at: usize, arguments: Arguments<'_>) -> Result<(), String> {
        let places = COMMANDS[at].key_places(arguments.len());
        for key in places.filter_map(|place| self.node.key_of(arguments.get(place)?).ok()) {
            self.route(&key)?;
        }
        Ok(())
    }

    /// Ends a transaction: its commands are to be carried out now.
    pub(super) fn exec(&mut self) -> Next {
        let Some(transaction) = self.end_transaction() else {
            self.error("ERR EXEC without MULTI");
            return Next::Done;
        };
        if transaction.refused {
            self.error("EXECABORT Transaction discarded because of previous errors.");
            return Next::Done;
        }
        // A slot that moved meanwhile is told of the whole, which the client then asks of its new owner.
        for command in &transaction.commands {
            let arguments = command.arguments();
            let at = arguments.get(0).and_then(super::table::find);
            if let Some(Err(moved)) = at.map(|at| self.are_here(at, arguments)) {
                self.error(&moved);
                return Next::Done;
            }
        }
        Next::Exec(transaction.commands)
    }

    /// EXEC with arguments ends the transaction too.
    pub(super) fn exec_refused(&mut self) {
        self.end_transaction();
        self.error(
            "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
        );
    }

    /// Forgets what was kept since MULTI; returns it.
    pub(super) fn end_transaction(&mut self) -> Option<Transaction> {
        self.client.multi.store(-1, Relaxed);
        self.transaction.take()
    }

    /// Begins EXEC's reply; until [`executed`](Self::executed) the client is told nothing else.
    pub(super) fn execute(&mut self, commands: usize) {
        self.executes = Some(self.silence);
        match self.silence {
            Silence::No => self.reply.array(commands),
            Silence::Next => self.silence = Silence::All,
            Silence::All => {}
        }
    }

    /// EXEC's reply is whole.
    pub(super) fn executed(&mut self) {
        if self.executes.take() == Some(Silence::Next) {
            self.silence = Silence::No;
        }
        self.caching = None;
        // A key that is registered was read as well, or before: whatever ends its value is told.
        let resp = &self.node.resp;
        let mut not_kept = std::mem::take(&mut self.without_value);
        not_kept.retain(|(key, place)| !resp.tracking.is_registered(key, *place, self.client.id));
        if !not_kept.is_empty() {
            self.not_kept(&not_kept);
        }
    }
}
