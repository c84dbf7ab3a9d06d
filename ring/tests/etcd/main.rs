//! Membership against a real etcd, which each test starts for itself. Without an etcd binary the tests say that they are skipped.

mod server;

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, PutOptions};
use ring::etcd::{EtcdMembership, EtcdRegistration, Options};
use ring::{Epoch, Error, Member, MemberState, Membership, Registration, Ring};
use server::{Etcd, Wire};
use tokio::time::{Instant, timeout};

const LEASE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);

fn log() {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "info,ring=debug".to_owned());
    let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter(filter).try_init();
}

fn member(id: &str) -> Member {
    let (grpc, http) = (format!("http://{id}:7400"), format!("http://{id}:7401"));
    Member {
        id: id.into(),
        incarnation: 0,
        grpc,
        http,
        resp: format!("{id}:6379"),
        weight: 1,
        state: MemberState::Joining,
        terms: ring::Terms::default(),
    }
}

fn observe(endpoint: String) -> Arc<EtcdMembership> {
    log();
    EtcdMembership::connect(Options::new(vec![endpoint], "shop", 1)).expect("good options")
}

async fn observer(endpoint: String) -> Arc<EtcdMembership> {
    let observer = observe(endpoint);
    within(observer.ready()).await.expect("etcd is up");
    observer
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LONG, what).await.expect("this takes much less than 30 s")
}

async fn registered(membership: &Arc<EtcdMembership>, id: &str) -> Arc<EtcdRegistration> {
    let registration = membership.register(member(id), LEASE);
    within(registration.registered()).await.expect("the id is free");
    registration
}

/// Waits until `membership`, by its watch alone, sees what `wanted` tells.
async fn sees(membership: &EtcdMembership, wanted: impl Fn(&Ring) -> bool) -> Arc<Ring> {
    within(membership.watch().wait_for(|ring| wanted(ring))).await.expect("the membership is open").clone()
}

fn ids(ring: &Ring) -> Vec<&str> {
    ring.members().iter().map(|member| member.id.as_str()).collect()
}

async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await; // a deadline that passes tells nobody
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_observers_see_nodes_join_become_active_and_leave_at_the_same_epochs() {
    let Some(etcd) = Etcd::start().await else { return };
    let (one, two) = (observer(etcd.endpoint()).await, observer(etcd.endpoint()).await);
    let (a, b) = (registered(&one, "a").await, registered(&two, "b").await);
    assert!(a.live(Instant::now()) && a.incarnation() > 0 && b.incarnation() > a.incarnation());
    a.set_state(MemberState::Active).await.unwrap();
    let epoch = b.set_state(MemberState::Active).await.unwrap();

    let ring = sees(&one, |ring| ring.epoch() >= epoch).await;
    let other = sees(&two, |ring| ring.epoch() >= epoch).await;
    assert_eq!((ring.epoch(), other.epoch()), (epoch, epoch));
    assert!(ring.same_members(&other));
    assert_eq!(ring.member(&"a".into()).unwrap().incarnation, a.incarnation());
    assert_eq!(ring.owned_by(&"a".into()) + ring.owned_by(&"b".into()), 16384);

    b.leave().await.unwrap();
    assert!(!b.live(Instant::now()));
    assert_eq!(ids(&one.read().await.unwrap()), ["a"]);
    sees(&two, |ring| ids(ring) == ["a"]).await;
    assert!(matches!(b.set_state(MemberState::Active).await, Err(Error::NotRegistered { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_has_every_change_that_was_complete_before_it() {
    let Some(etcd) = Etcd::start().await else { return };
    let (one, two) = (observer(etcd.endpoint()).await, observer(etcd.endpoint()).await);
    let node = registered(&one, "a").await;
    for turn in 0..200 {
        let state = if turn % 2 == 0 { MemberState::Active } else { MemberState::Joining };
        let epoch = node.set_state(state).await.unwrap();
        let ring = two.read().await.unwrap();
        assert_eq!(ring.member(&"a".into()).unwrap().state, state);
        assert!(ring.epoch() >= epoch && one.catch_up(epoch).await.unwrap().epoch() >= epoch);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_without_a_change_raises_no_epoch_until_someone_asks_for_it() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let _node = registered(&observer, "a").await;
    let before = observer.read().await.unwrap().epoch();
    let other_key = etcd.client().await.put("/somebody/else", "1", None).await.unwrap();
    let revision = Epoch(other_key.header().unwrap().revision().unsigned_abs());
    assert!(revision > before);
    assert_eq!(observer.read().await.unwrap().epoch(), before);
    assert_eq!(observer.catch_up(revision).await.unwrap().epoch(), revision);
    assert!(matches!(observer.catch_up(Epoch(revision.0 + 9)).await, Err(Error::Ahead { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_was_compacted_can_still_be_reached() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let _node = registered(&observer, "a").await;
    let mut client = etcd.client().await;
    let mut put =
        async || client.put("/somebody/else", "1", None).await.unwrap().header().unwrap().revision();
    let (wanted, last) = (put().await.unsigned_abs(), put().await);
    client.compact(last, None).await.unwrap();
    let ring = observer.catch_up(Epoch(wanted)).await.unwrap();
    assert!(ring.epoch() >= Epoch(wanted) && ids(&ring) == ["a"]);
}

/// Ends the lease of a node's key behind its back.
async fn revoke(client: &mut Client, id: &str) {
    let found = client.get(format!("/freshline/shop/members/{id}"), None).await.unwrap();
    client.lease_revoke(found.kvs()[0].lease()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_comes_back_as_a_new_joining_incarnation() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let node = registered(&observer, "a").await;
    node.set_state(MemberState::Active).await.unwrap();
    let (first, mut incarnations) = (node.incarnation(), node.incarnations());
    revoke(&mut etcd.client().await, "a").await;
    let second = *within(incarnations.wait_for(|now| *now > first)).await.unwrap();
    until(|| node.live_as(second, Instant::now())).await;
    assert!(!node.live_as(first, Instant::now()));
    let ring =
        sees(&observer, |ring| ring.member(&"a".into()).is_some_and(|a| a.incarnation == second)).await;
    assert_eq!(ring.member(&"a".into()).unwrap().state, MemberState::Joining);
    assert!(node.set_state(MemberState::Active).await.unwrap() > Epoch(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_node_is_gone_when_its_lease_ends_and_can_then_come_back() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let first = registered(&observer, "a").await;
    let old = first.incarnation();
    drop(first);
    let crashed = Instant::now();
    // The old lease still stands: the new run waits for its end instead of taking the key over.
    let second = registered(&observer, "a").await;
    assert!(crashed.elapsed() > LEASE / 3, "took over a key whose lease had not ended");
    assert!(second.incarnation() > old && second.live(Instant::now()));
    assert_eq!(observer.read().await.unwrap().member(&"a".into()).unwrap().incarnation, second.incarnation());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_with_one_id_only_one_is_registered() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let (one, two) = (observer.register(member("a"), LEASE), observer.register(member("a"), LEASE));
    let (winner, loser) = tokio::select! {
        _ = within(one.registered()) => (one, two),
        _ = within(two.registered()) => (two, one),
    };
    // Longer than the lease, so the winner's keep-alives count.
    assert!(timeout(LEASE * 2, loser.registered()).await.is_err());
    assert!(winner.live(Instant::now()) && !loser.live(Instant::now()) && loser.incarnation() == 0);
    winner.leave().await.unwrap();
    assert!(within(loser.registered()).await.unwrap() > winner.incarnation());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cut_off_is_fenced_before_anyone_sees_its_lease_end() {
    let Some(etcd) = Etcd::start().await else { return };
    let wire = Wire::to(&etcd).await;
    let (near, far) = (observer(wire.endpoint()).await, observer(etcd.endpoint()).await);
    let node = registered(&near, "a").await;
    let first = node.incarnation();
    wire.cut();
    until(|| !node.live(Instant::now())).await;
    assert_eq!(ids(&far.read().await.unwrap()), ["a"], "fenced while it was still a member");
    sees(&far, |ring| ring.members().is_empty()).await;
    assert!(!node.live(Instant::now()));
    assert!(matches!(
        within(node.set_state(MemberState::Active)).await,
        Err(Error::Unavailable { .. } | Error::NotRegistered { .. })
    ));

    wire.mend();
    within(node.incarnations().wait_for(|now| *now > first)).await.unwrap();
    until(|| node.live(Instant::now())).await;
    // The view goes on as well: it missed the end of the first incarnation and the beginning of the second.
    let ring = sees(&near, |ring| ring.member(&"a".into()).is_some_and(|a| a.incarnation > first)).await;
    assert!(ring.same_members(&far.read().await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_keeps_the_incarnation_and_the_epochs() {
    let Some(etcd) = Etcd::start().await else { return };
    let wire = Wire::to(&etcd).await;
    let (near, far) = (observer(wire.endpoint()).await, observer(etcd.endpoint()).await);
    let node = near.register(member("a"), Duration::from_secs(20));
    let first = within(node.registered()).await.unwrap();
    wire.cut();
    let b = registered(&far, "b").await;
    let epoch = b.set_state(MemberState::Active).await.unwrap();
    wire.mend();
    let ring = sees(&near, |ring| ring.epoch() >= epoch).await;
    assert_eq!((ring.epoch(), ids(&ring)), (epoch, vec!["a", "b"]));
    assert!(node.live_as(first, Instant::now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_watch_reads_all_members_again() {
    let Some(etcd) = Etcd::start().await else { return };
    let wire = Wire::to(&etcd).await;
    let (near, far) = (observer(wire.endpoint()).await, observer(etcd.endpoint()).await);
    let (a, b) = (registered(&far, "a").await, registered(&far, "b").await);
    sees(&near, |ring| ids(ring) == ["a", "b"]).await;
    wire.cut();
    let epoch = a.set_state(MemberState::Active).await.unwrap();
    b.leave().await.unwrap();
    let mut client = etcd.client().await;
    let revision = client.put("/somebody/else", "1", None).await.unwrap().header().unwrap().revision();
    client.compact(revision, None).await.unwrap();
    wire.mend();
    let ring = sees(&near, |ring| ring.epoch() > epoch).await;
    assert_eq!(ids(&ring), ["a"]);
    assert_eq!(ring.member(&"a".into()).unwrap().state, MemberState::Active);
    // And the watch goes on after it.
    let epoch = a.set_state(MemberState::Leaving).await.unwrap();
    sees(&near, |ring| ring.epoch() == epoch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_etcd_fences_the_node_and_bounds_reads_until_it_thaws() {
    let Some(etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let node = registered(&observer, "a").await;
    etcd.freeze();
    let frozen = Instant::now();
    let (read, ()) = tokio::join!(within(observer.read()), until(|| !node.live(Instant::now())));
    assert!(frozen.elapsed() < Duration::from_secs(8));
    assert!(matches!(read, Err(Error::Unavailable { .. })));
    assert_eq!(ids(&observer.ring()), ["a"], "the last view stays");
    etcd.thaw();
    until(|| node.live(Instant::now())).await;
    let incarnation = node.incarnation();
    sees(&observer, |ring| ring.member(&"a".into()).is_some_and(|a| a.incarnation == incarnation)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_on_after_etcd_restarts() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let node = registered(&observer, "a").await;
    etcd.kill();
    until(|| !node.live(Instant::now())).await;
    etcd.start_again().await;
    until(|| node.live(Instant::now())).await;
    let epoch = within(async {
        loop {
            // The new incarnation may begin between the two lines above.
            if let Ok(epoch) = node.set_state(MemberState::Active).await {
                return epoch;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    sees(&observer, |ring| ring.epoch() >= epoch && ring.owned_by(&"a".into()) == 16384).await;
    assert_eq!(ids(&observer.read().await.unwrap()), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_may_be_down_at_the_start() {
    let Some(mut etcd) = Etcd::start().await else { return };
    etcd.kill();
    let observer = observe(etcd.endpoint());
    let node = observer.register(member("a"), LEASE);
    let error = within(observer.read()).await.unwrap_err().to_string();
    assert!(error.contains(&etcd.endpoint()), "{error}");
    assert!(observer.ring().members().is_empty() && !node.live(Instant::now()));
    etcd.start_again().await;
    within(observer.ready()).await.unwrap();
    within(node.registered()).await.unwrap();
    sees(&observer, |ring| ids(ring) == ["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_lost_its_history_is_noticed() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let observer = observer(etcd.endpoint()).await;
    let node = registered(&observer, "a").await;
    node.leave().await.unwrap();
    let known = sees(&observer, |ring| ring.members().is_empty()).await.epoch();
    etcd.kill();
    etcd.wipe();
    etcd.start_again().await;
    let error = within(async {
        loop {
            match observer.read().await {
                Err(error @ Error::WentBack { .. }) => return error,
                Err(Error::Unavailable { .. }) => {}
                other => panic!("read {other:?} at {known}"),
            }
        }
    })
    .await;
    assert!(error.to_string().contains("restart"), "{error}");
    let mut told = 0;
    let broken = ring::until_broken(&*observer, Duration::from_millis(500), |broken| {
        told += usize::from(broken.is_some());
    });
    assert!(matches!(within(broken).await, Error::WentBack { .. }));
    assert!(told > 0, "and said before it is acted upon");

    // What the recovery itself writes brings the revision past what was known.
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let revision = async |client: &mut Client| {
        client.put("/other", "x", None).await.unwrap().header().unwrap().revision()
    };
    while u64::try_from(revision(&mut client).await).unwrap() <= known.0 {}
    assert!(matches!(observer.read().await, Err(Error::WentBack { .. })));
    assert!(observer.broken().is_some(), "its history is another one all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_members_are_skipped() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut client = etcd.client().await;
    client.put("/freshline/shop/members/garbage", "{", None).await.unwrap();
    client.put("/freshline/shop/members/", "{}", None).await.unwrap();
    client.put("/freshline/shopping/members/x", "{}", None).await.unwrap();
    let observer = observer(etcd.endpoint()).await;
    assert!(observer.ring().members().is_empty());
    let _node = registered(&observer, "a").await;
    sees(&observer, |ring| ids(ring) == ["a"]).await;
    client
        .put("/freshline/shop/members/b", r#"{"grpc":"http://b:1","http":"","state":"active"}"#, None)
        .await
        .unwrap();
    sees(&observer, |ring| ids(ring) == ["a", "b"]).await;
    client.delete("/freshline/shop/members/b", None).await.unwrap();
    sees(&observer, |ring| ids(ring) == ["a"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_password_are_used_where_etcd_asks_for_them() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut client = etcd.client().await;
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let without = observe(etcd.endpoint());
    let error = within(without.read()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unavailable { reason, .. } if reason.contains("user name is empty")),
        "{error}"
    );
    let user = Some(("root".to_owned(), "secret".to_owned()));
    let with =
        EtcdMembership::connect(Options { user, ..Options::new(vec![etcd.endpoint()], "shop", 1) }).unwrap();
    within(with.ready()).await.unwrap();
    registered(&with, "a").await.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_lease_blocks_its_id_until_it_is_deleted() {
    let Some(etcd) = Etcd::start().await else { return };
    let mut client = etcd.client().await;
    client.put("/freshline/shop/members/a", "left over", Some(PutOptions::new())).await.unwrap();
    let observer = observer(etcd.endpoint()).await;
    let node = observer.register(member("a"), LEASE);
    assert!(timeout(Duration::from_secs(1), node.registered()).await.is_err());
    client.delete("/freshline/shop/members/a", None).await.unwrap();
    within(node.registered()).await.unwrap();
}

/// *A request keeps all threads of a node busy for longer than its lease lasts, and its memory is lost.*
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lease_is_kept_while_every_thread_of_the_runtime_is_busy() {
    let Some(etcd) = Etcd::start().await else { return };
    let membership = observer(etcd.endpoint()).await;
    let registration = registered(&membership, "a").await;
    let incarnation = registration.incarnation();
    // The worker and the test's own thread.
    let busy = tokio::spawn(async { std::thread::sleep(LEASE * 3) });
    let begun = std::time::Instant::now();
    while begun.elapsed() < LEASE * 5 / 2 {
        std::thread::sleep(Duration::from_millis(50));
        assert!(registration.live(Instant::now()), "after {:?}", begun.elapsed());
    }
    busy.await.unwrap();
    assert_eq!(registration.incarnation(), incarnation);
}

/// *All threads of a node hang for ever; its lease is kept by a thread of its own, and every commit waits for the node.*
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_not_kept_for_a_runtime_that_does_nothing() {
    let Some(etcd) = Etcd::start().await else { return };
    let others = observer(etcd.endpoint()).await;
    let endpoint = etcd.endpoint();
    let (release, hung) = std::sync::mpsc::channel::<()>();
    let node = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = Options { hung_after: LEASE, ..Options::new(vec![endpoint], "shop", 1) };
        let membership = EtcdMembership::connect(options).unwrap();
        let registration = runtime.block_on(registered(&membership, "a"));
        let incarnation = registration.incarnation();
        hung.recv().unwrap(); // nothing of it runs meanwhile
        assert!(!registration.live(Instant::now()));
        // It comes back as any node whose lease has ended.
        runtime.block_on(within(registration.incarnations().wait_for(|now| *now > incarnation))).unwrap();
    });
    sees(&others, |ring| ring.member(&"a".into()).is_some()).await;
    sees(&others, |ring| ring.member(&"a".into()).is_none()).await;
    release.send(()).unwrap();
    tokio::task::spawn_blocking(|| node.join().unwrap()).await.unwrap();
}
