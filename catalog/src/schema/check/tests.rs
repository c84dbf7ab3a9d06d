use super::*;
use crate::schema::{Action, ForeignKey, Stream};

const CATALOG: &str = r#"[catalog]
database = "shop"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id, name FROM users WHERE id = {id}"
[[group]]
name = "login"
key = "login:{email:str}"
query = "SELECT id FROM users WHERE email = {email}"
[[group]]
name = "user_orders"
key = "user:{user_id:u64}:orders"
query = "SELECT * FROM orders WHERE user_id = {user_id}"
rows = "many"
[[rule]]
table = "shop_*.orders_*"
keys = ["user:{user_id}:orders"]
"#;

fn field(name: &str, mysql_type: &str) -> Field {
    let text = mysql_type.starts_with("varchar");
    let collation = text.then(|| "utf8mb4_bin".to_owned());
    Field { name: name.to_owned(), mysql_type: mysql_type.to_owned(), nullable: false, collation }
}

fn table(database: &str, name: &str, columns: Vec<Field>) -> Table {
    Table { database: database.to_owned(), name: name.to_owned(), view: false, columns }
}

fn good() -> Schema {
    let mut email = field("email", "varchar(100)");
    email.collation = Some("utf8mb4_0900_bin".to_owned());
    let orders = || vec![field("id", "bigint unsigned"), field("user_id", "bigint unsigned")];
    Schema {
        tables: vec![
            table("shop", "users", vec![field("id", "bigint unsigned"), field("name", "varchar(50)"), email]),
            table("shop", "orders", orders()),
            table("shop_1", "orders_1", orders()),
        ],
        foreign_keys: Vec::new(),
        row_image: Some(RowImageMode::Full),
        logs_cascades: false,
    }
}

fn found(change: impl FnOnce(&mut Schema)) -> String {
    let catalog = Catalog::parse("f.toml", CATALOG).unwrap();
    let mut schema = good();
    change(&mut schema);
    check(&catalog, &schema).to_string()
}

#[test]
fn a_schema_that_fits_has_no_problem() {
    assert_eq!(found(|_| {}), "");
}

#[test]
fn missing_tables_columns_and_views_are_errors() {
    let text = found(|schema| schema.tables[1].name = "order".to_owned());
    assert!(
        text.contains(
            "f.toml:14: group user_orders: there is no table shop.orders; did you mean shop.order?"
        ),
        "{text}"
    );
    let text = found(|schema| schema.tables[1].columns[1].name = "userid".to_owned());
    assert!(text.contains("shop.orders has no column user_id; did you mean userid?"), "{text}");
    let text = found(|schema| schema.tables[0].view = true);
    assert!(text.contains("shop.users is a view"), "{text}");
    let text = found(|schema| drop(schema.tables.pop()));
    assert!(text.contains("warning: rule on shop_*.orders_*: no table matches"), "{text}");
}

#[test]
fn a_column_must_be_able_to_be_the_part() {
    for (mysql_type, remedy) in [
        ("varchar(20)", "give the parameter the type str"),
        ("binary(16)", "the type uuid or hex"),
        ("double", "use another column"),
        ("json", "use another column"),
        ("datetime(3)", "the type datetime"),
    ] {
        let text = found(|schema| schema.tables[1].columns[1] = field("user_id", mysql_type));
        assert!(
            text.contains("column shop.orders.user_id is") && text.contains(remedy),
            "{mysql_type}: {text}"
        );
    }
    let text = found(|schema| schema.tables[1].columns[1].nullable = true);
    assert!(text.contains("warning: group user_orders: column shop.orders.user_id may be NULL"), "{text}");
}

#[test]
fn a_collation_that_equates_more_than_keys_do_is_told() {
    let collation =
        |collation: &str| found(|schema| schema.tables[0].columns[2].collation = Some(collation.to_owned()));
    let text = collation("utf8mb4_0900_as_ci");
    assert!(
        text.contains("group login: column shop.users.email")
            && text.contains("str|lower")
            && !text.contains("é"),
        "{text}"
    );
    // One column, one line, whatever it equates.
    for (of, told) in [
        ("utf8mb4_0900_ai_ci", "does not tell A from a, and may not tell é from e"),
        ("utf8mb4_general_ci", "does not tell A from a, and may not tell é from e"),
        ("utf8mb4_hr_0800_ai_cs", "may not tell é from e, and ignores spaces at the end"),
    ] {
        let text = collation(of);
        assert!(text.lines().count() == 1 && text.contains(told), "{of}: {text}");
    }
    assert!(collation("utf8mb4_bin").contains("add the filter trim_end"));
    assert_eq!(collation("utf8mb4_0900_as_cs"), "");
}

#[test]
fn a_row_image_without_key_columns_is_an_error() {
    assert!(
        found(|schema| schema.row_image = Some(RowImageMode::Minimal))
            .contains("set binlog_row_image = FULL")
    );
    assert_eq!(found(|schema| schema.row_image = Some(RowImageMode::NoBlob)), "");
    let text = found(|schema| {
        schema.row_image = Some(RowImageMode::NoBlob);
        schema.tables[0].columns[2].mysql_type = "text".to_owned();
    });
    assert!(text.contains("updates of shop.users lack its column email"), "{text}");
}

#[test]
fn cascades_that_are_not_logged_need_a_rule_on_the_parent() {
    let key = || ForeignKey {
        name: "orders_user".to_owned(),
        database: "shop".to_owned(),
        table: "orders".to_owned(),
        columns: vec!["user_id".to_owned()],
        parent_database: "shop".to_owned(),
        parent_table: "users".to_owned(),
        parent_columns: vec!["id".to_owned()],
        on_delete: Action::Cascade,
        on_update: Action::Restrict,
    };
    let text = found(|schema| schema.foreign_keys = vec![key()]);
    assert!(text.contains("add [[rule]] table = \"shop.users\" keys = [\"user:{id}:orders\"]"), "{text}");
    assert_eq!(
        found(|schema| schema.foreign_keys = vec![ForeignKey { on_delete: Action::Restrict, ..key() }]),
        ""
    );
    let logged = found(|schema| {
        schema.foreign_keys = vec![key()];
        schema.logs_cascades = true;
    });
    assert_eq!(logged, "");
}

#[test]
fn a_view_whose_tables_have_rules_may_be_ignored() {
    let text = r#"[[group]]
name = "order"
key = "order:{id:u64}"
query = "SELECT id FROM shop.orders WHERE id = {id}"
ignore = ["shop.orders"]
[[rule]]
table = "shop_*.orders_*"
keys = ["order:{id}"]
"#;
    let catalog = Catalog::parse("f.toml", text).unwrap();
    let mut schema = good();
    schema.tables[1].view = true;
    assert_eq!(check(&catalog, &schema).to_string(), "");
}

#[test]
fn a_tag_of_a_join_needs_columns_of_one_kind_that_it_can_be_made_of() {
    let catalog = Catalog::parse(
        "f.toml",
        "[[group]]\nname = \"o\"\nkey = \"o:{u:u64}\"\nquery = \"SELECT o.id, p.name FROM shop.orders o \
         LEFT JOIN shop.products p ON p.code = o.code WHERE o.user_id = {u}\"\n",
    )
    .unwrap();
    let found = |own: &str, other: &str| {
        let orders = vec![field("id", "bigint"), field("user_id", "bigint unsigned"), field("code", other)];
        let products = vec![field("code", own), field("name", "varchar(20)")];
        let tables = vec![table("shop", "orders", orders), table("shop", "products", products)];
        check(&catalog, &Schema { tables, logs_cascades: true, ..Schema::default() }).to_string()
    };
    assert_eq!(found("bigint unsigned", "int"), "");
    assert_eq!(found("decimal(10,2)", "year"), "");
    assert_eq!(found("varchar(20)", "text"), "");
    let mixed = found("bigint", "varchar(20)");
    assert!(mixed.contains("shop.products.code, bigint, with shop.orders.code, varchar(20)"), "{mixed}");
    assert_eq!(found("binary(16)", "varbinary(16)"), "");
    let mixed = found("binary(16)", "char(36)");
    assert!(mixed.contains("no tag is derived of columns of two kinds"), "{mixed}");
    for bad in ["double", "date", "enum('a')"] {
        let found = found(bad, bad);
        assert!(found.contains("no tag is derived of such columns; write tags = [..]"), "{found}");
    }
}

/// What is told of login's key column through a stream.
fn through(stream: Stream, param: &str, mysql_type: &str, collation: Option<&str>) -> String {
    let text = CATALOG.replace("{email:str}", &format!("{{email:{param}}}"));
    let catalog = Catalog::parse("f.toml", &text).unwrap().with_streams(vec![stream]);
    let mut schema = good();
    schema.tables[0].columns[2] = Field {
        mysql_type: mysql_type.to_owned(),
        collation: collation.map(str::to_owned),
        ..schema.tables[0].columns[2].clone()
    };
    let told = check(&catalog, &schema).to_string();
    told.lines().filter(|line| line.contains(" is in ") || line.contains("Maxwell")).collect()
}

#[test]
fn characters_that_a_stream_cannot_carry_are_an_error() {
    let text = |stream, collation: &str| through(stream, "str", "varchar(20)", Some(collation));
    for collation in [
        "latin1_swedish_ci",
        "gbk_chinese_ci",
        "utf16_bin",
        "ucs2_bin",
        "utf32_bin",
        "big5_bin",
        "sjis_bin",
        "cp1251_bin",
    ] {
        let told = text(Stream::Canal, collation);
        assert!(
            told.starts_with("f.toml:10: group login: column shop.users.email is in "),
            "{collation}: {told}"
        );
        assert!(told.contains("convert the column to utf8mb4"), "{told}");
        assert_eq!(text(Stream::Debezium, collation), "", "{collation}");
        assert_eq!(text(Stream::Maxwell, collation), "", "{collation}");
    }
    for stream in [Stream::Canal, Stream::Debezium, Stream::Maxwell, Stream::Aliyun, Stream::Binlog] {
        for collation in ["utf8mb4_bin", "utf8mb3_bin", "utf8_bin", "ascii_bin", "utf8mb4_uca1400_as_cs"] {
            assert_eq!(text(stream, collation), "", "{collation}");
        }
    }
    for collation in ["dec8_bin", "hp8_bin", "swe7_bin", "keybcs2_bin", "geostd8_bin", "armscii8_bin"] {
        assert!(text(Stream::Debezium, collation).contains("which Java doesn't know"), "{collation}");
    }
    // The binlog's reader flushes what it can't read.
    assert!(
        text(Stream::Binlog, "utf16_bin").contains("warning: ")
            && text(Stream::Binlog, "latin1_bin").is_empty()
    );
    assert!(text(Stream::Binlog, "gbk_bin").contains("ASCII alone is read"));
    // Labels come as numbers, and the letters of a UUID are ASCII.
    assert_eq!(through(Stream::Canal, "str", "enum('a','b')", Some("latin1_bin")), "");
    assert_eq!(through(Stream::Canal, "uuid", "char(36)", Some("latin1_bin")), "");
    assert!(through(Stream::Canal, "uuid", "char(36)", Some("utf16_bin")).contains("is in utf16"));
}

#[test]
fn what_maxwell_writes_wrong_is_an_error_and_what_it_leaves_out_a_warning() {
    let of = |param: &str, mysql_type: &str| through(Stream::Maxwell, param, mysql_type, None);
    assert!(of("u64", "bit(32)").contains("a wrong number") && !of("u64", "bit(32)").contains("warning"));
    assert_eq!(of("u64", "bit(31)"), "");
    assert!(of("str", "binary(8)").contains("zeros at the end"));
    for (param, mysql_type) in [("hex", "binary(8)"), ("hex", "varbinary(8)"), ("time", "time")] {
        assert!(of(param, mysql_type).contains("warning: group login"), "{mysql_type}");
    }
    assert_eq!(of("uuid", "binary(16)"), "");
    assert_eq!(through(Stream::Debezium, "u64", "bit(64)", None), "");
}

#[test]
fn what_a_join_compares_must_be_like_ascii() {
    let text = "[[group]]\nname = \"g\"\nkey = \"g:{u:u64}\"\nquery = \"SELECT u.id, e.name FROM shop.users u LEFT JOIN shop.mails e ON e.email = u.email WHERE u.id = {u}\"\nrows = \"many\"\n";
    let told = |collation: &str| {
        let catalog = Catalog::parse("f.toml", text).unwrap().with_streams(vec![Stream::Canal]);
        let mut schema = good();
        let mut email = field("email", "varchar(20)");
        email.collation = Some(collation.to_owned());
        schema.tables[0].columns[2] = email.clone();
        schema.tables.push(table("shop", "mails", vec![email, field("name", "varchar(50)")]));
        check(&catalog, &schema).to_string().contains("column shop.mails.email is in")
    };
    assert_eq!((told("ucs2_bin"), told("latin1_bin"), told("utf8mb4_bin")), (true, false, false));
}
