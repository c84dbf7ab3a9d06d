//! Plain groups: what was written, read and removed, and which answers break their promise.
//!
//! A write takes effect at some moment after it was sent: before its answer, if it has one; at any time, if it has none. So an answer is wrong if
//! it has a value that was never sent, or one that was acknowledged before another write of the key was sent which was acknowledged before
//! the question, or before a removal was logged that was delivered before it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use client::{Answer, Client, Outcome};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use ring::slot_of;
use tokio::time::sleep;

use crate::{
    clock::{self, Millis, Party},
    trace,
    world::Shared,
};

/// Beside the groups of rows: one that a rule reaches, and one that none does.
pub(crate) const CATALOG: &str = r#"
[[group]]
name  = "session"
kind  = "plain"
key   = "session:{user_id:u64}"
ttl   = "10m"

[[group]]
name  = "note"
kind  = "plain"
key   = "note:{id:u64}"
ttl   = "10m"

[[rule]]
table = "shop.users"
keys  = ["session:{id}"]
"#;

/// Keys of each of the two groups.
const KEYS: u64 = 4;

/// All writes of plain keys.
#[derive(Default)]
pub(crate) struct History {
    writes: BTreeMap<String, Vec<Write>>,
    numbers: u64,
}

#[derive(Clone, Copy)]
struct Write {
    /// `None`: the key was removed.
    value: Option<u64>,
    sent: Millis,
    /// When it was acknowledged.
    done: Option<Millis>,
}

impl History {
    fn send(&mut self, key: &str, put: bool) -> (usize, Option<u64>) {
        self.numbers += u64::from(put);
        let value = put.then_some(self.numbers);
        let writes = self.writes.entry(key.to_owned()).or_default();
        writes.push(Write { value, sent: clock::now(), done: None });
        (writes.len() - 1, value)
    }

    fn done(&mut self, key: &str, number: usize) {
        self.writes.get_mut(key).expect("it was sent")[number].done = Some(clock::now());
    }

    /// Whether an answer to a question of `asked` may have this value. `removals`: of the key by a rule, when each was logged, and when delivered.
    fn check(
        &self,
        key: &str,
        asked: Millis,
        value: Option<u64>,
        removals: &[(Millis, Millis)],
    ) -> Result<(), String> {
        let Some(value) = value else { return Ok(()) }; // it may have been evicted, or its holders be gone
        let writes = self.writes.get(key).map(Vec::as_slice).unwrap_or_default();
        let Some(write) = writes.iter().find(|write| write.value == Some(value)) else {
            return Err(format!("{value}, which was never written"));
        };
        let Some(done) = write.done else { return Ok(()) };
        if let Some(over) =
            writes.iter().find(|over| done < over.sent && over.done.is_some_and(|at| at < asked))
        {
            return Err(format!(
                "{value}, acknowledged at {done}, though {:?} was sent at {} and acknowledged at {:?}",
                over.value, over.sent, over.done
            ));
        }
        match removals.iter().find(|(logged, delivered)| done < *logged && *delivered < asked) {
            Some((logged, delivered)) => Err(format!(
                "{value}, acknowledged at {done}, though its removal was logged at {logged} and delivered at {delivered}"
            )),
            None => Ok(()),
        }
    }
}

/// Writes and reads plain keys, until it is quiet.
pub(crate) async fn use_plain(
    shared: Arc<Shared>,
    client: Arc<Client>,
    party: Party,
    user: u64,
    quiet: Arc<AtomicBool>,
) {
    let Party::Client(number) = party else { return };
    let seed = shared.scenario.seed.wrapping_mul(7_000_003) ^ (u64::from(number) << 8) ^ user;
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        sleep(Duration::from_millis(rng.random_range(2..=30))).await;
        if quiet.load(SeqCst) {
            continue;
        }
        let group = ["session", "note"].choose(&mut rng).expect("some");
        let key = format!("{group}:{}", rng.random_range(1..=KEYS));
        match rng.random_range(0..10) {
            0..3 => write(&shared, &client, party, &key, true).await,
            3 => write(&shared, &client, party, &key, false).await,
            _ => {
                let asked = clock::now();
                match client.get(&key).await {
                    Ok(answer) => judge(&shared, party, &key, asked, &answer),
                    Err(error) => {
                        trace::note(format_args!("{party}: {key}: {error}"));
                        shared.failed();
                    }
                }
            }
        }
    }
}

async fn write(shared: &Shared, client: &Client, party: Party, key: &str, put: bool) {
    let (number, value) = shared.plain.lock().send(key, put);
    trace::note(format_args!("{party}: writes {key} = {value:?}"));
    let written = match value {
        Some(value) => client.put(key, value.to_string(), None).await.map(|_| ()),
        None => client.remove(&[key]).await.map(|_| ()),
    };
    match written {
        Ok(()) => {
            trace::note(format_args!("{party}: wrote {key} = {value:?}"));
            shared.plain.lock().done(key, number);
        }
        Err(error) => trace::note(format_args!("{party}: {key} = {value:?} not acknowledged: {error}")),
    }
}

/// Has an answer checked.
fn judge(shared: &Shared, party: Party, key: &str, asked: Millis, answer: &Answer) {
    let value = answer.value.as_ref().map(|value| {
        let text = std::str::from_utf8(value).expect("a number");
        text.parse().expect("a number")
    });
    trace::note(format_args!(
        "{party}: {key} = {value:?} from {} ({})",
        answer.node,
        answer.outcome.as_str()
    ));
    shared.answered(answer.outcome);
    if !matches!(answer.outcome, Outcome::Hit | Outcome::Absent) {
        shared.broken(format!("{key}: an outcome that no plain key has: {answer:?}"));
    }
    let removals = match key.strip_prefix("session:") {
        Some(id) => shared.truth.lock().delivered(&format!("user:{id}")),
        None => Vec::new(),
    };
    if let Err(wrong) = shared.plain.lock().check(key, asked, value, &removals) {
        shared.broken(format!("{key}: {} answered {wrong}; asked at {asked}", answer.node));
    }
}

/// Asks all holders of every plain key, after all is over: an owner answers, a replica only what it has.
pub(crate) async fn look_last(shared: &Shared, peers: &client::Peers) {
    let ring = crate::membership::ring(shared);
    for key in (1..=KEYS).flat_map(|id| [format!("session:{id}"), format!("note:{id}")]) {
        for (at, member) in ring.holders(slot_of(&key)).enumerate() {
            let asked = clock::now();
            match peers.get(member, &key, client::ReadOptions::default()).await {
                Ok(answer) => judge(shared, Party::Client(1), &key, asked, &answer),
                Err(error) if at == 0 => {
                    shared.broken(format!(
                        "{key}: at the end its owner {} does not answer: {error}",
                        member.id
                    ));
                }
                Err(_) => {}
            }
        }
    }
}
