//! Where the position is kept: a file, or a key in etcd that only the instance that reads may write.

use std::path::{Path, PathBuf};

use ring::etcd::{Claim, Held};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::gtid::GtidSet;
use crate::source::Error;

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Position {
    /// The transactions that are applied.
    pub(super) gtid_set: String,
    /// Whether a flush was to come that is not known to be acknowledged.
    #[serde(default)]
    pub(super) owed: bool,
}

impl Position {
    pub(super) fn new(set: &GtidSet, owed: bool) -> Self {
        Self { gtid_set: set.to_string(), owed }
    }
}

/// Where the position is kept.
pub(super) enum Place {
    File(PathBuf),
    Etcd(Claim),
}

/// The right to read, and to write the position.
pub(super) enum Right {
    File(PathBuf),
    Etcd(Held),
}

impl Place {
    /// Waits until this instance may read. Cancel safe.
    pub(super) async fn take(&self, who: &str) -> Right {
        match self {
            Self::File(path) => Right::File(path.clone()),
            Self::Etcd(claim) => Right::Etcd(claim.hold(who).await),
        }
    }

    /// The position as it was kept last; `None` at the first start.
    pub(super) async fn read(&self) -> Result<Option<Position>, Error> {
        let (bytes, whence) = match self {
            Self::File(path) => match tokio::fs::read(path).await {
                Ok(bytes) => (Some(bytes), path.display().to_string()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => (None, String::new()),
                Err(error) => {
                    return Err(Error::Config(format!(
                        "source.binlog.position_file: read {}: {error}",
                        path.display()
                    )));
                }
            },
            Self::Etcd(claim) => {
                let value = claim.value().await.map_err(|error| Error::Unavailable(error.to_string()))?;
                (value, "etcd".to_owned())
            }
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let position: Position = serde_json::from_slice(&bytes).map_err(|error| {
            Error::Config(format!(
                "the binlog position in {whence} can't be read: {error}; delete it to start anew, which flushes all groups"
            ))
        })?;
        position.gtid_set.parse::<GtidSet>().map_err(|error| {
            Error::Config(format!(
                "the binlog position in {whence}: {error}; delete it to start anew, which flushes all groups"
            ))
        })?;
        Ok(Some(position))
    }
}

impl Right {
    /// Keeps a position. Returns when it is safe.
    pub(super) async fn write(&self, position: &Position) -> Result<(), Error> {
        let bytes = serde_json::to_vec(position).map_err(|error| Error::Unavailable(error.to_string()))?;
        match self {
            Self::File(path) => {
                let path = path.clone();
                let written = tokio::task::spawn_blocking(move || replace(&path, &bytes)).await;
                let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                written.map_err(|error| Error::Unavailable(format!("source.binlog.position_file: {error}")))
            }
            Self::Etcd(held) => held.put(bytes).await.map_err(|error| match error {
                ring::Error::Closed => {
                    Error::Unavailable("another instance reads the binlog by now".to_owned())
                }
                error => Error::Unavailable(error.to_string()),
            }),
        }
    }

    /// Cancelled when the right is lost.
    pub(super) fn lost(&self) -> CancellationToken {
        match self {
            Self::File(_) => CancellationToken::new(),
            Self::Etcd(held) => held.lost().clone(),
        }
    }
}

/// Writes a file so that a crash leaves the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;

    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}
