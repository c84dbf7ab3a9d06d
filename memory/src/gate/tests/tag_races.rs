//! Where a removal of a tag can slip past: each test stands for a moment that a reader of the code would take for impossible.

use std::thread;

use futures_util::FutureExt as _;

use super::*;

/// Has a value of these tags in memory.
fn have(gate: &Gate, key: &str, tags: &[&str]) {
    let token = token(gate, key);
    assert_eq!(store_tagged(gate, key, &token, "old", tags), Ok(Inserted::Stored));
}

/// A removal of a tag takes no lock of a key, nor does a flush or a lost slot, so it can come between the check of a fill or a pull and its
/// insert. `put` is what follows the check of either.
#[tokio::test(start_paused = true)]
async fn an_entry_that_its_end_meets_between_check_and_insert_is_never_served() {
    for (how, end) in ENDS {
        let (slots, gate) = gate(LOG).await;
        let token = token(&gate, "user:1");
        let filled = filled("user:1", "old", &["product:1"]);
        end(&slots, &gate);
        let inserted = gate.put(&token, place("user:1"), token.started, filled, None);
        assert_eq!(inserted, Inserted::Stored, "{how}");
        assert_eq!(read(&gate, "user:1"), None, "{how}");
        assert!(gate.given(place("user:1"), "user:1", Instant::now()).is_none(), "{how}");
        assert!(gate.get(place("user:1"), "user:1", Instant::now()).is_none(), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tag_ended_is_not_stale_but_gone() {
    let (_, gate) = gate(LOG).await;
    let gate = gate.with_graces([Duration::from_mins(5)]);
    for (key, tag) in [("user:1", "product:1"), ("user:2", "product:2")] {
        have(&gate, key, &[tag]);
    }
    let stale = |key: &str| gate.stale(place(key), key, Instant::now()).is_some();
    gate.remove_tag("product:1", &[0], &origin());
    assert!(!stale("user:1"), "in its time");
    advance(Duration::from_mins(11)).await;
    assert!(!stale("user:1") && stale("user:2"), "in its grace");
}

/// A page is asked for under one snapshot, and its values are stored one by one, long after.
#[tokio::test(start_paused = true)]
async fn a_page_brings_in_nothing_whose_tag_was_removed_since_it_was_asked_for() {
    let (_, gate) = gate(LOG).await;
    let snapshot = gate.snapshot();
    gate.remove_tag("product:1", &[0], &origin());
    for (tag, expected) in
        [("product:1", Err(NotTaken::Overtaken(Refused::TagRemoved))), ("product:2", Ok(Inserted::Stored))]
    {
        let token = gate.token_of(&snapshot, place("user:1")).unwrap();
        let offered = Offered { tags: Some(hashes(&[tag])), ..offered("user:1", "value") };
        let outcome = gate.store_pulled(&token, place("user:1"), offered, Epoch(5), Room::Spare, settled);
        assert_eq!(outcome, expected, "{tag}");
    }
    gate.remove_tag("product:2", &[0], &origin());
    assert_eq!(read(&gate, "user:1"), None, "and what it brought in can be found");
}

#[tokio::test(start_paused = true)]
async fn no_page_shows_or_gives_away_what_a_tag_ended() {
    let (slots, gate) = gate(LOG).await;
    for (key, tag) in [("user:1", "product:1"), ("user:2", "product:2")] {
        have(&gate, key, &[tag]);
    }
    gate.remove_tag("product:1", &[0], &origin());
    let mut shown = Vec::new();
    gate.page(Cursor::START, 100, Instant::now(), |key, _| {
        shown.push(key.to_string());
        true
    });
    assert_eq!(shown, ["user:2"]);
    slots.depart(SLOT);
    let mut given = Vec::new();
    gate.given_page(
        Cursor::START,
        100,
        Instant::now(),
        |_| true,
        |key, _| {
            given.push(key.to_string());
            true
        },
    );
    assert_eq!(given, ["user:2"]);
}

/// A sweep that found nothing to end in an entry says nothing of removals that came after its look.
#[tokio::test(start_paused = true)]
async fn a_sweep_answers_for_no_removal_of_a_tag_that_came_after_its_look() {
    let prepared = async || {
        let (_, gate) = gate(LOG).await;
        let gate = gate.with_tag_log(1);
        have(&gate, "user:1", &["product:1"]);
        gate.remove_tag("product:2", &[0], &origin()); // so that there is something to look for
        gate
    };
    let gate = prepared().await;
    let mut sweep = Box::pin(gate.sweep());
    let mut pauses = 0;
    while (&mut sweep).now_or_never().is_none() {
        pauses += 1;
    }
    assert!(read(&gate, "user:1").is_some());

    let gate = prepared().await;
    let mut sweep = Box::pin(gate.sweep());
    for _ in 0..pauses {
        assert!((&mut sweep).now_or_never().is_none());
    }
    gate.remove_tag("product:1", &[0], &origin()); // all is looked at, and it is not over yet
    sweep.await;
    gate.remove_tag("product:3", &[0], &origin()); // the one before is forgotten
    assert_eq!(read(&gate, "user:1"), None);
}

/// A fill has passed its check and is about to store when a tag is removed and a sweep begins: the sweep must not have gone by before.
#[tokio::test(start_paused = true)]
async fn a_sweep_sees_an_entry_that_was_on_its_way_when_it_began() {
    let (_, gate) = gate(LOG).await;
    let gate = gate.with_tag_log(1);
    let token = token(&gate, "user:1");
    let checked = gate.shard(hash("user:1")).lock(); // as `store_filled` holds it
    gate.remove_tag("product:1", &[0], &origin());
    thread::scope(|scope| {
        let sweep = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(gate.sweep());
        });
        // One that does not wait is over long before.
        let patience = std::time::Instant::now() + Duration::from_millis(200);
        while !sweep.is_finished() && std::time::Instant::now() < patience {
            thread::yield_now();
        }
        let filled = filled("user:1", "old", &["product:1"]);
        assert_eq!(gate.put(&token, place("user:1"), token.started, filled, None), Inserted::Stored);
        drop(checked);
    });
    gate.remove_tag("product:2", &[0], &origin()); // the one before is forgotten
    assert_eq!(read(&gate, "user:1"), None);
}
