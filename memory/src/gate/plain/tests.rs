//! The gates of an owner and of another holder, in all orders of what can happen between them, and with each rule taken out.

use std::collections::VecDeque;

use prometheus_client::registry::Registry;
use ring::{Epoch, Member, MemberState, NodeId, Ring, slot_of};

use super::*;
use crate::{
    gate::{Offered, Room, Source, hash},
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
    /// Writes of a key take turns at the owner.
    Turns,
}

/// Something that happens in steps.
#[derive(Debug, Clone)]
enum Actor {
    /// A write through the owner.
    Write { write: Write, token: Option<Token>, ordered: Option<Ordered>, again: bool },
    /// One that the owner gives up once it is ordered: the other holder never hears of it, or when others have been written.
    GivenUp { write: Write, token: Option<Token>, ordered: Option<Ordered>, arrives: bool },
    /// A removal of the sync service: the nodes that it has yet to reach, in their order.
    Removal(VecDeque<usize>),
    /// The holder pulls the key from the owner: its token, what the owner answered.
    Copy(Option<Token>, Option<Vec<Bytes>>),
    /// The owner, which has just come, pulls the key from a former holder.
    Take(Option<Token>),
    /// One of the nodes evicts the key.
    Evict(usize),
    /// The group is flushed at the owner.
    Flush,
    /// The key's tag is removed at the owner.
    Untag,
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
    /// The writes in their order.
    ordered: Vec<Write>,
    /// The place of the last one that was acknowledged.
    acknowledged: Option<usize>,
}

const TAG: &str = "user:1";

fn put(value: &'static str) -> Actor {
    writes(Write::Put(Put::new(value)))
}

fn given_up(value: &'static str, arrives: bool) -> Actor {
    Actor::GivenUp { write: Write::Put(Put::new(value)), token: None, ordered: None, arrives }
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
        Self {
            gates,
            key: ground.key.clone(),
            place: ground.place,
            out,
            actors,
            ordered: Vec::new(),
            acknowledged: None,
        }
    }

    fn has(&self, node: usize) -> Option<Bytes> {
        self.gates[node].peek(self.place, &self.key, Instant::now())?.value
    }

    fn token(&self, node: usize) -> Token {
        self.gates[node].token(self.place).expect("the slot is held").0
    }

    /// Whether an actor can take a step now.
    fn may(&self, at: usize) -> bool {
        let under_way = |actor: &Actor| match actor {
            Actor::Write { token, ordered, again, .. } => token.is_some() || ordered.is_some() || *again,
            Actor::GivenUp { token, ordered, .. } => token.is_some() && ordered.is_none(),
            _ => false,
        };
        let begins = |actor: &Actor| match actor {
            Actor::Write { .. } => !under_way(actor),
            Actor::GivenUp { token, .. } => token.is_none(),
            _ => false,
        };
        let Some(actor) = &self.actors[at] else { return false };
        self.out == Some(Rule::Turns) || !begins(actor) || !self.actors.iter().flatten().any(under_way)
    }

    fn step(&mut self, at: usize) {
        let mut actor = self.actors[at].take().expect("it has something to do");
        let done = match &mut actor {
            Actor::Write { write, token, ordered, again } => {
                let done = self.write_on(write, token, ordered, again);
                if done {
                    let at = self.ordered.iter().position(|ordered| ordered == write);
                    self.acknowledged = self.acknowledged.max(at);
                }
                done
            }
            Actor::GivenUp { write, token: Some(_), ordered: ordered @ None, arrives } => {
                *ordered = Some(self.order(write));
                !*arrives
            }
            Actor::GivenUp { token: Some(token), ordered: Some(ordered), .. } => {
                let token = if self.out == Some(Rule::Overtaken) { self.token(1) } else { *token };
                let _ = self.keep(&token, ordered);
                true
            }
            Actor::Removal(nodes) => {
                let node = nodes.pop_front().expect("it has somewhere to go");
                self.gates[node].remove(&self.key, &"shop/0@1".into());
                nodes.is_empty()
            }
            Actor::Copy(token @ None, _) | Actor::GivenUp { token: token @ None, .. } => {
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
                    self.pull(1, &token, value, Source::Owner);
                }
                true
            }
            Actor::Take(token @ None) => {
                *token = Some(self.token(0));
                false
            }
            Actor::Take(Some(token)) => {
                let token = *token;
                let from =
                    if self.out == Some(Rule::Untouched) { Source::Owner } else { Source::Lost(Epoch(1)) };
                self.pull(0, &token, Bytes::from_static(b"old"), from);
                true
            }
            Actor::Flush => self.gates[0].flush(0),
            Actor::Untag => {
                self.gates[0].remove_tag(TAG, &[0], &"shop/0@1".into());
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
        &mut self,
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
            *ordered = Some(self.order(write));
            return false;
        };
        let given = token.take().expect("it was asked for");
        let given = if self.out == Some(Rule::Overtaken) { self.token(1) } else { given };
        *again = true;
        self.keep(&given, order).is_ok()
    }

    fn keep(&self, token: &Token, ordered: &Ordered) -> Result<(), Refused> {
        let keeping = Keeping {
            key: self.key.clone(),
            value: ordered.value.as_ref().map(|(value, _)| value.clone()),
            ttl: TTL,
            tags: Box::default(),
        };
        self.gates[1].keep(token, self.place, keeping, &"a".into(), || true)
    }

    fn order(&mut self, write: &Write) -> Ordered {
        self.ordered.push(write.clone());
        let (origin, acquisition) = (Arc::from("set"), self.token(0).acquisition);
        let tags = [hash(TAG)];
        let asking =
            Asking { key: &self.key, write, tags: &tags, longest: TTL, origin: &origin, acquisition };
        self.gates[0].order(self.place, asking, || true).expect("it is the owner")
    }

    fn pull(&self, node: usize, token: &Token, value: Bytes, from: Source) {
        let now = Instant::now();
        let offered = Offered {
            key: self.key.clone(),
            value: Some(value),
            filled: now,
            expires: now + TTL,
            tags: Some([hash(TAG)].into()),
            alike: true,
            from,
        };
        // From others than the owner it takes although it has not confirmed its epoch.
        let confirmed = Epoch(u64::from(from == Source::Owner));
        let standing = || Standing { live: true, epoch: Epoch(1), confirmed };
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
            let open: Vec<_> = (0..actors.len()).filter(|at| world.may(*at)).collect();
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

/// The holder has no older value than the last write that was acknowledged.
fn older(world: &World) -> Option<String> {
    let (acknowledged, holder) = (world.acknowledged?, world.has(1)?);
    let has =
        world.ordered.iter().position(|write| matches!(write, Write::Put(put) if put.value == holder))?;
    (has < acknowledged).then(|| {
        format!("of {:?} number {acknowledged} was acknowledged, the holder has {holder:?}", world.ordered)
    })
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
        search(&ground, &[removal(), Actor::Take(None)], None, back),
        search(&ground, &[Actor::Flush, Actor::Take(None)], None, back),
        search(&ground, &[Actor::Untag, Actor::Take(None)], None, back),
        search(&ground, &[put("1"), put("2"), given_up("3", false)], None, older),
        search(&ground, &[given_up("1", true), put("2"), Actor::Evict(1)], None, older),
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
        (Rule::Overtaken, vec![given_up("1", true), put("2"), Actor::Evict(1)]),
        (Rule::Stands, vec![put("1"), removal()]),
        (Rule::OwnerFirst, vec![put("1"), removal()]),
    ] {
        let found = search(&ground, &actors, Some(rule), apart);
        let found = found.and_then(|runs| search(&ground, &actors, Some(rule), older).map(|_| runs));
        assert!(found.is_err(), "without {rule:?} nothing goes wrong in {found:?} orders of {actors:?}");
    }
    for actors in [
        vec![put("1"), Actor::Take(None), Actor::Evict(0)],
        vec![removal(), Actor::Take(None)],
        vec![Actor::Flush, Actor::Take(None)],
        vec![Actor::Untag, Actor::Take(None)],
    ] {
        assert!(search(&ground, &actors, Some(Rule::Untouched), back).is_err(), "{actors:?}");
    }
    let actors = [put("1"), put("2"), given_up("3", false)];
    assert!(search(&ground, &actors, Some(Rule::Turns), older).is_err());
}

/// *A write waits for others to go by the ring; the slot goes to another owner and back: by the last ring nobody but this node may go yet.*
#[tokio::test(start_paused = true)]
async fn an_owner_that_has_lost_the_slot_and_has_it_again_orders_nothing_it_was_asked_before() {
    let mut ground = Ground::new();
    let slots = Arc::new(Slots::new("a".into()));
    let alone = |epoch: u64, id: &str| {
        let members = ground.slots[0].ring().unwrap().members().to_vec();
        let members = members.into_iter().filter(|member| member.id == NodeId::from(id)).collect();
        Arc::new(Ring::build(Epoch(epoch), members, 1))
    };
    let rings = [alone(1, "a"), alone(2, "b"), alone(3, "a")];
    slots.apply(&rings[0], Instant::now(), Lost::Drop);
    ground.slots[0] = slots.clone();
    let (world, write, origin) =
        (World::new(&ground, &[], None), Write::Put(Put::new("1")), Arc::from("set"));
    let order = |acquisition| {
        let asking =
            Asking { key: &world.key, write: &write, tags: &[], longest: TTL, origin: &origin, acquisition };
        world.gates[0].order(world.place, asking, || true).map(|_| ())
    };
    let before = slots.owned(world.place.slot).unwrap();
    for ring in &rings[1..] {
        slots.apply(ring, Instant::now(), Lost::Drop);
    }
    let now = slots.owned(world.place.slot).unwrap();
    assert_eq!(order(before), Err(NotOrdered::Refused(Refused::SlotLost)));
    assert_eq!(order(now), Ok(()));
}
