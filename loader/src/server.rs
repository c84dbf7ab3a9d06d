//! What a reader must know of the server behind a source, beyond its rows.

use std::time::Duration;

/// A server's standing, as far as it decides what may be kept of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// How often rows have turned out to come from a server that is not the primary any more, or that is another one than before: what was
    /// read shortly before each time may be old, and no change will tell.
    pub switches: u64,
    /// How long a change may be in the change stream before readers of this server see it, beyond the usual milliseconds.
    pub unseen_for: Duration,
}
