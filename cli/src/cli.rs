//! The command line: what can be asked, and how it is explained.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use client::ReadOptions;
use daemon::config::suggest;

use crate::{commands, connect::Connect, dev, output::Output, rows::RowsArgs, shell};

const ABOUT: &str = "Keeps a cache true to its MySQL database.";
const EXAMPLES: &str = "\
Examples:
  freshline dev                          the whole stack on this machine, nothing to install
  freshline get user:42                  the value of one key, from whichever node holds it
  freshline explain user:42              why a key is as it is, and since when
  freshline shell                        all of these, with completion
  freshline verify                       compare what is cached with the database
  freshline check --config freshline.toml --database mysql://app:secret@db/shop

Exit status: 0 done, 1 failed or no such row, 2 command line not understood.";

/// The command line as a whole.
#[derive(Debug, Parser)]
#[command(name = "freshline", version, about = ABOUT, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads a command line. A command that there isn't gets the nearest one for a tip, more readily than clap by itself.
pub(crate) fn parse<W: Into<OsString> + Clone>(
    mut command: clap::Command,
    words: impl IntoIterator<Item = W>,
) -> Result<Cli, clap::Error> {
    let read = command
        .try_get_matches_from_mut(words)
        .and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    read.map_err(|mut error| {
        if error.kind() == ErrorKind::InvalidSubcommand
            && error.get(ContextKind::SuggestedSubcommand).is_none()
            && let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidSubcommand)
            && let Some(known) = suggest(written, command.get_subcommands().map(clap::Command::get_name))
        {
            let known = ContextValue::Strings(vec![known.to_owned()]);
            error.insert(ContextKind::SuggestedSubcommand, known);
        }
        error.format(&mut command)
    })
}

/// How a command ended that met no error.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did what it was asked for.
    Done,
    /// It has said itself what was wrong.
    Failed,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole stack in one process: SQLite, a broker, three nodes, the sync service
    #[command(after_help = "\
Examples:
  freshline dev                       run until Ctrl-C, with the sample shop
  freshline dev --tour                show what it does, then end; exits 0 if all of it happened
  freshline dev --dir shop --keep     keep the database in ./shop and continue with it next time
  freshline dev --config mine.toml    your own catalog, on the SQLite file of its [database] url")]
    Dev(dev::DevArgs),

    /// Run these commands from a prompt, with completion and history
    #[command(after_help = "\
Examples:
  freshline shell                     at a prompt: Tab completes, Ctrl-C cancels a command, Ctrl-D leaves
  freshline shell < commands.txt      line by line; ends with status 1 if one of them failed
  echo 'get user:42' | freshline shell

Lines are remembered in $XDG_STATE_HOME/freshline/history.")]
    Shell(shell::ShellArgs),

    /// Print the value of a key
    #[command(after_help = "\
Examples:
  freshline get user:42               the value, indented
  freshline get user:42 --raw         the value exactly as the node sent it
  freshline get user:42 -v            and on standard error where it came from
  freshline get user:42 --json        value, outcome, node, age and TTL as one object
  freshline get user:42 --max-staleness 2s    read from the database if memory may be older than that

A row that does not exist ends with status 1.")]
    Get {
        /// The key, such as user:42
        key: String,
        /// Print the value's bytes as they are
        #[arg(long, conflicts_with = "json")]
        raw: bool,
        /// Say on standard error how the key was answered
        #[arg(long, short)]
        verbose: bool,
        /// Take no value from memory that may be older: 500ms, 2s
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        max_staleness: Option<Duration>,
        #[command(flatten)]
        connect: Connect,
    },

    /// Print the values of many keys, one line each
    #[command(after_help = "\
Examples:
  freshline get-many user:1 user:2 product:7
  freshline get-many user:{1..100} --json")]
    GetMany {
        /// The keys
        #[arg(required = true)]
        keys: Vec<String>,
        /// Say for each key how it was answered
        #[arg(long, short)]
        verbose: bool,
        /// Take no value from memory that may be older: 500ms, 2s
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        max_staleness: Option<Duration>,
        #[command(flatten)]
        connect: Connect,
    },

    /// Give a key of a plain group a value
    #[command(after_help = "\
Examples:
  freshline put session:7 '{\"cart\": [1, 2]}' --ttl 30m
  freshline put lock:report me --ttl 10s --if-absent
  freshline put page:home - < home.html

It returns when every holder of the key has the value. Values of other groups come from the database, or are look-aside.")]
    Put(commands::PutArgs),

    /// Remove keys from every node
    #[command(after_help = "\
Examples:
  freshline del user:42 user:42:orders
  freshline del --tag product:7

Row changes remove keys by themselves; this is for changes that no stream carries.")]
    Del {
        /// The keys
        #[arg(required_unless_present = "tags")]
        keys: Vec<String>,
        /// Remove everything that carries this tag; may be repeated
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        #[command(flatten)]
        connect: Connect,
    },

    /// Drop every entry of whole groups, on every node
    #[command(after_help = "\
Examples:
  freshline flush user user_orders
  freshline flush --all")]
    Flush {
        /// The groups, by name
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        groups: Vec<String>,
        /// Every group
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connect: Connect,
    },

    /// Tell what every node knows about a key: why is it as it is, and since when?
    #[command(after_help = "\
Examples:
  freshline explain user:42           where it is, what happened to it on all nodes, and a verdict
  freshline explain user:42 --compare also reads the row, and says whether the entries are what it says
  freshline explain user:42 --json    all of it as one object

With --compare an entry that differs from its row ends with status 1.")]
    Explain {
        /// The key
        key: String,
        /// Read the row from the database too, as the nodes would, and compare
        #[arg(long)]
        compare: bool,
        #[command(flatten)]
        rows: RowsArgs,
        #[command(flatten)]
        connect: Connect,
    },

    /// Compare what is cached with the database
    #[command(after_help = "\
Examples:
  freshline verify --config freshline.toml            1000 entries drawn from all nodes
  freshline verify --all --group user                 every entry of one group
  freshline verify --sample 100 --rate 10 --json
  freshline verify --repair                           and remove what is stale from all nodes
  freshline verify                                    of the running `freshline dev`

A difference is looked at again after 1, 10 and 60 seconds; it is gone if a removal was under way. What still differs at
the end is stale: it is named with its story, and the command ends with status 1, repaired or not.")]
    Verify(commands::VerifyArgs),

    /// Fill keys of a group ahead of traffic, from a file or a query
    #[command(after_help = "\
Examples:
  freshline warm user --from ids.txt                       a key or an id on each line
  freshline warm user --query \"SELECT id FROM users\"      by the nodes' own database
  freshline warm user --from ids.txt --rate 200 --state ids.state     can be interrupted and gone on with
  cut -d, -f1 users.csv | freshline warm user --from -

A group with several parameters takes them as CSV, in the template's order or in that of a first line that names them. Lines
that make no key are told with their numbers and counted. Ends with status 1 if a key could not be filled, or if it was
interrupted.")]
    Warm(commands::WarmArgs),

    /// Tell which keys recorded or retained changes would remove
    #[command(after_help = "\
Examples:
  freshline replay changes.jsonl                      by ./freshline.toml, or the running `freshline dev`
  freshline replay changes.jsonl --against new.toml   which keys only one of the two catalogs would remove
  freshline replay --from-kafka --since 1h            what Kafka has retained of the last hour
  freshline replay --from-kafka --topic shop --from-offset 1000 --to-offset 2000 --keys

Nothing is removed, committed or written. Decoder and mapper are those of the sync service.")]
    Replay(commands::ReplayArgs),

    /// Read from running nodes for a while, and tell rates, delays and hits
    #[command(after_help = "\
Examples:
  freshline bench                                     10 seconds, 1000 keys, 8 readers
  freshline bench --group product --keys 100000 --distribution uniform --time 30s
  freshline bench --change \"UPDATE users SET city = 'Rome' WHERE id = {id}\" --changes 50

Nodes on other machines are put under load only where --config names their cluster. Ends with status 1 if reads failed.")]
    Bench(commands::BenchArgs),

    /// Print the members and their shares of the keyspace
    Ring {
        #[command(flatten)]
        connect: Connect,
    },

    /// Print each node's counters and sizes
    Stats {
        /// Also per group
        #[arg(long)]
        groups: bool,
        #[command(flatten)]
        connect: Connect,
    },

    /// Print the keys that are read most, over all nodes
    #[command(after_help = "\
Examples:
  freshline hot                       the 20 keys that are read most, with their share of all reads
  freshline hot --top 5 --json
  freshline hot --at node-2           as one node sees it")]
    Hot {
        /// How many keys
        #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        top: u16,
        /// Ask this node alone
        #[arg(long, value_name = "NODE")]
        at: Option<String>,
        #[command(flatten)]
        connect: Connect,
    },

    /// Check a catalog, and with --database whether the live schema bears it
    #[command(after_help = "\
Examples:
  freshline check                               the running `freshline dev`, or ./freshline.toml
  freshline check --config shop.toml
  freshline check --config shop.toml --database mysql://app:secret@127.0.0.1:3306/shop
  freshline check --config shop.toml --database sqlite:shop.db

Prints which table's changes make which group's keys stale. Errors end with status 1, warnings do not.")]
    Check(CheckArgs),

    /// Run plain SQL on the database of the running `freshline dev`
    #[command(after_help = "\
Examples:
  freshline sql \"UPDATE users SET name = 'Ada' WHERE id = 42\"
  freshline sql \"SELECT * FROM shop.users LIMIT 3\"
  freshline sql --dir shop \"SELECT count(*) FROM orders\"

Any other program may write the file as well, the sqlite3 shell for one: triggers see its changes too.")]
    Sql {
        /// One or more statements
        sql: String,
        /// The directory of the stack (`freshline dev --dir`); without it, the one that was started last
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },

    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  freshline completions bash > ~/.local/share/bash-completion/completions/freshline
  freshline completions zsh > ~/.zfunc/_freshline")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print the manual page
    #[command(after_help = "\
Examples:
  freshline man | man -l -
  freshline man --dir ~/.local/share/man/man1")]
    Man {
        /// Write the pages of all commands into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Command {
    /// Where it looks for nodes, if it does.
    pub(crate) fn connect(&mut self) -> Option<&mut Connect> {
        match self {
            Self::Get { connect, .. }
            | Self::GetMany { connect, .. }
            | Self::Del { connect, .. }
            | Self::Flush { connect, .. }
            | Self::Explain { connect, .. }
            | Self::Ring { connect }
            | Self::Stats { connect, .. }
            | Self::Hot { connect, .. } => Some(connect),
            Self::Put(args) => Some(&mut args.connect),
            Self::Verify(args) => Some(&mut args.connect),
            Self::Warm(args) => Some(&mut args.connect),
            Self::Bench(args) => Some(&mut args.connect),
            Self::Dev(_)
            | Self::Shell(_)
            | Self::Replay(_)
            | Self::Check(_)
            | Self::Sql { .. }
            | Self::Completions { .. }
            | Self::Man { .. } => None,
        }
    }
}

/// What `check` is asked.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file with the catalog; without it that of the running `freshline dev`, or ./freshline.toml
    #[arg(long, short, value_name = "FILE", env = "FRESHLINE__CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A live database to check against
    #[arg(
        long,
        value_name = "URL",
        help = "A live database: mysql://user:password@host/database or sqlite:FILE"
    )]
    pub(crate) database: Option<String>,
}

/// Runs one command.
pub(crate) async fn run(command: Command, output: &Output) -> anyhow::Result<Ended> {
    match command {
        Command::Dev(args) => dev::run(args, output).await,
        Command::Get { key, raw, verbose, max_staleness, connect } => {
            let options = ReadOptions { max_staleness, ..ReadOptions::default() };
            commands::get(&connect.client().await?, &key, options, raw, verbose, output).await
        }
        Command::GetMany { keys, verbose, max_staleness, connect } => {
            let options = ReadOptions { max_staleness, ..ReadOptions::default() };
            commands::get_many(&connect.client().await?, &keys, options, verbose, output).await
        }
        Command::Put(args) => commands::put(args, output).await,
        Command::Del { keys, tags, connect } => {
            commands::del(&connect.client().await?, &keys, &tags, output).await
        }
        Command::Flush { groups, all: _, connect } => {
            commands::flush(&connect.client().await?, &groups, output).await
        }
        Command::Explain { key, compare, rows, connect } => {
            let client = connect.client().await?;
            let checker = if compare { Some(rows.checker(&connect, client.clone()).await?.0) } else { None };
            commands::explain(&client, &key, checker.as_ref(), output).await
        }
        Command::Verify(args) => commands::verify(args, output).await,
        // As the shell runs commands in turn, the size of its future is not part of this one's.
        Command::Shell(args) => Box::pin(shell::run(args, output)).await,
        Command::Warm(args) => commands::warm(args, output).await,
        Command::Replay(args) => commands::replay(args, output).await,
        Command::Bench(args) => commands::bench(args, output).await,
        Command::Ring { connect } => commands::ring(&connect.client().await?, output),
        Command::Stats { groups, connect } => commands::stats(&connect.client().await?, groups, output).await,
        Command::Hot { top, at, connect } => {
            commands::hot(&connect.client().await?, at.as_deref(), top.into(), output).await
        }
        Command::Check(args) => commands::check(&args, output).await,
        Command::Sql { sql, dir } => commands::sql(&sql, dir.as_deref(), output).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "freshline", &mut script);
            output.bytes(&script)?;
            Ok(Ended::Done)
        }
        Command::Man { dir } => commands::man(dir.as_deref(), output),
    }
}

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
