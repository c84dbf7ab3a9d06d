//! Several nodes in one process, over real gRPC and HTTP on free ports, with a database and a membership in memory.

mod agreement;
mod answers;
mod aside;
mod batches;
mod changes;
mod copies;
mod fencing;
mod freshness;
mod handover;
mod hostile;
mod hot;
mod http;
mod lifecycle;
mod memory;
mod mirrors;
mod plain;
mod replicas;
mod resp;
mod slow;
mod source;
mod stack;
mod stale;
mod storm;
mod switchover;
mod tags;
