//! What stands in for MySQL and Canal: rows with versions, reads that take their time, and a log that may be ahead of what readers see.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use catalog::{Catalog, Group, Key};
use loader::{Error, Loaded, RowSource};
use parking_lot::Mutex;
use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};
use tokio::time::sleep;

use crate::{
    clock::{self, Millis, Party},
    kafka::Kafka,
    network::Network,
    plain, trace,
    truth::{Change, Truth},
};

/// How many products there are.
pub(crate) const PRODUCTS: u64 = 2;

/// Rows by their key, lists of rows by their owner, and lists that another table's rows are in, which only a tag tells.
pub(crate) const CATALOG: &str = r#"
[[group]]
name  = "user"
key   = "user:{id:u64}"
query = "SELECT id, v FROM shop.users WHERE id = {id}"
ttl   = "10m"
negative_ttl = "30s"

[[group]]
name  = "orders"
key   = "orders:{user_id:u64}"
query = "SELECT id, v FROM shop.orders WHERE user_id = {user_id}"
rows  = "many"
ttl   = "10m"

[[group]]
name  = "baskets"
key   = "baskets:{user_id:u64}"
query = "SELECT id, product_id, v FROM shop.baskets WHERE user_id = {user_id}"
rows  = "many"
ttl   = "10m"
tags  = ["product:{product_id:u64}"]

[[rule]]
table = "shop.products"
tags  = ["product:{id}"]
"#;

/// The catalog of a simulation, with plain groups or without.
pub(crate) fn catalog(with_plain: bool) -> Arc<Catalog> {
    let plain = if with_plain { plain::CATALOG } else { "" };
    Arc::new(Catalog::parse("simulation.toml", &format!("{CATALOG}{plain}")).expect("the catalog is right"))
}

/// How fast the database answers at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// The share of reads that are slow.
    pub(crate) slow: f64,
    /// The most that a slow read takes, before or after it has seen its rows.
    pub(crate) most: Millis,
}

/// A node's way to the database.
pub(crate) struct Rows {
    pub(crate) party: Party,
    pub(crate) network: Arc<Network>,
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) pace: Arc<Mutex<Pace>>,
    pub(crate) rng: Mutex<SmallRng>,
}

#[async_trait]
impl RowSource for Rows {
    async fn load(&self, group: &Arc<Group>, keys: &[Key]) -> Result<Vec<Loaded>, Error> {
        let begun = clock::now();
        let (before, after) = {
            let (pace, mut rng) = (*self.pace.lock(), self.rng.lock());
            let slow = |rng: &mut SmallRng| {
                if rng.random_bool(pace.slow) { rng.random_range(1..=pace.most) } else { 0 }
            };
            (slow(&mut rng), slow(&mut rng))
        };
        sleep(Duration::from_millis(before)).await;
        let (truth, names): (_, Vec<String>) =
            (self.truth.clone(), keys.iter().map(|key| key.text.to_string()).collect());
        let rows = self
            .network
            .ask(self.party, Party::Database, move || {
                let mut truth = truth.lock();
                names.iter().map(|key| truth.read(key, begun)).collect::<Vec<_>>()
            })
            .await;
        sleep(Duration::from_millis(after)).await;
        let many = &*group.name != "user";
        let loaded = |(version, product): (Option<u32>, Option<u64>)| {
            let tags = product.map(|product| format!("product:{product}").into()).into_iter().collect();
            Loaded { value: render(many, version), tags: Ok(tags) }
        };
        Ok(rows.into_iter().map(loaded).collect())
    }
}

fn render(many: bool, version: Option<u32>) -> Option<Bytes> {
    match (many, version) {
        (false, None) => None,
        (false, Some(version)) => Some(format!("{{\"v\":{version}}}").into()),
        (true, None) => Some("[]".into()),
        (true, Some(version)) => Some(format!("[{{\"v\":{version}}}]").into()),
    }
}

/// Changes rows, and writes the log of it.
pub(crate) struct Writer {
    pub(crate) truth: Arc<Mutex<Truth>>,
    pub(crate) kafka: Arc<Mutex<Kafka>>,
    pub(crate) rng: SmallRng,
    /// The most that the log is ahead of readers; less than the nodes' quarantine.
    pub(crate) gap: Millis,
    /// The pauses between changes.
    pub(crate) every: (Millis, Millis),
    pub(crate) next: Millis,
    pub(crate) versions: u32,
    pub(crate) changes: u64,
    /// The key that was changed last.
    pub(crate) last: Option<String>,
}

impl Writer {
    /// Makes the change that is due, if one is.
    pub(crate) fn step(&mut self) {
        if clock::now() < self.next {
            return;
        }
        self.next = clock::now() + self.rng.random_range(self.every.0..=self.every.1);
        let keys = self.truth.lock().keys();
        let mut key = keys.choose(&mut self.rng).expect("keys").clone();
        if let Some(last) = self.last.as_ref().filter(|_| self.rng.random_bool(0.3)) {
            key.clone_from(last);
        }
        // Of one row the next transaction begins when the last one is over.
        if self.truth.lock().newest(&key).1 > clock::now() {
            return;
        }
        self.change(&key, &keys);
        self.last = Some(key);
    }

    fn change(&mut self, key: &str, keys: &[String]) {
        self.versions += 1;
        self.changes += 1;
        let version = self.versions;
        let (table, id) = key.split_once(':').expect("a key has a number");
        let before = self.truth.lock().newest(key).0;
        if table == "orders" && self.rng.random_bool(0.1) {
            return self.truncate(keys);
        }
        if table == "baskets" {
            return self.change_basket(key, id, keys);
        }
        let gone = before.is_some() && self.rng.random_bool(0.15);
        let value = (!gone).then_some(version);
        let mut touched = vec![(key.to_owned(), Change::of(value))];
        let other = keys.iter().find(|other| other.starts_with("orders:") && *other != key).cloned();
        let image = |id: &str, version: u32| match table {
            "orders" => format!(r#"{{"id":"1","user_id":"{id}","v":"{version}"}}"#),
            _ => format!(r#"{{"id":"{id}","v":"{version}"}}"#),
        };
        let (kind, data, old) = match (before, value) {
            (None, _) => ("INSERT", image(id, version), "null".to_owned()),
            (Some(before), None) => ("DELETE", image(id, before), "null".to_owned()),
            (Some(before), Some(_)) => {
                let mut old = format!(r#""v":"{before}""#);
                if let Some(other) = other.filter(|_| table == "orders" && self.rng.random_bool(0.3))
                    && self.truth.lock().newest(&other).1 <= clock::now()
                {
                    // A row moves from one list to another: the key before and the key after.
                    let (_, id) = other.split_once(':').expect("a key has a number");
                    old = format!(r#""user_id":"{id}",{old}"#);
                    touched.push((other, Change::of(None)));
                }
                ("UPDATE", image(id, version), format!("[{{{old}}}]"))
            }
        };
        let columns = r#""id":"bigint unsigned","user_id":"bigint unsigned","v":"int""#;
        let message = format!(
            r#"{{"data":[{data}],"database":"shop","es":1,"isDdl":false,"mysqlType":{{{columns}}},"old":{old},"pkNames":["id"],"table":"{table}","ts":1,"type":"{kind}"}}"#,
            table = if table == "user" { "users" } else { table }
        );
        self.log(kind, touched, message);
    }

    fn truncate(&mut self, keys: &[String]) {
        let touched = keys
            .iter()
            .filter(|key| key.starts_with("orders:"))
            .map(|key| (key.clone(), Change::of(None)))
            .collect();
        let message = r#"{"data":null,"database":"shop","es":1,"isDdl":true,"mysqlType":null,"old":null,"pkNames":null,"sql":"TRUNCATE TABLE orders","table":"orders","ts":1,"type":"TRUNCATE"}"#;
        self.log("TRUNCATE", touched, message.to_owned());
    }

    /// A basket's row changes, or the product in it, which the baskets that it is in are found by.
    fn change_basket(&mut self, key: &str, id: &str, keys: &[String]) {
        let version = self.versions;
        let (before, had) = {
            let truth = self.truth.lock();
            (truth.newest(key).0, truth.carried(key))
        };
        let columns =
            r#""id":"bigint unsigned","user_id":"bigint unsigned","product_id":"bigint unsigned","v":"int""#;
        let message = |table: &str, kind: &str, data: String, old: String| {
            format!(
                r#"{{"data":[{data}],"database":"shop","es":1,"isDdl":false,"mysqlType":{{{columns}}},"old":{old},"pkNames":["id"],"table":"{table}","ts":1,"type":"{kind}"}}"#
            )
        };
        if let Some(product) = had.filter(|_| self.rng.random_bool(0.6)) {
            let carries = |key: &&String| self.truth.lock().carried(key) == Some(product);
            let change = Change { value: Some(version), carries: Some(product), by: Some(product) };
            let touched = keys.iter().filter(carries).map(|key| (key.clone(), change)).collect();
            let data = format!(r#"{{"id":"{product}","v":"{version}"}}"#);
            return self.log(
                "UPDATE",
                touched,
                message("products", "UPDATE", data, r#"[{"v":"0"}]"#.to_owned()),
            );
        }
        let has = self.rng.random_range(1..=PRODUCTS);
        let image = |product: u64, version: u32| {
            format!(r#"{{"id":"{id}","user_id":"{id}","product_id":"{product}","v":"{version}"}}"#)
        };
        let (kind, change, data, old) = match (before, had) {
            (Some(before), Some(had)) if self.rng.random_bool(0.2) => {
                ("DELETE", Change::of(None), image(had, before), "null".to_owned())
            }
            (Some(before), Some(had)) => {
                let old = format!(r#"[{{"product_id":"{had}","v":"{before}"}}]"#);
                (
                    "UPDATE",
                    Change { carries: Some(has), ..Change::of(Some(version)) },
                    image(has, version),
                    old,
                )
            }
            _ => {
                let change = Change { carries: Some(has), ..Change::of(Some(version)) };
                ("INSERT", change, image(has, version), "null".to_owned())
            }
        };
        self.log(kind, vec![(key.to_owned(), change)], message("baskets", kind, data, old));
    }

    fn log(&mut self, kind: &str, touched: Vec<(String, Change)>, message: String) {
        let gap =
            if self.gap > 0 && self.rng.random_bool(0.6) { self.rng.random_range(0..=self.gap) } else { 0 };
        let mut truth = self.truth.lock();
        let latest = touched.iter().map(|(key, _)| truth.newest(key).1).max().unwrap_or(0);
        let visible = (clock::now() + gap).max(latest);
        let told: Vec<_> = touched
            .into_iter()
            .map(|(key, change)| {
                let number = truth.change(&key, change, visible);
                (key, number)
            })
            .collect();
        let mut kafka = self.kafka.lock();
        // A statement goes to partition 0; rows go by their key, which says nothing about an order between partitions.
        let partition = if kind == "TRUNCATE" { 0 } else { self.rng.random_range(0..kafka.count()) };
        let at = clock::now() + self.rng.random_range(1..=6);
        let offset = kafka.append(partition, at, message);
        trace::note(format_args!("db: {kind} {told:?}, shown at {visible}, {partition}@{offset}"));
        truth.told(partition, offset, told);
    }
}
