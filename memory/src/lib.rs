//! What a cache node has in memory, and the decisions by which a value comes in, is served, given away and dropped.
//!
//! Nothing here knows of catalogs, databases, messages or ports. From the bottom up: a key has its [`place`]; [`slots`] say under which
//! acquisitions a node holds them, [`life`] whether it may speak for its memory at all, and [`protocol`] has the decisions as pure functions,
//! which the model in `tests/` calls too; the [`recorder`] remembers what happened to keys; the [`store`] keeps values within its budget; the
//! [`gate`] is the only way into it, and refuses what a removal, a flush or the loss of a slot has overtaken, whatever the order in which things
//! happened; [`watermarks`] say how fresh what is there is; [`flights`] who may share a fill.

pub mod flights;
pub mod gate;
pub mod life;
pub mod place;
pub mod protocol;
pub mod recorder;
pub mod slots;
pub mod store;
pub mod watermarks;
