//! The `freshline` command.
#![allow(dead_code)]

mod dev;
