use crate::Catalog;

/// The problems of a file, one per line.
fn problems(text: &str) -> String {
    Catalog::parse("f.toml", text)
        .map_or_else(|report| report.to_string(), |catalog| format!("no problem: {:?}", catalog.warnings()))
}

const USER: &str = "[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\nquery = \"SELECT * FROM shop.users WHERE id = {id}\"\n";

#[test]
fn all_problems_are_reported_at_once_with_line_and_remedy() {
    let found = problems(
        r#"[[group]]
name = "user"
key = "user:{id:u46}"
qurey = "SELECT 1"
ttl = "ten minutes"
ttl_jitter = 2

[[group]]
name = "user"
key = "order:{id:u64}"
query = "SELECT * FROM orders WHERE id = {idd}"
rows = 2

[[rule]]
table = "shop.items"
groups = ["usr"]
on = ["upsert"]
"#,
    );
    let lines: Vec<&str> = found.lines().collect();
    for expected in [
        "f.toml:1: group user has no query; write query = ",
        "f.toml:3: group user: key \"user:{id:u46}\": {id:u46}: there is no type \"u46\"; did you mean u64?",
        "f.toml:4: group user has no field qurey; did you mean query?",
        "f.toml:5: group user: ttl = \"ten minutes\" is no duration",
        "f.toml:6: group user: ttl_jitter = 2 is no share; write a number from 0",
        "f.toml:9: a group user is declared in line 2 already; give it another name",
        "f.toml:11: group user: the query uses {idd}, which key order:{id:u64} does not have; did you mean {id}?",
        "f.toml:12: group user: rows is an integer, not text; write rows = ",
        "f.toml:16: rule on shop.items: there is no group usr; did you mean user?",
        "f.toml:17: rule on shop.items: on has no \"upsert\"; write \"insert\", \"update\" or \"delete\"",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}\nnot in\n{found}");
    }
    assert_eq!(lines.len(), 10, "{found}");
}

#[test]
fn broken_toml_is_a_problem_with_a_line() {
    assert!(problems("a = 1\nb = = 2\n").starts_with("f.toml:2: "), "{}", problems("a = 1\nb = = 2\n"));
    assert!(problems("group = 1").contains("write [[group]]"));
    assert!(problems("[group]\nname = \"a\"").contains("write [[group]]"));
    assert!(problems("catalog = 1").contains("write [catalog]"));
    assert!(problems("[catalog]\ndatabse = \"shop\"").contains("did you mean database?"));
}

#[test]
fn templates_that_share_keys_name_both_groups() {
    let found = problems(&format!(
        "{USER}[[group]]\nname = \"named\"\nkey = \"user:{{name:str}}\"\nquery = \"SELECT * FROM shop.users WHERE name = {{name}}\"\n"
    ));
    assert!(
        found.starts_with("f.toml:7: group named: key user:{name:str} can match the same keys as user:{id:u64} of group user in line 3; begin one"),
        "{found}"
    );
}

#[test]
fn a_table_that_does_not_tell_the_key_must_be_covered() {
    let query = "SELECT DISTINCT o.id, p.title FROM shop.orders o JOIN shop.products p ON p.id = o.product_id WHERE o.id = {id}";
    let group = format!("[[group]]\nname = \"order\"\nkey = \"order:{{id:u64}}\"\nquery = \"{query}\"\n");
    let found = problems(&group);
    assert_eq!(
        found,
        "f.toml:4: group order: a changed row of shop.products does not tell the key: no column of it must equal {id}; \
         nor can a tag tell: it has a DISTINCT, so its result does not show which rows it joined; \
         join it by a column that equals {id}, or add a [[rule]] for shop.products with keys or groups = [\"order\"], \
         or accept stale values with ignore = [\"shop.products\"]"
    );
    for remedy in [
        "ignore = [\"shop.products\"]\n",
        "[[rule]]\ntable = \"shop.prod*\"\ngroups = [\"order\"]\n",
        "[[rule]]\ntable = \"^shop\\\\.products$\"\nkeys = [\"order:{first_order}\"]\n",
    ] {
        assert!(problems(&format!("{group}{remedy}")).starts_with("no problem"), "{remedy}");
    }
    let other = format!("{group}[[rule]]\ntable = \"shop.prices\"\ngroups = [\"order\"]\n");
    assert!(
        problems(&other).contains("shop.products does not tell"),
        "a rule for another table covers nothing"
    );
    assert!(
        problems(&format!("{group}ignore = [\"shop.product\"]\n")).contains("did you mean shop.products?")
    );
}

#[test]
fn keys_of_rules_are_keys_of_groups() {
    let rule = |body: &str| problems(&format!("{USER}[[rule]]\ntable = \"shop.pets\"\n{body}\n"));
    assert!(rule("keys = [\"user:{owner_id}\"]").starts_with("no problem"));
    assert!(rule("keys = [\"user:{owner_id:u64}\"]").starts_with("no problem"));
    assert!(rule("keys = [\"user:42\"]").starts_with("no problem"), "a fixed key of a group");
    assert!(rule("keys = [\"user:{owner_id:str}\"]").contains("remove the types"));
    assert!(
        rule("keys = [\"usr:{owner_id}\"]").contains("no group has such keys; did you mean user:{id:u64}")
    );
    assert!(rule("keys = [\"pet:{id:u64}\"]").contains("no group has such keys"));
    assert!(rule("").contains("does nothing; add keys"));
    assert!(
        rule("groups = [\"user\"]\nwhen_changed = [\"a\"]\non = [\"insert\"]")
            .contains("add \"update\" to on")
    );
    let two = format!(
        "{USER}[[group]]\nname = \"by_uuid\"\nkey = \"user:{{uid:uuid}}\"\nquery = \"SELECT * FROM shop.users WHERE uid = {{uid}}\"\n[[rule]]\ntable = \"shop.pets\"\n"
    );
    assert!(
        problems(&format!("{two}keys = [\"user:{{owner}}\"]\n")).contains("give its parameters the types")
    );
    assert!(problems(&format!("{two}keys = [\"user:{{owner:uuid}}\"]\n")).starts_with("no problem"));
}

#[test]
fn fields_have_defaults_and_limits() {
    let catalog = Catalog::parse("f.toml", USER).unwrap();
    let group = &catalog.groups()[0];
    assert_eq!((group.ttl.as_secs(), group.negative_ttl.as_secs(), group.max_value), (600, 30, None));
    assert_eq!(group.jittered_ttl(1.0).as_secs(), 540);
    assert!(problems(&format!("{USER}ttl = \"0s\"")).contains("nothing would be cached"));
    assert!(problems(&format!("{USER}max_staleness = \"0s\"")).contains("max_staleness is zero"));
    assert!(problems(&format!("{USER}stale_if_error = \"0s\"")).contains("stale_if_error is zero"));
    assert!(
        problems(&format!("{USER}max_staleness = \"soon\""))
            .contains("max_staleness = \"soon\" is no duration")
    );
    assert!(problems(&format!("{USER}ttl = \"10 years\"")).contains("more than a year"));
    assert!(
        problems(&format!("{USER}max_value = \"1 XB\"")).contains("not a size; write max_value = \"1MiB\"")
    );
    assert!(
        problems(&format!("{USER}compress = \"lz5\""))
            .contains("compress = \"lz5\" is unknown; did you mean \"lz4\"?")
    );
    assert!(problems(&format!("{USER}compress = \"brotli\"")).contains("\"gzip\", \"none\""));
    assert!(problems(&format!("{USER}ignore = \"shop.users\"")).contains("not a list of texts"));
    assert!(problems("").contains("no group"), "an empty catalog is odd, not wrong");
}

#[test]
fn a_group_without_a_query_says_what_makes_it_stale() {
    const SESSION: &str = "[[group]]\nname = \"session\"\nkey = \"session:{id:u64}\"\n";
    let rule = "[[rule]]\ntable = \"shop.sessions\"\nkeys = [\"session:{id}\"]\n";
    let found = problems(&format!("{SESSION}stale_if_error = \"1m\"\nrules = \"none\"\n"));
    assert!(found.contains("stale_if_error is for groups with a query"), "{found}");
    let found = problems(SESSION);
    assert!(found.starts_with("f.toml:1: group session has no query; write query = "), "{found}");
    assert!(found.contains("groups = [\"session\"], or rules = \"none\""), "{found}");
    assert_eq!(problems(&format!("{SESSION}rules = \"none\"\n")), "no problem: []");
    assert_eq!(problems(&format!("{SESSION}{rule}")), "no problem: []");
    let catalog = Catalog::parse("f.toml", &format!("{SESSION}{rule}")).unwrap();
    let group = catalog.group("session").unwrap();
    assert!(group.is_look_aside() && group.tables().is_empty() && group.batched().is_none());
    assert_eq!(catalog.tables().len(), 1);

    let both = problems(&format!("{SESSION}rules = \"none\"\n{rule}"));
    assert!(both.starts_with("f.toml:4: group session: rules = \"none\", but a [[rule]] names it"), "{both}");
    for (line, expected) in [
        ("rules = \"all\"", "rules = \"all\" is unknown; write \"none\""),
        ("rows = \"many\"\nrules = \"none\"", "rows says what a query's rows become"),
        ("ignore = [\"shop.a\"]\nrules = \"none\"", "ignores shop.a, but it has no query"),
    ] {
        let found = problems(&format!("{SESSION}{line}\n"));
        assert!(found.contains(expected), "{expected}\nnot in\n{found}");
    }
    let derived = problems(&format!("{USER}rules = \"none\"\n"));
    assert!(derived.contains("rules follow from its query"), "{derived}");
}

const ORDERS: &str = "[[group]]\nname = \"orders\"\nkey = \"orders:{u:u64}\"\nrows = \"many\"\n\
    query = \"SELECT id, product_id FROM shop.orders WHERE user_id = {u}\"\n";

#[test]
fn tags_are_made_of_columns_that_the_query_selects() {
    let group = |line: &str| problems(&format!("{ORDERS}{line}\n"));
    assert_eq!(group("tags = [\"product:{product_id:u64}\", \"order:{ID:u64}\"]"), "no problem: []");
    assert!(
        group("tags = [\"product:{colour:u64}\"]")
            .contains("its query selects no column colour; add colour to the SELECT")
    );
    assert!(
        group("tags = [\"product:{product_i:u64}\"]")
            .contains("did you mean {product_id}? Else add product_i")
    );
    assert!(
        group("tags = [\"product:{product_id}\"]").contains("write {product_id:u64}"),
        "it needs its type"
    );
    assert!(group("max_tags = 0").contains("write a whole number from 1 to 10000"));
    assert!(group("max_tags = 1.5").contains("is no number of tags"));
    let aside = "[[group]]\nname = \"a\"\nkey = \"a:{id:u64}\"\nrules = \"none\"\ntags = [\"b:{id:u64}\"]\n";
    assert!(problems(aside).contains("tags are made of the rows of a query"));
}

#[test]
fn tags_of_rules_are_tags_of_groups() {
    let tagged = format!("{ORDERS}tags = [\"product:{{product_id:u64}}\"]\n");
    let rule = |body: &str| problems(&format!("{tagged}[[rule]]\ntable = \"shop.prices\"\n{body}\n"));
    assert_eq!(rule("tags = [\"product:{item}\"]"), "no problem: []");
    assert_eq!(rule("tags = [\"product:{item:u64}\"]"), "no problem: []");
    assert!(rule("tags = [\"product:{item:str}\"]").contains("remove the types"));
    assert!(rule("tags = [\"produkt:{item}\"]").contains("no group has such tags"));
    assert!(rule("tags = [\"product:{item\"]").contains("no '}'"));
    let two = format!(
        "{tagged}[[group]]\nname = \"other\"\nkey = \"other:{{u:u64}}\"\ntags = [\"product:{{sku:str}}\"]\n\
         query = \"SELECT sku FROM shop.orders WHERE user_id = {{u}}\"\n[[rule]]\ntable = \"shop.prices\"\n"
    );
    assert!(
        problems(&format!("{two}tags = [\"product:{{item}}\"]\n")).contains("give its parameters the types")
    );
    let catalog = Catalog::parse("f.toml", &format!("{two}tags = [\"product:{{item:str}}\"]\n")).unwrap();
    assert_eq!(catalog.carriers("product:a"), [catalog.group("other").unwrap().id]);
    assert_eq!(catalog.carriers("product:7").len(), 2);
    assert_eq!(catalog.carriers("product:7:8"), []);
}

/// What is said of a group of pages with these fields, and a rule.
fn page(select: &str, from: &str, fields: &str, rule: &str) -> String {
    problems(&format!(
        "[[group]]\nname = \"page\"\nkey = \"page:{{u:u64}}:{{at:u64}}\"\nrows = \"many\"\n{fields}\n\
         query = \"SELECT {select} FROM shop.orders o {from} WHERE o.user_id = {{u}} ORDER BY o.id LIMIT 9 OFFSET {{at}}\"\n\
         [[rule]]\ntable = \"shop.orders\"\n{rule}\n"
    ))
}

/// The tags that a group of pages carries by its key.
fn page_tags(query: &str, fields: &str, rule: &str) -> Vec<String> {
    let text = format!(
        "[[group]]\nname = \"page\"\nkey = \"page:{{u:u64}}:{{at:u64}}\"\nrows = \"many\"\n{fields}\nquery = \"{query}\"\n{rule}\n"
    );
    let catalog = Catalog::parse("f.toml", &text).unwrap_or_else(|report| panic!("{query}: {report}"));
    let of_key = &catalog.group("page").unwrap().tagging.of_key;
    of_key.iter().map(|tag| tag.template.text().to_owned()).collect()
}

#[test]
fn tags_of_rows_cover_no_table_whose_rows_may_not_be_there_and_one_of_the_key_is_derived() {
    let own = "tags = [\"o:{u:u64}\"]";
    let query = "SELECT o.id, o.user_id, o.total FROM shop.orders o WHERE o.user_id = {u} ORDER BY o.id LIMIT 9 OFFSET {at}";
    let derived = "page/shop.orders.user_id={u}";
    // A page may be empty, and the rows before it decide what it shows.
    for (fields, rule) in [
        ("", ""),
        ("tags = [\"o:{id:u64}\"]", "tags = [\"o:{id}\"]"),
        ("tags = [\"o:{user_id:u64}\"]", "tags = [\"o:{user_id}\"]"),
        // Made of the key, but of another column of the row, or not for all changes.
        (own, "tags = [\"o:{id}\"]"),
        (own, "tags = [\"o:{user_id}\"]\non = [\"insert\", \"delete\"]"),
        (own, "tags = [\"o:{user_id}\"]\nwhen_changed = [\"total\"]"),
    ] {
        let rule = if rule.is_empty() {
            String::new()
        } else {
            format!("[[rule]]\ntable = \"shop.orders\"\n{rule}")
        };
        let tags = page_tags(query, fields, &rule);
        assert!(tags.contains(&derived.to_owned()), "{fields} {rule}: {tags:?}");
    }
    assert_eq!(
        page_tags(query, own, "[[rule]]\ntable = \"shop.orders\"\ntags = [\"o:{user_id}\"]"),
        ["o:{u:u64}"]
    );
    for (fields, rule) in [
        (own, "tags = [\"o:{user_id}\"]"),
        (own, "tags = [\"o:{USER_ID}\"]\nwhen_changed = [\"ID\", \"user_id\", \"total\"]"),
        ("", "groups = [\"page\"]"),
        ("", "keys = [\"page:{user_id}:{total}\"]"), // who writes it says so
    ] {
        assert_eq!(page("o.id, o.user_id", "", fields, rule), "no problem: []", "{fields} {rule}");
    }
    let catalog = Catalog::parse(
        "f.toml",
        "[[group]]\nname = \"page\"\nkey = \"page:{u:u64}:{at:u64}\"\nrows = \"many\"\ntags = [\"o:{u:u64}\", \"id:{id:u64}\"]\n\
         query = \"SELECT id FROM shop.orders WHERE user_id = {u} ORDER BY id LIMIT 9 OFFSET {at}\"\n\
         [[rule]]\ntable = \"shop.orders\"\ntags = [\"o:{user_id}\"]\n",
    )
    .unwrap();
    let (key, tagging) = (catalog.resolve("page:7:18").unwrap(), &catalog.group("page").unwrap().tagging);
    let own: Vec<_> = tagging.of_key.iter().map(|tag| tag.render(&key)).collect();
    assert_eq!((own, tagging.tags.len()), (vec!["o:7".into()], 1));
    assert_eq!(catalog.carriers("o:7"), [key.group.id]);
    let wrong = page("o.id", "", "tags = [\"o:{u:str}\"]", "tags = [\"o:{user_id}\"]");
    assert!(wrong.contains("give it the type that it has in the key, u64"), "{wrong}");
}

#[test]
fn queries_that_hide_rows_carry_tags_of_their_keys() {
    for (query, expected) in [
        (
            "SELECT id FROM shop.orders WHERE user_id = {u} AND id > {at} UNION SELECT id FROM shop.old_orders WHERE user = {u} AND id > {at} LIMIT 9",
            &["page/shop.orders.user_id={u}", "page/shop.old_orders.user={u}"][..],
        ),
        (
            "SELECT COUNT(*) AS n FROM shop.orders o JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {u} AND p.maker = {at}",
            &["page/shop.orders.user_id={u}", "page/shop.products.maker={at}"],
        ),
        (
            "SELECT SUM(total) AS total FROM shop.orders WHERE user_id = {u} AND total > {at}",
            &["page/shop.orders.user_id={u}"],
        ),
    ] {
        assert_eq!(page_tags(query, "", ""), expected, "{query}");
    }
    // A table of which no column must equal anything is found by a rule alone.
    let text = "[[group]]\nname = \"page\"\nkey = \"page:{u:u64}:{at:u64}\"\nquery = \"SELECT COUNT(*) AS n FROM shop.orders o JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {u} AND o.total > {at}\"\n";
    let found = problems(text);
    assert!(
        found.contains("shop.products")
            && found.contains("add a [[rule]] for shop.products with keys or groups = [\"page\"]"),
        "{found}"
    );
    assert!(!found.contains("shop.orders does not tell"), "{found}");
    let ruled = format!("{text}[[rule]]\ntable = \"shop.products\"\ngroups = [\"page\"]\n");
    assert!(Catalog::parse("f.toml", &ruled).is_ok());
}

#[test]
fn a_rule_that_leaves_kinds_of_changes_out_is_warned_of() {
    let warned = |rule: &str| page("o.id", "", "", rule);
    assert_eq!(warned("groups = [\"page\"]"), "no problem: []");
    let found = warned("groups = [\"page\"]\non = [\"update\"]");
    assert!(found.contains("nothing is removed at an INSERT and DELETE of a row of shop.orders"), "{found}");
    let two = "groups = [\"page\"]\non = [\"update\"]\n[[rule]]\ntable = \"shop.orders\"\ngroups = [\"page\"]\non = [\"insert\", \"delete\"]";
    assert_eq!(warned(two), "no problem: []");
}

#[test]
fn tags_by_hand_of_a_left_join_take_the_place_of_what_is_derived_and_others_do_not() {
    let tags = |join: &str, query: &str, rule: &str| {
        let text = format!(
            "[[group]]\nname = \"o\"\nkey = \"o:{{u:u64}}\"\nrows = \"many\"\ntags = [\"p:{{product_id:u64}}\"]\n\
             query = \"SELECT {query} FROM shop.orders o {join} JOIN shop.products p ON p.id = o.product_id WHERE o.user_id = {{u}}\"\n\
             [[rule]]\ntable = \"shop.products\"\n{rule}\n"
        );
        let catalog = Catalog::parse("f.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        catalog.group("o").unwrap().tagging.templates().map(|tag| tag.text().to_owned()).collect::<Vec<_>>()
    };
    let (shown, rule) = ("o.product_id, p.name", "tags = [\"p:{id}\"]");
    let derived = "shop.products.id={id}";
    assert_eq!(tags("LEFT", shown, rule), ["p:{product_id:u64}"]);
    // A row that joins later is in no result; what is shown is not what ON compares; not all changes.
    for (join, query, rule) in [
        ("", shown, rule),
        ("LEFT", "p.id AS product_id, p.name", rule),
        ("LEFT", shown, "tags = [\"p:{maker}\"]"),
        ("LEFT", shown, "tags = [\"p:{id}\"]\non = [\"update\"]"),
    ] {
        assert_eq!(tags(join, query, rule), ["p:{product_id:u64}", derived], "{join} {query} {rule}");
    }
}

#[test]
fn what_no_tag_covers_says_why() {
    let why = |select: &str, from: &str, rest: &str| {
        problems(&format!(
            "[[group]]\nname = \"o\"\nkey = \"o:{{u:u64}}\"\nquery = \"SELECT {select} FROM shop.orders o {from} WHERE o.user_id = {{u}} {rest}\"\n"
        ))
    };
    let join = "JOIN shop.products p ON p.id = o.product_id";
    let left = "LEFT JOIN shop.products p ON p.id = o.product_id";
    assert!(why("o.id", left, "ORDER BY o.id LIMIT 5").starts_with("no problem"));
    assert!(
        why("o.id, p.name", join, "ORDER BY p.name LIMIT 5").starts_with("no problem"),
        "a warning alone"
    );
    for (select, from, rest, expected) in [
        ("COUNT(*)", join, "", "it groups or aggregates rows"),
        ("DISTINCT o.id", join, "", "it has a DISTINCT"),
        ("o.id", join, "GROUP BY o.id", "it groups or aggregates rows"),
        ("o.id", join, "LIMIT 5 OFFSET 5", "it has an OFFSET"),
        ("o.id", join, "LIMIT 5, 5", "it has an OFFSET"),
        ("o.id", join, "AND EXISTS (SELECT 1 FROM shop.products x WHERE x.id = p.id)", "it has a subquery"),
        ("o.id", left, "AND p.active = 1", "a condition looks at p.active"),
        ("o.id", left, "ORDER BY p.name LIMIT 5", "a condition looks at p.name"),
        ("o.id", left, "AND active = 1", "looks at a column without its table"),
        ("o.id, p.name", join, "ORDER BY 2 LIMIT 5", "looks at a column without its table"),
        ("o.id", "LEFT JOIN shop.products p ON p.id > o.product_id", "", "no column of p must equal one"),
        ("o.id", "RIGHT JOIN shop.products p ON p.id = o.product_id", "", "only JOIN and LEFT JOIN"),
        ("o.id", "JOIN shop.products p USING (product_id)", "", "USING does not name the tables"),
        ("o.id", "JOIN (SELECT id FROM shop.products) p ON p.id = o.product_id", "", "it has a subquery"),
    ] {
        let found = why(select, from, rest);
        assert!(
            found.contains("nor can a tag tell") && found.contains(expected),
            "{expected}\nnot in\n{found}"
        );
    }
}

#[test]
fn what_a_change_does_and_how_far_ahead_hot_keys_are_filled_is_read_and_checked() {
    let catalog =
        Catalog::parse("f.toml", &format!("{USER}on_change = \"reload\"\nrefresh_ahead = 0.2\n")).unwrap();
    let group = &catalog.groups()[0];
    assert_eq!((group.on_change, group.refresh_ahead), (crate::OnChange::Reload, Some(0.2)));
    let plain = Catalog::parse("f.toml", USER).unwrap();
    assert_eq!(
        (plain.groups()[0].on_change, plain.groups()[0].refresh_ahead),
        (crate::OnChange::Remove, None)
    );
    let found = problems(&format!("{USER}on_change = \"refill\"\nrefresh_ahead = 1\n"));
    assert!(
        found.contains(
            "f.toml:5: group user: on_change = \"refill\" is unknown; write \"remove\" or \"reload\""
        ),
        "{found}"
    );
    assert!(found.contains("f.toml:6: group user: refresh_ahead = 1 is no share"), "{found}");
    let aside = "[[group]]\nname = \"user\"\nkey = \"user:{id:u64}\"\nrules = \"none\"\non_change = \"reload\"\nrefresh_ahead = 0.1\n";
    let found = problems(aside);
    assert!(
        found.contains("it has no query to load by") && found.contains("refresh_ahead needs a query"),
        "{found}"
    );
}

#[test]
fn a_query_that_asks_the_clock_is_warned_of_once() {
    let told = |condition: &str| {
        problems(&format!(
            "[[group]]\nname = \"sale\"\nkey = \"sale:{{id:u64}}\"\n\
             query = \"SELECT id FROM shop.sales WHERE id = {{id}} {condition}\"\n"
        ))
    };
    let text = told("AND begins_at < NOW() AND ends_at > NOW() AND day = CURRENT_DATE");
    assert!(
        text.contains("group sale: the query asks NOW(), CURRENT_DATE(), whose answer changes"),
        "{text}"
    );
    assert_eq!(text.matches("whose answer changes").count(), 1, "{text}");
    assert_eq!(told("AND begins_at < '2026-01-01'"), "no problem: []");
}

const PLAIN: &str =
    "[[group]]\nname = \"session\"\nkind = \"plain\"\nkey = \"session:{user:u64}:{id:u64}\"\n";

#[test]
fn a_plain_group_needs_no_rule_and_says_nothing_of_databases() {
    assert_eq!(problems(&format!("{PLAIN}ttl = \"1h\"\nmax_value = \"1KiB\"\n")), "no problem: []");
    let rule = "[[rule]]\ntable = \"shop.users\"\ngroups = [\"session\"]\n";
    let catalog = Catalog::parse("f.toml", &format!("{PLAIN}{rule}")).unwrap();
    let group = catalog.group("session").unwrap();
    assert!(group.is_plain() && !group.is_look_aside() && !group.is_filled() && group.ttl_jitter == 0.0);
    assert_eq!(catalog.tables().len(), 1, "a rule may flush it");
    for line in [
        "query = \"SELECT id FROM shop.a WHERE id = {id} AND u = {user}\"",
        "rows = \"many\"",
        "rules = \"none\"",
        "ignore = [\"shop.a\"]",
        "negative_ttl = \"1s\"",
        "ttl_jitter = 0.1",
        "binary = \"hex\"",
        "max_staleness = \"1s\"",
        "stale_if_error = \"1m\"",
        "refresh_ahead = 0.1",
        "on_change = \"reload\"",
    ] {
        let found = problems(&format!("{PLAIN}{line}\n"));
        let field = line.split(' ').next().unwrap();
        assert!(
            found.starts_with(&format!("f.toml:5: group session: a plain group has no {field}; ")),
            "{found}"
        );
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let other = problems(&PLAIN.replace("plain", "sets"));
    assert!(
        other.contains("f.toml:3: group session: kind = \"sets\" is unknown; write \"plain\""),
        "{other}"
    );
}

#[test]
fn a_plain_groups_tags_are_made_of_its_key() {
    let tagged = format!("{PLAIN}tags = [\"user:{{user:u64}}\"]\n");
    let rule = "[[rule]]\ntable = \"shop.users\"\ntags = [\"user:{id}\"]\n";
    let catalog = Catalog::parse("f.toml", &format!("{tagged}{rule}")).unwrap();
    let tagging = &catalog.group("session").unwrap().tagging;
    assert!(tagging.tags.is_empty() && tagging.of_key.len() == 1);
    let key = catalog.resolve("session:7:9").unwrap();
    assert_eq!(&*tagging.of_key[0].render(&key), "user:7");
    assert_eq!(catalog.carriers("user:7").len(), 1);
    let found = problems(&format!("{PLAIN}tags = [\"user:{{owner:u64}}\"]\n"));
    assert!(found.contains("is not made of the key alone; use parameters of the key"), "{found}");
}

#[test]
fn what_may_have_changed_reaches_a_plain_group_by_its_rules_alone() {
    let query =
        "SELECT u.id, c.name FROM shop.users u LEFT JOIN shop.cities c ON c.id = u.city WHERE u.id = {id}";
    let user = format!("[[group]]\nname = \"user\"\nkey = \"user:{{id:u64}}\"\nquery = \"{query}\"\n");
    let keyed = "[[rule]]\ntable = \"shop.bans\"\nkeys = [\"session:{user_id}:{id}\"]\n";
    let whole = "[[rule]]\ntable = \"shop.bans\"\ngroups = [\"session\"]\n";
    let tagged = "tags = [\"user:{user:u64}\"]\n";
    let banned = "[[rule]]\ntable = \"shop.bans\"\ntags = [\"user:{user_id}\"]\n";
    for (more, reached) in [
        ("", false),
        (tagged, false),
        (keyed, true),
        (whole, true),
        (&*format!("{tagged}{banned}"), true),
        // By a tag that the other group's query has made.
        ("tags = [\"shop.cities.id={user:u64}\"]\n", true),
    ] {
        let text = format!("{user}{PLAIN}{more}");
        let catalog = Catalog::parse("f.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        let groups: Vec<_> =
            catalog.reached().iter().map(|id| &*catalog.groups()[usize::from(id.0)].name).collect();
        assert_eq!(groups.contains(&"session"), reached, "{more}");
        assert!(groups.contains(&"user"), "{more}");
    }
}

#[test]
fn a_plain_group_and_a_look_aside_group_are_never_taken_for_each_other() {
    let plain = Catalog::parse("f.toml", PLAIN).unwrap();
    let aside = PLAIN.replace("kind = \"plain\"", "rules = \"none\"");
    let aside = Catalog::parse("f.toml", &aside).unwrap();
    assert_ne!(plain.group("session").unwrap().digest, aside.group("session").unwrap().digest);
}
