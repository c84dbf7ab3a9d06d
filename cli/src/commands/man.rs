//! `man`: the manual pages, made of what the command line knows of itself.

use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};

use crate::{
    cli::{Cli, Ended},
    output::Output,
};

/// Prints the page of the command, or writes the pages of all commands into `dir`.
pub(crate) fn man(dir: Option<&Path>, output: &Output) -> anyhow::Result<Ended> {
    let mut command = Cli::command();
    command.build();
    match dir {
        None => output.bytes(&page(&command)?)?,
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
            let all = std::iter::once(&command)
                .chain(command.get_subcommands().filter(|one| one.get_name() != "help"));
            for one in all {
                let name = one.get_display_name().unwrap_or_else(|| one.get_name());
                let file = dir.join(format!("{name}.1"));
                std::fs::write(&file, page(one)?).with_context(|| format!("write {}", file.display()))?;
            }
        }
    }
    Ok(Ended::Done)
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page).context("make the manual page")?;
    Ok(page)
}
