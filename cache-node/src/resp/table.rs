//! The commands that there are, as COMMAND tells them.

/// One command, or one that belongs to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) id: Id,
    /// Arguments with the name; negative: that many or more.
    pub(crate) arity: i64,
    pub(crate) flags: &'static [&'static str],
    /// First key, last key and step; 0 for none.
    pub(crate) keys: (i64, i64, i64),
    pub(crate) group: &'static str,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    Acl,
    Asking,
    Auth,
    Client,
    Cluster,
    Command,
    Config,
    DbSize,
    Del,
    Discard,
    Echo,
    Exec,
    Exists,
    Expire,
    ExpireAt,
    Get,
    GetEx,
    Hello,
    Info,
    Latency,
    Memory,
    MGet,
    Module,
    Multi,
    Persist,
    PExpire,
    PExpireAt,
    Ping,
    PTtl,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    Scan,
    Select,
    Set,
    SetEx,
    PSetEx,
    SlowLog,
    StrLen,
    Subscribe,
    Ttl,
    Type,
    Unsubscribe,
    Unwatch,
    Watch,
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write"];
const FAST: &[&str] = &["fast", "loading", "stale"];
const FREE: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const ADMIN: &[&str] = &["loading", "stale"];
const NONE: (i64, i64, i64) = (0, 0, 0);
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);

macro_rules! commands {
    ($($name:literal $id:ident $arity:literal $flags:ident $keys:ident $group:literal $since:literal $summary:literal;)*) => {
        &[$(Command {
            name: $name, id: Id::$id, arity: $arity, flags: $flags, keys: $keys, group: $group, since: $since, summary: $summary,
        }),*]
    };
}

/// All commands, in the order of their names.
pub(crate) static COMMANDS: &[Command] = commands! {
    "acl"         Acl         -2 ADMIN NONE "server"     "6.0.0" "Tells whose name the connection has: the default user's.";
    "asking"      Asking       1 FAST  NONE "cluster"    "3.0.0" "Is refused: slots move at once here, there is nothing to ask for.";
    "auth"        Auth        -2 FREE  NONE "connection" "1.0.0" "Shows the node's password.";
    "client"      Client      -2 ADMIN NONE "connection" "2.4.0" "Says what this connection is, and has it tracked.";
    "cluster"     Cluster     -2 ADMIN NONE "cluster"    "3.0.0" "Tells the ring: which node holds which slots.";
    "command"     Command     -1 ADMIN NONE "server"     "2.8.13" "Tells the commands that there are.";
    "config"      Config      -2 ADMIN NONE "server"     "2.0.0" "Tells the node's settings that Redis has too; changes none.";
    "dbsize"      DbSize       1 READ  NONE "server"     "1.0.0" "Counts the values in this node's memory.";
    "del"         Del         -2 WRITE ALL  "generic"    "1.0.0" "Removes keys from all nodes; the next read fills them again.";
    "discard"     Discard      1 FAST  NONE "transactions" "2.0.0" "Forgets the commands since MULTI.";
    "echo"        Echo         2 FAST  NONE "connection" "1.0.0" "Returns its argument.";
    "exec"        Exec         1 ADMIN NONE "transactions" "1.2.0" "Carries out the commands since MULTI, in their order.";
    "exists"      Exists      -2 READ  ALL  "generic"    "1.0.0" "Counts the keys that have a value, filling those that are missing.";
    "expire"      Expire      -3 WRITE ONE  "generic"    "1.0.0" "Has a value of a plain group expire after so many seconds.";
    "expireat"    ExpireAt    -3 WRITE ONE  "generic"    "1.2.0" "Has a value of a plain group expire at a second since 1970.";
    "get"         Get          2 READ  ONE  "string"     "1.0.0" "Returns a key's value: from memory, or filled from the database.";
    "getex"       GetEx       -2 READ  ONE  "string"     "6.2.0" "Returns a key's value; its TTL is its group's and can't be changed.";
    "hello"       Hello       -1 FREE  NONE "connection" "6.0.0" "Chooses the protocol's version.";
    "info"        Info        -1 ADMIN NONE "server"     "1.0.0" "Tells what the node is and does.";
    "latency"     Latency     -2 ADMIN NONE "server"     "2.8.13" "Tells no events: see the node's metrics.";
    "memory"      Memory      -2 ADMIN NONE "server"     "4.0.0" "Tells how many bytes a key in this node's memory has.";
    "mget"        MGet        -2 READ  ALL  "string"     "1.0.0" "Returns the values of keys.";
    "module"      Module      -2 ADMIN NONE "server"     "4.0.0" "Tells the modules: there are none.";
    "multi"       Multi        1 FAST  NONE "transactions" "1.2.0" "Keeps the commands that follow until EXEC.";
    "persist"     Persist      2 WRITE ONE  "generic"    "2.2.0" "Is refused: no value stays for ever, the ttl of its group is the longest.";
    "pexpire"     PExpire     -3 WRITE ONE  "generic"    "2.6.0" "Has a value of a plain group expire after so many milliseconds.";
    "pexpireat"   PExpireAt   -3 WRITE ONE  "generic"    "2.6.0" "Has a value of a plain group expire at a millisecond since 1970.";
    "ping"        Ping        -1 FAST  NONE "connection" "1.0.0" "Answers.";
    "psetex"      PSetEx       4 WRITE ONE  "string"     "2.6.0" "Sets a plain key, or a look-aside key that this connection has missed, for so many milliseconds at most.";
    "pttl"        PTtl         2 READ  ONE  "generic"    "2.6.0" "Returns the milliseconds that a key in memory has left.";
    "quit"        Quit        -1 FREE  NONE "connection" "1.0.0" "Ends the connection.";
    "readonly"    ReadOnly     1 FAST  NONE "cluster"    "3.0.0" "Has this node fetch keys of others, instead of naming their owner.";
    "readwrite"   ReadWrite    1 FAST  NONE "cluster"    "3.0.0" "Has this node name the owner of other nodes' keys again.";
    "reset"       Reset        1 FREE  NONE "connection" "6.2.0" "Makes the connection as it was at its beginning.";
    "scan"        Scan        -2 READ  NONE "generic"    "2.8.0" "Returns keys in this node's memory, page by page.";
    "select"      Select       2 FAST  NONE "connection" "1.0.0" "Chooses database 0, the only one.";
    "set"         Set         -3 WRITE ONE  "string"     "1.0.0" "Sets a plain key, or a look-aside key that this connection has missed.";
    "setex"       SetEx        4 WRITE ONE  "string"     "2.0.0" "Sets a plain key, or a look-aside key that this connection has missed, for so many seconds at most.";
    "slowlog"     SlowLog     -2 ADMIN NONE "server"     "2.2.12" "Tells no slow commands: see the node's metrics.";
    "strlen"      StrLen       2 READ  ONE  "string"     "2.2.0" "Returns the length of a key's value, filling it if it is missing.";
    "subscribe"   Subscribe   -2 ADMIN NONE "pubsub"     "2.0.0" "Listens to __redis__:invalidate, the only channel.";
    "ttl"         Ttl          2 READ  ONE  "generic"    "1.0.0" "Returns the seconds that a key in memory has left.";
    "type"        Type         2 READ  ONE  "generic"    "1.0.0" "Returns string for a key that has a value, else none.";
    "unlink"      Del         -2 WRITE ALL  "generic"    "4.0.0" "Removes keys from all nodes, as DEL does.";
    "unsubscribe" Unsubscribe -1 ADMIN NONE "pubsub"     "2.0.0" "Stops listening.";
    "unwatch"     Unwatch      1 FAST  NONE "transactions" "2.2.0" "Does nothing: nothing is watched.";
    "watch"       Watch       -2 FAST  ALL  "transactions" "2.2.0" "Is refused: a node has no snapshot over keys that it could watch.";
};

/// Finds a command by its name, in any case: its place in the table.
pub(crate) fn find(name: &[u8]) -> Option<usize> {
    let mut lower = [0u8; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    COMMANDS.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()
}

/// Whether an arity allows so many arguments.
pub(crate) fn takes(arity: i64, count: usize) -> bool {
    let count = count as i64;
    if arity < 0 { count >= -arity } else { count == arity }
}

impl Command {
    /// Whether it may have so many arguments, its name counted.
    pub(crate) fn takes(&self, count: usize) -> bool {
        takes(self.arity, count)
    }

    /// Whether it may be given before a password.
    pub(crate) fn needs_no_password(&self) -> bool {
        self.flags.contains(&"no_auth")
    }

    /// The places of its keys among so many arguments.
    pub(crate) fn key_places(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        places(self.keys, count)
    }
}

/// The places of keys among so many arguments.
pub(crate) fn places(keys: (i64, i64, i64), count: usize) -> impl Iterator<Item = usize> + use<> {
    let (first, last, step) = keys;
    let last = if last < 0 { count as i64 + last } else { last };
    let end = if first == 0 { 0 } else { last + 1 };
    (first.max(0)..end).step_by(step.max(1) as usize).map(|at| usize::try_from(at).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case_and_has_its_keys() {
        for (at, command) in COMMANDS.iter().enumerate() {
            assert_eq!(find(command.name.to_uppercase().as_bytes()), Some(at), "{}", command.name);
        }
        assert_eq!(find(b"flushall"), None);
        assert_eq!(find(&[b'x'; 100]), None);
        let keys = |name: &[u8], count| COMMANDS[find(name).unwrap()].key_places(count).collect::<Vec<_>>();
        assert_eq!(keys(b"mget", 4), [1, 2, 3]);
        assert_eq!(keys(b"set", 5), [1]);
        assert!(keys(b"ping", 2).is_empty());
    }
}
