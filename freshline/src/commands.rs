//! The commands, one file for each kind.

mod change;
mod check;
mod explain;
mod inspect;
mod read;
mod sql;
mod verify;

pub(crate) use change::{del, flush};
pub(crate) use check::check;
pub(crate) use explain::explain;
pub(crate) use inspect::{ring, stats};
pub(crate) use read::{get, get_many};
pub(crate) use sql::sql;
pub(crate) use verify::{VerifyArgs, verify};
