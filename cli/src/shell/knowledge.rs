//! What the shell knows of the nodes: a client, the catalog, and keys that are in memory.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use catalog::Group;
use clap::CommandFactory;
use client::{Client, Scan};
use tokio::{runtime::Handle, time::timeout};

use crate::{cli::Cli, connect::Connect, setup::Setup};

/// How long a completion may wait for nodes.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long keys are offered without asking again.
const FRESH: Duration = Duration::from_secs(3);
/// Keys that are asked of each node.
const KEYS: u32 = 1000;

/// Commands that are of no use inside.
const OUTSIDE: [&str; 5] = ["dev", "shell", "completions", "man", "help"];

/// Shared by the editor, which asks from a thread of its own, and the commands.
pub(crate) struct Knowledge {
    connect: Connect,
    runtime: Handle,
    setup: Option<Setup>,
    /// Guards what may be asked for anew; never held while anything waits.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    keys: Option<Keys>,
}

/// What was in memory a moment ago.
struct Keys {
    groups: Vec<String>,
    found: Vec<String>,
    at: Instant,
}

impl Knowledge {
    pub(super) fn new(connect: Connect) -> Self {
        // Without a catalog there are still the nodes' own words for their groups.
        let setup = Setup::find(&connect).ok();
        Self { connect, runtime: Handle::current(), setup, state: Mutex::default() }
    }

    /// Looks for the nodes, if none is known.
    pub(super) async fn connect(&self) -> anyhow::Result<Client> {
        if let Some(client) = self.known() {
            return Ok(client);
        }
        let client = self.connect.client().await?;
        self.lock().client = Some(client.clone());
        Ok(client)
    }

    /// The client, if there is one.
    fn known(&self) -> Option<Client> {
        self.lock().client.clone()
    }

    /// The nodes are looked for again next time.
    pub(super) fn forget(&self) {
        *self.lock() = State::default();
    }

    pub(super) fn groups(&self) -> &[std::sync::Arc<Group>] {
        self.setup.as_ref().map_or(&[], |setup| setup.catalog.groups())
    }

    /// Names of groups: the catalog's, or else the nodes'.
    pub(super) fn group_names(&self) -> Vec<String> {
        if !self.groups().is_empty() {
            return self.groups().iter().map(|group| group.name.to_string()).collect();
        }
        self.ask(async |client: Client| {
            let stats = client.stats().await;
            let stats = stats.into_iter().find_map(|(_, stats)| stats.ok());
            stats.map(|stats| stats.groups.into_iter().map(|group| group.name).collect()).unwrap_or_default()
        })
        .unwrap_or_default()
    }

    /// Keys in memory that begin with `prefix`, of the groups whose keys may.
    pub(super) fn keys(&self, prefix: &str) -> Vec<String> {
        let groups: Vec<String> = self
            .groups()
            .iter()
            .filter(|group| {
                let literal = literal(group.template.text());
                literal.starts_with(prefix) || prefix.starts_with(&literal)
            })
            .map(|group| group.name.to_string())
            .collect();
        if groups.is_empty() && !self.groups().is_empty() {
            return Vec::new();
        }
        let begins = |keys: &[String]| keys.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        if let Some(known) = &self.lock().keys
            && known.groups == groups
            && known.at.elapsed() < FRESH
        {
            return begins(&known.found);
        }
        let wanted = groups.clone();
        let asked: Option<Vec<String>> = self.ask(async move |client: Client| {
            let mut keys = Vec::new();
            for member in client.ring().members() {
                let scan = Scan { groups: wanted.clone(), count: KEYS, ..Scan::default() };
                if let Ok(page) = client.scan(&member.id, scan).await {
                    keys.extend(page.entries.into_iter().map(|held| held.key));
                }
            }
            keys.sort_unstable();
            keys.dedup();
            keys
        });
        // No answer in time is not the same as no keys: the next Tab asks again.
        let Some(keys) = asked else { return Vec::new() };
        let offered = begins(&keys);
        self.lock().keys = Some(Keys { groups, found: keys, at: Instant::now() });
        offered
    }

    /// Asks the nodes from outside of the runtime; nothing if they do not answer at once.
    fn ask<T>(&self, question: impl AsyncFnOnce(Client) -> T) -> Option<T> {
        self.runtime.block_on(async {
            let answer = async {
                let client = self.connect().await.ok()?;
                Some(question(client).await)
            };
            timeout(PATIENCE, answer).await.ok().flatten()
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What each key of a template begins with.
pub(super) fn literal(template: &str) -> String {
    let (mut text, mut rest) = (String::new(), template.chars().peekable());
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('{', Some('{')) | ('}', Some('}')) => {
                rest.next();
                text.push(c);
            }
            ('{', _) => break,
            _ => text.push(c),
        }
    }
    text
}

/// The commands that are of use inside.
pub(super) fn commands() -> Vec<clap::Command> {
    let mut cli = Cli::command();
    cli.build();
    cli.get_subcommands().filter(|command| !OUTSIDE.contains(&command.get_name())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_begins_with_its_literal() {
        for (template, begins) in [
            ("user:{id:u64}", "user:"),
            ("{{user:{id:u64}}}:a", "{user:"),
            ("count", "count"),
            ("{a:u64}", ""),
        ] {
            assert_eq!(literal(template), begins);
        }
    }
}
