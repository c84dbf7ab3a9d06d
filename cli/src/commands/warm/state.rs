//! How far a run came, in a file.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What is remembered between runs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) group: String,
    /// The file or the query.
    pub(super) source: String,
    /// Lines or rows that are done, all from the first.
    pub(super) position: u64,
    pub(super) finished: bool,
}

impl State {
    pub(super) fn new(group: &str, source: &str) -> Self {
        Self { group: group.to_owned(), source: source.to_owned(), position: 0, finished: false }
    }

    /// What the file says; the beginning if there is no file.
    pub(super) fn load(file: &Path, group: &str, source: &str) -> anyhow::Result<Self> {
        let read = || format!("read the state {}", file.display());
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::new(group, source));
            }
            text => text.with_context(read)?,
        };
        let state: Self = serde_json::from_str(&text)
            .with_context(|| format!("{}: remove it to begin from the start", read()))?;
        anyhow::ensure!(
            state.group == group && state.source == source,
            "go on by the state {}: it is of group {} from {}; name another file, or remove it",
            file.display(),
            state.group,
            state.source
        );
        Ok(state)
    }

    /// Replaces the file as a whole, so that a crash leaves the one before.
    pub(super) fn store(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("write JSON")?;
        let directory =
            file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || format!("write the state {}", file.display());
        let mut next = tempfile::NamedTempFile::new_in(directory).with_context(write)?;
        std::io::Write::write_all(&mut next, text.as_bytes()).with_context(write)?;
        next.persist(file).map_err(|error| error.error).with_context(write)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_kept_and_one_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let mut state = State::load(&file, "user", "file ids").unwrap();
        assert_eq!(state, State::new("user", "file ids"));
        state.position = 7;
        state.store(&file).unwrap();
        assert_eq!(State::load(&file, "user", "file ids").unwrap().position, 7);
        assert!(State::load(&file, "product", "file ids").unwrap_err().to_string().contains("group user"));
        std::fs::write(&file, "{").unwrap();
        assert!(State::load(&file, "user", "file ids").unwrap_err().to_string().contains("remove it"));
    }
}
