//! Why a call failed, by what the caller can do about it.

use std::{error::Error as _, time::Duration};

use tonic::{Code, Status};

/// Why a call failed. Messages say which node, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The key, group or request is wrong; asking again is of no use.
    #[error("{message}")]
    InvalidKey {
        /// What is wrong and what to write instead, in the node's words.
        message: String,
    },
    /// The node can't be reached or can't answer now; another node or a later time may do.
    #[error("node {node} is unavailable: {reason}")]
    Unavailable {
        /// The node's id, or its address while the id is unknown.
        node: String,
        /// What stood in the way.
        reason: String,
    },
    /// The time was over before an answer came. What was asked for may have happened all the same.
    #[error("no answer from node {node} within {waited:?}: {reason}")]
    Deadline {
        /// The node that was asked last.
        node: String,
        /// How long was waited for it.
        waited: Duration,
        /// Whose time was over.
        reason: String,
    },
    /// The node has more work than it takes; send less or later.
    #[error("node {node} is overloaded: {reason}; send less, or later")]
    Overloaded {
        /// The node.
        node: String,
        /// Which limit was reached.
        reason: String,
    },
    /// The key is of a look-aside group and not in memory, and nothing can fill it: get it with
    /// [`ReadOptions::look_aside`](crate::ReadOptions::look_aside), or by [`Client::get_or_load`](crate::Client::get_or_load).
    #[error("{message}")]
    LookAside {
        /// What to do, in the node's words.
        message: String,
    },
    /// The values before this one filled the reply; ask again for this key. [`Client::get_many`](crate::Client::get_many) does by itself.
    #[error("node {node} left the key out of a full reply; ask for it again, with fewer others")]
    LeftOut {
        /// The node.
        node: String,
    },
    /// No node is known to ask.
    #[error("no node to ask: {reason}")]
    NoNodes {
        /// Where nodes were looked for.
        reason: String,
    },
    /// The node failed in a way that asking again won't heal; its log says more.
    #[error("node {node} failed: {reason}; see its log")]
    Internal {
        /// The node.
        node: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Whether the same call may succeed at another node or a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoNodes { .. })
    }

    /// Whether the node has not answered the question, in time or at all, and another one may be asked it: [transient](Self::is_transient) or
    /// too late.
    pub fn is_unanswered(&self) -> bool {
        self.is_transient() || matches!(self, Self::Deadline { .. })
    }

    /// A node's answer, or what the connection to it ended with.
    pub(crate) fn from_status(node: &str, status: &Status, waited: Duration) -> Self {
        if is_local(status) {
            return Self::Unavailable { node: node.to_owned(), reason: root_cause(status) };
        }
        if is_too_long(status) {
            return Self::Internal { node: node.to_owned(), reason: status.message().to_owned() };
        }
        Self::from_code(node, status.code(), status.message(), waited)
    }

    /// What a node says about a call or about one key of it.
    pub(crate) fn from_code(node: &str, code: Code, message: &str, waited: Duration) -> Self {
        let (node, reason) = (node.to_owned(), message.to_owned());
        match code {
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange => Self::InvalidKey { message: reason },
            Code::DeadlineExceeded => Self::Deadline { node, waited, reason },
            Code::ResourceExhausted => Self::Overloaded { node, reason },
            // A node that can't catch up with an epoch aborts; one that stops cancels.
            Code::Unavailable | Code::Aborted | Code::Cancelled => Self::Unavailable { node, reason },
            Code::FailedPrecondition => Self::LookAside { message: reason },
            Code::Unimplemented => Self::Internal {
                node,
                reason: format!("{reason} (not a freshline node, or one of another version)"),
            },
            code => {
                Self::Internal { node, reason: if reason.is_empty() { code.to_string() } else { reason } }
            }
        }
    }

    pub(crate) fn silent(node: &str, waited: Duration) -> Self {
        let reason = format!("it has said nothing for {waited:?}, and gives no sign of life");
        Self::Unavailable { node: node.to_owned(), reason }
    }

    pub(crate) fn timed_out(node: &str, waited: Duration) -> Self {
        let reason = "the node or its database is slow, or it can't be reached".to_owned();
        Self::Deadline { node: node.to_owned(), waited, reason }
    }
}

/// Whether a status was made on this side, by a connection that failed, and not sent by the node.
pub(crate) fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether it is the message as a whole that was too long, by the transport: no key is to blame. tonic has no code of its own for it.
fn is_too_long(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("message length too large")
}

/// The innermost cause: `Connection refused` says more than `transport error`.
fn root_cause(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    let mut text = status.message().to_owned();
    while let Some(next) = cause.source() {
        text = next.to_string();
        cause = next;
    }
    text
}
