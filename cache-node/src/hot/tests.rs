use super::*;

const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id FROM shop.users WHERE id = {id}"
refresh_ahead = 0.5

[[group]]
name  = "product"
key   = "product:{id:u64}"
query = "SELECT id FROM shop.products WHERE id = {id}"
"#;

fn hot(config: &Config) -> (Hot, Catalog) {
    let catalog = Catalog::parse("test.toml", CATALOG).unwrap();
    (Hot::new(config, &catalog, &mut Registry::default()), catalog)
}

fn read(hot: &Hot, catalog: &Catalog, key: &str, times: u32, read: Read) {
    let key = catalog.resolve(key).unwrap();
    for _ in 0..times {
        hot.read(crate::node::place(&key), &key, read);
    }
}

fn hash(key: &str) -> u64 {
    memory::place::hash(key)
}

#[tokio::test(start_paused = true)]
async fn a_key_is_hot_once_it_is_read_often_enough_and_no_more_when_it_is_not() {
    let config = Config { hot_rate: 100.0, hot_sample: 1, hot_keys: 2, ..Config::default() };
    let (hot, catalog) = hot(&config);
    for _ in 0..20 {
        read(&hot, &catalog, "user:1", 200, Read::Forwarded);
        read(&hot, &catalog, "user:2", 20, Read::Answered);
        tokio::time::advance(TICK).await;
        hot.tick();
    }
    assert!(hot.is_hot(hash("user:1")), "also one that is only passed on");
    assert!(!hot.is_hot(hash("user:2")));
    let (counters, answered) = hot.sketch.counters();
    assert_eq!(&*counters[0].key, "user:1");
    let (first, all) = (hot.rate(f64::from(counters[0].count())), hot.rate(answered));
    assert!((first - 200.0).abs() < 40.0 && (all - 20.0).abs() < 5.0, "{first} and {all} a second");
    for key in ["user:3", "user:4"] {
        read(&hot, &catalog, key, 5000, Read::Answered);
    }
    assert!(hot.is_hot(hash("user:3")) && !hot.is_hot(hash("user:4")), "two at most");
    for _ in 0..30 {
        hot.tick();
    }
    assert!(!hot.is_hot(hash("user:1")) && !hot.is_hot(hash("user:3")));
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_is_due_in_the_last_share_of_its_time_as_its_group_says() {
    let config = Config { hot_rate: 0.0, hot_sample: 1, ..Config::default() };
    let (hot, catalog) = hot(&config);
    let now = Instant::now();
    let place = |key: &str| crate::node::place(&catalog.resolve(key).unwrap());
    let entry = |key: &str| {
        let place = place(key);
        let stamp =
            memory::store::Stamp { group: place.group, slot: place.slot, generation: 1, acquisition: 1 };
        let value = Some(bytes::Bytes::from_static(b"{}"));
        Entry { value, stamp, filled: now, expires: now + Duration::from_secs(10), tags: None }
    };
    let due = |key: &str, after: u64| hot.is_due(place(key), &entry(key), now + Duration::from_secs(after));
    assert!(!due("user:1", 6), "not hot");
    read(&hot, &catalog, "user:1", 1, Read::Answered);
    read(&hot, &catalog, "product:1", 1, Read::Answered);
    assert!(due("user:1", 6) && !due("user:1", 4));
    assert!(!due("product:1", 9), "the node's is off by default");
    let nothing = Entry { value: None, ..entry("user:1") };
    assert!(!hot.is_due(place("user:1"), &nothing, now + Duration::from_secs(9)));
}
