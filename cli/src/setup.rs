//! The configuration behind the nodes: which file it is, its catalog, and which database they fill from.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use catalog::{Catalog, Group};
use daemon::config::{Database, DatabaseUrl, Layers, Problems, suggest};

use crate::{connect::Connect, dev::state::State, sqlite};

const DEFAULT_FILE: &str = "freshline.toml";

/// A configuration that was found and read.
pub(crate) struct Setup {
    pub(crate) file: PathBuf,
    pub(crate) layers: Layers,
    pub(crate) catalog: Arc<Catalog>,
    /// The running `freshline dev`, if it is its configuration.
    pub(crate) dev: Option<State>,
}

impl Setup {
    /// The file of `--config`; without it that of the running `freshline dev`, unless nodes are named; else `./freshline.toml`.
    pub(crate) fn find(connect: &Connect) -> anyhow::Result<Self> {
        Self::locate(connect.config(), if connect.names_nodes() { None } else { State::running() })
    }

    /// The same for a command that needs no nodes.
    pub(crate) fn by(config: Option<&Path>) -> anyhow::Result<Self> {
        Self::locate(config, State::running())
    }

    fn locate(config: Option<&Path>, dev: Option<State>) -> anyhow::Result<Self> {
        let (file, dev) = match (config, dev) {
            (Some(file), _) => (file.to_owned(), None),
            (None, Some(dev)) if dev.catalog.is_file() => (dev.catalog.clone(), Some(dev)),
            _ => (PathBuf::from(DEFAULT_FILE), None),
        };
        anyhow::ensure!(
            file.is_file(),
            "find the catalog and the database: there is no {}; name the nodes' configuration with --config",
            file.display()
        );
        Self::read(file, dev)
    }

    /// This file.
    pub(crate) fn of(file: &Path) -> anyhow::Result<Self> {
        Self::read(file.to_owned(), None)
    }

    fn read(file: PathBuf, dev: Option<State>) -> anyhow::Result<Self> {
        let layers = Layers::load(Some(&file)).map_err(problems)?;
        let catalog = Catalog::parse(layers.file_name(), layers.text())
            .map_err(|report| anyhow::anyhow!("read the catalog:\n{report}"))?;
        Ok(Self { file, layers, catalog: Arc::new(catalog), dev })
    }

    /// One section of the file.
    pub(crate) fn section<T: serde::de::DeserializeOwned + Default>(&self, path: &str) -> anyhow::Result<T> {
        let mut found = Problems::default();
        let section = self.layers.section(path, &mut found);
        found.into_result().map_err(problems)?;
        Ok(section)
    }

    /// `[database]`, on the file of the running `freshline dev`, or at the `url` that the command line names.
    pub(crate) fn database(&self, url: Option<&str>) -> anyhow::Result<Database> {
        let mut database: Database = self.section("database")?;
        if let Some(url) = url {
            database.url = DatabaseUrl::new(url);
        } else if let Some(dev) = &self.dev {
            database.url = DatabaseUrl::new(format!("sqlite:{}", dev.database.display()));
        } else if let Some(file) = sqlite::file(database.url.expose(), sqlite::folder(&self.file)) {
            database.url = DatabaseUrl::new(format!("sqlite:{}", file.display()));
        }
        anyhow::ensure!(
            !database.url.expose().is_empty(),
            "find the database: {} has no [database] url; name it with --database",
            self.file.display()
        );
        if let Some(path) = sqlite::file(database.url.expose(), Path::new("")) {
            anyhow::ensure!(path.is_file(), "open the database: there is no file {}", path.display());
        }
        Ok(database)
    }

    /// The group of that name.
    pub(crate) fn group(&self, name: &str) -> anyhow::Result<&Arc<Group>> {
        self.catalog.group(name).with_context(|| {
            let names: Vec<&str> = self.catalog.groups().iter().map(|group| &*group.name).collect();
            let hint = suggest(name, names.iter().copied()).map_or_else(
                || format!("its groups are {}", names.join(", ")),
                |known| format!("did you mean {known}?"),
            );
            format!("find the group {name}: {} has none of that name; {hint}", self.file.display())
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn problems(problems: Problems) -> anyhow::Error {
    anyhow::anyhow!("read the configuration:\n{problems}")
}
