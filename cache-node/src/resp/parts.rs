//! Commands that have commands of their own: CLIENT, CLUSTER and others.

use super::{codec::Arguments, error, keys::is, table};

/// One of them: its name, and its arguments with both names; negative: that many or more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) arity: i64,
}

/// What is wrong with the second word of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no such part.
    Unknown(String),
    /// It takes another number of arguments.
    Arguments(String),
}

impl Wrong {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Unknown(text) | Self::Arguments(text) => text,
        }
    }
}

macro_rules! parts {
    ($($name:literal $arity:literal),*) => { &[$(Part { name: $name, arity: $arity }),*] };
}

const CLIENT: &[Part] = parts![
    "caching" 3, "getname" 2, "getredir" 2, "help" 2, "id" 2, "info" 2, "kill" -3, "list" -2, "no-evict" 3, "no-touch" 3, "reply" 3,
    "setinfo" 4, "setname" 3, "tracking" -3, "trackinginfo" 2
];
const CLUSTER: &[Part] = parts!["help" 2, "info" 2, "keyslot" 3, "links" 2, "myid" 2, "myshardid" 2, "nodes" 2, "shards" 2, "slots" 2];
const COMMAND: &[Part] =
    parts!["count" 2, "docs" -2, "getkeys" -3, "getkeysandflags" -3, "help" 2, "info" -2, "list" -2];

const ACL: &[Part] = parts!["help" 2, "whoami" 2];
const CONFIG: &[Part] = parts!["get" -3, "help" 2, "resetstat" 2, "rewrite" 2, "set" -4];
const LATENCY: &[Part] = parts!["help" 2, "histogram" -2, "history" 3, "latest" 2, "reset" -2];
const MEMORY: &[Part] = parts!["help" 2, "usage" -3];
const MODULE: &[Part] = parts!["help" 2, "list" 2];
const SLOWLOG: &[Part] = parts!["get" -2, "help" 2, "len" 2, "reset" 2];

/// All parts of a command.
pub(super) fn all(command: &str) -> &'static [Part] {
    match command {
        "acl" => ACL,
        "client" => CLIENT,
        "cluster" => CLUSTER,
        "command" => COMMAND,
        "config" => CONFIG,
        "latency" => LATENCY,
        "memory" => MEMORY,
        "module" => MODULE,
        "slowlog" => SLOWLOG,
        _ => &[],
    }
}

/// The part of a command that a request names.
pub(super) fn find(command: &str, arguments: Arguments<'_>) -> Result<&'static str, Wrong> {
    let given = arguments.get(1).unwrap_or_default();
    let Some(part) = all(command).iter().find(|part| is(given, part.name)) else {
        return Err(Wrong::Unknown(error::unknown_part(&command.to_uppercase(), given)));
    };
    if !table::takes(part.arity, arguments.len()) {
        let name = part.name;
        return Err(Wrong::Arguments(format!(
            "ERR wrong number of arguments for '{command}|{name}' command"
        )));
    }
    Ok(part.name)
}

/// The place of the part that a request names, among those of a command.
pub(super) fn place(command: &str, arguments: Arguments<'_>) -> Option<usize> {
    let given = arguments.get(1)?;
    all(command).iter().position(|part| is(given, part.name))
}
