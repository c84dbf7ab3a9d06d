use std::{sync::Arc, time::Duration};

use catalog::KeyError;
use ring::Epoch;

/// Why a node could not do what it was asked to do. A variant per decision that the caller can make.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The text is no key of the catalog. Asking again is of no use.
    #[error(transparent)]
    Key(#[from] Arc<KeyError>),
    /// The key is longer than this node takes.
    #[error("key is {len} bytes, limit is {limit} (node.max_key)")]
    KeyTooLong {
        /// Bytes of the key.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// More keys than one request may have.
    #[error("{count} keys in one request, limit is {limit}; split the request")]
    TooManyKeys {
        /// Keys of the request.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The values of other keys of the request have filled its reply.
    #[error(
        "the reply is full: one may take {limit} bytes of values (node.max_reply); ask again for this key, with fewer others"
    )]
    LeftOut {
        /// The limit.
        limit: u64,
    },
    /// Replies to other requests take all memory that they may.
    #[error("replies that are under way take {limit} bytes (node.reply_memory); ask again later")]
    ReplyMemory {
        /// The limit.
        limit: u64,
    },
    /// Groups that the catalog does not have.
    #[error("no group is called {unknown}; groups are {known}")]
    UnknownGroup {
        /// The names asked for.
        unknown: String,
        /// The names there are.
        known: String,
    },
    /// A tag that no group of the catalog has.
    #[error("no group has a tag like {unknown}; tags are {known}")]
    UnknownTag {
        /// The tag asked for.
        unknown: String,
        /// The templates of the tags that there are.
        known: String,
    },
    /// The database could not be read.
    #[error(transparent)]
    Fill(#[from] loader::Error),
    /// The catalog is not yet checked against the database.
    #[error(
        "this node is starting: it has not checked its catalog against the database yet, see its log; ask another, or later"
    )]
    Starting,
    /// The fill was cut short: the node is stopping.
    #[error("the fill was cut short; ask again")]
    Abandoned,
    /// The node can't prove that it is a member, and may not read through.
    #[error(
        "this node cannot prove its membership and serves nothing (node.fenced = \"unavailable\"); ask another"
    )]
    Fenced,
    /// A request came under an epoch that this node could not catch up with.
    #[error("this node is at epoch {own} and could not catch up with {asked} within {waited:?}: {reason}")]
    Behind {
        /// The request's epoch.
        asked: Epoch,
        /// This node's epoch.
        own: Epoch,
        /// How long it waited.
        waited: Duration,
        /// What stood in the way.
        reason: String,
    },
    /// A request came under an epoch of another list of members.
    #[error(
        "this node is at epoch {own}, and {asked} is of another list of members: cluster.members (ids and weights) and cluster.replicas \
         must be the same for all nodes and the sync service, or all use etcd"
    )]
    OtherMembers {
        /// The request's epoch.
        asked: Epoch,
        /// This node's epoch.
        own: Epoch,
    },
    /// A pull of another node may not be answered.
    #[error("pull refused: {0}")]
    Pull(#[from] memory::protocol::PullRefused),
    /// A removal or flush did not reach every node, or a write of a plain group not every holder. It may be repeated.
    #[error("not acknowledged by {}; the others have applied it, repeat the request", .nodes.join(", "))]
    Unacknowledged {
        /// The nodes that did not acknowledge, each with its reason.
        nodes: Vec<String>,
    },
    /// Writes of the same key that came before have not ended. Nothing was done.
    #[error(
        "earlier writes of the key are under way since {waited:?} or longer; nothing was done, ask again"
    )]
    InTurn {
        /// How long this one has waited.
        waited: Duration,
    },
    /// What was asked for is for plain groups alone.
    #[error(
        "group {group} is not plain: its values come from its query, or are set under the token of a miss; write kind = \"plain\" in a group \
         whose values are set without one"
    )]
    NotPlain {
        /// The group.
        group: Arc<str>,
    },
    /// A key of a plain group whose owner could not be asked, or is another node by now; nobody else can say what it has.
    #[error("no owner of the key's slot could be asked; ask again, the slot may be changing hands")]
    NoOwner,
    /// The owner of a key answered with an error.
    #[error("node {node}: {error}")]
    Peer {
        /// The node.
        node: String,
        /// What it answered.
        error: Box<client::Error>,
    },
}

impl Error {
    /// Wraps a refused key.
    pub(crate) fn key(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}
