//! What an application calls.

use std::{collections::HashMap, fmt, sync::Arc};

use futures_util::future::join_all;
use ring::{Member, Membership, NodeId, Ring, Slot, slot_of};
use tokio::{sync::watch, time::Instant};
use wire::{Answer, Explanation, Merged, NodeStats, Page, ReadOptions, Scan};

use crate::{
    Config, Error, History,
    attempts::Attempts,
    hot,
    link::Link,
    peers::{self, Peers},
    routes::Routes,
};

/// Reads and removes keys at the nodes that own them. Cheap to clone; clones share connections and the ring.
///
/// Every call is bounded by [`Config::deadline`] as a whole and safe to drop. All calls are idempotent, so all are tried again at another
/// node when one can't be reached or can't answer now; wrong keys, overload and an expired deadline are not tried again.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    peers: Arc<Peers>,
    routes: Routes,
}

impl Client {
    /// Asks any of the nodes (`http://host:7400`) for the ring, and asks again when a reply comes from a newer epoch, when a node can't be
    /// reached, and every [`Config::refresh`].
    ///
    /// # Errors
    ///
    /// [`Error::NoNodes`] if none has answered within the deadline, with the reason of the last.
    pub async fn from_seeds(seeds: Vec<String>, config: Config) -> Result<Self, Error> {
        let peers = Peers::new(config);
        let routes = Routes::of_seeds(seeds, peers.clone()).await?;
        Ok(Self { inner: Arc::new(Inner { peers, routes }) })
    }

    /// Follows a membership. Must be called in a tokio runtime.
    #[expect(clippy::needless_pass_by_value, reason = "the natural way to hand over a shared membership")]
    pub fn from_membership(membership: Arc<dyn Membership>, config: Config) -> Self {
        let peers = Peers::new(config);
        let routes = Routes::of_membership(&*membership, peers.clone());
        Self { inner: Arc::new(Inner { peers, routes }) }
    }

    /// Returns the value of one key, filled from the database on a miss.
    pub async fn get(&self, key: &str) -> Result<Answer, Error> {
        self.get_with(key, ReadOptions::default()).await
    }

    /// Like [`get`](Self::get), read as `options` say.
    pub async fn get_with(&self, key: &str, options: ReadOptions) -> Result<Answer, Error> {
        let epoch = self.ring().epoch().0;
        let answer = self
            .retried(Attempts::reading(self), Some(slot_of(key)), async |link, deadline| {
                peers::get(&link, deadline, key, options, false, epoch).await
            })
            .await?;
        self.routes().heard(answer.epoch);
        Ok(answer)
    }

    /// Returns the values of many keys in their order, each with its own result. Each owner is sent its keys in one request (split at
    /// [`Config::batch`]), all owners at once; keys that could not be answered are asked again elsewhere, and those that did not fit into a
    /// node's reply (`node.max_reply`) once more.
    pub async fn get_many<K: AsRef<str>>(&self, keys: &[K]) -> Vec<Result<Answer, Error>> {
        self.get_many_with(keys, ReadOptions::default()).await
    }

    /// Like [`get_many`](Self::get_many), read as `options` say.
    pub async fn get_many_with<K: AsRef<str>>(
        &self,
        keys: &[K],
        options: ReadOptions,
    ) -> Vec<Result<Answer, Error>> {
        let mut results: Vec<Option<Result<Answer, Error>>> = keys.iter().map(|_| None).collect();
        let mut arrived = vec![Instant::now(); keys.len()];
        let mut attempts = Attempts::reading(self);
        let mut open: Vec<usize> = (0..keys.len()).collect();
        while !open.is_empty() {
            let (batches, unplaced) = self.batches(&attempts, &open, keys);
            let mut transient = None;
            let mut left_out = Vec::new();
            open.clear();
            for (index, error) in unplaced {
                transient = Some(error.clone());
                results[index] = Some(Err(error));
                open.push(index);
            }
            let (epoch, deadline) = (self.ring().epoch().0, attempts.deadline());
            let mut calls = Vec::new();
            for (link, indices) in batches {
                let keys = indices.iter().map(|index| keys[*index].as_ref().to_owned()).collect();
                let request = peers::get_many_request(keys, options, false, epoch);
                calls.push(async move {
                    let reply = peers::get_many(&link, deadline, request).await;
                    (link, indices, reply, Instant::now())
                });
            }
            for (link, indices, reply, at) in join_all(calls).await {
                let answers = match reply {
                    Ok((answers, epoch)) => {
                        self.routes().heard(epoch);
                        answers
                    }
                    Err(error) => {
                        attempts.failed(&link, &error);
                        indices.iter().map(|_| Err(error.clone())).collect()
                    }
                };
                // A node answers one key at least; one that does not would be asked for ever.
                let some = answers.iter().any(|answer| !matches!(answer, Err(Error::LeftOut { .. })));
                for (index, result) in indices.into_iter().zip(answers) {
                    if some && matches!(result, Err(Error::LeftOut { .. })) {
                        left_out.push(index);
                    }
                    if let Err(error) = &result
                        && error.is_transient()
                    {
                        attempts.failed(&link, error);
                        transient = Some(error.clone());
                        open.push(index);
                    }
                    results[index] = Some(result);
                    arrived[index] = at;
                }
            }
            if let Some(error) = transient
                && attempts.again(error).await.is_err()
            {
                open.clear(); // every open key keeps its own error
            }
            if Instant::now() < attempts.deadline() {
                open.append(&mut left_out);
            }
        }
        let unanswered = || Err(Error::NoNodes { reason: "the key was not asked for".to_owned() });
        let done = Instant::now();
        let grown = |(result, arrived): (Option<Result<Answer, Error>>, Instant)| {
            let mut result = result.unwrap_or_else(unanswered);
            if let Ok(answer) = &mut result {
                // It waited here for the slowest of the others.
                answer.freshness += done - arrived;
            }
            result
        };
        results.into_iter().zip(arrived).map(grown).collect()
    }

    /// Removes keys from every node that may hold them; returns how many entries that were. The owner of a key is asked and tells the others.
    pub async fn remove<K: AsRef<str>>(&self, keys: &[K]) -> Result<u64, Error> {
        let mut batches = Vec::new();
        for batch in keys.chunks(self.config().batch.max(1)) {
            batches.push(self.remove_batch(batch.iter().map(|key| key.as_ref().to_owned()).collect()));
        }
        let mut removed = 0;
        for result in join_all(batches).await {
            let (count, epoch) = result?;
            self.routes().heard(epoch);
            removed += count;
        }
        Ok(removed)
    }

    /// Removes tags on all nodes: no entry that carries one of them is served after this.
    pub async fn remove_tags<T: AsRef<str>>(&self, tags: &[T]) -> Result<(), Error> {
        let tags: Vec<String> = tags.iter().map(|tag| tag.as_ref().to_owned()).collect();
        for batch in tags.chunks(self.config().batch.max(1)) {
            let epoch = self
                .retried(Attempts::new(self), None, move |link, deadline| async move {
                    peers::remove_tags(&link, deadline, batch.to_vec(), false).await
                })
                .await?;
            self.routes().heard(epoch);
        }
        Ok(())
    }

    /// Drops every entry of the named groups on all nodes; none named flushes all groups.
    pub async fn flush<G: AsRef<str>>(&self, groups: &[G]) -> Result<(), Error> {
        let groups: Vec<String> = groups.iter().map(|group| group.as_ref().to_owned()).collect();
        let groups = &groups;
        let epoch = self
            .retried(Attempts::new(self), None, move |link, deadline| async move {
                peers::flush(&link, deadline, groups.clone(), false).await
            })
            .await?;
        self.routes().heard(epoch);
        Ok(())
    }

    /// All that the key's owner knows about it.
    pub async fn explain(&self, key: &str) -> Result<Explanation, Error> {
        let explanation = self
            .retried(Attempts::new(self), Some(slot_of(key)), async |link, deadline| {
                peers::explain(&link, deadline, key, false).await
            })
            .await?;
        self.routes().heard(explanation.epoch);
        Ok(explanation)
    }

    /// What every live node knows about a key, as one story.
    ///
    /// # Errors
    ///
    /// Only if no node has answered; else those that did not are named in it.
    pub async fn history(&self, key: &str) -> Result<History, Error> {
        let (ring, deadline) = (self.ring(), Instant::now() + self.config().deadline);
        let mut calls = Vec::new();
        for member in ring.members() {
            calls.push(async move {
                let explained = match self.peers().link(&member.id, &member.grpc) {
                    Ok(link) => peers::explain(&link, deadline, key, true).await,
                    Err(error) => Err(error),
                };
                (member.id.to_string(), explained)
            });
        }
        History::of(join_all(calls).await)
    }

    /// Entries that are in one node's memory; nothing is filled, forwarded or counted as a use.
    ///
    /// # Errors
    ///
    /// [`Error::NoNodes`] if the ring has no such node.
    pub async fn scan(&self, node: &NodeId, scan: Scan) -> Result<Page, Error> {
        let ring = self.ring();
        let Some(member) = ring.member(node) else {
            return Err(Error::NoNodes { reason: format!("{node} is no member") });
        };
        let link = self.peers().link(&member.id, &member.grpc)?;
        let page = peers::scan(&link, Instant::now() + self.config().deadline, scan).await?;
        self.routes().heard(page.epoch);
        Ok(page)
    }

    /// Counters and sizes of all nodes, by id; a node that does not answer is there with its error.
    pub async fn stats(&self) -> Vec<(String, Result<NodeStats, Error>)> {
        let ring = self.ring();
        let deadline = Instant::now() + self.config().deadline;
        let mut calls = Vec::new();
        for member in ring.members() {
            calls.push(self.stats_of(member, deadline));
        }
        join_all(calls).await
    }

    /// The keys that are read most, over all nodes or on one of them.
    ///
    /// # Errors
    ///
    /// [`Error::NoNodes`] if the ring has no such node.
    pub async fn hot(&self, node: Option<&NodeId>, top: usize) -> Result<Merged, Error> {
        let ring = self.ring();
        let deadline = Instant::now() + self.config().deadline;
        let mut calls = Vec::new();
        for member in ring.members().iter().filter(|member| node.is_none_or(|node| member.id == *node)) {
            calls.push(async move {
                let answer = match self.peers().link(&member.id, &member.grpc) {
                    Ok(link) => hot::of(&link, deadline, Merged::of_each(top)).await,
                    Err(error) => Err(error),
                };
                (member.id.to_string(), answer)
            });
        }
        if let Some(node) = node.filter(|_| calls.is_empty()) {
            return Err(Error::NoNodes { reason: format!("{node} is no member") });
        }
        Ok(Merged::of(join_all(calls).await, top))
    }

    /// The ring as known now.
    pub fn ring(&self) -> Arc<Ring> {
        self.routes().ring()
    }

    /// Tells of every change of the ring.
    pub fn watch(&self) -> watch::Receiver<Arc<Ring>> {
        self.routes().watch()
    }

    pub(crate) fn config(&self) -> &Config {
        self.inner.peers.config()
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.inner.routes
    }
}

type Batch = (Arc<Link>, Vec<usize>);

impl Client {
    /// Shares the open keys out to the nodes to ask, and tells which have none.
    fn batches<K: AsRef<str>>(
        &self,
        attempts: &Attempts<'_>,
        open: &[usize],
        keys: &[K],
    ) -> (Vec<Batch>, Vec<(usize, Error)>) {
        let limit = self.config().batch.max(1);
        let mut batches: Vec<Batch> = Vec::new();
        let mut filling: HashMap<NodeId, usize> = HashMap::new();
        let mut unplaced = Vec::new();
        for &index in open {
            match attempts.target(Some(slot_of(keys[index].as_ref()))) {
                Ok(link) => match filling.get(link.id()) {
                    Some(&at) if batches[at].1.len() < limit => batches[at].1.push(index),
                    _ => {
                        filling.insert(link.id().clone(), batches.len());
                        batches.push((link, vec![index]));
                    }
                },
                Err(error) => unplaced.push((index, error)),
            }
        }
        (batches, unplaced)
    }

    /// Removes the keys of one request, by the owner of the first.
    async fn remove_batch(&self, keys: Vec<String>) -> Result<(u64, u64), Error> {
        let slot = keys.first().map(|key| slot_of(key));
        let keys = &keys;
        self.retried(Attempts::new(self), slot, move |link, deadline| async move {
            peers::remove(&link, deadline, keys.clone(), false).await
        })
        .await
    }

    async fn stats_of(&self, member: &Member, deadline: Instant) -> (String, Result<NodeStats, Error>) {
        let stats = match self.peers().link(&member.id, &member.grpc) {
            Ok(link) => peers::stats(&link, deadline).await,
            Err(error) => Err(error),
        };
        (member.id.to_string(), stats)
    }

    /// Calls one node after another until one answers.
    pub(crate) async fn retried<T, F>(
        &self,
        mut attempts: Attempts<'_>,
        slot: Option<Slot>,
        call: impl Fn(Arc<Link>, Instant) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            let result = match attempts.target(slot) {
                Ok(link) => call(link.clone(), attempts.deadline())
                    .await
                    .inspect_err(|error| attempts.failed(&link, error)),
                Err(error) => Err(error),
            };
            match result {
                Ok(reply) => return Ok(reply),
                Err(error) => attempts.again(error).await?,
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("ring", &self.ring()).finish_non_exhaustive()
    }
}
