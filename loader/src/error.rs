use std::{sync::Arc, time::Duration};

/// Why a key could not be loaded. Errors are never cached; [`Error::kind`] names them in metrics.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The row did not arrive in time. Trying again may help.
    #[error("the row of group {group} did not arrive within {deadline:?}, waiting for the budget included")]
    Deadline {
        /// The group of the key.
        group: Arc<str>,
        /// The configured deadline.
        deadline: Duration,
    },
    /// Too many keys wait for the database already. Trying again at once makes it worse.
    #[error("{waiting} keys wait for the database already, the limit is {limit} (database.max_waiting)")]
    Overloaded {
        /// Keys waiting now.
        waiting: usize,
        /// The configured limit.
        limit: usize,
    },
    /// The database can't be reached; the text says which and why. It is asked again by itself.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// Most reads failed lately, so the database is left alone for a while.
    #[error("the database is left alone, since most reads failed ({reason}); ask again in {} ms", .retry_after.as_millis())]
    BreakerOpen {
        /// Why the last of those reads failed.
        reason: Arc<str>,
        /// When it will be tried again; zero if that is being done now.
        retry_after: Duration,
    },
    /// The database refused the query, or its answer can't be rendered.
    #[error("query of group {group} failed: {reason}")]
    Query {
        /// The group of the key.
        group: Arc<str>,
        /// The database's own words.
        reason: Arc<str>,
    },
    /// The group has no query: applications read its values by themselves and set them.
    #[error(
        "group {group} has no query that could fill it; get with look_aside, read the value, and set it with the token"
    )]
    NoQuery {
        /// The group of the key.
        group: Arc<str>,
    },
    /// The value is larger than its group allows.
    #[error("a value of group {group} is {size} bytes or more, the limit is {limit}")]
    TooLarge {
        /// The group of the key.
        group: Arc<str>,
        /// Bytes rendered when the limit was passed.
        size: usize,
        /// The group's limit.
        limit: usize,
    },
}

impl Error {
    /// All that [`kind`](Self::kind) says.
    pub(crate) const KINDS: [&'static str; 7] =
        ["deadline", "overloaded", "unavailable", "breaker_open", "query", "too_large", "no_query"];

    /// One word for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Deadline { .. } => "deadline",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::Query { .. } => "query",
            Self::TooLarge { .. } => "too_large",
            Self::NoQuery { .. } => "no_query",
        }
    }

    /// Whether the error is about one key or its query, so that other keys of the same batch may still load alone.
    pub(crate) fn is_of_one_key(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::TooLarge { .. })
    }

    pub(crate) fn query(group: &Arc<str>, reason: impl std::fmt::Display) -> Self {
        Self::Query { group: Arc::clone(group), reason: reason.to_string().into() }
    }
}
