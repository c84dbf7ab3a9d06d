//! The gates of an owner and of another holder, in all orders of what can happen between them, and with each rule taken out.

use std::collections::VecDeque;

use prometheus_client::registry::Registry;
use ring::{Epoch, Member, MemberState, NodeId, Ring, slot_of};

use super::*;
use crate::{
    gate::{Offered, Room, hash},
    protocol::Standing,
    slots::{Lost, Slots},
    store::{Bounds, Eviction, Store},
};

const TTL: Duration = Duration::from_mins(10);

/// What may be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A holder's token is taken before the write is ordered.
    TokenFirst,
    /// A holder refuses what comes under a token that something has overtaken.
    Overtaken,
    /// Whoever asks for another token looks whether the write still stands.
    Stands,
    /// Removals of the sync service reach the owner first.
    OwnerFirst,
    /// What a former holder has is taken only of keys that nothing has happened to.
    Untouched,
}

/// Something that happens in steps.
#[derive(Debug, Clone)]
enum Actor {
    /// A write through the owner.
    Write { write: Write, token: Option<Token>, ordered: Option<Ordered>, again: bool },
    /// A removal of the sync service: the nodes that it has yet to reach, in their order.
    Removal(VecDeque<usize>),
    /// The holder pulls the key from the owner: its token, what the owner answered.
    Copy(Option<Token>, Option<Vec<Bytes>>),
    /// The owner, which has just come, pulls the key from a former holder.
    Take(Option<Token>),
    /// One of the nodes evicts the key.
    Evict(usize),
}

/// What all worlds stand on: it takes its time to make.
struct Ground {
    /// The owner's, and the other holder's.
    slots: [Arc<Slots>; 2],
    key: Arc<str>,
    place: Place,
}

struct World {
    /// The owner's, and the other holder's.
    gates: [Gate; 2],
    key: Arc<str>,
    place: Place,
    out: Option<Rule>,
    actors: Vec<Option<Actor>>,
}

fn put(value: &'static str) -> Actor {
    writes(Write::Put(Put::new(value)))
}

fn writes(write: Write) -> Actor {
    Actor::Write { write, token: None, ordered: None, again: false }
}

fn gate(slots: &Arc<Slots>) -> Gate {
    let bounds = Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() };
    let store = Store::new(bounds, &mut Registry::default());
    Gate::new(store, slots.clone(), 1, Duration::ZERO, 64).with_plain([true])
}

impl Ground {
    fn new() -> Self {
        let member = |id: &str| Member {
            id: id.into(),
            incarnation: 1,
            grpc: String::new(),
            http: String::new(),
            resp: String::new(),
            weight: 1,
            state: MemberState::Active,
            terms: ring::Terms::default(),
        };
        let ring = Arc::new(Ring::build(Epoch(1), vec![member("a"), member("b")], 2));
        let owned =
            |key: &String| ring.owner(slot_of(key)).is_some_and(|owner| owner.id == NodeId::from("a"));
        let key: Arc<str> = (0..1000).map(|id| format!("session:{id}")).find(owned).unwrap().into();
        let place = Place { hash: hash(&key), group: 0, slot: slot_of(&key).get() };
        let slots = ["a", "b"].map(|node| {
            let slots = Arc::new(Slots::new(node.into()));
            slots.apply(&ring, Instant::now(), Lost::Drop);
            slots
        });
        Self { slots, key, place }
    }
}

impl World {
    fn new(ground: &Ground, actors: &[Actor], out: Option<Rule>) -> Self {
        let mut actors: Vec<_> = actors.iter().cloned().map(Some).collect();
        if out == Some(Rule::OwnerFirst) {
            for actor in actors.iter_mut().flatten() {
                if let Actor::Removal(nodes) = actor {
                    *nodes = nodes.iter().rev().copied().collect();
                }
            }
        }
        let gates = [gate(&ground.slots[0]), gate(&ground.slots[1])];
        Self { gates, key: ground.key.clone(), place: ground.place, out, actors }
    }

    fn has(&self, node: usize) -> Option<Bytes> {
        self.gates[node].peek(self.place, &self.key, Instant::now())?.value
    }

    fn token(&self, node: usize) -> Token {
        self.gates[node].token(self.place).expect("the slot is held").0
    }

    fn step(&mut self, at: usize) {
        let mut actor = self.actors[at].take().expect("it has something to do");
        let done = match &mut actor {
            Actor::Write { write, token, ordered, again } => self.write_on(write, token, ordered, again),
            Actor::Removal(nodes) => {
                let node = nodes.pop_front().expect("it has somewhere to go");
                self.gates[node].remove(&self.key, &"shop/0@1".into());
                nodes.is_empty()
            }
            Actor::Copy(token @ None, _) => {
                *token = Some(self.token(1));
                false
            }
            Actor::Copy(_, answer @ None) => {
                *answer = Some(self.has(0).into_iter().collect());
                false
            }
            Actor::Copy(Some(token), Some(answer)) => {
                let token = *token;
                if let Some(value) = answer.pop() {
                    self.pull(1, &token, value);
                }
                true
            }
            Actor::Take(token @ None) => {
                *token = Some(self.token(0));
                false
            }
            Actor::Take(Some(token)) => {
                let untouched = self.gates[0].untouched_if_plain(self.place).is_ok();
                let token = *token;
                if untouched || self.out == Some(Rule::Untouched) {
                    self.pull(0, &token, Bytes::from_static(b"old"));
                }
                true
            }
            Actor::Evict(node) => {
                self.gates[*node].store.remove(self.place.hash, &self.key);
                true
            }
        };
        self.actors[at] = Some(actor).filter(|_| !done);
    }

    /// The next step of a write: the holder's token, the order, and the keeping, again and again.
    fn write_on(
        &self,
        write: &Write,
        token: &mut Option<Token>,
        ordered: &mut Option<Ordered>,
        again: &mut bool,
    ) -> bool {
        let late = self.out == Some(Rule::TokenFirst);
        if token.is_none() && (!late || ordered.is_some()) {
            *token = Some(self.token(1));
            if let Some(ordered) = ordered.as_ref().filter(|_| *again && self.out != Some(Rule::Stands)) {
                return self.gates[0].stands(&ordered.token, self.place, &[], true).is_err();
            }
            return false;
        }
        let Some(order) = ordered else {
            let origin = Arc::from("set");
            let asking = Asking { key: &self.key, write, tags: &[], longest: TTL, origin: &origin };
            let order = self.gates[0].order(self.place, asking, || true);
            *ordered = Some(order.expect("it is the owner"));
            return false;
        };
        let given = token.take().expect("it was asked for");
        let given = if self.out == Some(Rule::Overtaken) { self.token(1) } else { given };
        let keeping = Keeping {
            key: self.key.clone(),
            value: order.value.as_ref().map(|(value, _)| value.clone()),
            ttl: TTL,
            tags: Box::default(),
        };
        *again = true;
        self.gates[1].keep(&given, self.place, keeping, &"a".into(), || true).is_ok()
    }

    fn pull(&self, node: usize, token: &Token, value: Bytes) {
        let now = Instant::now();
        let offered = Offered {
            key: self.key.clone(),
            value: Some(value),
            filled: now,
            expires: now + TTL,
            tags: Some(Box::default()),
            alike: true,
        };
        let standing = || Standing { live: true, epoch: Epoch(1), confirmed: Epoch(1) };
        let _ = self.gates[node].store_pulled(token, self.place, offered, Epoch(1), Room::Make, standing);
    }
}

/// Runs all orders of the actors' steps; returns how many there are, or one after which `wrong` says what is wrong.
fn search(
    ground: &Ground,
    actors: &[Actor],
    out: Option<Rule>,
    wrong: impl Fn(&World) -> Option<String>,
) -> Result<usize, String> {
    let (mut path, mut runs): (Vec<(usize, usize)>, usize) = (Vec::new(), 0);
    loop {
        let mut world = World::new(ground, actors, out);
        let mut steps = Vec::new();
        loop {
            let open: Vec<_> = (0..actors.len()).filter(|at| world.actors[*at].is_some()).collect();
            if open.is_empty() || steps.len() > 30 {
                break;
            }
            if path.len() == steps.len() {
                path.push((0, open.len()));
            }
            let at = open[path[steps.len()].0];
            steps.push(at);
            world.step(at);
        }
        runs += 1;
        if let Some(wrong) = wrong(&world) {
            return Err(format!("{wrong} after {steps:?} of {actors:?}"));
        }
        while let Some((chosen, options)) = path.pop() {
            if chosen + 1 < options {
                path.push((chosen + 1, options));
                break;
            }
        }
        if path.is_empty() {
            return Ok(runs);
        }
    }
}

/// The holder has nothing that the owner has not: neither what was removed nor what was written over.
fn apart(world: &World) -> Option<String> {
    let (owner, holder) = (world.has(0), world.has(1));
    (holder.is_some() && holder != owner).then(|| format!("the owner has {owner:?}, the holder {holder:?}"))
}

/// And all that it has, if nothing but writes and pulls happened.
fn unequal(world: &World) -> Option<String> {
    let (owner, holder) = (world.has(0), world.has(1));
    (holder != owner).then(|| format!("the owner has {owner:?}, the holder {holder:?}"))
}

/// What the former holder had is gone when all is done: a write was ordered.
fn back(world: &World) -> Option<String> {
    (world.has(0).as_deref() == Some(b"old")).then(|| "the former holder's value is back".to_owned())
}

fn removal() -> Actor {
    Actor::Removal(VecDeque::from([0, 1]))
}

#[tokio::test(start_paused = true)]
async fn when_all_is_acknowledged_holders_agree_and_nothing_removed_or_older_is_back() {
    let (ground, copy) = (Ground::new(), || Actor::Copy(None, None));
    let runs = [
        search(&ground, &[put("1"), put("2")], None, unequal),
        search(&ground, &[put("1"), put("2"), Actor::Evict(1)], None, apart),
        search(&ground, &[put("1"), writes(Write::Remove), copy()], None, unequal),
        search(&ground, &[put("1"), put("2"), removal()], None, apart),
        search(&ground, &[put("1"), removal(), removal()], None, apart),
        search(&ground, &[put("1"), removal(), copy()], None, apart),
        search(&ground, &[put("1"), writes(Write::Remove), removal()], None, apart),
        search(&ground, &[put("1"), Actor::Take(None), Actor::Evict(0)], None, back),
    ];
    let runs = runs.into_iter().sum::<Result<usize, String>>().unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(runs > 1000, "{runs}");
}

#[tokio::test(start_paused = true)]
async fn each_rule_is_needed() {
    let ground = Ground::new();
    for (rule, actors) in [
        (Rule::TokenFirst, vec![put("1"), removal()]),
        (Rule::Overtaken, vec![put("1"), removal()]),
        (Rule::Overtaken, vec![put("1"), put("2"), Actor::Evict(1)]),
        (Rule::Stands, vec![put("1"), removal()]),
        (Rule::OwnerFirst, vec![put("1"), removal()]),
    ] {
        let found = search(&ground, &actors, Some(rule), apart);
        assert!(found.is_err(), "without {rule:?} nothing goes wrong in {found:?} orders of {actors:?}");
    }
    let actors = [put("1"), Actor::Take(None), Actor::Evict(0)];
    assert!(search(&ground, &actors, Some(Rule::Untouched), back).is_err());
}
