//! The commands, one file for each kind.

mod change;
mod check;
mod inspect;
mod read;
mod sql;

pub(crate) use change::{del, flush};
pub(crate) use check::check;
pub(crate) use inspect::{explain, ring, stats};
pub(crate) use read::{get, get_many};
pub(crate) use sql::sql;
