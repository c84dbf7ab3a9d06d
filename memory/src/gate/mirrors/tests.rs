use prometheus_client::registry::Registry;
use tokio::time::advance;

use super::*;
use crate::{
    gate::hash,
    slots::Slots,
    store::{Bounds, Eviction, Store},
};

const LEASE: Duration = Duration::from_secs(1);
const KEY: &str = "user:1";

fn gate() -> Gate {
    let bounds = Bounds { memory: 1 << 20, negative_share: 0.1, eviction: Eviction::default() };
    let store = Store::new(bounds, &mut Registry::default());
    Gate::new(store, Arc::new(Slots::new("b".into())), 1, Duration::from_millis(100), 8)
}

fn place() -> Place {
    Place { hash: hash(KEY), group: 0, slot: 7 }
}

fn now() -> Moment {
    Moment::monotonic(Instant::now())
}

fn mirror(value: usize) -> Mirror {
    let value = Some(Bytes::from(vec![b'x'; value]));
    let (filled, expires) = (Instant::now(), Instant::now() + Duration::from_mins(1));
    Mirror { value, filled, expires, owner: ("a".into(), 1), asked: now(), lease: LEASE, life: 1 }
}

fn keep(gate: &Gate, token: &Token) -> Result<(), NotMirrored> {
    gate.store_mirror(token, place(), &KEY.into(), mirror(10), || true)
}

fn serves(gate: &Gate) -> bool {
    gate.mirror(place(), KEY, now()).is_some()
}

#[tokio::test(start_paused = true)]
async fn a_mirror_is_served_until_its_lease_is_over_and_no_longer_than_its_value_lives() {
    let gate = gate();
    keep(&gate, &gate.mirror_token(place())).unwrap();
    assert!(serves(&gate) && !gate.mirror(place(), KEY, now()).unwrap().ends_soon);
    advance(LEASE * 3 / 4).await;
    assert!(gate.mirror(place(), KEY, now()).unwrap().ends_soon);
    advance(LEASE / 4).await;
    assert!(!serves(&gate));
    gate.tidy_mirrors(now());
    assert_eq!(gate.mirror_count(), 0);
    let expired = Mirror { expires: Instant::now(), ..mirror(10) };
    gate.store_mirror(&gate.mirror_token(place()), place(), &KEY.into(), expired, || true).unwrap();
    assert!(!serves(&gate));
}

#[tokio::test(start_paused = true)]
async fn a_removal_takes_a_mirror_out_and_keeps_one_out_that_was_asked_for_before_it() {
    let gate = gate();
    let token = gate.mirror_token(place());
    keep(&gate, &token).unwrap();
    gate.remove(KEY, &"shop/0@1".into());
    assert!(!serves(&gate) && gate.mirror_count() == 0);
    assert_eq!(keep(&gate, &token), Err(NotMirrored::Overtaken(Refused::Removed)));
    keep(&gate, &gate.mirror_token(place())).unwrap(); // asked for after it: the owner had applied it
    let token = gate.mirror_token(place());
    gate.flush(0);
    assert!(!serves(&gate));
    assert_eq!(keep(&gate, &token), Err(NotMirrored::Overtaken(Refused::Flushed)));
    let token = gate.mirror_token(place());
    let fenced = gate.store_mirror(&token, place(), &KEY.into(), mirror(10), || false);
    assert_eq!(fenced, Err(NotMirrored::Overtaken(Refused::Fenced)));
    for n in 0..64 * 40 {
        gate.remove(&format!("other:{n}"), &"shop/0@1".into());
    }
    assert_eq!(keep(&gate, &token), Err(NotMirrored::Overtaken(Refused::LogOverrun)));
}

#[tokio::test(start_paused = true)]
async fn mirrors_are_in_no_store_and_take_no_more_room_than_their_share() {
    let gate = gate();
    keep(&gate, &gate.mirror_token(place())).unwrap();
    assert!(
        gate.given(place(), KEY, Instant::now()).is_none()
            && gate.peek(place(), KEY, Instant::now()).is_none()
    );
    let large =
        gate.store_mirror(&gate.mirror_token(place()), place(), &KEY.into(), mirror(1 << 15), || true);
    assert_eq!(large, Err(NotMirrored::NoRoom));
    assert!(serves(&gate), "the one before is as good as it was");
    for n in 0..1000 {
        let key: Arc<str> = format!("user:{n}").into();
        let place = Place { hash: hash(&key), ..place() };
        let _ = gate.store_mirror(&gate.mirror_token(place), place, &key, mirror(200), || true);
    }
    assert!(gate.mirrors.bytes.load(Relaxed) <= 1 << 14 && gate.mirror_count() > 10);
    gate.clear_mirrors();
    assert_eq!((gate.mirrors.bytes.load(Relaxed), gate.mirror_count()), (0, 0));
}
