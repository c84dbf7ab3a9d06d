//! Where a running stack says what it is: a small file that `freshline sql` and the node commands look for.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

const NAME: &str = "freshline-dev.json";

/// What other commands must know of a running stack.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) pid: u32,
    /// The directory with the database and the catalog.
    pub(crate) dir: PathBuf,
    pub(crate) database: PathBuf,
    /// The configuration that the stack runs on.
    #[serde(default)]
    pub(crate) catalog: PathBuf,
    /// The name that stands for the database in the catalog's queries.
    pub(crate) schema: String,
    /// The broker that carries its changes, and the topic that they are in.
    #[serde(default)]
    pub(crate) brokers: String,
    #[serde(default)]
    pub(crate) topic: String,
    /// The nodes' gRPC addresses.
    pub(crate) nodes: Vec<String>,
    /// Where the nodes serve Redis clients.
    #[serde(default)]
    pub(crate) resp: Vec<String>,
}

impl State {
    /// Writes the file into the stack's directory, and as the newest of this user's.
    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("write JSON")?;
        for file in [self.dir.join(NAME), newest()] {
            std::fs::write(&file, &text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(())
    }

    /// Removes what [`write`](Self::write) left, unless another stack has written since.
    pub(crate) fn remove(&self) {
        for file in [self.dir.join(NAME), newest()] {
            if read(&file).is_ok_and(|state| state.pid == self.pid) {
                // A file that stays behind names a process that is gone, which readers notice.
                let _ = std::fs::remove_file(file);
            }
        }
    }

    /// The state of the stack in `dir`, or of the one that was started last.
    pub(crate) fn find(dir: Option<&Path>) -> anyhow::Result<Self> {
        let file = dir.map_or_else(newest, |dir| dir.join(NAME));
        let state = read(&file).with_context(|| match dir {
            Some(dir) => {
                format!("find a stack in {}; start it with `freshline dev --dir {0}`", dir.display())
            }
            None => "find a running stack; start one with `freshline dev`, or name its directory with --dir"
                .into(),
        })?;
        anyhow::ensure!(
            state.database.exists(),
            "find the stack's database: {} is gone; start a stack with `freshline dev`",
            state.database.display()
        );
        Ok(state)
    }

    /// The stack that was started last, if its process still runs.
    pub(crate) fn running() -> Option<Self> {
        let state = read(&newest()).ok()?;
        let proc = Path::new("/proc");
        // Without /proc the file alone has to do; it is removed when a stack ends.
        (!proc.join("self").exists() || proc.join(state.pid.to_string()).exists()).then_some(state)
    }
}

fn read(file: &Path) -> anyhow::Result<State> {
    let text = std::fs::read_to_string(file)?;
    serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))
}

/// In the user's own runtime directory, or else under their name in the directory for temporary files.
fn newest() -> PathBuf {
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        return dir.join(NAME);
    }
    let user = std::env::var("USER").unwrap_or_default();
    let user: String = user.chars().filter(char::is_ascii_alphanumeric).collect();
    std::env::temp_dir().join(if user.is_empty() {
        NAME.to_owned()
    } else {
        format!("freshline-dev-{user}.json")
    })
}
