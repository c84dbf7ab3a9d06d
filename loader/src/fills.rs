use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use catalog::{Group, GroupId, Key};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    BreakerLimits, Error, Loaded, Metrics, RowSource,
    assign::most_bytes,
    breaker::{Breaker, Verdict},
    budget::{Budget, Took, Turn},
    lanes::{Answer, Lanes, Place, Waiter},
};

/// How much a node may ask of its database.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Database reads running at once; a batch is one.
    pub max_fills: usize,
    /// The number is lowered to this at most while the database is slow; as high as `max_fills` it is never lowered.
    pub min_fills: usize,
    /// How many times slower than usual the database may answer before the number is lowered.
    pub tolerance: f64,
    /// When the database is left alone.
    pub breaker: BreakerLimits,
    /// Keys waiting for that budget; one more is [`Error::Overloaded`].
    pub max_waiting: usize,
    /// The longest time that a load may take, waiting included.
    pub deadline: Duration,
    /// Most keys loaded together; 1 turns batching off.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_fills: 64,
            min_fills: 8,
            tolerance: 2.0,
            breaker: BreakerLimits::default(),
            max_waiting: 10_000,
            deadline: Duration::from_secs(2),
            batch: 64,
        }
    }
}

impl From<&daemon::config::Database> for Limits {
    fn from(config: &daemon::config::Database) -> Self {
        Self {
            max_fills: config.max_fills,
            min_fills: config.min_fills,
            tolerance: config.tolerance,
            breaker: BreakerLimits {
                failures: config.breaker.failures,
                least: config.breaker.least,
                window: config.breaker.window,
                pause: config.breaker.pause,
                probes: config.breaker.probes,
            },
            max_waiting: config.max_waiting,
            deadline: config.deadline,
            batch: config.batch,
        }
    }
}

/// Loads keys within a budget of concurrent database reads, batching what waits.
///
/// A first miss starts at once when the budget allows. Misses of the same group that come in the same turn of the scheduler,
/// or while the group waits for the budget, are loaded by one query; there is no fixed linger.
pub struct Loader {
    source: Arc<dyn RowSource>,
    limits: Limits,
    metrics: Metrics,
    budget: Arc<Budget>,
    breaker: Breaker,
    /// Guards the queues alone; never held while anything waits.
    lanes: Mutex<Lanes>,
    tasks: TaskTracker,
    me: Weak<Self>,
}

impl Loader {
    /// Makes a loader over `source`. Limits of zero count as one.
    pub fn new(source: Arc<dyn RowSource>, limits: Limits, metrics: Metrics) -> Arc<Self> {
        let limits = Limits { max_waiting: limits.max_waiting.max(1), batch: limits.batch.max(1), ..limits };
        Arc::new_cyclic(|me| Self {
            source,
            limits,
            budget: Budget::new(limits.min_fills, limits.max_fills, limits.tolerance, metrics.clone()),
            breaker: Breaker::new(limits.breaker, metrics.clone()),
            metrics,
            lanes: Mutex::default(),
            tasks: TaskTracker::new(),
            me: me.clone(),
        })
    }

    /// Where it reads.
    pub fn source(&self) -> &Arc<dyn RowSource> {
        &self.source
    }

    /// Reads the current value of `key`, or `None` when there is no such row.
    ///
    /// The database read begins after this call. Dropping the future is safe: a batch goes on for the others in it.
    pub async fn load(&self, key: Key) -> Result<Option<Bytes>, Error> {
        self.load_tagged(key).await.map(|loaded| loaded.value)
    }

    /// Like [`load`](Self::load), with the tags of the rows.
    pub async fn load_tagged(&self, key: Key) -> Result<Loaded, Error> {
        if !key.group.is_filled() {
            return Err(Error::NoQuery { group: Arc::clone(&key.group.name) });
        }
        let started = Instant::now();
        let answer = self.wait(key, started + self.limits.deadline).await;
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
        if let Err(error) = &answer {
            self.metrics.failed(error);
        }
        answer
    }

    /// Waits until every database read that runs has ended; for a bounded shutdown, put a timeout around it.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn wait(&self, key: Key, deadline: Instant) -> Answer {
        let group = Arc::clone(&key.group);
        let (reply, answer) = oneshot::channel();
        let _place = self.join(Waiter { key, deadline, reply })?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::query(&group.name, "the load ended without an answer, see the log")),
            Err(_) => Err(self.too_late(&group)),
        }
    }

    fn too_late(&self, group: &Group) -> Error {
        Error::Deadline { group: Arc::clone(&group.name), deadline: self.limits.deadline }
    }

    fn join(&self, waiter: Waiter) -> Result<Waiting<'_>, Error> {
        self.breaker.check()?;
        let group = Arc::clone(&waiter.key.group);
        let mut lanes = self.lanes.lock();
        if lanes.waiting() >= self.limits.max_waiting {
            let error = Error::Overloaded { waiting: lanes.waiting(), limit: self.limits.max_waiting };
            if !lanes.make_room(group.id, &error) {
                return Err(error);
            }
        }
        let (place, needs_dispatcher) = lanes.join(waiter);
        self.count(&lanes);
        drop(lanes);
        if needs_dispatcher && let Some(me) = self.me.upgrade() {
            self.tasks.spawn(me.dispatch(group));
        }
        Ok(Waiting { loader: self, place })
    }

    fn count(&self, lanes: &Lanes) {
        self.metrics.waiting.set(i64::try_from(lanes.waiting()).unwrap_or(i64::MAX));
    }

    /// Takes batches from one lane, each with a permit of its own, until the lane is empty.
    async fn dispatch(self: Arc<Self>, group: Arc<Group>) {
        let most = if self.source.batches(&group) { self.limits.batch } else { 1 };
        loop {
            let turn = self.budget.turn().await;
            // Callers that became ready in the same turn get to join.
            yield_now().await;
            let (waiters, more) = self.take(group.id, most);
            if more {
                self.tasks.spawn(Arc::clone(&self).run(Arc::clone(&group), waiters, turn));
            } else {
                return self.run(group, waiters, turn).await;
            }
        }
    }

    fn take(&self, group: GroupId, most: usize) -> (Vec<Waiter>, bool) {
        let mut lanes = self.lanes.lock();
        let taken = lanes.take(group, most);
        self.count(&lanes);
        taken
    }

    /// Loads what `waiters` want by one call of the source, and answers them.
    async fn run(self: Arc<Self>, group: Arc<Group>, mut waiters: Vec<Waiter>, turn: Turn) {
        waiters.retain(|waiter| !waiter.reply.is_closed());
        let Some(deadline) = waiters.iter().map(|waiter| waiter.deadline).max() else { return };
        let _running = Running::start(&self.metrics);

        // Two callers may want one key: a request that comes after a removal doesn't join a fill that began before it.
        let mut keys: Vec<Key> = Vec::with_capacity(waiters.len());
        let mut places: HashMap<Arc<str>, usize> = HashMap::with_capacity(waiters.len());
        for waiter in &waiters {
            places.entry(Arc::clone(&waiter.key.text)).or_insert_with(|| {
                keys.push(waiter.key.clone());
                keys.len() - 1
            });
        }
        self.metrics.batch_keys.observe(keys.len() as f64);

        let answers = self.load_all(&group, &keys, deadline).await;
        // Given back before the answers are: whoever asks again at once finds it.
        drop(turn);
        for waiter in waiters {
            let answer = answers[places[&waiter.key.text]].clone();
            // A caller that went away meanwhile needs no answer.
            let _ = waiter.reply.send(answer);
        }
    }

    async fn load_all(&self, group: &Arc<Group>, keys: &[Key], deadline: Instant) -> Vec<Answer> {
        match self.load_once(group, keys, deadline).await {
            Ok(values) => values.into_iter().map(Ok).collect(),
            Err(error) if keys.len() > 1 && error.is_of_one_key() => {
                let mut answers = Vec::with_capacity(keys.len());
                for key in keys {
                    let one = self.load_once(group, std::slice::from_ref(key), deadline).await;
                    answers.push(one.map(|mut values| values.pop().unwrap_or_else(|| None.into())));
                }
                answers
            }
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    async fn load_once(
        &self,
        group: &Arc<Group>,
        keys: &[Key],
        deadline: Instant,
    ) -> Result<Vec<Loaded>, Error> {
        let pass = self.breaker.enter()?;
        let begun = Instant::now();
        let values = timeout_at(deadline, self.source.load(group, keys))
            .await
            .unwrap_or_else(|_| Err(self.too_late(group)));
        let (verdict, took) = self.judge(&values, begun.elapsed());
        pass.ended(verdict);
        if let Some(took) = took {
            self.budget.observe(took);
        }
        let values = values?;
        if values.len() != keys.len() {
            let reason = format!("the source answered {} keys with {} values", keys.len(), values.len());
            return Err(Error::query(&group.name, reason));
        }
        let limit = most_bytes(group);
        match values.iter().flat_map(|loaded| &loaded.value).map(Bytes::len).find(|size| *size > limit) {
            Some(size) => Err(Error::TooLarge { group: Arc::clone(&group.name), size, limit }),
            None => Ok(values.into_iter().zip(keys).map(|(loaded, key)| loaded.tagged_by(key)).collect()),
        }
    }
}

impl Loader {
    /// What the end of a read says about the database: for the breaker, and for the budget if it says anything.
    fn judge<T>(&self, values: &Result<T, Error>, took: Duration) -> (Verdict, Option<Took>) {
        match values {
            // It had waited for most of its time already: that it was cut off says nothing about the database.
            Err(Error::Deadline { .. }) if took < self.limits.deadline / 2 => (Verdict::Unknown, None),
            Err(error @ (Error::Deadline { .. } | Error::Unavailable(_))) => {
                (Verdict::Bad(error.to_string().into()), Some(Took::Failed))
            }
            _ => (Verdict::Good, Some(Took::Answered(took))),
        }
    }
}

/// Leaves the lane when the caller stops waiting.
struct Waiting<'a> {
    loader: &'a Loader,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut lanes = self.loader.lanes.lock();
        lanes.leave(self.place);
        self.loader.count(&lanes);
    }
}

/// Counts a running database read, also when it panics.
struct Running<'a>(&'a Metrics);

impl<'a> Running<'a> {
    fn start(metrics: &'a Metrics) -> Self {
        metrics.running.inc();
        Self(metrics)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.dec();
    }
}
