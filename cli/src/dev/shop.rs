//! The sample shop: a few hundred rows, the same on every machine.

use std::fmt::Write;

/// The sample's catalog, as a user would write it.
pub(crate) const CATALOG: &str = include_str!("shop.toml");
const SCHEMA: &str = include_str!("shop.sql");

const USERS: u64 = 200;
const ORDERS: u64 = 500;
/// Tables of reviews, and the rows of each.
const SHARDS: u64 = 2;
const REVIEWS: u64 = 150;

const FIRST: [&str; 20] = [
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "Ivan",
    "Joan",
    "Karen",
    "Leslie",
    "Margaret",
    "Niklaus",
    "Ole",
    "Radia",
    "Sophie",
    "Tony",
    "Whitfield",
];
const LAST: [&str; 17] = [
    "Abel", "Berg", "Cruz", "Dahl", "Engel", "Fischer", "Garcia", "Holm", "Ito", "Jansen", "Kim", "Lopez",
    "Moreau", "Novak", "Okafor", "Petrov", "Rossi",
];
const CITIES: [&str; 9] =
    ["Berlin", "Kyoto", "Lagos", "Lima", "Lisbon", "Oslo", "Porto", "Toronto", "Wellington"];
/// Name, category, price in cents.
const PRODUCTS: [(&str, &str, u64); 24] = [
    ("Anchor lamp", "home", 4900),
    ("Birch stool", "home", 7900),
    ("Canvas bag", "travel", 2400),
    ("Coffee mill", "kitchen", 5900),
    ("Desk clock", "home", 3200),
    ("Enamel mug", "kitchen", 1200),
    ("Felt slippers", "clothes", 2900),
    ("Field notebook", "paper", 900),
    ("Fountain pen", "paper", 3900),
    ("Hand towel", "home", 1500),
    ("Iron skillet", "kitchen", 4500),
    ("Linen shirt", "clothes", 6900),
    ("Map of stars", "paper", 1900),
    ("Oak tray", "kitchen", 3500),
    ("Pocket knife", "travel", 4200),
    ("Rain jacket", "clothes", 9900),
    ("Reading light", "home", 2700),
    ("Sealing wax", "paper", 800),
    ("Tea pot", "kitchen", 3800),
    ("Travel kettle", "travel", 4600),
    ("Umbrella", "travel", 2600),
    ("Wall hook", "home", 700),
    ("Wool blanket", "home", 8900),
    ("Wool socks", "clothes", 1600),
];
const OPINIONS: [&str; 12] = [
    "Better than the pictures.",
    "Came two days late, but well packed.",
    "I have bought a second one for my sister.",
    "It does what it is for, and nothing else.",
    "My old one lasted for twenty years, so let us see.",
    "Smaller than I thought, which is just as well.",
    "The colour is a little darker than in the shop window.",
    "The price is fair.",
    "The seams could be neater.",
    "Used it every day for a month now and would not give it away.",
    "Would have liked it in green.",
    "You can tell that somebody has thought about it.",
];
const STATUS: [&str; 4] = ["new", "paid", "sent", "delivered"];

/// The statements that make the shop.
pub(crate) fn script() -> String {
    let mut sql = format!("{SCHEMA}\nBEGIN;\n");
    insert(&mut sql, "users(id, name, email, city, created_at)", 1..=USERS, |id| {
        let (first, last) = (pick(&FIRST, id * 7), pick(&LAST, id * 5));
        format!(
            "{id}, '{first} {last}', '{}.{}{id}@example.com', '{}', '{}'",
            first.to_lowercase(),
            last.to_lowercase(),
            pick(&CITIES, mix(id)),
            time(id)
        )
    });
    insert(&mut sql, "products(id, name, category, price_cents, stock)", 1..=PRODUCTS.len() as u64, |id| {
        let (name, category, price) = PRODUCTS[id as usize - 1];
        format!("{id}, '{name}', '{category}', {price}, {}", 10 + mix(id) % 90)
    });
    let mut items = Vec::new();
    insert(&mut sql, "orders(id, user_id, status, total_cents, created_at)", 1..=ORDERS, |id| {
        let mut total = 0;
        for line in 0..=mix(id) % 3 {
            let product = 1 + mix(id * 10 + line) % PRODUCTS.len() as u64;
            let quantity = 1 + mix(id * 100 + line) % 2;
            let price = PRODUCTS[product as usize - 1].2;
            total += price * quantity;
            items.push(format!("{id}, {product}, {quantity}, {price}"));
        }
        // Every user of the tour has orders: 42 is the user of order 42, 242, ...
        let user = if id <= USERS { id } else { 1 + mix(id) % USERS };
        format!("{id}, {user}, '{}', {total}, '{}'", pick(&STATUS, mix(id + 7)), time(USERS + id))
    });
    let count = items.len() as u64;
    insert(&mut sql, "order_items(id, order_id, product_id, quantity, price_cents)", 1..=count, |id| {
        format!("{id}, {}", items[id as usize - 1])
    });
    for shard in 0..SHARDS {
        let into = format!("reviews_{shard}(id, product_id, user_id, stars, body, created_at)");
        insert(&mut sql, &into, 1..=REVIEWS, |id| {
            let seed = id * SHARDS + shard;
            let product = review_of(shard, seed);
            let (user, stars) = (1 + mix(seed) % USERS, 2 + mix(seed + 3) % 4);
            let body = [seed, seed + 1000, seed + 2000].map(|seed| pick(&OPINIONS, mix(seed))).join(" ");
            format!("{id}, {product}, {user}, {stars}, '{body}', '{}'", time(4 * id + shard))
        });
    }
    sql.push_str("COMMIT;\n");
    sql
}

/// A product whose reviews are in this shard: its number divided by the number of shards leaves the shard's.
fn review_of(shard: u64, seed: u64) -> u64 {
    let first = if shard == 0 { SHARDS } else { shard };
    first + SHARDS * (mix(seed * 3) % (PRODUCTS.len() as u64 / SHARDS))
}

fn insert(
    sql: &mut String,
    into: &str,
    ids: std::ops::RangeInclusive<u64>,
    mut row: impl FnMut(u64) -> String,
) {
    let rows: Vec<String> = ids.map(|id| format!("({})", row(id))).collect();
    writeln!(sql, "INSERT INTO {into} VALUES\n{};", rows.join(",\n"))
        .expect("a String takes what is written to it");
}

fn pick(of: &[&'static str], at: u64) -> &'static str {
    of[(at % of.len() as u64) as usize]
}

/// A number that looks random and is the same everywhere (`SplitMix64`).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Times that grow with `n`, some hours apart.
fn time(n: u64) -> String {
    let hours = n * 11;
    let (day, hour) = (hours / 24, hours % 24);
    let (month, day) = (1 + day / 28 % 12, 1 + day % 28);
    format!("2026-{month:02}-{day:02} {hour:02}:{:02}:00", mix(n) % 60)
}
