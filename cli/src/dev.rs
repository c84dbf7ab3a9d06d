//! `freshline dev`: the whole stack in one process, and the tour of it.

mod broker;
mod canal;
mod capture;
pub(crate) mod database;
mod files;
mod guest;
mod shop;
mod stack;
pub(crate) mod state;
mod tail;
mod tour;
mod trial;
mod watch;

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use crate::{cli::Ended, output::Output, progress};

use files::{Files, Place};
use guest::Guest;
use stack::{Ports, Stack};
use trial::Trial;

/// How the embedded stack is to run.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// The first port: nodes take it, the one after and the one 3 higher, each 10 higher; the sync service the third. 0: any free ports
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    port_base: u16,
    /// Where the database and the catalog live; without it a new temporary directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Your own catalog, on the SQLite file that its [database] url names
    #[arg(long, short, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// Show what the stack does with the sample shop, on free ports, and end
    #[arg(long, conflicts_with_all = ["config", "dir"])]
    tour: bool,
    /// Keep the temporary directory at the end
    #[arg(long)]
    keep: bool,
}

/// Runs the stack until Ctrl-C, or the tour.
pub(crate) async fn run(args: DevArgs, output: &Output) -> anyhow::Result<Ended> {
    if args.tour {
        return tour::run(args.keep, output).await;
    }
    let place = match (args.dir, args.config) {
        (_, Some(config)) => Place::Config(config),
        (Some(dir), None) => Place::Dir(dir),
        (None, None) => Place::Temporary { keep: args.keep },
    };
    let ports = if args.port_base == 0 { Ports::Free } else { Ports::From(args.port_base) };
    let files = Arc::new(Files::prepare(place).await?);
    let signal = daemon::shutdown::signal();
    tokio::pin!(signal);
    let guest = Guest::enter(&files, output).await?;
    let ended = tokio::select! {
        biased;
        // Whatever has been begun by then is dropped, and has spawned nothing yet.
        () = &mut signal => Ok(()),
        started = Stack::start(files.clone(), ports) => match started {
            Ok(stack) => {
                let ended = tokio::select! {
                    () = &mut signal => Ok(()),
                    served = serve(&stack, output) => served,
                };
                output.note("\nstopping");
                stack.state().remove();
                stack.stop().await;
                ended
            }
            Err(error) => Err(error),
        },
    };
    if let Some(guest) = guest {
        guest.leave(output).await;
    }
    ended.map(|()| Ended::Done)
}

/// Says what runs where, then follows what happens. Ends only with an error.
async fn serve(stack: &Stack, output: &Output) -> anyhow::Result<()> {
    progress::during(output, None, || (0, stack.waits().join(", ")), stack.ready()).await?;
    stack.log()?;
    stack.state().write()?;
    if output.json {
        output.value(&stack.state())?;
    } else {
        describe(stack, stack.trial().await.as_ref(), output)?;
    }
    tokio::select! {
        error = stack.failed() => Err(error),
        followed = watch::follow(stack, output) => followed,
    }
}

fn describe(stack: &Stack, trial: Option<&Trial>, output: &Output) -> anyhow::Result<()> {
    let files = &stack.files;
    output.line(output.bold("Freshline runs, all of it in this process. Ctrl-C ends it."))?;
    output.line("")?;
    let mut rows = vec![
        ("database".to_owned(), format!("SQLite, {}", files.database.display())),
        ("catalog".to_owned(), files.catalog.display().to_string()),
        ("broker".to_owned(), format!("{}, topic {}", stack.broker.address(), stack.topic)),
    ];
    for node in &stack.nodes {
        rows.push((
            format!("node {}", node.id),
            format!("gRPC {}, HTTP {}, RESP {}", node.grpc, node.http, node.resp),
        ));
    }
    rows.push(("sync service".to_owned(), format!("HTTP {}", stack.sync_http)));
    output.facts(&rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>())?;
    output.line("")?;
    output.line("Try, in another terminal:")?;
    let me = command();
    let key = trial.map_or("KEY", |trial| &trial.key);
    // A key may have what a shell takes for its own.
    let word = shlex::try_quote(key).unwrap_or_default();
    let change = trial.map_or(Some("UPDATE ..."), |trial| trial.change.as_deref());
    output.line(format!("  {me} get {word} -v"))?;
    if let Some(change) = change {
        output.line(format!("  {me} sql \"{change}\""))?;
        output.line(format!("  {me} get {word} -v"))?;
    }
    output.line(format!("  {me} explain {word}"))?;
    if files.sample {
        output.line(format!("  {me} get order:42:items"))?;
        output.line(format!("  {me} sql \"UPDATE products SET name = 'Iron pan' WHERE id = 11\""))?;
        output.line(format!("  {me} put session:42:1 \"any text\""))?;
    }
    output.line(format!("  {me} check --config {}", files.catalog.display()))?;
    output.line(format!("  {me} ring"))?;
    output.line(format!("  {me} stats"))?;
    output.line(format!("  sqlite3 {} \"...\"", files.database.display()))?;
    output.line(format!("  curl {}/v1/stats", stack.nodes[0].http))?;
    output.line(format!(
        "  redis-cli -p {} GET {word}",
        stack.nodes[0].resp.rsplit(':').next().unwrap_or_default()
    ))?;
    output.line("")?;
    output.line("Removals, as they happen:")
}

/// How this program is called from where it was started.
fn command() -> String {
    let me = std::env::current_exe().unwrap_or_else(|_| "freshline".into());
    let here = std::env::current_dir().unwrap_or_default();
    me.strip_prefix(&here).unwrap_or(&me).display().to_string()
}
