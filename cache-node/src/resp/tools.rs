//! What tools ask before they show anything: DBSIZE, MEMORY, CONFIG GET, MODULE, SLOWLOG, LATENCY, ACL WHOAMI.
//!
//! Answers are true of this node. What a node does not have (modules, a log of slow commands) is empty.

use tokio::time::Instant;

use super::{
    codec::Arguments,
    error, glob, info,
    keys::{is, number},
    parts,
    session::Session,
};
use crate::node::place;

impl Session {
    /// Values in this node's memory.
    pub(super) fn db_size(&mut self) {
        let entries = self.node.stats().entries;
        self.reply.integer(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    pub(super) fn memory(&mut self, arguments: Arguments<'_>) {
        match parts::find("memory", arguments) {
            Ok("usage") => self.memory_usage(arguments),
            Ok(_) => self.help("MEMORY"),
            Err(wrong) => self.error(wrong.text()),
        }
    }

    /// Bytes that a key and its value have; null if it is not in memory here. Fills nothing.
    fn memory_usage(&mut self, arguments: Arguments<'_>) {
        match (arguments.len(), arguments.get(3), arguments.get(4).map(number)) {
            (3, ..) => {}
            (5, Some(option), Some(count)) if is(option, "samples") => match count {
                Some(0..) => {}
                Some(_) => return self.error("ERR syntax error"),
                None => return self.error("ERR value is not an integer or out of range"),
            },
            _ => return self.error("ERR syntax error"),
        }
        let Some(key) = self.key_at(arguments, 2) else { return };
        let incarnation = self.node.life.incarnation();
        let entry = self.node.gate.peek(place(&key), &key.text, Instant::now());
        match entry.and_then(|entry| entry.value) {
            Some(value) if self.node.life.vouches_for(incarnation) => {
                self.reply.integer((key.text.len() + value.len()) as i64);
            }
            _ => self.reply.null(),
        }
    }

    pub(super) fn config(&mut self, arguments: Arguments<'_>) {
        match parts::find("config", arguments) {
            Ok("get") => self.config_get(arguments),
            Ok("set" | "resetstat" | "rewrite") => {
                self.error(
                    "ERR a node is configured by its file and its environment, see docs/configuration.md",
                );
            }
            Ok(_) => self.help("CONFIG"),
            Err(wrong) => self.error(wrong.text()),
        }
    }

    /// Redis's names of what a node has.
    fn config_get(&mut self, arguments: Arguments<'_>) {
        let config = &self.node.config;
        let port = super::topology::host_port(&self.node.resp.address.lock()).1;
        let known: [(&str, String); 13] = [
            ("appendonly", "no".into()),
            ("client-output-buffer-limit", format!("normal {} 0 0", config.resp_output_limit.0)),
            ("cluster-enabled", "yes".into()),
            ("databases", "1".into()),
            ("maxclients", config.resp_connections.to_string()),
            ("maxmemory", config.memory.0.to_string()),
            ("maxmemory-clients", config.resp_memory.0.to_string()),
            ("maxmemory-policy", info::policy(&self.node)),
            ("port", port.to_string()),
            ("proto-max-bulk-len", self.limits().argument.to_string()),
            ("save", String::new()),
            ("timeout", "0".into()),
            ("tracking-table-max-keys", config.tracking_keys.to_string()),
        ];
        if let Some(text) = arguments.from(2).find_map(|given| error::short("a pattern", given).err()) {
            return self.error(&text);
        }
        let wanted: Vec<Vec<u8>> =
            arguments.from(2).take(known.len() * 2).map(<[u8]>::to_ascii_lowercase).collect();
        let found: Vec<_> = known
            .iter()
            .filter(|(name, _)| wanted.iter().any(|pattern| glob::matches(pattern, name.as_bytes())))
            .collect();
        self.reply.map(found.len());
        for (name, value) in found {
            self.pair(name, value.as_bytes());
        }
    }

    /// Parts that tell lists which are empty here, and a number that is zero.
    pub(super) fn empty(&mut self, command: &'static str, arguments: Arguments<'_>) {
        match parts::find(command, arguments) {
            Ok("len" | "reset") => self.reply.integer(0),
            Ok("help") => self.help(&command.to_uppercase()),
            Ok("histogram") => self.reply.map(0),
            Ok(_) => self.reply.array(0),
            Err(wrong) => self.error(wrong.text()),
        }
    }

    pub(super) fn acl(&mut self, arguments: Arguments<'_>) {
        match parts::find("acl", arguments) {
            Ok("whoami") => self.reply.bulk(b"default"),
            Ok(_) => self.help("ACL"),
            Err(wrong) => self.error(wrong.text()),
        }
    }
}
