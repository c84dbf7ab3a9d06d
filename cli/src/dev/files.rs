//! The files of a stack: where the database and the catalog are, made if they are missing.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use daemon::config::{Database, Layers, Problems};
use tempfile::TempDir;

use super::{database, shop};
use crate::sqlite::{self, folder};

const CATALOG: &str = "freshline.toml";
const DATABASE: &str = "shop.db";

/// Where the database and the catalog are to be.
pub(crate) enum Place {
    /// The sample in a new directory.
    Temporary {
        /// Whether it stays at the end.
        keep: bool,
    },
    /// The sample in this directory, which is continued if it has been used before.
    Dir(PathBuf),
    /// The user's own catalog and database.
    Config(PathBuf),
}

/// Files that are there.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    pub(crate) catalog: PathBuf,
    pub(crate) database: PathBuf,
    /// Whether it is the sample shop.
    pub(crate) sample: bool,
    /// Removes the directory when dropped.
    _temporary: Option<TempDir>,
}

impl Files {
    pub(crate) async fn prepare(place: Place) -> anyhow::Result<Self> {
        match place {
            Place::Temporary { keep } => {
                let made = tempfile::Builder::new()
                    .prefix("freshline-dev-")
                    .tempdir()
                    .context("make a directory")?;
                let (dir, temporary) =
                    if keep { (made.keep(), None) } else { (made.path().to_owned(), Some(made)) };
                Self::sample(dir, temporary).await
            }
            Place::Dir(dir) => {
                std::fs::create_dir_all(&dir)
                    .with_context(|| format!("make the directory {}", dir.display()))?;
                Self::sample(dir, None).await
            }
            Place::Config(file) => Self::own(&file),
        }
    }

    async fn sample(dir: PathBuf, temporary: Option<TempDir>) -> anyhow::Result<Self> {
        // Other commands are started elsewhere.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        let (catalog, database) = (dir.join(CATALOG), dir.join(DATABASE));
        if !catalog.exists() {
            std::fs::write(&catalog, shop::CATALOG)
                .with_context(|| format!("write {}", catalog.display()))?;
        }
        database::create(&database, shop::script).await?;
        Ok(Self { dir, catalog, database, sample: true, _temporary: temporary })
    }

    fn own(file: &Path) -> anyhow::Result<Self> {
        let layers = Layers::load(Some(file)).map_err(|problems| read(&problems))?;
        let mut problems = Problems::default();
        let section: Database = layers.section("database", &mut problems);
        problems.into_result().map_err(|problems| read(&problems))?;
        let url = section.url.expose();
        let Some(database) = sqlite::file(url, folder(file)) else {
            bail!(
                "use {}: `freshline dev` runs on SQLite, write [database] url = \"sqlite:FILE\"",
                layers.place("database.url")
            );
        };
        ensure!(
            database.is_file(),
            "use {}: there is no file {}; make it with sqlite3 first (a path is taken from the folder of the configuration)",
            layers.place("database.url"),
            database.display()
        );
        let dir = database.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { dir, catalog: file.to_owned(), database, sample: false, _temporary: None })
    }
}

fn read(problems: &Problems) -> anyhow::Error {
    anyhow::anyhow!("read the configuration:\n{problems}")
}
