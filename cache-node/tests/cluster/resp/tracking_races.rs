//! CLIENT TRACKING: a removal at the one moment that matters, between a read's look into memory and its reply.
//!
//! A node asks its registration whether its lease lives after each look into memory and before it answers. So a registration of the test's own
//! can have a change delivered there.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, ThreadId},
};

use async_trait::async_trait;
use cache_node::Node;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use ring::{Epoch, Error, MemberState, Registration};
use tokio::{sync::watch, time::Instant};
use wire::Apply;

use super::{Redis, bulk, invalidated};
use crate::stack::{Running, Stack, row};

/// A registration that has a key removed while it is asked, once.
struct Interposed {
    inner: Arc<dyn Registration>,
    removal: Mutex<Option<Armed>>,
    /// The test's own thread, on which the node's background runs: its questions are not those of a read.
    own: ThreadId,
}

struct Armed {
    node: Arc<Node>,
    key: String,
    /// How many questions pass before.
    after: u32,
}

impl Interposed {
    fn arm(&self, running: &Running, key: &str, after: u32) {
        *self.removal.lock() = Some(Armed { node: running.node.clone(), key: key.to_owned(), after });
    }

    fn done(&self) -> bool {
        self.removal.lock().is_none()
    }

    fn interpose(&self) {
        if thread::current().id() == self.own {
            return;
        }
        let mut removal = self.removal.lock();
        if let Some(armed) = removal.as_mut().filter(|armed| armed.after > 0) {
            armed.after -= 1;
            return;
        }
        let Some(Armed { node, key, .. }) = removal.take() else { return };
        drop(removal);
        let apply = Apply { epoch: node.epoch(), remove: vec![key], ..Apply::default() };
        node.apply(&apply).now_or_never().expect("it waits for nothing").expect("it is applied");
    }
}

#[async_trait]
impl Registration for Interposed {
    fn live(&self, now: Instant) -> bool {
        self.inner.live(now)
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }

    fn live_as(&self, incarnation: u64, now: Instant) -> bool {
        self.interpose();
        self.inner.live_as(incarnation, now)
    }

    fn incarnations(&self) -> watch::Receiver<u64> {
        self.inner.incarnations()
    }

    async fn set_state(&self, state: MemberState) -> Result<Epoch, Error> {
        self.inner.set_state(state).await
    }

    async fn leave(&self) -> Result<(), Error> {
        self.inner.leave().await
    }
}

async fn start(stack: &Stack) -> (Running, Arc<Interposed>) {
    let mut made = None;
    let running = stack.begin_with("a", |inner| {
        let removal = Mutex::default();
        let interposed = Arc::new(Interposed { inner, removal, own: thread::current().id() });
        made = Some(interposed.clone());
        interposed
    });
    running.readiness.subscribe().wait_for(BTreeMap::is_empty).await.unwrap();
    (running, made.expect("it was asked for"))
}

/// Waits for the old value.
async fn answered(redis: &mut Redis, interposed: &Interposed) {
    while redis.next().await != bulk(row("user:1", 1)) {}
    assert!(interposed.done(), "the removal came between the look and the reply");
}

/// Waits for the push that takes a value back: a push never comes before the reply that it is about.
async fn told(redis: &mut Redis) {
    while redis.next().await != invalidated(&["user:1"]) {}
}

#[tokio::test]
async fn a_removal_between_a_hit_and_its_reply_is_told_to_who_gets_the_old_value() {
    let stack = Stack::new();
    let (a, interposed) = start(&stack).await;
    stack.database.put("user:1", row("user:1", 1));
    assert_eq!(Redis::to(&a).await.ask("GET user:1").await, bulk(row("user:1", 1)));
    let mut redis = Redis::tracking(&a, "").await;
    loop {
        let fills = stack.database.calls().len();
        interposed.arm(&a, "user:1", 0);
        redis.request("GET user:1").await;
        answered(&mut redis, &interposed).await;
        if stack.database.calls().len() == fills {
            return told(&mut redis).await;
        }
        // The node asked for a reason of its own (it looks after the lease all the time), and the read came after the removal: again.
        redis.ask("GET user:1").await;
    }
}

#[tokio::test]
async fn a_removal_between_a_fill_and_its_reply_is_told_to_who_gets_the_old_value() {
    let stack = Stack::new();
    let (a, interposed) = start(&stack).await;
    stack.database.put("user:1", row("user:1", 1));
    let mut redis = Redis::tracking(&a, "").await;
    stack.database.hold(true);
    redis.request("GET user:1").await;
    stack.database.reached.notified().await;
    interposed.arm(&a, "user:1", 1); // the node asks once when it stores the value, and again when it has found it in memory
    stack.database.hold(false);
    stack.database.release.notify_one();
    answered(&mut redis, &interposed).await;
    told(&mut redis).await;
}
