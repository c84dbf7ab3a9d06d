//! The flags that every binary has.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::{Layers, Problems};

/// The file that is read when none is named and it is there.
const DEFAULT_FILE: &str = "freshline.toml";

/// Which configuration to read, and whether to stop after reading it.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// The configuration file [default: freshline.toml in this directory, if it is there]
    #[arg(long, short, value_name = "FILE", env = "FRESHLINE__CONFIG")]
    pub config: Option<PathBuf>,

    /// Check the configuration and the catalog, report all that is wrong, and exit
    #[arg(long)]
    pub check_config: bool,

    /// Print the configuration in effect, secrets hidden, and exit
    #[arg(long)]
    pub print_config: bool,
}

impl ConfigArgs {
    /// Reads the named file, else `freshline.toml` if it is there, and the environment.
    pub fn load(&self) -> Result<Layers, Problems> {
        Layers::load(self.file())
    }

    /// The file that [`load`](Self::load) reads.
    pub fn file(&self) -> Option<&Path> {
        let default = Path::new(DEFAULT_FILE);
        // An empty variable means "not set", as for all others.
        let named = self.config.as_deref().filter(|path| !path.as_os_str().is_empty());
        named.or_else(|| default.exists().then_some(default))
    }
}
