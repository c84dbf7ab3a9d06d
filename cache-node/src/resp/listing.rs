//! CLIENT LIST and CLIENT KILL: who is connected, by what they are found.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
    time::Duration,
};

use super::{
    clients::Client,
    codec::Arguments,
    keys::{is, number},
    parts,
    session::Session,
    table::COMMANDS,
};

/// Clients that all of these fit.
#[derive(Debug, Default)]
struct Filter {
    id: Option<u64>,
    address: Option<SocketAddr>,
    local: Option<SocketAddr>,
    kind: Option<Kind>,
    older_than: Option<Duration>,
    others: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    PubSub,
    /// Of a replica or a master: no client of a node is one.
    Nobody,
}

impl Kind {
    fn of(word: &[u8]) -> Result<Self, String> {
        if is(word, "normal") {
            Ok(Self::Normal)
        } else if is(word, "pubsub") {
            Ok(Self::PubSub)
        } else if ["replica", "slave", "master"].iter().any(|known| is(word, known)) {
            Ok(Self::Nobody)
        } else {
            Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)))
        }
    }

    fn fits(self, client: &Client) -> bool {
        match self {
            Self::Normal => !client.subscribed.load(Acquire),
            Self::PubSub => client.subscribed.load(Acquire),
            Self::Nobody => false,
        }
    }
}

impl Filter {
    fn fits(&self, client: &Client, asking: u64) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.address.is_none_or(|address| client.address == address)
            && self.local.is_none_or(|local| client.local == local)
            && self.kind.is_none_or(|kind| kind.fits(client))
            && self.older_than.is_none_or(|age| client.since.elapsed() >= age)
            && !(self.others && client.id == asking)
    }

    /// Reads pairs of a word and what it says. `others` are meant if nothing else is said.
    fn read<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, String> {
        let mut filter = Self { others: true, ..Self::default() };
        while let Some(word) = words.next() {
            let Some(given) = words.next() else { return Err("ERR syntax error".to_owned()) };
            if is(word, "id") {
                let id = number(given).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.id = Some(id.ok_or("ERR client-id should be greater than 0")?);
            } else if is(word, "addr") {
                filter.address = Some(address(given).unwrap_or(NOBODY));
            } else if is(word, "laddr") {
                filter.local = Some(address(given).unwrap_or(NOBODY));
            } else if is(word, "type") {
                filter.kind = Some(Kind::of(given)?);
            } else if is(word, "user") {
                if given != b"default" {
                    return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(given)));
                }
            } else if is(word, "maxage") {
                let seconds = number(given).and_then(|age| u64::try_from(age).ok()).filter(|age| *age > 0);
                let seconds = seconds.ok_or("ERR maxage should be greater than 0")?;
                filter.older_than = Some(Duration::from_secs(seconds));
            } else if is(word, "skipme") {
                filter.others = match given {
                    yes if is(yes, "yes") => true,
                    no if is(no, "no") => false,
                    _ => return Err("ERR syntax error".to_owned()),
                };
            } else {
                return Err("ERR syntax error".to_owned());
            }
        }
        Ok(filter)
    }
}

/// An address that no client has.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

fn address(text: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Session {
    /// CLIENT LIST, of all or of some.
    pub(super) fn list(&mut self, arguments: Arguments<'_>) {
        let of: Box<dyn Fn(&Client) -> bool> = match (arguments.get(2), arguments.len()) {
            (None, _) => Box::new(|_| true),
            (Some(word), 4) if is(word, "type") => match Kind::of(arguments.get(3).unwrap_or_default()) {
                Ok(kind) => Box::new(move |client| kind.fits(client)),
                Err(text) => return self.error(&text),
            },
            (Some(word), 4..) if is(word, "id") => {
                let ids: Option<Vec<i64>> = arguments.from(3).map(number).collect();
                let Some(ids) = ids else { return self.error("ERR Invalid client ID") };
                Box::new(move |client| ids.contains(&(client.id as i64)))
            }
            _ => return self.error("ERR syntax error"),
        };
        let mut text = String::new();
        for client in self.node.resp.clients.all().iter().filter(|client| of(client)) {
            text.push_str(&line(client));
        }
        self.reply.text(&text);
    }

    /// CLIENT KILL: of an address, as it once was, or of all that fit.
    pub(super) fn kill(&mut self, arguments: Arguments<'_>) {
        let all = self.node.resp.clients.all();
        if arguments.len() == 3 {
            let at = address(arguments.get(2).unwrap_or_default());
            let Some(client) = all.iter().find(|client| Some(client.address) == at) else {
                return self.error("ERR No such client");
            };
            self.end(client);
            return self.reply.ok();
        }
        let filter = match Filter::read(arguments.from(2)) {
            Ok(filter) => filter,
            Err(text) => return self.error(&text),
        };
        let own = self.client.id;
        let ended: Vec<_> = all.iter().filter(|client| filter.fits(client, own)).collect();
        for client in &ended {
            self.end(client);
        }
        self.reply.integer(ended.len() as i64);
    }

    /// Ends a client's connection; its own after the reply.
    fn end(&mut self, client: &Arc<Client>) {
        if client.id == self.client.id {
            self.ends = true;
        } else {
            client.close.cancel();
        }
    }
}

/// A client as CLIENT LIST tells it.
pub(super) fn line(client: &Client) -> String {
    let about = client.about.lock().clone();
    let subscribed = client.subscribed.load(Acquire);
    let (tracks, multi) = (client.tracks.load(Acquire), client.multi.load(Relaxed));
    let mut flags = String::new();
    for (flag, set) in [
        ('P', subscribed),
        ('x', multi >= 0),
        ('t', tracks),
        ('R', client.broken.load(Acquire)),
        ('B', tracks && client.broadcasts.load(Acquire)),
    ] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let redirect = if tracks { client.redirect.load(Acquire) as i64 } else { -1 };
    let age = client.since.elapsed();
    let idle = age.saturating_sub(Duration::from_millis(client.active.load(Relaxed)));
    let waiting = client.waiting.load(Relaxed);
    let mut line = String::new();
    let _ = writeln!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub={} psub=0 ssub=0 multi={multi} qbuf={} qbuf-free=0 argv-mem=0 \
         multi-mem=0 rbs=0 rbp=0 obl={waiting} oll=0 omem=0 tot-mem={} events={} cmd={} user=default redir={redirect} resp={} lib-name={} lib-ver={}",
        client.id,
        client.address,
        client.local,
        about.name,
        age.as_secs(),
        idle.as_secs(),
        u8::from(subscribed),
        client.unread.load(Relaxed),
        client.held(),
        if waiting > 0 { "rw" } else { "r" },
        last(client),
        if client.resp3.load(Acquire) { 3 } else { 2 },
        about.lib_name,
        about.lib_version,
    );
    line
}

/// The last command that a client gave, with its part.
fn last(client: &Client) -> String {
    let (at, part) = client.last();
    let Some(command) = at.and_then(|at| COMMANDS.get(at)) else { return "NULL".to_owned() };
    match part.and_then(|part| parts::all(command.name).get(part)) {
        Some(part) => format!("{}|{}", command.name, part.name),
        None => command.name.to_owned(),
    }
}
