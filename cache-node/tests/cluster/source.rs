//! A member that is no node: it answers pulls as a test says, and can hold its answers back.

use std::{collections::HashMap, sync::Arc};

use catalog::{Catalog, Group};
use client::identity::Answering;
use parking_lot::Mutex;
use proto::v1::{
    self,
    handover_server::{Handover, HandoverServer},
};
use ring::{Member, MemberState, NodeId};
use tokio::{net::TcpListener, sync::Notify};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use crate::stack::CATALOG;

/// What it has, and what it was asked.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) entries: Mutex<Vec<(String, String)>>,
    pub(crate) asked: Mutex<Vec<v1::PullRequest>>,
    /// Whether answers wait for `release`, each after it has read what it has.
    pub(crate) holds: Mutex<bool>,
    pub(crate) reached: Notify,
    pub(crate) release: Notify,
    /// How it declares its groups: as the catalog of the tests does, unless a test says otherwise.
    pub(crate) groups: Mutex<HashMap<String, u64>>,
}

struct Service(Arc<Source>, NodeId);

impl Source {
    /// Serves on a free port; the member is not registered yet.
    pub(crate) async fn serve(id: &str) -> (Arc<Self>, Member) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let member = Member {
            id: NodeId::from(id),
            incarnation: 0,
            grpc: format!("http://{}", listener.local_addr().unwrap()),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        };
        let catalog = Catalog::parse("test.toml", CATALOG).unwrap();
        let digest = |group: &Arc<Group>| (group.name.to_string(), group.digest);
        let groups = Mutex::new(catalog.groups().iter().map(digest).collect());
        let source = Arc::new(Self { groups, ..Self::default() });
        let service = HandoverServer::new(Service(source.clone(), member.id.clone()));
        tokio::spawn(
            tonic::transport::Server::builder()
                .layer(Answering::new("", id))
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        (source, member)
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.entries.lock().push((key.to_owned(), value.to_owned()));
    }

    /// Requests for this key alone.
    pub(crate) fn asked_for(&self, key: &str) -> usize {
        self.asked.lock().iter().filter(|request| request.keys == [key]).count()
    }
}

#[tonic::async_trait]
impl Handover for Service {
    async fn pull(&self, request: Request<v1::PullRequest>) -> Result<Response<v1::PullReply>, Status> {
        let (source, request) = (&self.0, request.into_inner());
        let entries = source.entries.lock().clone();
        let wanted = entries.into_iter().filter(|(key, _)| {
            let slot = u32::from(ring::slot_of(key).get());
            request.keys.contains(key) || request.slots.contains(&slot)
        });
        let entries = wanted
            .map(|(key, value)| v1::Entry {
                key,
                value: Some(value.into()),
                age_ms: 1000,
                ttl_ms: 60_000,
                tags: None,
                lost_at: None,
            })
            .collect();
        let (epoch, done) = (request.epoch, request.done);
        source.asked.lock().push(request);
        if *source.holds.lock() && !done {
            source.reached.notify_one();
            source.release.notified().await;
        }
        let node = self.1.to_string();
        let groups = source.groups.lock().clone();
        Ok(Response::new(v1::PullReply { node, incarnation: 1, epoch, entries, cursor: 0, groups }))
    }

    async fn announce(&self, _: Request<v1::AnnounceRequest>) -> Result<Response<v1::AnnounceReply>, Status> {
        Ok(Response::new(v1::AnnounceReply {}))
    }
}
