use std::hint::black_box;
use std::sync::Arc;

use super::*;

const TTL: Duration = Duration::from_secs(10);

/// Clocks that a test sets.
#[derive(Debug, Default)]
struct SetClocks {
    boot: AtomicU64,
    wall: AtomicU64,
}

impl SetClocks {
    fn set(&self, boot: u64, wall: u64) {
        self.boot.store(boot, Ordering::Relaxed);
        self.wall.store(wall, Ordering::Relaxed);
    }
}

impl Clocks for Arc<SetClocks> {
    fn boot(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    fn wall(&self) -> u64 {
        self.wall.load(Ordering::Relaxed)
    }
}

/// A lease kept alive at 5 s of the monotonic clock, 1000 s of the boot-time clock and 9000 s of the wall clock.
fn kept() -> (Arc<SetClocks>, Alive<Arc<SetClocks>>, Instant) {
    let clocks = Arc::new(SetClocks::default());
    clocks.set(1_000_000, 9_000_000);
    let alive = Alive::by(clocks.clone());
    let sent = Moment {
        monotonic: alive.moment().monotonic + Duration::from_secs(5),
        boot: 1_000_000,
        wall: 9_000_000,
    };
    assert!(!alive.at(sent.monotonic));
    alive.extend(sent, TTL);
    (clocks, alive, sent.monotonic)
}

#[tokio::test(start_paused = true)]
async fn a_lease_counts_from_its_sending_less_a_margin() {
    let (_, alive, sent) = kept();
    assert!(alive.at(sent) && alive.at(sent + Duration::from_millis(8_999)));
    assert!(!alive.at(sent + Duration::from_secs(9)));
    alive.end();
    assert!(!alive.at(sent));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_host_counts_the_time_that_its_monotonic_clock_missed() {
    let (clocks, alive, sent) = kept();
    clocks.set(1_008_999, 9_000_000);
    assert!(alive.at(sent));
    clocks.set(1_009_000, 9_000_000);
    assert!(!alive.at(sent), "nine seconds have passed by the clock that also counts in suspension");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_machine_whose_wall_clock_alone_jumps_doubts_its_lease() {
    let (clocks, alive, sent) = kept();
    clocks.set(1_000_000, 9_008_999);
    assert!(alive.at(sent));
    clocks.set(1_000_000, 9_009_000);
    assert!(!alive.at(sent));
    // The next keep-alive settles it, by the wall clock as it is now.
    alive.extend(Moment { monotonic: sent, boot: 1_000_000, wall: 9_009_000 }, TTL);
    assert!(alive.at(sent));
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_back_lengthens_no_lease() {
    let (clocks, alive, sent) = kept();
    clocks.set(1_000_000, 0);
    assert!(alive.at(sent));
    assert!(!alive.at(sent + Duration::from_secs(9)));
    clocks.set(1_009_000, 0);
    assert!(!alive.at(sent));
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_answered_after_leaving_revives_nothing() {
    let alive = Alive::new();
    let sent = alive.moment();
    alive.extend(sent, TTL);
    assert!(alive.at(sent.monotonic), "by the host's own clocks");
    alive.leave();
    alive.extend(sent, TTL);
    alive.end();
    assert!(!alive.at(sent.monotonic));
}

#[test]
fn the_margin_leaves_something_of_a_short_lease() {
    assert_eq!(margin(TTL), Duration::from_secs(1));
    assert_eq!(margin(Duration::from_secs(2)), Duration::from_millis(500));
    assert_eq!(margin(Duration::from_millis(600)), Duration::from_millis(300));
}

/// `cargo test --release -p freshline-ring cost_of_the_check -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, to be run by hand on a quiet machine"]
fn cost_of_the_check() {
    const ROUNDS: u32 = 50;
    const CALLS: u32 = 100_000;
    let alive = Alive::new();
    alive.extend(alive.moment(), Duration::from_hours(1));
    // The best round counts: what is beside it on the machine only ever adds.
    let each = |what: &str, check: &dyn Fn() -> bool| {
        let round = || {
            let begun = std::time::Instant::now();
            for _ in 0..CALLS {
                assert!(black_box(check()));
            }
            begun.elapsed() / CALLS
        };
        println!("{what}: {:?}", (0..ROUNDS).map(|_| round()).min().unwrap_or_default());
    };
    let now = Instant::now();
    each("by the monotonic clock alone", &|| {
        alive.millis(Instant::now()) < alive.until.load(Ordering::Acquire)
    });
    each("by all three clocks", &|| alive.at(Instant::now()));
    each("by all three clocks, the monotonic one read before", &|| alive.at(now));
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_by_a_lease_ends_before_it_does_by_every_clock() {
    let (clocks, alive, sent) = kept();
    let now = |after: u64| Moment { monotonic: sent + Duration::from_millis(after), ..alive.moment() };
    let second = Duration::from_secs(1);
    assert!(alive.lasts(now(7_900), second) && !alive.lasts(now(8_000), second));
    clocks.set(1_008_000, 9_000_000);
    assert!(!alive.lasts(now(10), second), "suspended");
    clocks.set(1_000_010, 9_008_000);
    assert!(!alive.lasts(now(10), second), "frozen from outside");
    clocks.set(1_000_010, 9_000_010);
    assert!(alive.lasts(now(10), second));
    alive.leave();
    assert!(!alive.lasts(now(10), second));
}
