//! Commands about the connection and the node: PING, HELLO, AUTH, SELECT, INFO, COMMAND, SUBSCRIBE.

use std::{
    fmt::Write as _,
    sync::atomic::Ordering::{Acquire, Release},
};

use super::{
    codec::Arguments,
    keys::{is, number},
    parts,
    reply::Protocol,
    session::{CHANNEL, Session},
    table::{self, COMMANDS, Command},
};

/// The version of Redis whose commands and errors these are; clients turn features on by it.
const REDIS: &str = "7.4.0";

impl Session {
    pub(super) fn ping(&mut self, arguments: Arguments<'_>) {
        let message = arguments.get(1);
        if arguments.len() > 2 {
            return self.error("ERR wrong number of arguments for 'ping' command");
        }
        if self.reply.protocol == Protocol::Two && self.client.subscribed.load(Acquire) {
            self.reply.array(2);
            self.reply.bulk(b"pong");
            return self.reply.bulk(message.unwrap_or_default());
        }
        match message {
            Some(message) => self.reply.bulk(message),
            None => self.reply.simple("PONG"),
        }
    }

    pub(super) fn hello(&mut self, arguments: Arguments<'_>) {
        let mut protocol = self.reply.protocol;
        let mut name = None;
        let mut password = None;
        if let Some(version) = arguments.get(1) {
            protocol = match number(version) {
                Some(2) => Protocol::Two,
                Some(3) => Protocol::Three,
                Some(_) => return self.error("NOPROTO unsupported protocol version"),
                None => return self.error("ERR Protocol version is not an integer or out of range"),
            };
            let mut options = arguments.from(2);
            while let Some(option) = options.next() {
                if is(option, "auth") {
                    let (Some(user), Some(given)) = (options.next(), options.next()) else {
                        return self.error("ERR Syntax error in HELLO option 'auth'");
                    };
                    password = Some((user, given));
                } else if is(option, "setname") {
                    let Some(given) = options.next() else {
                        return self.error("ERR Syntax error in HELLO option 'setname'");
                    };
                    name = Some(given);
                } else {
                    let option = String::from_utf8_lossy(option).into_owned();
                    return self.error(&format!("ERR Syntax error in HELLO option '{option}'"));
                }
            }
        }
        if let Some((user, given)) = password
            && !self.shows(user, given)
        {
            return;
        }
        if !self.authenticated {
            return self.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option \
                 can be used to authenticate the client and select the RESP protocol version at the same time",
            );
        }
        if let Some(name) = name
            && !self.is_named(name)
        {
            return;
        }
        let listens_by_itself = self.track.is_some() && self.client.redirect.load(Acquire) == 0;
        if protocol == Protocol::Two && listens_by_itself {
            return self
                .error("ERR this connection is told of invalidations in RESP3; CLIENT TRACKING OFF first");
        }
        self.speak(protocol);
        self.reply.map(7);
        self.pair("server", b"redis");
        self.pair("version", REDIS.as_bytes());
        self.reply.bulk(b"proto");
        self.reply.integer(if protocol == Protocol::Two { 2 } else { 3 });
        self.reply.bulk(b"id");
        self.reply.integer(self.client.id as i64);
        self.pair("mode", b"cluster");
        self.pair("role", b"master");
        self.reply.bulk(b"modules");
        self.reply.array(0);
    }

    pub(super) fn auth(&mut self, arguments: Arguments<'_>) {
        let (user, given) = match (arguments.get(1), arguments.get(2), arguments.len()) {
            (Some(_), None, 2) if self.node.config.resp_password.is_empty() => {
                // Who gives a password alone believes that there is one. With a user's name it is the default user's, who needs none.
                return self.error(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is \
                     correct?",
                );
            }
            (Some(given), None, 2) => (&b"default"[..], given),
            (Some(user), Some(given), 3) => (user, given),
            _ => return self.error("ERR syntax error"),
        };
        if self.shows(user, given) {
            self.reply.ok();
        }
    }

    /// Checks a password; writes an error if it is not the right one. As in Redis, any is right where there is none.
    fn shows(&mut self, user: &[u8], given: &[u8]) -> bool {
        let password = &self.node.config.resp_password;
        if user == b"default" && (password.is_empty() || same(password.expose().as_bytes(), given)) {
            self.authenticated = true;
            return true;
        }
        self.error("WRONGPASS invalid username-password pair or user is disabled.");
        false
    }

    pub(super) fn select(&mut self, arguments: Arguments<'_>) {
        match arguments.get(1).and_then(number) {
            Some(0) => self.reply.ok(),
            Some(_) => self.error("ERR DB index is out of range"),
            None => self.error("ERR invalid DB index"),
        }
    }

    pub(super) fn info(&mut self, arguments: Arguments<'_>) {
        let all = arguments.len() == 1
            || arguments.from(1).any(|name| ["all", "default", "everything"].iter().any(|all| is(name, all)));
        let wanted = |section: &str| all || arguments.from(1).any(|name| is(name, section));
        let (node, resp) = (&self.node, &self.node.resp);
        let (stats, ring) = (node.stats(), node.ring());
        let mut text = String::new();
        let mut section = |name: &str, lines: &[(&str, String)]| {
            if wanted(name) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                let mut title = name.to_owned();
                title[..1].make_ascii_uppercase();
                let _ = write!(text, "# {title}\r\n");
                for (name, value) in lines {
                    let _ = write!(text, "{name}:{value}\r\n");
                }
            }
        };
        let count = |number: u64| number.to_string();
        let misses = stats.misses + stats.shared;
        section(
            "server",
            &[
                ("redis_version", REDIS.to_owned()),
                ("redis_mode", "cluster".to_owned()),
                ("freshline_version", stats.version.clone()),
                ("freshline_node", stats.node.clone()),
                ("process_id", std::process::id().to_string()),
                ("run_id", super::topology::hex_id(&node.id)),
                ("tcp_port", super::topology::host_port(&resp.address.lock()).1.to_string()),
                ("uptime_in_seconds", count(stats.uptime.as_secs())),
                ("uptime_in_days", count(stats.uptime.as_secs() / 86400)),
            ],
        );
        section(
            "clients",
            &[
                ("connected_clients", resp.clients.count().to_string()),
                ("maxclients", node.config.resp_connections.to_string()),
                ("tracking_clients", resp.clients.trackers().to_string()),
            ],
        );
        section(
            "memory",
            &[
                ("used_memory", count(stats.bytes)),
                ("maxmemory", count(stats.capacity_bytes)),
                ("maxmemory_policy", "allkeys".to_owned()),
            ],
        );
        section(
            "stats",
            &[
                ("keyspace_hits", count(stats.hits + stats.negative_hits)),
                ("keyspace_misses", count(misses)),
                ("expired_keys", count(stats.expirations)),
                ("evicted_keys", count(stats.evictions)),
                ("fills", count(stats.fills)),
                ("removes", count(stats.removes)),
                ("flushes", count(stats.flushes)),
                ("tracking_total_keys", count(resp.tracking.keys())),
                ("tracking_total_items", count(resp.tracking.registrations())),
            ],
        );
        section("replication", &[("role", "master".to_owned()), ("connected_slaves", "0".to_owned())]);
        section(
            "cluster",
            &[
                ("cluster_enabled", "1".to_owned()),
                ("epoch", count(ring.epoch().0)),
                ("members", ring.members().len().to_string()),
                ("slots", stats.slots.to_string()),
                ("fenced", u8::from(stats.fenced).to_string()),
            ],
        );
        section("keyspace", &[("db0", format!("keys={},expires={0},avg_ttl=0", stats.entries))]);
        self.reply.text(&text);
    }

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
            "list" => {
                self.reply.array(COMMANDS.len());
                for command in COMMANDS {
                    self.reply.bulk(command.name.as_bytes());
                }
            }
            "info" if all => self.describe(COMMANDS.iter().map(Some)),
            "info" => self.describe(named()),
            "docs" => {
                let known: Vec<_> = if all { COMMANDS.iter().collect() } else { named().flatten().collect() };
                self.docs(&known);
            }
            _ => self.keys_of(arguments),
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

    fn keys_of(&mut self, arguments: Arguments<'_>) {
        let Some(at) = arguments.get(2).and_then(table::find) else {
            return self.error("ERR Invalid command specified");
        };
        let (command, count) = (&COMMANDS[at], arguments.len() - 2);
        if !command.takes(count) {
            return self.error("ERR Invalid number of arguments specified for command");
        }
        let keys: Vec<&[u8]> =
            command.key_places(count).filter_map(|place| arguments.get(place + 2)).collect();
        if keys.is_empty() {
            return self.error("ERR The command has no key arguments");
        }
        self.reply.array(keys.len());
        for key in keys {
            self.reply.bulk(key);
        }
    }

    fn describe<'a>(&mut self, commands: impl ExactSizeIterator<Item = Option<&'a Command>>) {
        self.reply.array(commands.len());
        for command in commands {
            let Some(command) = command else {
                self.reply.null();
                continue;
            };
            self.reply.array(10);
            self.reply.bulk(command.name.as_bytes());
            self.reply.integer(command.arity);
            self.reply.set(command.flags.len());
            for flag in command.flags {
                self.reply.simple(flag);
            }
            let (first, last, step) = command.keys;
            for number in [first, last, step] {
                self.reply.integer(number);
            }
            // ACL categories, tips, key specifications and subcommands.
            self.reply.set(0);
            self.reply.array(0);
            self.reply.array(0);
            self.reply.array(0);
        }
    }

    /// Listens to invalidations, the only thing that there is to listen to.
    pub(super) fn subscribe(&mut self, arguments: Arguments<'_>) {
        if let Some(other) = arguments.from(1).find(|channel| *channel != CHANNEL.as_bytes()) {
            let other = String::from_utf8_lossy(other).into_owned();
            return self.error(&format!("ERR no channel '{other}': a node has one channel, {CHANNEL}"));
        }
        self.client.subscribed.store(true, Release);
        for _ in 1..arguments.len() {
            self.reply.push(3);
            self.reply.bulk(b"subscribe");
            self.reply.bulk(CHANNEL.as_bytes());
            self.reply.integer(1);
        }
    }

    pub(super) fn unsubscribe(&mut self, arguments: Arguments<'_>) {
        let was = self.client.subscribed.load(Acquire);
        let all = arguments.len() == 1;
        if all || arguments.from(1).any(|channel| channel == CHANNEL.as_bytes()) {
            self.client.subscribed.store(false, Release);
        }
        let left = i64::from(self.client.subscribed.load(Acquire));
        let channels =
            if all { vec![was.then_some(CHANNEL.as_bytes())] } else { arguments.from(1).map(Some).collect() };
        for channel in channels {
            self.reply.push(3);
            self.reply.bulk(b"unsubscribe");
            self.reply.bulk_or_null(channel);
            self.reply.integer(left);
        }
    }

    /// A pair of a map.
    pub(super) fn pair(&mut self, name: &str, value: &[u8]) {
        self.reply.bulk(name.as_bytes());
        self.reply.bulk(value);
    }
}

/// Compares in a time that does not tell where two secrets differ.
fn same(secret: &[u8], given: &[u8]) -> bool {
    let differs = secret
        .iter()
        .zip(given.iter().chain(std::iter::repeat(&0)))
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    differs == 0 && secret.len() == given.len()
}
