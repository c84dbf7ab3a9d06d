use std::time::Duration;

use bytes::Bytes;
use wire::Outcome;

use super::*;
use crate::config::Config;

fn replies(most: u64, memory: u64) -> Arc<Replies> {
    let config = Config {
        max_reply: daemon::config::ByteSize(most),
        reply_memory: daemon::config::ByteSize(memory),
        ..Config::default()
    };
    Replies::register(&config, &mut Registry::default())
}

fn answer(bytes: usize) -> Answer {
    Answer {
        value: Some(Bytes::from(vec![0; bytes])),
        outcome: Outcome::Hit,
        age: Duration::ZERO,
        ttl: None,
        node: "a".into(),
        epoch: 1,
        freshness: Duration::ZERO,
        token: None,
    }
}

fn shape(results: &[Result<Answer, Error>]) -> String {
    let letter = |result: &Result<Answer, Error>| match result {
        Ok(_) => 'v',
        Err(Error::LeftOut { .. }) => 'l',
        Err(Error::ReplyMemory { .. }) => 'm',
        Err(_) => 'e',
    };
    results.iter().map(letter).collect()
}

#[test]
fn the_first_value_always_has_its_place_and_the_rest_as_far_as_there_is_room() {
    let replies = replies(10_000, 1 << 20);
    let mut filling = Filling::new(&replies, 3, replies.most(0));
    for index in 0..3 {
        filling.put(index, Ok(answer(20_000)));
    }
    let (results, reserved) = filling.end();
    assert_eq!(shape(&results), "vll");
    assert_eq!(replies.all.used(), 20_000 + BESIDE);
    drop(reserved);
    assert_eq!(replies.all.used(), 0);

    let mut filling = Filling::new(&replies, 4, replies.most(0));
    for (index, bytes) in [4_000, 7_000, 4_000, 4_000].into_iter().enumerate() {
        filling.put(index, Ok(answer(bytes)));
    }
    assert_eq!(shape(&filling.end().0), "vlvl");
}

#[test]
fn a_caller_may_take_less_than_the_node_gives_and_never_more() {
    let replies = replies(10_000, 1 << 20);
    assert_eq!([0, 5, 20_000].map(|asked| replies.most(asked)), [10_000, 5, 10_000]);
}

#[test]
fn what_others_take_refuses_a_request_that_has_nothing_and_cuts_one_that_has() {
    let replies = replies(10_000, 12_000);
    let others = replies.reserve(5_000).unwrap();
    let mut filling = Filling::new(&replies, 2, replies.most(0));
    filling.put(0, Ok(answer(6_000)));
    filling.put(1, Ok(answer(3_000)));
    assert_eq!(shape(&filling.end().0), "vl");
    let more = replies.reserve(6_500).unwrap();
    let mut filling = Filling::new(&replies, 2, replies.most(0));
    filling.put(0, Ok(answer(3_000)));
    filling.put(1, Ok(answer(100)));
    assert_eq!(shape(&filling.end().0), "ml", "nothing more is looked for");
    assert!(matches!(replies.reserve(501), Err(Error::ReplyMemory { limit: 12_000 })));
    drop((others, more));
    assert!(replies.reserve(12_000).is_ok());
}

#[test]
fn keys_are_waited_for_in_waves_that_grow_with_small_values() {
    let replies = replies(1 << 20, 4 << 20);
    let mut filling = Filling::new(&replies, 10_000, replies.most(0));
    assert_eq!(filling.wave(10_000), 64);
    filling.put(0, Ok(answer(872)));
    assert_eq!(filling.wave(10_000), ((1 << 20) - 1000) / 1000);
    filling.put(1, Ok(answer(600_000)));
    assert_eq!(filling.wave(10_000), 1);

    // *A database that is away: 10 000 keys, 64 at a time, each time as long as a deadline.*
    let mut filling = Filling::new(&replies, 10_000, replies.most(0));
    for index in 0..64 {
        filling.put(index, Err(Error::Abandoned));
    }
    assert_eq!(filling.wave(9_936), 9_936);
}
