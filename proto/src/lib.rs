//! `freshline.v1`: the wire contract of nodes, clients and the sync service, generated from `proto/freshline/v1`.
//!
//! Wire types stop at the edge: handlers turn them into domain types, and nothing deeper names this crate.

/// Version 1 of the contract.
#[allow(missing_docs, unreachable_pub, clippy::pedantic)] // generated; the .proto files carry the documentation
pub mod v1 {
    tonic::include_proto!("freshline.v1");

    /// The encoded descriptor set, for gRPC reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/freshline.v1.bin"));
}
