//! The catalog: which keys there are, what fills them, and which row changes make them stale.
//!
//! One TOML file declares *groups* (a key template, a query, TTLs) and *rules* (a table's row changes -> keys or groups).
//! [`Catalog::parse`] reads and checks it as a whole; cache nodes use it to understand keys and to fill them, the sync
//! service uses the same catalog to turn row changes into the keys that they make stale. Both sides render keys with
//! the code of this crate, so they can't disagree.
//!
//! The crate does no I/O: the file's text, row images and a live schema are passed to it.

mod binary;
mod calendar;
mod catalog;
mod codec;
mod digest;
mod group;
mod key;
mod load;
mod mysql_type;
mod normal;
mod param;
mod query;
mod report;
mod rules;
pub mod schema;
mod tagging;
mod template;
mod value;

pub use binary::Binary;
pub use calendar::{Date, DateTime, Time};
pub use catalog::{Catalog, Origin, TableUse, Use};
pub use codec::{Codec, Compress};
pub use group::{Group, GroupId, Kind, OnChange, Rows};
pub use key::{DEFAULT_MAX_KEY, Key, KeyError};
pub use normal::{Column, ColumnError, JsonForm, Normal};
pub use param::{Filter, ParamError, ParamType};
pub use query::{BatchedQuery, Dialect, Query, TableColumn, TableName};
pub use report::{Problem, Report, Severity};
pub use rules::{Effect, FlushReason, Op, RowImage, TableRules};
pub use tagging::{BadTag, DEFAULT_MAX_TAGS, KeyTag, Part, Tag, TagSource, Tagging, part_of};
pub use template::{Param, Template};
pub use value::Value;
