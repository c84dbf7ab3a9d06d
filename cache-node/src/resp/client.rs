//! CLIENT: who a connection is, and what it is told of.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::{
    codec::Arguments,
    error,
    keys::{is, number},
    listing::line,
    parts::{self, Wrong},
    reply::Protocol,
    session::{Session, Silence, Track},
};

/// Prefixes of one client that broadcasts.
const PREFIXES: usize = 256;

impl Session {
    pub(super) fn client_command(&mut self, arguments: Arguments<'_>) {
        let name = match parts::find("client", arguments) {
            Ok(name) => name,
            Err(wrong) => {
                if matches!(wrong, Wrong::Unknown(_)) {
                    self.caching = None; // in Redis this is an unknown command
                }
                return self.error(wrong.text());
            }
        };
        let first = arguments.get(2).unwrap_or_default();
        match name {
            "id" => self.reply.integer(self.client.id as i64),
            "getname" => {
                let name = self.client.about.lock().name.clone();
                self.reply.bulk_or_null((!name.is_empty()).then_some(name.as_bytes()));
            }
            "setname" => {
                if self.is_named(first) {
                    self.reply.ok();
                }
            }
            "setinfo" => self.set_info(first, arguments.get(3).unwrap_or_default()),
            "info" => {
                let line = line(&self.client);
                self.reply.text(&line);
            }
            "list" => self.list(arguments),
            "no-evict" | "no-touch" => match on_off(first) {
                // A read is a use, and who holds most is closed all the same: else everybody would ask not to be.
                Some(_) => self.reply.ok(),
                None => self.error("ERR syntax error"),
            },
            "reply" => self.replies(first),
            "tracking" => self.tracking(arguments),
            "trackinginfo" => self.tracking_info(),
            "getredir" => {
                let redirect = self.redirect();
                self.reply.integer(redirect);
            }
            "caching" => self.caching(first),
            "kill" => self.kill(arguments),
            _ => self.help("CLIENT"),
        }
    }

    /// Gives the connection a name; writes an error if it can't have it.
    pub(super) fn is_named(&mut self, name: &[u8]) -> bool {
        if let Err(text) = error::short("a name", name) {
            self.error(&text);
            return false;
        }
        let Some(name) = plain(name) else {
            self.error("ERR Client names cannot contain spaces, newlines or special characters.");
            return false;
        };
        name.clone_into(&mut self.client.about.lock().name);
        true
    }

    fn set_info(&mut self, field: &[u8], value: &[u8]) {
        if let Err(text) = error::short("a name", value) {
            return self.error(&text);
        }
        let Some(value) = plain(value) else {
            let field = String::from_utf8_lossy(field).into_owned();
            return self
                .error(&format!("ERR {field} cannot contain spaces, newlines or special characters."));
        };
        let mut about = self.client.about.lock();
        if is(field, "lib-name") {
            value.clone_into(&mut about.lib_name);
        } else if is(field, "lib-ver") {
            value.clone_into(&mut about.lib_version);
        } else {
            drop(about);
            let field = String::from_utf8_lossy(field).into_owned();
            return self.error(&format!("ERR Unrecognized option '{field}'"));
        }
        drop(about);
        self.reply.ok();
    }

    fn replies(&mut self, mode: &[u8]) {
        if is(mode, "on") {
            self.silence = Silence::No;
            self.reply.ok();
        } else if is(mode, "off") {
            self.silence = Silence::All;
        } else if is(mode, "skip") {
            if self.silence == Silence::No {
                self.silence = Silence::Next;
            }
        } else {
            self.error("ERR syntax error");
        }
    }

    fn tracking(&mut self, arguments: Arguments<'_>) {
        let Some(on) = arguments.get(2).and_then(on_off) else { return self.error("ERR syntax error") };
        let mut wanted = Track::default();
        let mut redirect = 0;
        let mut prefixes: Vec<Box<str>> = Vec::new();
        let mut options = arguments.from(3);
        while let Some(option) = options.next() {
            if is(option, "bcast") {
                wanted.broadcast = true;
            } else if is(option, "optin") {
                wanted.opt_in = true;
            } else if is(option, "optout") {
                wanted.opt_out = true;
            } else if is(option, "noloop") {
                wanted.no_loop = true;
            } else if is(option, "prefix") {
                let prefix = options.next().map(std::str::from_utf8);
                let Some(Ok(prefix)) = prefix else { return self.error("ERR syntax error") };
                if let Err(text) = error::short("a prefix", prefix.as_bytes()) {
                    return self.error(&text);
                }
                if prefixes.len() >= PREFIXES {
                    return self.error(&too_many_prefixes());
                }
                prefixes.push(prefix.into());
            } else if is(option, "redirect") {
                if redirect != 0 {
                    return self.error("ERR A client can only redirect to a single other client");
                }
                let Some(id) = options.next().and_then(number) else {
                    return self.error("ERR Invalid client ID");
                };
                let known = u64::try_from(id).ok().filter(|id| self.node.resp.clients.get(*id).is_some());
                let Some(id) = known else {
                    return self.error("ERR The client ID you want redirect to does not exist");
                };
                redirect = if id == self.client.id { 0 } else { id };
            } else {
                return self.error("ERR syntax error");
            }
        }
        if !on {
            self.track_no_more();
            return self.reply.ok();
        }
        if let Err(text) = self.fits(&wanted, redirect, &prefixes) {
            return self.error(text);
        }
        let mut all = self.track.as_ref().map(|track| track.prefixes.clone()).unwrap_or_default();
        for prefix in prefixes {
            if let Some(other) = all.iter().find(|other| {
                **other != prefix && (other.starts_with(&*prefix) || prefix.starts_with(&***other))
            }) {
                let text = format!(
                    "ERR Prefix '{prefix}' overlaps with an existing prefix '{other}'. Prefixes for a single client must not overlap."
                );
                return self.error(&text);
            }
            if all.contains(&prefix) {
                continue;
            }
            // Each removal is compared with all of them.
            if all.len() >= PREFIXES {
                return self.error(&too_many_prefixes());
            }
            all.push(prefix);
        }
        wanted.prefixes = all;
        self.client.redirect.store(redirect, Release);
        self.client.broken.store(false, Release);
        let resp = &self.node.resp;
        // Before anything is read that it is to be told of.
        resp.clients.set_tracks(&self.client, true);
        self.client.broadcasts.store(wanted.broadcast, Release);
        if wanted.broadcast {
            resp.tracking.broadcast(&self.client, wanted.prefixes.clone());
        }
        self.track = Some(wanted);
        self.reply.ok();
    }

    /// Whether a connection can track in this way.
    fn fits(&self, wanted: &Track, redirect: u64, prefixes: &[Box<str>]) -> Result<(), &'static str> {
        if !prefixes.is_empty() && !wanted.broadcast {
            return Err("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if wanted.opt_in && wanted.opt_out {
            return Err("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        if (wanted.opt_in || wanted.opt_out) && wanted.broadcast {
            return Err("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if let Some(track) = &self.track {
            if track.broadcast != wanted.broadcast {
                return Err(
                    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with \
                     a different mode.",
                );
            }
            if (track.opt_in, track.opt_out) != (wanted.opt_in, wanted.opt_out) {
                return Err(
                    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with \
                     a different mode.",
                );
            }
        }
        if redirect == 0 && self.reply.protocol == Protocol::Two {
            // Redis takes it, and then tells nobody.
            return Err(
                "ERR in RESP2 nobody could be told of invalidations: say HELLO 3 first, or REDIRECT to a client that is subscribed to \
                 __redis__:invalidate",
            );
        }
        Ok(())
    }

    fn tracking_info(&mut self) {
        let (flags, prefixes) = match &self.track {
            None => (vec!["off"], Vec::new()),
            Some(track) => {
                let mut flags = vec!["on"];
                for (flag, set) in [
                    ("bcast", track.broadcast),
                    ("optin", track.opt_in),
                    ("optout", track.opt_out),
                    ("caching-yes", track.opt_in && self.caching == Some(true)),
                    ("caching-no", track.opt_out && self.caching == Some(false)),
                    ("noloop", track.no_loop),
                    ("broken_redirect", self.client.broken.load(Acquire)),
                ] {
                    if set {
                        flags.push(flag);
                    }
                }
                (flags, track.prefixes.clone())
            }
        };
        let redirect = self.redirect();
        self.reply.map(3);
        self.reply.bulk(b"flags");
        self.reply.set(flags.len());
        for flag in flags {
            self.reply.bulk(flag.as_bytes());
        }
        self.reply.bulk(b"redirect");
        self.reply.integer(redirect);
        self.reply.bulk(b"prefixes");
        self.reply.array(prefixes.len());
        for prefix in prefixes {
            self.reply.bulk(prefix.as_bytes());
        }
    }

    /// As Redis tells it: -1 without tracking, 0 for the connection itself.
    fn redirect(&self) -> i64 {
        if self.track.is_none() { -1 } else { self.client.redirect.load(Acquire) as i64 }
    }

    fn caching(&mut self, wanted: &[u8]) {
        let yes = is(wanted, "yes");
        if !yes && !is(wanted, "no") {
            return self.error("ERR syntax error");
        }
        let (opt_in, opt_out) =
            self.track.as_ref().map_or((false, false), |track| (track.opt_in, track.opt_out));
        match (opt_in, opt_out, yes) {
            (false, false, _) => self.error(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ),
            (false, _, true) => {
                self.error("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
            }
            (_, false, false) => {
                self.error("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
            }
            _ => {
                self.caching = Some(yes);
                self.reply.ok();
            }
        }
    }
}

fn too_many_prefixes() -> String {
    format!("ERR a client has at most {PREFIXES} prefixes; choose shorter ones, which match more")
}

fn on_off(argument: &[u8]) -> Option<bool> {
    if is(argument, "on") { Some(true) } else { is(argument, "off").then_some(false) }
}

/// Text without spaces and control characters.
fn plain(text: &[u8]) -> Option<&str> {
    let plain = text.iter().all(|byte| (b'!'..=b'~').contains(byte));
    plain.then(|| std::str::from_utf8(text).ok()).flatten()
}
