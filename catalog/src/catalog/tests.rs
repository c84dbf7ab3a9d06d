use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::normal::Column;
use crate::param::ParamError;
use crate::rules::{Effect, Op, RowImage};
use crate::template::Template;
use crate::value::Value;

const SHOP: &str = r#"
[node]
memory = "256MiB"

[catalog]
database = "shop"

[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name, email FROM users WHERE id = {id}"
ttl = "10m"
negative_ttl = "30s"

[[group]]
name = "user_orders"
key = "user:{user_id:u64}:orders"
query = "SELECT id, total FROM shop.orders WHERE user_id = {user_id} ORDER BY id DESC LIMIT 20"
rows = "many"
max_value = "64KiB"

[[group]]
name = "order"
key = "order:{id:u64}"
query = """
SELECT o.id, i.price, p.title
FROM orders o
JOIN order_items i ON i.order_id = o.id
JOIN products p ON p.id = i.product_id
WHERE o.id = {id}"""
rows = "many"

[[group]]
name = "login"
key = "login:{email:str|lower}"
query = "SELECT id FROM users WHERE email = {email}"

[[rule]]
table = "products"
groups = ["order"]
when_changed = ["title"]

[[rule]]
table = "shop_*.orders_*"
keys = ["user:{user_id}:orders", "order:{id}"]
on = ["insert", "update", "delete"]
"#;

fn shop() -> Catalog {
    Catalog::parse("shop.toml", SHOP).unwrap_or_else(|report| panic!("{report}"))
}

struct Row<'a>(&'a [(&'a str, &'a str)]);

impl RowImage for Row<'_> {
    fn column(&self, name: &str) -> Column<'_> {
        let found = self.0.iter().find(|(column, _)| column.eq_ignore_ascii_case(name));
        found.map_or(Column::Missing, |(_, text)| Column::Text { text, mysql_type: None })
    }
}

fn removed(catalog: &Catalog, database: &str, table: &str, row: &[(&str, &str)]) -> Vec<String> {
    let mut keys = Vec::new();
    let rules = catalog.table(database, table).unwrap();
    rules.map(Op::Insert, None, Some(&Row(row)), &mut |effect| match effect {
        Effect::Remove(key) => keys.push(key),
        Effect::RemoveTag(tag) => keys.push(format!("tag {tag}")),
        Effect::Flush { group, .. } => {
            keys.push(format!("flush {}", catalog.groups()[usize::from(group.0)].name));
        }
    });
    keys.sort();
    keys
}

#[test]
fn keys_resolve_to_their_group_and_values() {
    let catalog = shop();
    let key = catalog.resolve("user:42:orders").unwrap();
    assert_eq!((&*key.group.name, &key.params[..]), ("user_orders", &[Value::U64(42)][..]));
    assert_eq!(&*catalog.resolve("user:42").unwrap().group.name, "user");
    assert_eq!(
        catalog.resolve("login:ann@example.com").unwrap().params[0],
        Value::Str("ann@example.com".into())
    );
}

#[test]
fn what_is_no_key_says_what_to_write() {
    let catalog = shop();
    let error = |key: &str| catalog.resolve(key).unwrap_err();
    assert!(matches!(error("user:007"), KeyError::NotCanonical { canonical, .. } if *canonical == *"user:7"));
    assert!(
        matches!(error("user:007:orders"), KeyError::NotCanonical { canonical, .. } if *canonical == *"user:7:orders")
    );
    assert!(
        matches!(error("login:Ann"), KeyError::NotCanonical { canonical, .. } if *canonical == *"login:ann")
    );
    assert_eq!(
        error("user:abc").to_string(),
        "key \"user:abc\" is not one of group user (user:{id:u64}): id: \"abc\" is not an unsigned number (u64)"
    );
    assert!(matches!(error("user:"), KeyError::Invalid { error: ParamError::Empty, .. }));
    assert!(matches!(error("usr:7"), KeyError::NoGroup { .. }));
    assert!(matches!(error(""), KeyError::Empty { .. }));
    assert!(matches!(
        error(&format!("login:{}", "a".repeat(1100))),
        KeyError::TooLong { length: 1106, limit: 1024 }
    ));
}

#[test]
fn a_row_removes_the_keys_of_all_groups_that_read_it() {
    let catalog = shop();
    assert_eq!(
        removed(&catalog, "shop", "users", &[("id", "1"), ("email", "Ann@X")]),
        ["login:ann@x", "user:1"]
    );
    assert_eq!(
        removed(&catalog, "SHOP", "Orders", &[("id", "7"), ("user_id", "1")]),
        ["order:7", "user:1:orders"]
    );
    assert_eq!(removed(&catalog, "shop", "order_items", &[("order_id", "7")]), ["order:7"]);
    assert_eq!(removed(&catalog, "shop", "products", &[("id", "7")]), ["flush order"]);
    assert_eq!(
        removed(&catalog, "shop_3", "orders_12", &[("id", "7"), ("user_id", "1")]),
        ["order:7", "user:1:orders"]
    );
    assert!(catalog.table("shop", "carts").is_none());
}

#[test]
fn an_update_of_columns_that_no_query_reads_removes_nothing() {
    let catalog = shop();
    let users = catalog.table("shop", "users").unwrap();
    let before = [("id", "1"), ("email", "a"), ("name", "Ann"), ("last_seen", "1")];
    let after = [("id", "1"), ("email", "a"), ("name", "Ann"), ("last_seen", "2")];
    let mut effects = Vec::new();
    users.map(Op::Update, Some(&Row(&before)), Some(&Row(&after)), &mut |effect| effects.push(effect));
    assert_eq!(effects, []);
    assert!(!users.columns().iter().any(|column| &**column == "last_seen"));
}

#[test]
fn people_see_which_table_invalidates_what() {
    let catalog = shop();
    let uses: Vec<String> = catalog
        .tables()
        .into_iter()
        .map(|row| match row.effect {
            Use::Keys(keys) => format!("{} -> {keys}", row.table),
            Use::Tags { tag, .. } => format!("{} -> tag {tag}", row.table),
            Use::Flush => format!("{} -> all of {}", row.table, row.group),
            Use::Ignored => format!("{} ignored", row.table),
        })
        .collect();
    assert_eq!(
        uses,
        [
            "shop.order_items -> order:{order_id}",
            "shop.orders -> user:{user_id}:orders",
            "shop.orders -> order:{id}",
            "shop.products -> all of order",
            "shop.users -> user:{id}",
            "shop.users -> login:{email}",
            "shop_*.orders_* -> user:{user_id}:orders",
            "shop_*.orders_* -> order:{id}",
        ]
    );
}

/// Text of a random template, and a random key of it.
fn template() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["a", "b", "user", "7"]);
    let kind = prop::sample::select(vec![
        "u64", "i64", "str", "decimal", "date", "uuid", "hex", "bool", "datetime", "time",
    ]);
    let part = prop_oneof![word.prop_map(str::to_owned), kind.prop_map(|kind| format!("{{p:{kind}}}"))];
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        let mut text = String::new();
        for (index, part) in parts.iter().enumerate() {
            let part = part.replace("{p", &format!("{{p{index}"));
            write!(text, "{}{part}", if index > 0 { ":" } else { "" }).unwrap();
        }
        text
    })
}

fn value(kind: &crate::ParamType) -> BoxedStrategy<Value> {
    use crate::ParamType as P;
    let parsed = |kind: &crate::ParamType, text: &'static str| {
        let kind = kind.clone();
        proptest::string::string_regex(text)
            .unwrap()
            .prop_filter_map("a value", move |text| kind.parse_any(&text).ok())
            .boxed()
    };
    match kind {
        P::U64 => any::<u64>().prop_map(Value::U64).boxed(),
        P::I64 => any::<i64>().prop_map(Value::I64).boxed(),
        P::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        P::Str(filters) => {
            let filters = filters.clone();
            any::<String>()
                .prop_filter_map("text", move |text| crate::param::filter(&filters, &text).map(Value::Str))
                .boxed()
        }
        P::Decimal => parsed(kind, "-?[0-9]{1,9}(\\.[0-9]{1,9})?"),
        P::Date => parsed(kind, "[0-9]{4}-[01][0-9]-[0-3][0-9]"),
        P::DateTime => {
            parsed(kind, "[0-9]{4}-[01][0-9]-[0-3][0-9] [012][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?")
        }
        P::Time => parsed(kind, "-?[0-8]?[0-9]{2}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"),
        P::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        P::Compared => "[a-z]{1,8}".prop_map(|text| Value::Str(format!("'{text}").into())).boxed(),
        P::Hex => prop::collection::vec(any::<u8>(), 1..20).prop_map(Value::Bytes).boxed(),
    }
}

fn values(template: &Template) -> BoxedStrategy<Vec<Value>> {
    template.params().iter().map(|param| value(&param.kind)).collect::<Vec<_>>().boxed()
}

proptest! {
    #[test]
    fn a_rendered_key_reads_as_the_same_values(
        (template, values) in template().prop_map(|text| Template::parse(&text).unwrap())
            .prop_flat_map(|template| { let values = values(&template); (Just(template), values) })
    ) {
        let key = template.render(&values);
        prop_assert_eq!(template.matches(&key), Some(values), "{} {}", template, key);
    }

    #[test]
    fn an_accepted_key_is_the_only_text_of_its_values(
        template in template(),
        key in "[ab:%7-]{0,6}|user:[0-9a-f%:A-]{1,8}|[0-9:.T-]{1,12}|(a|b|user|7|[0-9]{1,3}|%[0-9A-F]{2}|true)(:(a|b|7|[0-9]{1,3}|é|false)){0,3}"
    ) {
        let template = Template::parse(&template).unwrap();
        if let Some(values) = template.matches(&key) {
            prop_assert_eq!(template.render(&values), key);
        }
    }

    #[test]
    fn templates_that_pass_the_overlap_check_share_no_key(
        (a, b, values) in (template(), template())
            .prop_map(|(a, b)| (Template::parse(&a).unwrap(), Template::parse(&b).unwrap()))
            .prop_flat_map(|(a, b)| { let values = values(&a); (Just(a), Just(b), values) })
    ) {
        let key = a.render(&values);
        if b.matches(&key).is_some() {
            prop_assert!(crate::template::overlap::overlap(&a, &b), "{} and {} share {}", a, b, key);
        }
    }

    #[test]
    fn no_text_makes_resolve_panic_and_every_hint_resolves(key in "\\PC{0,20}|(user|login|order):\\PC{0,12}|user:[0-9]{1,25}(:orders)?") {
        let catalog = shop();
        if let Err(KeyError::NotCanonical { canonical, .. }) = catalog.resolve(&key) {
            prop_assert!(catalog.resolve(&canonical).is_ok(), "{} -> {}", key, canonical);
        }
    }

    #[test]
    fn no_file_makes_parse_panic(text in "(\\[\\[(group|rule)\\]\\]\n((name|key|query|ttl|table|keys|on|rows|ignore) = [\"\\[{}a-z0-9:.*]{0,20}\n){0,4}){0,3}") {
        let _ = Catalog::parse("x", &text);
    }
}

#[test]
fn a_key_that_nothing_matches_is_told_the_template_that_begins_most_like_it() {
    let catalog = shop();
    for (key, nearest) in [
        ("usr:42", "user:{id:u64}"),
        ("usr:42:orders", "user:{user_id:u64}:orders"),
        ("user42", "user:{id:u64}"),
        ("ordre:1", "order:{id:u64}"),
        ("logn:a@b.c", "login:{email:str|lower}"),
    ] {
        let error = catalog.resolve(key).unwrap_err();
        assert!(
            matches!(&error, KeyError::NoGroup { nearest: told, .. } if &**told == nearest),
            "{key}: {error}"
        );
    }
}
