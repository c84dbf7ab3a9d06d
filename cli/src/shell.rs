//! `freshline shell`: the commands of the command line, one after the other, over one connection.
//!
//! A line is parsed and run by the code that runs the command line. What is typed at a terminal is completed, hinted at and
//! remembered; what is piped in is run line by line.

mod complete;
mod editor;
mod hint;
mod knowledge;
mod paint;
mod words;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use clap::{Args, CommandFactory};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{self, Cli, Command, Ended},
    connect::Connect,
    lines,
    output::Output,
};

use self::{
    editor::{Editor, Typed},
    knowledge::Knowledge,
};

/// What the shell is asked.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    connect: Connect,
}

const OWN_HELP: &str =
    "  help [COMMAND]  This, or how to use a command\n  exit            Leave; Ctrl-D does too";

/// Runs until the end of the input, or `exit`.
pub(crate) async fn run(args: ShellArgs, output: &Output) -> anyhow::Result<Ended> {
    let mut shell = Shell {
        knowledge: Arc::new(Knowledge::new(args.connect.clone())),
        connect: args.connect,
        json: output.json,
    };
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        shell.typed(output).await
    } else {
        shell.piped(output).await
    }
}

struct Shell {
    connect: Connect,
    knowledge: Arc<Knowledge>,
    json: bool,
}

/// Where lines come from.
#[derive(Clone, Copy)]
enum Input {
    Typed,
    Piped,
}

/// What comes after a line.
enum After {
    Next(Ended),
    Leave(Ended),
}

impl Shell {
    /// Lines from a person.
    async fn typed(&mut self, output: &Output) -> anyhow::Result<Ended> {
        output.line("`help` lists the commands, Tab completes, Ctrl-C cancels a command, Ctrl-D leaves.")?;
        if let Err(error) = self.knowledge.connect().await {
            output.note(&format!("no node yet: {error:#}"));
        }
        // From here on Ctrl-C cancels; it does not end the shell, whenever it comes.
        let _interrupts = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
        let mut editor = Editor::new(&self.knowledge, output);
        loop {
            let (line, back) = editor.read(self.connect.name()).await?;
            editor = back;
            match line {
                Typed::Line(line) => {
                    if let After::Leave(ended) = self.line(&line, Input::Typed, output).await {
                        return Ok(ended);
                    }
                }
                Typed::Cancelled => {}
                Typed::End => return Ok(Ended::Done),
            }
        }
    }

    /// Lines of a script. A line that fails does not end it, but its exit status tells.
    async fn piped(&mut self, output: &Output) -> anyhow::Result<Ended> {
        let mut lines = lines::read(Path::new("-"))?;
        let mut ended = Ended::Done;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                // A command before may have listened for it, and then it ends nothing by itself.
                _ = tokio::signal::ctrl_c() => return Ok(Ended::Failed),
            };
            let Some(line) = line.transpose()? else { break };
            match self.line(&String::from_utf8_lossy(&line.bytes), Input::Piped, output).await {
                After::Next(Ended::Done) => {}
                After::Next(Ended::Failed) => ended = Ended::Failed,
                After::Leave(Ended::Done) => break,
                After::Leave(Ended::Failed) => return Ok(Ended::Failed),
            }
        }
        Ok(ended)
    }

    /// Runs one line. Ctrl-C cancels it; a script ends with it.
    async fn line(&mut self, line: &str, input: Input, output: &Output) -> After {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return After::Next(Ended::Done);
        }
        let Some(mut words) = shlex::split(line) else {
            output.error("a quote is not closed, or a \\ ends the line");
            return After::Next(Ended::Failed);
        };
        // Lines are copied from where the command stands before them.
        if words.first().is_some_and(|word| word == "freshline") {
            words.remove(0);
        }
        match words.first().map(String::as_str) {
            None => return After::Next(Ended::Done),
            Some("exit" | "quit") => return After::Leave(Ended::Done),
            Some("help" | "?") if words.len() == 1 => {
                return After::Next(self.told(help(output), output));
            }
            Some(_) => {}
        }
        if words.iter().any(|word| word == "-" || word.ends_with("=-")) {
            output.error("standard input is the shell's own here: name a file");
            return After::Next(Ended::Failed);
        }
        let cli = match parsed(&words) {
            Ok(cli) => cli,
            Err(error) => {
                let failed = error.use_stderr();
                // Nobody is left to tell if the terminal is gone.
                let _ = error.print();
                return After::Next(if failed { Ended::Failed } else { Ended::Done });
            }
        };
        let Cli { json, mut command } = cli;
        if let Command::Dev(_) | Command::Shell(_) = command {
            output.error("this runs until it is ended: start it in another terminal");
            return After::Next(Ended::Failed);
        }
        if let Some(connect) = command.connect() {
            connect.enter_shell();
        }
        let inherits = command.connect().is_some_and(|connect| connect.inherit(&self.connect));
        let output = output.with_json(json || self.json);
        // These end in order by themselves, and say how far they came.
        let alone = matches!(command, Command::Warm(_) | Command::Bench(_));
        let cancelled = async {
            if alone || tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let ran = Box::pin(async {
            if let Some(connect) = command.connect().filter(|_| inherits) {
                connect.know(self.knowledge.connect().await?);
            }
            cli::run(command, &output).await
        });
        let ended = tokio::select! {
            biased;
            () = cancelled => {
                output.note("cancelled");
                return match input {
                    Input::Typed => After::Next(Ended::Failed),
                    Input::Piped => After::Leave(Ended::Failed),
                };
            }
            ended = ran => ended,
        };
        After::Next(self.told(ended, &output))
    }

    fn told(&self, ended: anyhow::Result<Ended>, output: &Output) -> Ended {
        ended.unwrap_or_else(|error| {
            output.error(&format!("failed to {error:#}"));
            // The nodes may be others now: the next command looks for them again.
            self.knowledge.forget();
            Ended::Failed
        })
    }
}

/// A line as the command line understands it.
fn parsed(words: &[String]) -> Result<Cli, clap::Error> {
    cli::parse(Cli::command().no_binary_name(true), words)
}

fn help(output: &Output) -> anyhow::Result<Ended> {
    for command in knowledge::commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        output.line(format!("  {}{about}", output.bold(&format!("{:<16}", command.get_name()))))?;
    }
    output.line(OWN_HELP).context("write the help")?;
    Ok(Ended::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parsed_as_the_command_line_is() {
        let words = |line: &str| shlex::split(line).unwrap();
        let cli = parsed(&words("get user:42 --json")).unwrap();
        assert!(cli.json && matches!(cli.command, Command::Get { .. }));
        let cli = parsed(&words("sql \"SELECT 'a b'\"")).unwrap();
        assert!(matches!(cli.command, Command::Sql { sql, .. } if sql == "SELECT 'a b'"));
        let typo = parsed(&words("gte user:42")).unwrap_err().to_string();
        assert!(typo.contains("get"), "{typo}");
    }
}
