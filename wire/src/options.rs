//! What a reader may ask for beside the key.

use std::time::Duration;

/// How a key is to be read. The default takes whatever the node may serve, and has misses filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// How old a value from memory may be at worst. One that can't be proven to be fresher is read from the database.
    pub max_staleness: Option<Duration>,
    /// On a miss, take a token instead of having the key filled: the caller reads the database by itself and sets the value under it.
    pub look_aside: bool,
}
