//! Members of a cluster: the nodes that are registered and whose lease has not ended.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::terms::Terms;

/// A node's name, unique in its cluster. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

/// Why a text can't name a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node id {text:?} is {problem}; use 1 to {} letters, digits, '-', '_', '.' or ':'", NodeId::MAX_LEN)]
pub struct ParseNodeIdError {
    text: String,
    problem: &'static str,
}

impl NodeId {
    /// The most bytes that a configured id may have.
    pub const MAX_LEN: usize = 253;

    /// Checks an id that a person wrote. Ids that come from the membership itself are taken as they are, by `From`.
    pub fn parse(text: &str) -> Result<Self, ParseNodeIdError> {
        let problem = if text.is_empty() {
            "empty"
        } else if text.len() > Self::MAX_LEN {
            "too long"
        } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
            "not a plain name"
        } else {
            return Ok(Self(text.into()));
        };
        Err(ParseNodeIdError { text: text.to_owned(), problem })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for NodeId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, ParseNodeIdError> {
        Self::parse(text)
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node that is registered, as everybody sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node's name.
    pub id: NodeId,
    /// Which life of the node this is. A greater number is a later one, and a new life begins with an empty store.
    pub incarnation: u64,
    /// Where its gRPC service is reached, as `http://host:port`.
    pub grpc: String,
    /// Where its HTTP service is reached, as `http://host:port`.
    pub http: String,
    /// Where Redis clients reach it, as `host:port`; empty if it serves none.
    #[serde(default)]
    pub resp: String,
    /// Its share of the slots, relative to the others' weights; 0 holds none.
    pub weight: u32,
    /// Whether it holds slots.
    pub state: MemberState,
    /// What it goes by where members must agree.
    #[serde(skip)]
    pub terms: Terms,
}

/// Where a live node stands. Removals go to live nodes in every state; only active ones hold slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// Registered, and not yet sure of the epoch: holds nothing.
    Joining,
    /// Holds slots.
    Active,
    /// On its way out: holds nothing any more, and may still answer for what it had.
    Leaving,
}

/// Why a text is no state of a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state of a member; use joining, active or leaving")]
pub struct ParseStateError(String);

impl MemberState {
    /// The state's name, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Leaving => "leaving",
        }
    }
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MemberState {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, ParseStateError> {
        [Self::Joining, Self::Active, Self::Leaving]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| ParseStateError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_id_says_what_to_write() {
        assert_eq!(NodeId::parse("node-1.zone_a:7400").unwrap().as_str(), "node-1.zone_a:7400");
        for bad in ["", "a b", "a/b", "ü", &"x".repeat(254)] {
            let error = NodeId::parse(bad).unwrap_err().to_string();
            assert!(error.contains("use 1 to 253 letters"), "{error}");
        }
    }

    #[test]
    fn states_read_as_they_are_written() {
        for state in [MemberState::Joining, MemberState::Active, MemberState::Leaving] {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
        }
        assert!("gone".parse::<MemberState>().is_err());
    }
}
