//! Whether Kafka can be read, and what to say if it can't.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

/// How often the same trouble is logged.
const REMIND: Duration = Duration::from_secs(10);

/// What is known of brokers and topics. Logs every change of state, and reminds of what lasts.
pub(super) struct Health {
    brokers: String,
    topics: String,
    group: String,
    /// Guards plain facts, set by callbacks and read by the service.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: bool,
    joined: bool,
    down: Option<Trouble>,
    missing: Option<Trouble>,
    last: Option<Trouble>,
}

struct Trouble {
    reason: String,
    since: Instant,
    told: Instant,
}

impl Health {
    pub(super) fn new(brokers: String, topics: &[String], group: String) -> Self {
        Self { brokers, topics: topics.join(", "), group, state: Mutex::default() }
    }

    /// No broker answers.
    pub(super) fn brokers_down(&self, reason: &str) {
        let mut state = self.state.lock();
        self.down(&mut state, reason);
    }

    fn down(&self, state: &mut State, reason: &str) {
        state.connected = false;
        self.tell(&mut state.down, reason, "kafka is not reachable, trying again");
    }

    /// Notes a trouble that is waited out, and logs it if it is new, or has lasted.
    fn tell(&self, trouble: &mut Option<Trouble>, reason: &str, what: &str) {
        if note(trouble, reason) {
            let since = trouble.as_ref().map_or(Duration::ZERO, |trouble| trouble.since.elapsed());
            // When it begins, there is nothing to tell.
            let since = (since >= Duration::from_secs(1)).then(|| tracing::field::debug(since));
            warn!(brokers = self.brokers, topics = self.topics, reason, since, "{what}");
        }
    }

    /// What statistics say.
    pub(super) fn brokers(&self, up: bool) {
        let mut state = self.state.lock();
        if up && !std::mem::replace(&mut state.connected, true) {
            info!(brokers = self.brokers, "connected to kafka");
        }
        if up && let Some(trouble) = state.down.take() {
            info!(brokers = self.brokers, after = ?trouble.since.elapsed(), "kafka is reachable again");
        }
        if !up {
            let reason = state
                .last
                .as_ref()
                .map_or_else(|| "no broker is connected".to_owned(), |last| last.reason.clone());
            self.down(&mut state, &reason);
        }
    }

    /// A topic is not there, or may not be read.
    pub(super) fn topic_missing(&self, reason: &str) {
        let what = "a topic can't be read, trying again: create it, or mend source.kafka.topics";
        self.tell(&mut self.state.lock().missing, reason, what);
    }

    /// Any other error of the client; it recovers by itself.
    pub(super) fn trouble(&self, reason: &str) {
        let mut state = self.state.lock();
        // The reason that a broker is down for is told by that.
        let down = state.down.is_some();
        if note(&mut state.last, reason) && !down {
            warn!(brokers = self.brokers, reason, "kafka client reports an error");
        }
    }

    /// Partitions were assigned, perhaps none.
    pub(super) fn assigned(&self, any: bool) {
        let mut state = self.state.lock();
        state.joined = true;
        if any && let Some(trouble) = state.missing.take() {
            info!(topics = self.topics, after = ?trouble.since.elapsed(), "topics are readable again");
        }
    }

    pub(super) fn closed(&self) {
        let mut state = self.state.lock();
        state.joined = false;
        info!(group = self.group, "left the consumer group");
    }

    /// What is waited for, if anything.
    pub(super) fn waits_for(&self) -> Option<String> {
        let state = self.state.lock();
        let ago =
            |trouble: &Trouble| format!("for {}s: {}", trouble.since.elapsed().as_secs(), trouble.reason);
        if let Some(trouble) = &state.down {
            return Some(format!("kafka at {} is not reachable {}", self.brokers, ago(trouble)));
        }
        if let Some(trouble) = &state.missing {
            return Some(format!("a topic of {} can't be read {}", self.topics, ago(trouble)));
        }
        (!state.joined).then(|| {
            format!(
                "waiting for partitions of {} in the group {} from {}",
                self.topics, self.group, self.brokers
            )
        })
    }
}

/// Notes a trouble; says whether to log it: it is new, or has lasted.
fn note(trouble: &mut Option<Trouble>, reason: &str) -> bool {
    let now = Instant::now();
    if let Some(trouble) = trouble {
        // Reasons alternate while a client tries one address after the other: that is one trouble.
        reason.clone_into(&mut trouble.reason);
        let tell = now - trouble.told >= REMIND;
        if tell {
            trouble.told = now;
        }
        return tell;
    }
    *trouble = Some(Trouble { reason: reason.to_owned(), since: now, told: now });
    true
}
