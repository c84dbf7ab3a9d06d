//! The gate and the store, driven step by step: first the orders that matter one by one, then any order.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use ring::Epoch;
use tokio::time::{Instant, advance};

use super::*;
use crate::{
    flights::{Boarded, Flight, Flights},
    protocol::{PullRefused, Standing},
    store::{Bounds, Eviction, compress::Compression},
    watermarks::Watermarks,
};

mod tag_races;

const QUARANTINE: Duration = Duration::from_millis(100);
const SLOT: u16 = 7;

/// A gate that holds slot 7 since long ago.
async fn gate(log: usize) -> (Arc<Slots>, Gate) {
    let slots = Arc::new(Slots::new("a".into()));
    slots.set(SLOT, true);
    let store = Store::new(
        Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() },
        &mut Registry::default(),
    );
    let gate = Gate::new(store, slots.clone(), 1, QUARANTINE, log);
    advance(QUARANTINE).await;
    (slots, gate)
}

fn place(key: &str) -> Place {
    Place { hash: hash(key), group: 0, slot: SLOT }
}

fn origin() -> Arc<str> {
    Arc::from("shop/0@1")
}

fn token(gate: &Gate, key: &str) -> Token {
    gate.token(place(key)).expect("the slot is held").0
}

fn store(gate: &Gate, key: &str, token: &Token, value: &str) -> Result<Inserted, Refused> {
    store_tagged(gate, key, token, value, &[])
}

fn store_tagged(
    gate: &Gate,
    key: &str,
    token: &Token,
    value: &str,
    tags: &[&str],
) -> Result<Inserted, Refused> {
    gate.store_filled(token, place(key), filled(key, value, tags), || true)
}

fn filled(key: &str, value: &str, tags: &[&str]) -> Filled {
    Filled {
        key: key.into(),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ttl: Duration::from_mins(10),
        tags: hashes(tags),
    }
}

fn hashes(tags: &[&str]) -> Box<[u64]> {
    tags.iter().map(|tag| hash(tag)).collect()
}

/// What would be served. A peek: it leaves in memory what is not valid, so that a check finds it if it ever comes back.
fn read(gate: &Gate, key: &str) -> Option<Bytes> {
    gate.peek(place(key), key, Instant::now())?.value
}

#[tokio::test(start_paused = true)]
async fn an_entry_beyond_its_time_is_no_hit_and_stale_for_its_grace() {
    let (slots, gate) = gate(LOG).await;
    let gate = gate.with_graces([Duration::from_mins(5)]);
    for key in ["a", "b"] {
        let token = token(&gate, key);
        store(&gate, key, &token, "old").unwrap();
    }
    let stale = |key: &str| gate.stale(place(key), key, Instant::now()).is_some();
    let shown = gate.get(place("a"), "a", Instant::now()).unwrap();
    assert_eq!(shown.expires - shown.filled, Duration::from_mins(10), "the grace shows nowhere");
    advance(Duration::from_mins(10)).await;
    assert!(gate.get(place("a"), "a", Instant::now()).is_none() && read(&gate, "a").is_none());
    assert!(gate.given(place("a"), "a", Instant::now()).is_none(), "nobody is given it");
    let mut paged = 0;
    gate.page(Cursor::START, 100, Instant::now(), |_, _| {
        paged += 1;
        true
    });
    assert_eq!(paged, 0);
    gate.sweep().await;
    assert!(stale("a") && stale("b"));
    gate.remove("a", &origin());
    assert!(!stale("a") && stale("b"), "what a change removes is gone");
    slots.set(SLOT, false);
    assert!(!stale("b"), "and what is of a lost slot");
    slots.set(SLOT, true);
    assert!(!stale("b"), "for good");
}

#[tokio::test(start_paused = true)]
async fn a_grace_ends_and_a_flush_ends_it_sooner() {
    let (_slots, gate) = gate(LOG).await;
    let gate = gate.with_graces([Duration::from_mins(5)]);
    let stale = |key: &str| gate.stale(place(key), key, Instant::now()).is_some();
    let first = token(&gate, "a");
    store(&gate, "a", &first, "old").unwrap();
    advance(Duration::from_mins(15)).await;
    assert!(!stale("a"), "its grace is over");
    let second = token(&gate, "a");
    store(&gate, "a", &second, "new").unwrap();
    advance(Duration::from_mins(11)).await;
    assert!(stale("a"));
    gate.flush(0);
    assert!(!stale("a"));
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_nothing_overlaps_is_stored() {
    let (_, gate) = gate(LOG).await;
    let token = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &token, "new"), Ok(Inserted::Stored));
    assert_eq!(read(&gate, "user:1").as_deref(), Some(&b"new"[..]));
    assert_eq!(read(&gate, "user:2"), None);
}

#[tokio::test(start_paused = true)]
async fn values_of_a_group_that_says_so_are_compressed_by_every_way_in_and_read_as_they_were() {
    let (_, gate) = gate(LOG).await;
    let gate = gate
        .with_compression(vec![Compression { codec: Some(crate::store::compress::Codec::Lz4), above: 1024 }]);
    let row = r#"{"id":1,"name":"a name"}"#.repeat(100);
    let (filled, small) = (token(&gate, "user:1"), token(&gate, "user:2"));
    store(&gate, "user:1", &filled, &row).unwrap();
    store(&gate, "user:2", &small, &row[..1000]).unwrap();
    let set = Filled {
        key: "user:3".into(),
        value: Some(row.clone().into()),
        ttl: Duration::from_mins(1),
        tags: Box::default(),
    };
    assert_eq!(gate.store_set(&token(&gate, "user:3"), place("user:3"), set, || true), Ok(Inserted::Stored));
    let standing = Standing { live: true, epoch: Epoch(5), confirmed: Epoch(5) };
    let pulled = token(&gate, "user:4");
    let offered = offered("user:4", &row);
    gate.store_pulled(&pulled, place("user:4"), offered, Epoch(5), Room::Spare, || standing).unwrap();
    let compressed = gate.store().sizes().compressed;
    assert_eq!((compressed.entries, compressed.plain_bytes), (3, 3 * row.len() as u64));
    for (key, len) in [("user:1", row.len()), ("user:2", 1000), ("user:3", row.len()), ("user:4", row.len())]
    {
        assert_eq!(read(&gate, key).as_deref(), Some(&row.as_bytes()[..len]), "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_during_a_fill_keeps_the_old_row_out_and_no_other_key() {
    let (_, gate) = gate(LOG).await;
    let (one, two) = (token(&gate, "user:1"), token(&gate, "user:2"));
    assert!(!gate.remove("user:1", &origin()));
    advance(QUARANTINE * 100).await; // however slow the fill is
    assert_eq!(store(&gate, "user:1", &one, "old"), Err(Refused::Removed));
    assert_eq!(store(&gate, "user:2", &two, "new"), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_fill_within_the_quarantine_of_a_removal_is_not_stored_and_one_after_it_is() {
    let (_, gate) = gate(LOG).await;
    gate.remove("user:1", &origin());
    advance(Duration::from_millis(99)).await;
    let early = token(&gate, "user:1");
    advance(Duration::from_millis(1)).await;
    let late = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &early, "old"), Err(Refused::Quarantine));
    assert_eq!(store(&gate, "user:1", &late, "new"), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_flush_hides_what_is_stored_refuses_fills_under_way_and_begins_a_quarantine() {
    let (_, gate) = gate(LOG).await;
    let (stored, under_way) = (token(&gate, "user:1"), token(&gate, "user:2"));
    store(&gate, "user:1", &stored, "old").unwrap();
    assert!(gate.flush(0));
    assert!(!gate.flush(1), "there is no such group");
    assert_eq!(read(&gate, "user:1"), None);
    assert_eq!(store(&gate, "user:2", &under_way, "old"), Err(Refused::Flushed));
    let early = token(&gate, "user:2");
    assert_eq!(store(&gate, "user:2", &early, "old"), Err(Refused::Quarantine));
    advance(QUARANTINE).await;
    let late = token(&gate, "user:2");
    assert_eq!(store(&gate, "user:2", &late, "new"), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn what_was_filled_under_a_lost_slot_never_comes_back() {
    let (slots, gate) = gate(LOG).await;
    let (stored, under_way) = (token(&gate, "user:1"), token(&gate, "user:2"));
    store(&gate, "user:1", &stored, "old").unwrap();
    slots.set(SLOT, false);
    assert!(gate.token(place("user:1")).is_none());
    assert_eq!(read(&gate, "user:1"), None);
    slots.set(SLOT, true);
    advance(QUARANTINE).await;
    assert_eq!(read(&gate, "user:1"), None, "the value is of an earlier acquisition");
    assert_eq!(store(&gate, "user:2", &under_way, "old"), Err(Refused::SlotLost));
    let late = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &late, "new"), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_slot_just_acquired_is_in_quarantine() {
    let (slots, gate) = gate(LOG).await;
    slots.set(SLOT, false);
    slots.set(SLOT, true);
    let early = token(&gate, "user:1");
    advance(QUARANTINE).await;
    assert_eq!(store(&gate, "user:1", &early, "old"), Err(Refused::Quarantine));
    let late = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &late, "new"), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_does_not_reach_back_to_the_token_refuses() {
    let (_, gate) = gate(2).await;
    let token = token(&gate, "user:1");
    gate.remove("user:1", &origin());
    // Push the removal out of its log; keys land in any of the gate's logs.
    for n in 0..SHARDS * 20 {
        gate.remove(&format!("other:{n}"), &origin());
    }
    advance(QUARANTINE * 2).await;
    assert_eq!(store(&gate, "user:1", &token, "old"), Err(Refused::LogOverrun));
}

#[tokio::test(start_paused = true)]
async fn the_last_removal_is_remembered_with_its_origin() {
    let (_, gate) = gate(LOG).await;
    assert_eq!(&*gate.last_removal(place("user:1")).unwrap().1, "slot acquired");
    advance(QUARANTINE).await;
    gate.remove("user:1", &origin());
    assert_eq!(&*gate.last_removal(place("user:1")).unwrap().1, "shop/0@1");
    advance(QUARANTINE).await;
    gate.flush(0);
    assert_eq!(&*gate.last_removal(place("user:1")).unwrap().1, "flush");
}

/// One step of a run.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The row changes; readers see it later.
    Write(usize),
    /// Readers see the last change.
    Show(usize),
    /// A request misses: it joins the fill under way, or begins one.
    Request(usize),
    /// The oldest fill that has not read yet reads the database.
    Read,
    /// The fill of this number, of those that have read, ends.
    End(usize),
    /// The last change of the row is delivered as a removal.
    Remove(usize),
    /// All changes so far are delivered as a flush.
    Flush,
    /// The slot goes elsewhere; what is delivered meanwhile does not come here.
    Lose,
    /// The slot comes here.
    Gain,
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize).prop_map(Step::Write),
        1 => (0..2usize).prop_map(Step::Show),
        4 => (0..2usize).prop_map(Step::Request),
        4 => Just(Step::Read),
        4 => (0..3usize).prop_map(Step::End),
        3 => (0..2usize).prop_map(Step::Remove),
        1 => Just(Step::Flush),
        1 => Just(Step::Lose),
        1 => Just(Step::Gain),
        3 => prop_oneof![Just(1), Just(50), Just(99), Just(100), Just(1000)].prop_map(Step::Wait),
    ]
}

/// One row and what is known of it; versions count up from 0.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    /// Committed and logged.
    written: u64,
    /// What a reader gets.
    visible: u64,
    /// Delivered: no value older than this may be served from memory.
    delivered: u64,
    /// Delivered and past its quarantine: no request may get less, also not by sharing.
    settled: u64,
    /// When the last delivery's quarantine ends.
    settles: Option<Instant>,
}

struct Fill {
    row: usize,
    flight: Arc<Flight<(), u8>>,
    /// What was delivered of the row when the fill began.
    delivered: u64,
    version: Option<u64>,
}

struct World {
    slots: Arc<Slots>,
    gate: Gate,
    flights: Flights<(), u8>,
    watermarks: Watermarks,
    rows: [Row; 2],
    fills: Vec<Fill>,
    held: bool,
}

const KEYS: [&str; 2] = ["user:1", "user:2"];

impl World {
    async fn new(log: usize) -> Self {
        let (slots, gate) = gate(log).await;
        Self {
            slots,
            gate,
            flights: Flights::default(),
            watermarks: Watermarks::register(&mut Registry::default()),
            rows: [Row::default(); 2],
            fills: Vec::new(),
            held: true,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Write(row) => self.rows[row].written += 1,
            Step::Show(row) => self.rows[row].visible = self.rows[row].written,
            Step::Request(row) => self.request(row),
            Step::Read => {
                if let Some(fill) = self.fills.iter_mut().find(|fill| fill.version.is_none()) {
                    fill.version = Some(self.rows[fill.row].visible);
                }
            }
            Step::End(number) => {
                let ready: Vec<_> =
                    (0..self.fills.len()).filter(|&n| self.fills[n].version.is_some()).collect();
                if let Some(&at) = ready.get(number) {
                    let fill = self.fills.remove(at);
                    let key = KEYS[fill.row];
                    let version = fill.version.unwrap_or_default().to_string();
                    let _ = store(&self.gate, key, &fill.flight.token, &version);
                    self.flights.land(place(key), key, &fill.flight);
                }
            }
            Step::Remove(row) => {
                self.deliver(row);
                if self.held {
                    self.gate.remove(KEYS[row], &origin());
                    self.flights.detach(KEYS[row]);
                }
            }
            Step::Flush => {
                (0..2).for_each(|row| self.deliver(row));
                if self.held {
                    self.gate.flush(0);
                }
            }
            Step::Lose => {
                self.held = false;
                self.slots.set(SLOT, false);
            }
            Step::Gain => {
                if !self.held {
                    self.held = true;
                    self.slots.set(SLOT, true);
                    // What was delivered without this node may have become visible as late as now.
                    for row in &mut self.rows {
                        row.settles = row.settles.map(|_| Instant::now() + QUARANTINE);
                    }
                }
            }
            Step::Wait(ms) => {
                advance(Duration::from_millis(ms)).await;
                for row in &mut self.rows {
                    if row.settles.is_some_and(|at| at <= Instant::now()) {
                        row.settles = None;
                        row.settled = row.delivered;
                        row.visible = row.visible.max(row.delivered);
                    }
                }
            }
        }
        self.check();
    }

    fn deliver(&mut self, row: usize) {
        let row = &mut self.rows[row];
        row.delivered = row.written;
        row.settles = Some(Instant::now() + QUARANTINE);
    }

    fn request(&mut self, row: usize) {
        let key = KEYS[row];
        if self.gate.get(place(key), key, Instant::now()).is_some() {
            return;
        }
        match self.flights.board(&self.gate, &self.watermarks, place(key), &key.into(), None, 0) {
            Boarded::Began(flight, _) => {
                let delivered = self.rows[row].delivered;
                self.fills.push(Fill { row, flight, delivered, version: None });
            }
            Boarded::Joined(_) => {
                let fill = self.fills.iter().rev().find(|fill| fill.row == row).expect("a fill is under way");
                let now = self.rows[row];
                assert_eq!(fill.delivered, now.delivered, "shares a fill that began before the last removal");
                let version = fill.version.unwrap_or(now.visible);
                assert!(version >= now.settled, "shares a fill of version {version}, {now:?}");
            }
            Boarded::Hit(_) | Boarded::NotHeld => {}
        }
    }

    /// No value older than the last delivered change is served from memory.
    fn check(&self) {
        for (row, key) in self.rows.iter().zip(KEYS) {
            if let Some(value) = read(&self.gate, key) {
                let version: u64 = std::str::from_utf8(&value).unwrap().parse().unwrap();
                assert!(version >= row.delivered, "{key}: version {version} in memory, {row:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_fills_writes_removals_flushes_and_slot_changes_leaves_nothing_stale(
        steps in proptest::collection::vec(step(), 1..60),
        log in prop_oneof![Just(1usize), Just(2), Just(LOG)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(log).await;
            for step in steps {
                world.take(step).await;
            }
        });
    }
}

/// What another node had in memory: read 1 s ago, good for a minute.
fn offered(key: &str, value: &str) -> Offered {
    let now = Instant::now();
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    Offered {
        key: key.into(),
        value,
        filled: now.checked_sub(Duration::from_secs(1)).unwrap(),
        expires: now + Duration::from_mins(1),
        tags: Some(Box::default()),
        alike: true,
        from: Source::Owner,
    }
}

fn standing(live: bool, epoch: u64, confirmed: u64) -> Standing {
    Standing { live, epoch: Epoch(epoch), confirmed: Epoch(confirmed) }
}

/// Takes a pulled value that was asked for at epoch 5, as a node that stands so.
fn take(gate: &Gate, key: &str, token: &Token, value: &str, as_node: Standing) -> Result<Inserted, NotTaken> {
    gate.store_pulled(token, place(key), offered(key, value), Epoch(5), Room::Make, || as_node)
}

fn settled() -> Standing {
    standing(true, 5, 5)
}

#[tokio::test(start_paused = true)]
async fn a_pulled_value_keeps_its_age_and_its_end_and_needs_no_quarantine() {
    let (slots, gate) = gate(LOG).await;
    slots.set(SLOT, false);
    slots.set(SLOT, true); // acquired just now: a fill would be served and not stored
    let fill = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &fill, "filled"), Err(Refused::Quarantine));
    assert_eq!(take(&gate, "user:1", &fill, "pulled", settled()), Ok(Inserted::Stored));
    let entry = gate.peek(place("user:1"), "user:1", Instant::now()).unwrap();
    let now = Instant::now();
    assert_eq!((now - entry.filled, entry.expires - now), (Duration::from_secs(1), Duration::from_mins(1)));
}

#[tokio::test(start_paused = true)]
async fn a_pulled_value_that_anything_overtook_is_not_stored() {
    type Overtake = fn(&Slots, &Gate);
    let cases: [(Overtake, Refused); 3] = [
        (|_, gate| assert!(!gate.remove("user:1", &origin())), Refused::Removed),
        (|_, gate| assert!(gate.flush(0)), Refused::Flushed),
        (
            |slots, _| {
                slots.set(SLOT, false);
                slots.set(SLOT, true);
            },
            Refused::SlotLost,
        ),
    ];
    for (overtake, expected) in cases {
        let (slots, gate) = gate(LOG).await;
        let single = token(&gate, "user:1");
        let snapshot = gate.snapshot();
        overtake(&slots, &gate);
        assert_eq!(
            take(&gate, "user:1", &single, "old", settled()),
            Err(NotTaken::Overtaken(expected)),
            "asked for alone"
        );
        // A slot that was lost since the snapshot has no token at all.
        if let Some(of_page) = gate.token_of(&snapshot, place("user:1")) {
            let refused = take(&gate, "user:1", &of_page, "old", settled());
            assert_eq!(refused, Err(NotTaken::Overtaken(expected)), "in a page");
        } else {
            assert_eq!(expected, Refused::SlotLost);
        }
        assert_eq!(read(&gate, "user:1"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_holds_what_was_not_overtaken() {
    let (_, gate) = gate(LOG).await;
    let snapshot = gate.snapshot();
    gate.remove("user:1", &origin());
    let token = gate.token_of(&snapshot, place("user:2")).unwrap();
    assert_eq!(take(&gate, "user:2", &token, "new", settled()), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moved_or_gives_or_is_fenced_takes_nothing() {
    let (_, gate) = gate(LOG).await;
    let token = token(&gate, "user:1");
    for (as_node, expected) in [
        (standing(true, 6, 6), PullRefused::Moved),
        (standing(true, 5, 4), PullRefused::Unconfirmed),
        (standing(false, 5, 5), PullRefused::Fenced),
    ] {
        let refused = take(&gate, "user:1", &token, "old", as_node);
        assert_eq!(refused, Err(NotTaken::Refused(expected)));
    }
    assert_eq!(read(&gate, "user:1"), None);
}

#[tokio::test(start_paused = true)]
async fn a_pulled_value_takes_the_place_of_nothing_that_is_in_memory() {
    let (_, gate) = gate(LOG).await;
    let pull = token(&gate, "user:1");
    let fill = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &fill, "newer"), Ok(Inserted::Stored));
    assert_eq!(take(&gate, "user:1", &pull, "older", settled()), Err(NotTaken::Present));
    assert_eq!(read(&gate, "user:1").as_deref(), Some(&b"newer"[..]));
    // In bulk it makes no room for itself either.
    let mut refused = false;
    for n in 0..10_000 {
        let key = format!("cold:{n}");
        let token = token(&gate, &key);
        let pulled = gate.store_pulled(
            &token,
            place(&key),
            offered(&key, &"x".repeat(500)),
            Epoch(5),
            Room::Spare,
            settled,
        );
        refused |= pulled == Err(NotTaken::NoRoom);
    }
    assert!(refused && gate.store().sizes().evictions == 0);
    assert_eq!(read(&gate, "user:1").as_deref(), Some(&b"newer"[..]));
}

/// What ends an entry tagged `product:1` without a lock of its key.
type End = fn(&Slots, &Gate);
const ENDS: [(&str, End); 3] = [
    ("its tag removed", |_, gate| gate.remove_tag("product:1", &[0], &origin())),
    ("its group flushed", |_, gate| assert!(gate.flush(0))),
    ("its slot lost and gained", |slots, _| {
        slots.set(SLOT, false);
        slots.set(SLOT, true);
    }),
];

#[tokio::test(start_paused = true)]
async fn an_entry_that_has_ended_stands_in_no_pulled_values_way() {
    for (how, end) in ENDS {
        let (slots, gate) = gate(LOG).await;
        let fill = token(&gate, "user:1");
        assert_eq!(store_tagged(&gate, "user:1", &fill, "old", &["product:1"]), Ok(Inserted::Stored));
        end(&slots, &gate);
        let pull = token(&gate, "user:1");
        assert_eq!(take(&gate, "user:1", &pull, "new", settled()), Ok(Inserted::Stored), "{how}");
        assert_eq!(read(&gate, "user:1").as_deref(), Some(&b"new"[..]), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_departs_is_served_to_nobody_and_given_away_until_it_is_removed_or_ends() {
    let (slots, gate) = gate(LOG).await;
    for key in ["user:1", "user:2", "user:3"] {
        let token = token(&gate, key);
        assert_eq!(store(&gate, key, &token, "value"), Ok(Inserted::Stored));
    }
    slots.depart(SLOT);
    let now = Instant::now();
    let given = |key: &str| gate.given(place(key), key, now).is_some();
    assert!(gate.get(place("user:1"), "user:1", now).is_none() && given("user:1"), "a read drops nothing");
    gate.sweep().await;
    assert!(given("user:1") && given("user:2"));
    assert!(gate.remove("user:1", &origin()));
    assert!(!given("user:1"));
    gate.flush(0);
    assert!(!given("user:2"));
    let (slots, gate) = self::gate(LOG).await;
    let token = token(&gate, "user:1");
    assert_eq!(store(&gate, "user:1", &token, "value"), Ok(Inserted::Stored));
    slots.depart(SLOT);
    slots.end_departing();
    assert!(gate.given(place("user:1"), "user:1", now).is_none());
    gate.sweep().await;
    assert_eq!(gate.store().sizes().entries, 0);
}

/// Stores a value that carries these tags.
#[tokio::test(start_paused = true)]
async fn a_removal_of_a_tag_ends_what_carries_it_and_refuses_what_was_read_before_or_in_its_quarantine() {
    let (_, gate) = gate(LOG).await;
    for (key, tags) in
        [("user:1", &["product:1", "product:2"][..]), ("user:2", &["product:2"]), ("user:3", &[])]
    {
        let token = token(&gate, key);
        assert_eq!(store_tagged(&gate, key, &token, "old", tags), Ok(Inserted::Stored));
    }
    let under_way = token(&gate, "user:4");
    gate.remove_tag("product:1", &[0], &origin());
    assert!(
        read(&gate, "user:1").is_none() && read(&gate, "user:2").is_some() && read(&gate, "user:3").is_some()
    );
    assert_eq!(store_tagged(&gate, "user:4", &under_way, "old", &["product:1"]), Err(Refused::TagRemoved));
    assert_eq!(store_tagged(&gate, "user:4", &under_way, "new", &["product:2"]), Ok(Inserted::Stored));
    advance(Duration::from_millis(99)).await;
    let early = token(&gate, "user:1");
    advance(Duration::from_millis(1)).await;
    let late = token(&gate, "user:1");
    assert_eq!(store_tagged(&gate, "user:1", &early, "old", &["product:1"]), Err(Refused::Quarantine));
    assert_eq!(store_tagged(&gate, "user:1", &late, "new", &["product:1"]), Ok(Inserted::Stored));
}

#[tokio::test(start_paused = true)]
async fn no_request_after_a_removal_of_a_tag_shares_a_fill_whose_value_may_turn_out_to_carry_it() {
    let (_, gate) = gate(LOG).await;
    let (before, unsettled) = gate.token(place("user:1")).unwrap();
    assert!(gate.current(&before, place("user:1")) && unsettled.is_none());
    gate.remove_tag("product:1", &[], &origin());
    assert!(gate.current(&before, place("user:1")), "of other groups");
    gate.remove_tag("product:1", &[0], &origin());
    assert!(!gate.current(&before, place("user:1")));
    let (after, unsettled) = gate.token(place("user:1")).unwrap();
    assert!(gate.current(&after, place("user:1")));
    assert_eq!(unsettled, Some(Instant::now() + QUARANTINE), "it may have read the old row");
}

#[tokio::test(start_paused = true)]
async fn a_value_of_a_tagged_group_is_pulled_with_its_tags_or_not_at_all() {
    let (slots, gate) = gate(LOG).await;
    let token = token(&gate, "user:1");
    let take = |tags: Option<&[&str]>| {
        let tags = tags.map(hashes);
        let offered = Offered { tags, ..offered("user:1", "value") };
        gate.store_pulled(&token, place("user:1"), offered, Epoch(5), Room::Make, settled)
    };
    assert_eq!(take(None), Err(NotTaken::Untagged));
    gate.remove_tag("product:1", &[0], &origin());
    assert_eq!(take(Some(&["product:1"])), Err(NotTaken::Overtaken(Refused::TagRemoved)));
    assert_eq!(take(Some(&["product:2"])), Ok(Inserted::Stored));
    slots.depart(SLOT);
    let given = |key: &str| gate.given(place(key), key, Instant::now());
    assert_eq!(tag_hashes(given("user:1").unwrap().tags.as_ref()), [hash("product:2")]);
    gate.remove_tag("product:2", &[0], &origin());
    assert!(given("user:1").is_none(), "what is ended is given to nobody");
}

#[tokio::test(start_paused = true)]
async fn what_a_tag_ended_is_swept_out_and_its_story_is_told() {
    let slots = Arc::new(Slots::new("a".into()));
    slots.set(SLOT, true);
    let bounds = Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() };
    let store = Store::new(bounds, &mut Registry::default()).with_recorder(Arc::new(Recorder::new(1000)));
    let gate = Gate::new(store, slots, 1, QUARANTINE, LOG).with_tag_log(4);
    advance(QUARANTINE).await;
    for n in 0..100 {
        let key = format!("user:{n}");
        let token = token(&gate, &key);
        store_tagged(&gate, &key, &token, "old", &[&format!("product:{}", n % 10)]).unwrap();
    }
    gate.remove_tag("product:3", &[0], &origin());
    assert_eq!(gate.store().sizes().entries, 100, "in constant time");
    advance(Duration::from_secs(1)).await;
    gate.sweep().await;
    assert_eq!(gate.store().sizes().entries, 90);
    let told_of = gate.recorder().of(place("user:3"));
    assert_eq!((told_of[0].what, &*told_of[0].detail), ("removed", "shop/0@1 by tag product:3"));
    let (at, told) = gate.last_removal(place("user:3")).unwrap();
    assert_eq!((&*told, Instant::now() - at), ("shop/0@1 by tag product:3", Duration::from_secs(1)));
    // More than the gate remembers, each swept for: nothing else is lost.
    for n in 0..100 {
        gate.remove_tag(&format!("other:{n}"), &[0], &origin());
        gate.sweep().await;
    }
    assert_eq!(gate.store().sizes().entries, 90);
    assert!(read(&gate, "user:4").is_some());
    for n in 0..5 {
        gate.remove_tag(&format!("other:{n}"), &[0], &origin());
    }
    assert!(
        read(&gate, "user:4").is_none(),
        "more than it remembers, and no sweep: any of them may be its own"
    );
}

/// A step of the tags' own world.
#[derive(Debug, Clone)]
enum TagStep {
    Begin(u8),
    Store(u8, Vec<u8>),
    RemoveTag(u8),
    Read(u8),
    Sweep,
    Wait,
}

fn tag_steps() -> impl Strategy<Value = Vec<TagStep>> {
    let step = prop_oneof![
        3 => (0..4u8).prop_map(TagStep::Begin),
        3 => (0..4u8, prop::collection::vec(0..6u8, 0..3)).prop_map(|(key, tags)| TagStep::Store(key, tags)),
        2 => (0..6u8).prop_map(TagStep::RemoveTag),
        3 => (0..4u8).prop_map(TagStep::Read),
        1 => Just(TagStep::Sweep),
        1 => Just(TagStep::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// However fills, removals of tags, forgetting and sweeps come: nothing is read that began before, or in the quarantine of, the last
    /// removal of one of its tags.
    #[test]
    fn nothing_is_served_that_is_older_than_a_removal_of_one_of_its_tags(steps in tag_steps(), log in 1..6usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (_, gate) = gate(LOG).await;
            let gate = gate.with_tag_log(log);
            let mut tokens: [Option<(Token, usize)>; 4] = [None; 4];
            let mut removed = [None::<(usize, Instant)>; 6];
            let mut stored: [Option<(usize, Instant, Vec<u8>)>; 4] = Default::default();
            for (now, step) in steps.into_iter().enumerate() {
                match step {
                    TagStep::Begin(key) => tokens[usize::from(key)] = Some((token(&gate, &format!("user:{key}")), now)),
                    TagStep::Store(key, tags) => {
                        let Some((token, begun)) = tokens[usize::from(key)].take() else { continue };
                        let names: Vec<String> = tags.iter().map(|tag| format!("tag:{tag}")).collect();
                        let names: Vec<&str> = names.iter().map(String::as_str).collect();
                        if store_tagged(&gate, &format!("user:{key}"), &token, &now.to_string(), &names).is_ok() {
                            stored[usize::from(key)] = Some((begun, token.started, tags));
                        }
                    }
                    TagStep::RemoveTag(tag) => {
                        gate.remove_tag(&format!("tag:{tag}"), &[0], &origin());
                        removed[usize::from(tag)] = Some((now, Instant::now()));
                    }
                    TagStep::Read(key) => {
                        let name = format!("user:{key}");
                        if gate.get(place(&name), &name, Instant::now()).is_none() { continue }
                        let (begun, started, tags) = stored[usize::from(key)].as_ref().unwrap();
                        for tag in tags {
                            let Some((at, when)) = removed[usize::from(*tag)] else { continue };
                            assert!(*begun > at && *started >= when + QUARANTINE, "{name} is older than tag:{tag}");
                        }
                    }
                    TagStep::Sweep => gate.sweep().await,
                    TagStep::Wait => advance(Duration::from_millis(60)).await,
                }
            }
        });
    }
}

/// A gate that holds slot 7 since epoch 1, and whose group is plain.
fn plain_gate(reached: bool) -> Gate {
    let slots = Arc::new(Slots::new("a".into()));
    slots.set(SLOT, true); // by epoch 1
    let bounds = Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() };
    let store = Store::new(bounds, &mut Registry::default());
    Gate::new(store, slots, 1, Duration::ZERO, LOG).with_plain([true]).with_reached([reached])
}

/// Takes a pulled value from `source`, at `epoch`, which this node has not confirmed.
fn take_plain(gate: &Gate, key: &str, source: Source, epoch: Epoch) -> Result<Inserted, NotTaken> {
    let unconfirmed = || Standing { live: true, epoch, confirmed: Epoch(0) };
    let offered = Offered { from: source, ..offered(key, "v") };
    gate.store_pulled(&token(gate, key), place(key), offered, epoch, Room::Make, unconfirmed)
}

#[tokio::test(start_paused = true)]
async fn a_plain_value_is_taken_by_who_has_heard_of_every_removal_that_its_source_may_lack() {
    let gate = plain_gate(true);
    let (one, list) = (Epoch(1), Epoch::of_list(7));
    assert_eq!(take_plain(&gate, "a", Source::Holder, one), Ok(Inserted::Stored), "unconfirmed as it is");
    assert_eq!(take_plain(&gate, "b", Source::Lost(one), Epoch(9)), Ok(Inserted::Stored), "there since then");
    assert_eq!(take_plain(&gate, "c", Source::Lost(Epoch(0)), Epoch(9)), Err(NotTaken::Untold), "came later");
    assert_eq!(
        take_plain(&plain_gate(true), "d", Source::Holder, list),
        Err(NotTaken::Untold),
        "lives don't show"
    );
    assert_eq!(
        take_plain(&plain_gate(false), "d", Source::Holder, list),
        Ok(Inserted::Stored),
        "nothing removes it"
    );
    assert_eq!(take_plain(&plain_gate(true), "d", Source::Owner, list), Ok(Inserted::Stored));
}
