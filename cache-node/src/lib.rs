//! cache-node
