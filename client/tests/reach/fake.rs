//! A small working node: answers from a table, and can be told to fail, to hang, or to know of a newer epoch.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "shared by test files that use parts of it")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

use proto::v1::{
    self,
    cache_server::{Cache, CacheServer},
    invalidation_server::{Invalidation, InvalidationServer},
};
use ring::{Epoch, Member, MemberState, NodeId, Ring};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

pub struct Fake {
    pub id: String,
    pub address: String,
    pub ring: Mutex<Arc<Ring>>,
    /// Key requests seen: `get KEY`, `many KEY,KEY`, `apply KEY`.
    pub seen: Mutex<Vec<String>>,
    /// What to answer instead of a value.
    pub failure: Mutex<Option<(tonic::Code, String)>>,
    /// Answers of single keys that are errors.
    pub bad_keys: Mutex<HashMap<String, (tonic::Code, String)>>,
    /// Whether key requests never return.
    pub hangs: AtomicUsize,
    pub hung: Notify,
    /// Lets a key request go that hangs.
    pub release: Notify,
    /// Whether nothing at all is answered, as by a stopped process.
    pub frozen: AtomicBool,
    /// Heartbeats answered.
    pub heartbeats: watch::Sender<usize>,
    pub rings_told: AtomicU64,
    pub timeouts: Mutex<Vec<String>>,
    server: Mutex<Option<JoinHandle<()>>>,
}

impl Fake {
    /// A node on a free port that knows no ring yet.
    pub async fn start(id: &str) -> Arc<Self> {
        Self::start_at(id, "127.0.0.1:0").await
    }

    pub async fn start_at(id: &str, address: &str) -> Arc<Self> {
        let listener = TcpListener::bind(address).await.unwrap();
        let fake = Arc::new(Self {
            id: id.to_owned(),
            address: format!("http://{}", listener.local_addr().unwrap()),
            ring: Mutex::new(Arc::new(Ring::empty(1))),
            seen: Mutex::default(),
            failure: Mutex::default(),
            bad_keys: Mutex::default(),
            hangs: AtomicUsize::new(0),
            hung: Notify::new(),
            release: Notify::new(),
            frozen: AtomicBool::new(false),
            heartbeats: watch::Sender::new(0),
            rings_told: AtomicU64::new(0),
            timeouts: Mutex::default(),
            server: Mutex::default(),
        });
        let service = Handle(fake.clone());
        let server = tonic::transport::Server::builder()
            .layer(client::identity::Answering::new("", id))
            .add_service(CacheServer::new(service.clone()))
            .add_service(InvalidationServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        *fake.server.lock().unwrap() = Some(tokio::spawn(async move { server.await.unwrap() }));
        fake
    }

    /// Closes its port and connections; returns when that is done.
    pub async fn kill(&self) {
        let server = self.server.lock().unwrap().take().unwrap();
        server.abort();
        let _ = server.await;
    }

    pub fn member(&self) -> Member {
        Member {
            id: NodeId::from(self.id.as_str()),
            incarnation: 1,
            grpc: self.address.clone(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        }
    }

    pub fn fail_with(&self, code: tonic::Code, message: &str) {
        *self.failure.lock().unwrap() = Some((code, message.to_owned()));
    }

    pub fn heal(&self) {
        *self.failure.lock().unwrap() = None;
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn epoch(&self) -> u64 {
        self.ring.lock().unwrap().epoch().0
    }

    fn reply(&self, key: &str) -> v1::GetReply {
        v1::GetReply {
            value: Some(format!("\"{key}\"").into()),
            outcome: v1::Outcome::Hit.into(),
            age_ms: 1,
            ttl_ms: 1000,
            node: self.id.clone(),
            epoch: self.epoch(),
            ..Default::default()
        }
    }

    /// Never returns while the node is frozen.
    async fn thaw(&self) {
        if self.frozen.load(SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    async fn act(&self, what: String) -> Result<(), Status> {
        self.thaw().await;
        self.seen.lock().unwrap().push(what);
        if self.hangs.load(SeqCst) > 0 {
            self.hung.notify_one();
            self.release.notified().await;
        }
        match &*self.failure.lock().unwrap() {
            Some((code, message)) => Err(Status::new(*code, message)),
            None => Ok(()),
        }
    }
}

/// A ring of these nodes, told to all of them.
pub fn ring_of(epoch: u64, nodes: &[&Arc<Fake>], replicas: usize) -> Arc<Ring> {
    let ring =
        Arc::new(Ring::build(Epoch(epoch), nodes.iter().map(|node| node.member()).collect(), replicas));
    for node in nodes {
        *node.ring.lock().unwrap() = ring.clone();
    }
    ring
}

#[derive(Clone)]
struct Handle(Arc<Fake>);

#[tonic::async_trait]
impl Cache for Handle {
    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetReply>, Status> {
        if let Some(timeout) = request.metadata().get("grpc-timeout") {
            self.0.timeouts.lock().unwrap().push(timeout.to_str().unwrap().to_owned());
        }
        let key = request.into_inner().key;
        self.0.act(format!("get {key}")).await?;
        if let Some((code, message)) = self.0.bad_keys.lock().unwrap().get(&key) {
            return Err(Status::new(*code, message));
        }
        Ok(Response::new(self.0.reply(&key)))
    }

    async fn get_many(
        &self,
        request: Request<v1::GetManyRequest>,
    ) -> Result<Response<v1::GetManyReply>, Status> {
        let keys = request.into_inner().keys;
        self.0.act(format!("many {}", keys.join(","))).await?;
        let bad = self.0.bad_keys.lock().unwrap();
        let result = |key: &String| match bad.get(key) {
            Some((code, message)) => v1::key_result::Result::Error(v1::KeyError {
                code: i32::from(*code),
                message: message.clone(),
            }),
            None => v1::key_result::Result::Reply(self.0.reply(key)),
        };
        let results = keys.iter().map(|key| v1::KeyResult { result: Some(result(key)) }).collect();
        Ok(Response::new(v1::GetManyReply { results, epoch: self.0.epoch() }))
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Result<Response<v1::RemoveReply>, Status> {
        let keys = request.into_inner().keys;
        self.0.act(format!("remove {}", keys.join(","))).await?;
        Ok(Response::new(v1::RemoveReply { removed: keys.len() as u64, epoch: self.0.epoch() }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushReply>, Status> {
        self.0.act(format!("flush {}", request.into_inner().groups.join(","))).await?;
        Ok(Response::new(v1::FlushReply { epoch: self.0.epoch() }))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        let key = request.into_inner().key;
        self.0.act(format!("explain {key}")).await?;
        Ok(Response::new(v1::ExplainReply { key, node: self.0.id.clone(), ..Default::default() }))
    }

    async fn stats(&self, _: Request<v1::StatsRequest>) -> Result<Response<v1::StatsReply>, Status> {
        self.0.act("stats".to_owned()).await?;
        Ok(Response::new(v1::StatsReply { node: self.0.id.clone(), hits: 3, ..Default::default() }))
    }

    async fn ring(&self, _: Request<v1::RingRequest>) -> Result<Response<v1::RingReply>, Status> {
        self.0.thaw().await;
        self.0.rings_told.fetch_add(1, SeqCst);
        let ring = self.0.ring.lock().unwrap().clone();
        Ok(Response::new(wire::convert::ring_reply("", &self.0.id, &ring)))
    }

    async fn set(&self, _: Request<v1::SetRequest>) -> Result<Response<v1::SetReply>, Status> {
        Err(Status::unimplemented("a fake stores nothing"))
    }

    async fn scan(&self, _: Request<v1::ScanRequest>) -> Result<Response<v1::ScanReply>, Status> {
        Err(Status::unimplemented("a fake stores nothing"))
    }
}

#[tonic::async_trait]
impl Invalidation for Handle {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyReply>, Status> {
        let request = request.into_inner();
        self.0.act(format!("apply {}", request.remove.join(","))).await?;
        Ok(Response::new(v1::ApplyReply {
            node: self.0.id.clone(),
            incarnation: 1,
            epoch: self.0.epoch().max(request.epoch),
            confirmed_epoch: self.0.epoch(),
            removed: request.remove.len() as u64,
            ..Default::default()
        }))
    }

    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        self.0.thaw().await;
        self.0.heartbeats.send_modify(|count| *count += 1);
        Err(Status::unimplemented("a fake has no watermarks"))
    }
}
