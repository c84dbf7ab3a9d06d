//! Whose keys a command names: this node's, or another's that the client is sent to.

use catalog::Key;
use ring::slot_of;

use super::{codec::Arguments, session::Session};
use crate::node::place;

impl Session {
    /// The one key of a command; an error is written if it is none, or another node's.
    pub(super) fn one_key(&mut self, arguments: Arguments<'_>) -> Option<Key> {
        self.key_at(arguments, 1)
    }

    /// The same of a command that has it at another place.
    pub(super) fn key_at(&mut self, arguments: Arguments<'_>, at: usize) -> Option<Key> {
        let text = arguments.get(at).unwrap_or_default();
        let key = self.node.key_of(text).and_then(|key| self.route(&key).map(|()| key));
        key.map_err(|error| self.error(&error)).ok()
    }

    /// Whether this connection's keys of other nodes are fetched here.
    fn fetches(&self) -> bool {
        self.reads_all || self.node.config.resp_forward
    }

    /// Names the owner of a key that this node neither holds nor fetches.
    pub(super) fn route(&self, key: &Key) -> Result<(), String> {
        if self.fetches() || self.node.holds(place(key)) {
            return Ok(());
        }
        let (slot, ring) = (slot_of(&key.text), self.node.current_ring());
        match ring.owner(slot) {
            Some(owner) if owner.id != self.node.id && !owner.resp.is_empty() => {
                let (host, port) = super::topology::host_port(&owner.resp);
                Err(format!("MOVED {slot} {host}:{port}"))
            }
            // Nobody that a Redis client could ask.
            _ => Ok(()),
        }
    }

    /// Refuses keys of several slots where Redis Cluster would.
    pub(super) fn check_slots(&self, arguments: Arguments<'_>) -> Result<(), String> {
        if self.fetches() || self.node.ring().members().len() < 2 {
            return Ok(());
        }
        let mut slots = arguments.from(1).map(|key| std::str::from_utf8(key).map(slot_of).ok());
        let first = slots.next().flatten();
        if slots.all(|slot| slot == first) {
            Ok(())
        } else {
            Err("CROSSSLOT Keys in request don't hash to the same slot".to_owned())
        }
    }
}
