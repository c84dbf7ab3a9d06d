//! Values that an application has read by itself (look-aside).

/// What became of a value that was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Why it was not stored, one word as in the metric `freshline_node_sets_total`; `None` if it was.
    pub refused: Option<String>,
    /// The node that decided.
    pub node: String,
    /// That node's epoch.
    pub epoch: u64,
}

impl Set {
    /// Whether the value is in memory now.
    pub fn is_stored(&self) -> bool {
        self.refused.is_none()
    }
}
