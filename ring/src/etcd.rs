//! etcd skeleton
use crate::*;
use std::{sync::Arc, time::Duration};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

/// How etcd is reached and which cluster's members are meant.
#[derive(Clone, Debug)]
pub struct Options {
    /// e.g. `http://127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// Members live under `/freshline/<cluster>/members/`.
    pub cluster: String,
    /// Holders of each slot.
    pub replicas: usize,
    /// User name and password, if etcd asks for them.
    pub user: Option<(String, String)>,
}

/// Membership kept in etcd.
pub struct EtcdMembership {}
impl EtcdMembership {
    /// Connects.
    pub fn connect(_options: Options) -> Result<Arc<Self>, Error> { unimplemented!() }
    /// Waits for the first view.
    pub async fn ready(&self) -> Result<Arc<Ring>, Error> { unimplemented!() }
    /// Registers.
    pub fn register(self: &Arc<Self>, _member: Member, _lease: Duration) -> Result<Arc<EtcdRegistration>, Error> { unimplemented!() }
}
/// A registration in etcd.
pub struct EtcdRegistration {}
impl EtcdRegistration {
    /// Waits until registered.
    pub async fn registered(&self) -> Result<u64, Error> { unimplemented!() }
}
#[async_trait]
impl Membership for EtcdMembership {
    fn ring(&self) -> Arc<Ring> { unimplemented!() }
    fn watch(&self) -> watch::Receiver<Arc<Ring>> { unimplemented!() }
    async fn read(&self) -> Result<Arc<Ring>, Error> { unimplemented!() }
    async fn catch_up(&self, _epoch: Epoch) -> Result<Arc<Ring>, Error> { unimplemented!() }
}
#[async_trait]
impl Registration for EtcdRegistration {
    fn live(&self, _now: Instant) -> bool { unimplemented!() }
    fn incarnation(&self) -> u64 { unimplemented!() }
    fn incarnations(&self) -> watch::Receiver<u64> { unimplemented!() }
    async fn set_state(&self, _state: MemberState) -> Result<Epoch, Error> { unimplemented!() }
    async fn leave(&self) -> Result<(), Error> { unimplemented!() }
}
