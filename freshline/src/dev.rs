//! The embedded stack.

pub(crate) mod broker;
pub(crate) mod canal;
pub(crate) mod capture;
pub(crate) mod database;
pub(crate) mod shop;
pub(crate) mod tail;
