//! Ids in BINARY(16): written as keys write them, and found through a join by a change of the joined row, whoever tells of it.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catalog::{Catalog, Column, Effect, JsonForm, Op, RowImage};
use loader::{Limits, Loader, Metrics, RowSource as _, sqlite::Sqlite};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

const SCHEMA: &str = "
CREATE TABLE things (id BINARY(16) PRIMARY KEY, name VARCHAR(20), digest BLOB, short BINARY(3));
CREATE TABLE orders (id INTEGER PRIMARY KEY, user_id INT, thing BINARY(16));
INSERT INTO things VALUES (x'0188c9ce1b6e7c3a9d2f012345678900', 'lamp', x'00112233445566778899aabbccddeeff', x'00ff10');
INSERT INTO orders VALUES (1, 7, x'0188c9ce1b6e7c3a9d2f012345678900'), (2, 7, NULL), (3, 8, x'61626364000000000000000000000000');
";
const ID: [u8; 16] =
    [0x01, 0x88, 0xc9, 0xce, 0x1b, 0x6e, 0x7c, 0x3a, 0x9d, 0x2f, 0x01, 0x23, 0x45, 0x67, 0x89, 0x00];

fn group(name: &str, binary: &str) -> String {
    format!(
        "[[group]]\nname = \"{name}\"\nkey = \"{name}:{{id:uuid}}\"\n{binary}\n\
         query = \"SELECT id, digest, short FROM shop.things WHERE id = {{id}}\"\n"
    )
}

fn catalog() -> Arc<Catalog> {
    let text = group("plain", "")
        + &group("hex", "binary = \"hex\"")
        + &group("uuid", "binary = \"uuid\"")
        + "[[group]]\nname = \"orders\"\nkey = \"orders:{user_id:u64}\"\nrows = \"many\"\nbinary = \"uuid\"\n\
           query = \"SELECT o.id, o.thing, t.name FROM shop.orders o LEFT JOIN shop.things t ON t.id = o.thing WHERE o.user_id = {user_id} ORDER BY o.id\"\n";
    Arc::new(Catalog::parse("test.toml", &text).unwrap_or_else(|report| panic!("{report}")))
}

struct Shop {
    _dir: tempfile::TempDir,
    catalog: Arc<Catalog>,
    loader: Arc<Loader>,
}

impl Shop {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(SCHEMA)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let catalog = catalog();
        let source = Sqlite::open(&file, &catalog).unwrap();
        source.ready().await.unwrap();
        Self { _dir: dir, catalog, loader: Loader::new(source, Limits::default(), Metrics::default()) }
    }

    async fn load(&self, key: &str) -> (String, Vec<String>) {
        let loaded = self.loader.load_tagged(self.catalog.resolve(key).unwrap()).await.unwrap();
        let value = String::from_utf8(loaded.value.unwrap().to_vec()).unwrap();
        (value, loaded.tags.unwrap().iter().map(ToString::to_string).collect())
    }
}

#[tokio::test]
async fn bytes_are_written_as_the_group_says() {
    let shop = Shop::open().await;
    let key = "0188c9ce-1b6e-7c3a-9d2f-012345678900";
    for (group, expected) in [
        ("plain", r#"{"id":"AYjJzhtufDqdLwEjRWeJAA==","digest":"ABEiM0RVZneImaq7zN3u/w==","short":"AP8Q"}"#),
        (
            "hex",
            r#"{"id":"0188c9ce1b6e7c3a9d2f012345678900","digest":"00112233445566778899aabbccddeeff","short":"00ff10"}"#,
        ),
        // A BLOB has no length: that it has 16 bytes says nothing.
        (
            "uuid",
            r#"{"id":"0188c9ce-1b6e-7c3a-9d2f-012345678900","digest":"ABEiM0RVZneImaq7zN3u/w==","short":"AP8Q"}"#,
        ),
    ] {
        assert_eq!(shop.load(&format!("{group}:{key}")).await.0, expected, "{group}");
    }
}

struct Image<'a>(BTreeMap<&'static str, Column<'a>>);

impl RowImage for Image<'_> {
    fn column(&self, name: &str) -> Column<'_> {
        self.0.get(name).copied().unwrap_or(Column::Missing)
    }
}

/// The tags that a change of a thing's name removes, and whether a group is flushed.
fn removed(catalog: &Catalog, id: Column<'_>) -> (Vec<String>, bool) {
    let image =
        |name| Image(BTreeMap::from([("id", id), ("name", Column::Text { text: name, mysql_type: None })]));
    let (before, after) = (image("lamp"), image("light"));
    let (mut tags, mut flushed) = (Vec::new(), false);
    catalog.table("shop", "things").unwrap().map(Op::Update, Some(&before), Some(&after), &mut |effect| {
        match effect {
            Effect::RemoveTag(tag) => tags.push(tag),
            Effect::Flush { group, .. } => flushed |= group == catalog.group("orders").unwrap().id,
            Effect::Remove(_) => {}
        }
    });
    (tags, flushed)
}

#[tokio::test]
async fn a_join_by_bytes_is_found_by_the_change_of_its_row_in_every_form() {
    let shop = Shop::open().await;
    let (value, tags) = shop.load("orders:7").await;
    assert_eq!(
        value,
        r#"[{"id":1,"thing":"0188c9ce-1b6e-7c3a-9d2f-012345678900","name":"lamp"},{"id":2,"thing":null,"name":null}]"#
    );
    let [tag] = tags.as_slice() else { panic!("one tag: {tags:?}") };
    // Canal writes a character for each byte, without the zeros at the end; Maxwell leaves them out of its base64.
    let canal: String = ID[..15].iter().map(|byte| char::from(*byte)).collect();
    let (whole, cut) = (STANDARD.encode(ID), STANDARD.encode(&ID[..15]));
    for column in [
        Column::Bytes(&ID),
        Column::Text { text: &canal, mysql_type: Some("binary(16)") },
        Column::Json { text: &whole, form: JsonForm::String },
        Column::Json { text: &cut, form: JsonForm::Stripped },
    ] {
        let (removed, flushed) = removed(&shop.catalog, column);
        assert!(removed.contains(tag) && !flushed, "{column:?}: {removed:?} lacks {tag}");
    }
    // A connector that packs decimals into strings may mean a number: what can't be told flushes.
    let packed = removed(&shop.catalog, Column::Json { text: &whole, form: JsonForm::Packed });
    assert!(packed.1, "{packed:?}");
}

#[tokio::test]
async fn bytes_that_are_letters_are_bytes() {
    let shop = Shop::open().await;
    let (_, tags) = shop.load("orders:8").await;
    let [tag] = tags.as_slice() else { panic!("one tag: {tags:?}") };
    for (text, mysql_type) in [("abcd", Some("binary(16)")), ("abcd", None)] {
        let (removed, _) = removed(&shop.catalog, Column::Text { text, mysql_type });
        assert!(removed.contains(tag), "{mysql_type:?}: {removed:?} lacks {tag}");
    }
    let zeros = removed(&shop.catalog, Column::Json { text: "", form: JsonForm::Stripped }).0;
    assert!(zeros.iter().any(|tag| tag.ends_with("=#")), "{zeros:?}");
}
