//! COMMAND: the commands that there are, as clients and tools ask for them.

use super::{
    codec::Arguments,
    error, glob,
    keys::is,
    parts::{self, Part},
    session::Session,
    table::{self, COMMANDS, Command, Id},
};

/// What it says of keys and flags, of a command or a part of one.
struct Described<'a> {
    name: String,
    arity: i64,
    command: &'a Command,
    keys: (i64, i64, i64),
    parts: &'static [Part],
}

impl Session {
    pub(super) fn command(&mut self, arguments: Arguments<'_>) {
        if arguments.len() == 1 {
            return self.describe(COMMANDS.iter().map(Some));
        }
        let part = match parts::find("command", arguments) {
            Ok(part) => part,
            Err(wrong) => return self.error(wrong.text()),
        };
        let named = || arguments.from(2).map(|name| table::find(name).map(|at| &COMMANDS[at]));
        let all = arguments.len() == 2;
        match part {
            "count" => self.reply.integer(COMMANDS.len() as i64),
            "list" => self.list_commands(arguments),
            "info" if all => self.describe(COMMANDS.iter().map(Some)),
            "info" => self.describe(named()),
            "docs" => {
                let known: Vec<_> = if all { COMMANDS.iter().collect() } else { named().flatten().collect() };
                self.docs(&known);
            }
            "getkeys" => self.keys_of(arguments, false),
            "getkeysandflags" => self.keys_of(arguments, true),
            _ => self.help("COMMAND"),
        }
    }

    fn list_commands(&mut self, arguments: Arguments<'_>) {
        let wanted = |word: &str| arguments.get(3).is_some_and(|given| is(given, word));
        let given = arguments.get(4).unwrap_or_default();
        let by = arguments.get(2).is_some_and(|word| is(word, "filterby"));
        if let Err(text) = error::short("a pattern", given) {
            return self.error(&text);
        }
        let names: Vec<&str> = match arguments.len() {
            2 => COMMANDS.iter().map(|command| command.name).collect(),
            5 if by && wanted("module") => Vec::new(),
            5 if by && wanted("aclcat") => {
                let of = |command: &&Command| categories(command).iter().any(|name| is(given, &name[1..]));
                COMMANDS.iter().filter(of).map(|command| command.name).collect()
            }
            5 if by && wanted("pattern") => {
                let given = given.to_ascii_lowercase();
                let of = |command: &&Command| glob::matches(&given, command.name.as_bytes());
                COMMANDS.iter().filter(of).map(|command| command.name).collect()
            }
            _ => return self.error("ERR syntax error"),
        };
        self.reply.array(names.len());
        for name in names {
            self.reply.bulk(name.as_bytes());
        }
    }

    fn docs(&mut self, commands: &[&Command]) {
        self.reply.map(commands.len());
        for command in commands {
            self.reply.bulk(command.name.as_bytes());
            self.reply.map(3);
            self.pair("summary", command.summary.as_bytes());
            self.pair("since", command.since.as_bytes());
            self.pair("group", command.group.as_bytes());
        }
    }

    fn keys_of(&mut self, arguments: Arguments<'_>, flags: bool) {
        let Some(at) = arguments.get(2).and_then(table::find) else {
            return self.error("ERR Invalid command specified");
        };
        let (command, count) = (&COMMANDS[at], arguments.len() - 2);
        if !command.takes(count) {
            return self.error("ERR Invalid number of arguments specified for command");
        }
        let part = arguments.get(3).filter(|_| !parts::all(command.name).is_empty());
        let places = table::places(part.map_or(command.keys, |part| part_keys(command.name, part)), count);
        let keys: Vec<&[u8]> = places.filter_map(|place| arguments.get(place + 2)).collect();
        if keys.is_empty() {
            return self.error("ERR The command has no key arguments");
        }
        self.reply.array(keys.len());
        for key in keys {
            if flags {
                self.reply.array(2);
                self.reply.bulk(key);
                self.key_flags(command);
            } else {
                self.reply.bulk(key);
            }
        }
    }

    fn describe<'a>(&mut self, commands: impl ExactSizeIterator<Item = Option<&'a Command>>) {
        self.reply.array(commands.len());
        for command in commands {
            let Some(command) = command else {
                self.reply.null();
                continue;
            };
            let (name, arity) = (command.name.to_owned(), command.arity);
            let parts = parts::all(command.name);
            self.describe_one(&Described { name, arity, command, keys: command.keys, parts });
        }
    }

    fn describe_one(&mut self, of: &Described<'_>) {
        self.reply.array(10);
        self.reply.bulk(of.name.as_bytes());
        self.reply.integer(of.arity);
        self.simple_set(of.command.flags);
        let (first, last, step) = of.keys;
        for number in [first, last, step] {
            self.reply.integer(number);
        }
        self.simple_set(&categories(of.command));
        let tips = tips(of.command);
        self.reply.array(tips.len());
        for tip in tips {
            self.reply.bulk(tip.as_bytes());
        }
        self.key_specification(of);
        self.reply.array(of.parts.len());
        for part in of.parts {
            let name = format!("{}|{}", of.command.name, part.name);
            let keys = part_keys(of.command.name, part.name.as_bytes());
            self.describe_one(&Described { name, arity: part.arity, command: of.command, keys, parts: &[] });
        }
    }

    /// Where keys are, in the words of Redis 7.
    fn key_specification(&mut self, of: &Described<'_>) {
        let (first, last, step) = of.keys;
        if first == 0 {
            return self.reply.array(0);
        }
        self.reply.array(1);
        self.reply.map(3);
        self.reply.bulk(b"flags");
        self.key_flags(of.command);
        self.reply.bulk(b"begin_search");
        self.reply.map(2);
        self.pair("type", b"index");
        self.reply.bulk(b"spec");
        self.reply.map(1);
        self.number_pair("index", first);
        self.reply.bulk(b"find_keys");
        self.reply.map(2);
        self.pair("type", b"range");
        self.reply.bulk(b"spec");
        self.reply.map(3);
        // Counted from the first key.
        self.number_pair("lastkey", if last < 0 { last } else { last - first });
        self.number_pair("keystep", step);
        self.number_pair("limit", 0);
    }

    /// What a command does with its keys.
    fn key_flags(&mut self, command: &Command) {
        let flags: &[&str] = match command.id {
            Id::Del => &["RM", "delete"],
            Id::Set | Id::SetEx | Id::PSetEx => &["OW", "update"],
            Id::Expire | Id::ExpireAt | Id::PExpire | Id::PExpireAt | Id::Persist => &["RW", "update"],
            Id::Exists | Id::Type | Id::Watch | Id::Memory | Id::StrLen => &["RO"],
            _ => &["RO", "access"],
        };
        self.simple_set(flags);
    }

    fn simple_set(&mut self, words: &[&str]) {
        self.reply.set(words.len());
        for word in words {
            self.reply.simple(word);
        }
    }

    fn number_pair(&mut self, name: &str, number: i64) {
        self.reply.bulk(name.as_bytes());
        self.reply.integer(number);
    }

    /// The parts of a command, for people.
    pub(super) fn help(&mut self, command: &str) {
        let parts = parts::all(&command.to_lowercase());
        self.reply.array(parts.len() + 1);
        self.reply.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
        for part in parts {
            self.reply.simple(&part.name.to_uppercase());
        }
    }
}

/// Redis's categories of commands.
fn categories(command: &Command) -> Vec<&'static str> {
    let has = |flag: &str| command.flags.contains(&flag);
    let mut all = Vec::new();
    for (category, is_of) in [
        ("@read", has("readonly")),
        ("@write", has("write")),
        ("@admin", has("admin")),
        ("@dangerous", has("admin")),
        ("@fast", has("fast")),
        ("@slow", !has("fast")),
    ] {
        if is_of {
            all.push(category);
        }
    }
    let group = match command.group {
        "string" => Some("@string"),
        "generic" => Some("@keyspace"),
        "connection" => Some("@connection"),
        "pubsub" => Some("@pubsub"),
        "transactions" => Some("@transaction"),
        _ => None,
    };
    all.extend(group);
    all
}

/// What a client of a cluster should know of a command.
fn tips(command: &Command) -> &'static [&'static str] {
    match command.id {
        Id::Del | Id::Exists => &["request_policy:multi_shard", "response_policy:agg_sum"],
        Id::MGet => &["request_policy:multi_shard"],
        Id::DbSize => &["request_policy:all_shards", "response_policy:agg_sum"],
        Id::Ping => &["request_policy:all_shards", "response_policy:all_succeeded"],
        Id::Scan => &["nondeterministic_output", "request_policy:special"],
        Id::Ttl | Id::PTtl | Id::Info | Id::Command | Id::Client | Id::Cluster | Id::Memory => {
            &["nondeterministic_output"]
        }
        _ => &[],
    }
}

/// Where the keys of a part are.
fn part_keys(command: &str, part: &[u8]) -> (i64, i64, i64) {
    if command == "memory" && is(part, "usage") { (2, 2, 1) } else { (0, 0, 0) }
}
