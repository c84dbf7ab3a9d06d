//! One tracking connection, and a node whose keys change: all interleavings of look, removal, push and write, against a client that does
//! what client-side caches do. It keeps what it is answered and drops what it is told to drop, in the order of the bytes.
//!
//! The connection's steps are the real ones of [`Session`]; between them, and at each [`point`] inside them, any number of the world's steps
//! may happen. A run is told by how many at each place; all runs are tried, one after the other.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use ::client::{Answer, Outcome, Peers};
use bytes::{Buf as _, BytesMut};
use catalog::{Catalog, Key};
use loader::{Limits, Loader, memory::Memory};
use memory::gate::Filled;
use ring::{NodeId, memory::Registry};

use super::{
    clients::Client,
    codec::Parser,
    reply::Protocol,
    session::{Finished, Next, Session, Track},
};
use crate::{
    config::Config,
    error::Error,
    node::{Node, Parts, place},
    serve::Server,
};

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, name FROM shop.users WHERE id = {id}"
ttl   = "10m"
"#;

type Step = Box<dyn FnMut()>;

/// How a run goes on at each place: how many of the world's steps happen there.
#[derive(Default)]
struct Schedule {
    /// What was chosen at each place, and how many choices there were.
    chosen: Vec<(usize, usize)>,
    at: usize,
    steps: VecDeque<Step>,
}

impl Schedule {
    fn choose(&mut self) -> usize {
        let choices = self.steps.len() + 1;
        if self.at == self.chosen.len() {
            self.chosen.push((0, choices));
        }
        self.chosen[self.at].1 = choices;
        self.at += 1;
        self.chosen[self.at - 1].0
    }

    /// Goes to the next run; returns whether there is one.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, choices)) = self.chosen.last_mut() {
            if *choice + 1 < *choices {
                *choice += 1;
                return true;
            }
            self.chosen.pop();
        }
        false
    }
}

thread_local! {
    static SCHEDULE: RefCell<Option<Schedule>> = const { RefCell::new(None) };
}

/// A place where the world may go on.
pub(super) fn point() {
    let steps: Vec<Step> = SCHEDULE.with_borrow_mut(|schedule| {
        let Some(schedule) = schedule else { return Vec::new() };
        let count = schedule.choose();
        schedule.steps.drain(..count).collect()
    });
    for mut step in steps {
        step();
    }
}

/// A client-side cache: keeps replies, drops what it is told.
#[derive(Default)]
struct Cache {
    values: BTreeMap<String, Option<String>>,
    /// The keys of the requests whose replies are to come.
    asked: VecDeque<Vec<String>>,
    /// All that came, for people.
    seen: Vec<String>,
}

impl Cache {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if bytes[0] == b'>' {
                let push = read(&mut bytes);
                self.seen.push(format!("push {push:?}"));
                match &push[1..] {
                    [None] => self.values.clear(),
                    keys => keys.iter().flatten().for_each(|key| drop(self.values.remove(key))),
                }
                continue;
            }
            let failed = bytes[0] == b'-';
            let reply = read(&mut bytes);
            self.seen.push(format!("reply {reply:?}"));
            let keys = self.asked.pop_front().expect("a reply is to a request");
            if !failed {
                self.values.extend(keys.into_iter().zip(reply));
            }
        }
    }
}

/// The texts in a reply or a push, without its nesting.
fn read(bytes: &mut &[u8]) -> Vec<Option<String>> {
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a whole line");
    let line = String::from_utf8_lossy(&bytes[..end - 1]).into_owned();
    bytes.advance(end + 1);
    let number = line[1..].parse::<usize>();
    match (&line[..1], number) {
        ("*" | ">", Ok(count)) => (0..count).flat_map(|_| read(bytes)).collect(),
        ("$", Ok(length)) => {
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            bytes.advance(length + 2);
            vec![Some(text)]
        }
        _ => vec![None],
    }
}

/// Rows, by key, as versions.
type Rows = Arc<parking_lot::Mutex<BTreeMap<String, u32>>>;

struct World {
    node: Arc<Node>,
    rows: Rows,
    others: u16,
    /// Whether the client takes nothing for long: what it is to be told goes behind all replies that come meanwhile.
    takes_late: bool,
}

impl World {
    async fn new() -> Self {
        let config = Config { quarantine: Duration::ZERO, ..Config::default() };
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(any, any).unwrap();
        let member = server.member(NodeId::from("a"), 1);
        let registry = Registry::new(1);
        let parts = Parts {
            catalog: Arc::new(Catalog::parse("test.toml", CATALOG).unwrap()),
            loader: Loader::new(Arc::new(Memory::new()), Limits::default(), loader::Metrics::default()),
            membership: registry.observer(),
            registration: registry.register(member.clone()),
            peers: Peers::new(::client::Config::default()),
            id: member.id,
        };
        let node = Node::start(config, parts, &mut prometheus_client::registry::Registry::default());
        node.join().await;
        Self { node, rows: Arc::default(), others: 1, takes_late: false }
    }

    fn key(&self, text: &str) -> Key {
        self.node.key_of(text.as_bytes()).unwrap()
    }

    /// Fills a key, as a reader does that is no concern of the connection's.
    fn fill(node: &Node, rows: &Rows, key: &Key) {
        let (token, _) = node.gate.token(place(key)).expect("the slot is held");
        let value = Some(rows.lock()[&*key.text].to_string().into());
        let filled =
            Filled { key: key.text.clone(), value, ttl: Duration::from_mins(1), tags: Box::default() };
        let _ = node.gate.store_filled(&token, place(key), filled, || true);
    }

    /// What happens to a key: its row changes, the change arrives, it is filled again, and so on.
    fn steps(&self, key: &Key, story: &str) -> VecDeque<Step> {
        let step = |what: char| -> Step {
            let (node, rows, key) = (self.node.clone(), self.rows.clone(), key.clone());
            match what {
                'c' => Box::new(move || *rows.lock().get_mut(&*key.text).unwrap() += 1),
                // A removal, in the two halves between which others may look.
                'r' => Box::new(move || {
                    node.gate.remove(&key.text, &Arc::from("test"));
                }),
                't' => Box::new(move || node.resp.removed(&key.text)),
                'f' => Box::new(move || Self::fill(&node, &rows, &key)),
                'e' => Box::new(move || {
                    node.gate.store().remove(place(&key).hash, &key.text); // an eviction: nobody is told
                }),
                'F' => Box::new(move || {
                    node.gate.flush(key.group.id.0);
                    node.resp.invalidated_group(key.group.id.0);
                }),
                _ => panic!("{what} is no step"),
            }
        };
        story.chars().map(step).collect()
    }

    /// A connection that tracks.
    fn connect(&mut self, track: &Track) -> (Arc<Client>, Session) {
        self.others = self.others.wrapping_add(1);
        let address = SocketAddr::from(([127, 0, 0, 1], self.others));
        let client = self.node.resp.clients.enter(address, address, usize::MAX).unwrap();
        let mut session = Session::new(self.node.clone(), client.clone());
        session.speak(Protocol::Three);
        self.node.resp.clients.set_tracks(&client, true);
        if track.broadcast {
            self.node.resp.tracking.broadcast(&client, Vec::new());
        }
        session.track = Some(track.clone());
        (client, session)
    }

    /// The connection's part: what [`Connection`](super::connection) does with requests that came together.
    fn converse(&mut self, track: &Track, requests: &[&str], fails: bool) -> Cache {
        let (client, mut session) = self.connect(track);
        let mut cache = Cache::default();
        for request in requests {
            point();
            let line = BytesMut::from(format!("{request}\r\n").as_bytes());
            let mut parser = Parser::default();
            parser.parse(&line, &session.limits()).unwrap().expect("a whole line");
            cache.asked.push_back(request.split(' ').skip(1).map(str::to_owned).collect());
            assert!(matches!(session.begin(parser.arguments(&line)), Next::Done), "{request}");
        }
        let reads = session.reads();
        while session.write_next(&reads) {
            self.flush(&mut session, &mut cache);
        }
        for read in &reads {
            let place = place(&read.key);
            let (token, _) = self.node.gate.token(place).expect("the slot is held");
            point();
            let value = Some(bytes::Bytes::from(self.rows.lock()[&*read.key.text].to_string()));
            self.flush(&mut session, &mut cache);
            let filled = Filled {
                key: read.key.text.clone(),
                value: value.clone(),
                ttl: Duration::from_mins(1),
                tags: Box::default(),
            };
            let _ = self.node.gate.store_filled(&token, place, filled, || true);
            point();
            self.flush(&mut session, &mut cache);
            let answer = Answer {
                value,
                outcome: Outcome::Miss,
                age: Duration::ZERO,
                ttl: None,
                node: String::new(),
                epoch: 0,
                freshness: Duration::ZERO,
                token: None,
            };
            session.arrived(read, if fails { Err(Error::Abandoned) } else { Ok(answer) });
            while session.write_next(&reads) {
                self.flush(&mut session, &mut cache);
            }
        }
        session.settled();
        point();
        // The rest of the world's steps, and what is told of them.
        let rest = SCHEDULE.with_borrow_mut(|schedule| std::mem::take(&mut schedule.as_mut().unwrap().steps));
        for mut step in rest {
            step();
        }
        flush(&mut session, &mut cache);
        self.node.resp.tracking.forget(&client);
        self.node.resp.clients.leave(&client);
        cache
    }
}

impl World {
    /// A chance for replies and what is to be told to go out.
    fn flush(&self, session: &mut Session, cache: &mut Cache) {
        if !self.takes_late {
            flush(session, cache);
        }
    }
}

/// What [`Connection`](super::connection) does when there is something to be told, and at its end.
fn flush(session: &mut Session, cache: &mut Cache) {
    session.deliver();
    cache.take(&session.reply.bytes);
    session.reply.bytes.clear();
}

/// Tries all runs of a story: of the key that is in memory or, with `m`, of the one that is not; with `x` reads fail. Returns how many there were, and in how many the client holds something at the end.
fn all_runs(world: &mut World, track: &Track, requests: &[&str], story: &str) -> (u64, u64) {
    let (hit, miss) = (world.key("user:1"), world.key("user:2"));
    let (mut runs, mut kept) = (0, 0);
    let mut schedule = Schedule::default();
    loop {
        world.node.gate.flush(hit.group.id.0);
        *world.rows.lock() = BTreeMap::from([("user:1".to_owned(), 100), ("user:2".to_owned(), 200)]);
        World::fill(&world.node, &world.rows, &hit);
        let (of, fails) = (if story.starts_with('m') { &miss } else { &hit }, story.starts_with('x'));
        schedule.steps = world.steps(of, story.trim_start_matches(['m', 'x']));
        SCHEDULE.set(Some(schedule));
        let cache = world.converse(track, requests, fails);
        schedule = SCHEDULE.take().expect("it is given back");
        runs += 1;
        kept += u64::from(!cache.values.is_empty());
        for (key, value) in &cache.values {
            assert_eq!(
                value.as_deref(),
                Some(&*world.rows.lock()[key].to_string()),
                "{requests:?} with {track:?}, story {story}, {:?}: the client holds of {key} what was removed; it saw {:#?}",
                schedule.chosen,
                cache.seen,
            );
        }
        if !schedule.next() {
            return (runs, kept);
        }
    }
}

#[tokio::test]
async fn a_client_side_cache_never_holds_what_was_removed() {
    let mut world = World::new().await;
    let plain = Track::default();
    let modes = [
        plain.clone(),
        Track { broadcast: true, ..plain.clone() },
        Track { opt_out: true, no_loop: true, ..plain },
    ];
    let pipelines: [&[&str]; 7] = [
        &["GET user:1"],
        &["MGET user:1 user:2"],
        &["MGET user:2 user:1"],
        &["GET user:2", "GET user:1"],
        &["GET user:1", "GET user:2", "GET user:1"],
        &["GET user:2", "GET user:1", "GET user:1"],
        &["GET user:2", "MGET user:1 user:2"],
    ];
    let (mut runs, mut kept) = (0, 0);
    for (at, track, takes_late) in
        [(0, &modes[0], false), (0, &modes[0], true), (1, &modes[1], false), (2, &modes[2], false)]
    {
        world.takes_late = takes_late;
        for requests in pipelines.into_iter().take(if takes_late {
            5
        } else if at == 0 {
            7
        } else {
            4
        }) {
            for story in ["crt", "cFf", "mcrt", "mcF", "crtf"].iter().take(if at == 0 { 5 } else { 4 }) {
                let (more, more_kept) = all_runs(&mut world, track, requests, story);
                runs += more;
                kept += more_kept;
            }
        }
    }
    world.takes_late = false;
    for (requests, story) in [
        (["GET user:2", "GET user:1"], "crtfcrt"),
        // What was held before is still held when a later read finds nothing, or fails.
        (["GET user:1", "GET user:1"], "xecrt"),
        (["GET user:1", "GET user:1"], "ecrt"),
    ] {
        let (more, more_kept) = all_runs(&mut world, &modes[0], &requests, story);
        (runs, kept) = (runs + more, kept + more_kept);
    }
    println!("{runs} runs; in {kept} the client holds something at the end");
    // It must not be true because nothing is ever kept.
    assert!(runs > 10_000 && kept * 4 > runs, "{runs} {kept}");
    let resp = &world.node.resp;
    let now = tokio::time::Instant::now();
    (0..resp.tracking.parts()).for_each(|part| resp.tracking.tidy(resp.post(), part, now));
    assert_eq!((resp.tracking.keys(), resp.tracking.registrations()), (0, 0), "nobody is there any more");
}

#[tokio::test]
async fn what_others_did_to_a_key_that_is_muted_is_told_after_the_command() {
    let mut world = World::new().await;
    let key = world.key("user:1");
    *world.rows.lock() = BTreeMap::from([("user:1".to_owned(), 100)]);
    let track = Track { broadcast: true, no_loop: true, ..Track::default() };
    let (client, mut session) = world.connect(&track);
    let set = || Finished::Set {
        key: key.clone(),
        value: "100".into(),
        muted: true,
        result: Ok(::client::Set { refused: None, node: String::new(), epoch: 0 }),
    };
    let mut told = |ended: Finished, removed: bool| {
        World::fill(&world.node, &world.rows, &key); // what the client has set
        let muted = client.mute(std::iter::once(key.text.clone()));
        world.node.resp.removed(&key.text); // of its own change
        if removed {
            for mut step in world.steps(&key, "rt") {
                step(); // and of another's
            }
        }
        drop(muted);
        session.finish(ended);
        session.deliver();
        String::from_utf8(session.reply.bytes.split().to_vec()).unwrap()
    };
    let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\nuser:1\r\n";
    assert_eq!(told(set(), false), "+OK\r\n", "what it did by itself it knows");
    assert_eq!(told(set(), true), format!("+OK\r\n{push}"));
    let failed = Finished::Removed { keys: vec![key.clone()], muted: true, result: Err(Error::Abandoned) };
    assert!(told(failed, true).ends_with(push));
}
