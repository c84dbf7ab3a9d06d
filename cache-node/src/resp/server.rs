//! Commands about the connection: PING, HELLO, AUTH, SELECT, SUBSCRIBE.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::{
    codec::Arguments,
    info::REDIS,
    keys::{is, number},
    reply::Protocol,
    session::{CHANNEL, Session},
};

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
