//! The commands, one file for each kind.

mod bench;
mod change;
mod check;
mod explain;
mod hot;
mod inspect;
mod man;
mod put;
mod read;
mod replay;
mod sql;
mod verify;
mod warm;

pub(crate) use bench::{BenchArgs, bench};
pub(crate) use change::{del, flush};
pub(crate) use check::check;
pub(crate) use explain::explain;
pub(crate) use hot::hot;
pub(crate) use inspect::{ring, stats};
pub(crate) use man::man;
pub(crate) use put::{PutArgs, put};
pub(crate) use read::{get, get_many};
pub(crate) use replay::{ReplayArgs, replay};
pub(crate) use sql::sql;
pub(crate) use verify::{VerifyArgs, verify};
pub(crate) use warm::{WarmArgs, warm};
