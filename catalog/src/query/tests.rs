use super::*;

fn parse(key: &str, sql: &str) -> (Query, Vec<TableRef>) {
    let template = Template::parse(key).unwrap();
    Query::parse(sql, &template, Some("shop")).unwrap_or_else(|problems| panic!("{sql}: {problems:?}"))
}

/// `table:column,column` for each place, `-` for a parameter without a column.
fn derived(key: &str, sql: &str) -> Vec<String> {
    let show = |place: &TableRef| {
        let columns: Vec<&str> =
            place.columns.iter().map(|column| column.as_deref().unwrap_or("-")).collect();
        format!("{}:{}", place.table.table, columns.join(","))
    };
    parse(key, sql).1.iter().map(show).collect()
}

fn refused(key: &str, sql: &str) -> String {
    let template = Template::parse(key).unwrap();
    let problems = Query::parse(sql, &template, None).map(|_| ()).unwrap_err();
    problems.iter().map(|(message, remedy)| format!("{message}; {remedy}")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_columns_that_tell_the_key_are_found() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT * FROM users WHERE id = {id}", &["users:id"]),
        ("SELECT * FROM shop.users u WHERE (u.active = 1 AND {id} = u.id)", &["users:id"]),
        ("SELECT * FROM users WHERE id IN ({id}) ORDER BY name LIMIT 3", &["users:id"]),
        ("SELECT * FROM users WHERE id = {id} COLLATE utf8mb4_bin", &["users:id"]),
        ("SELECT * FROM users WHERE id = {id} COLLATE utf8mb4_general_ci", &["users:-"]),
        ("SELECT COUNT(*) FROM orders WHERE user_id = {id}", &["orders:user_id"]),
        (
            "SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {id}",
            &["users:id", "orders:user_id"],
        ),
        (
            "SELECT * FROM users u, orders o WHERE o.user_id = u.id AND u.id = {id}",
            &["users:id", "orders:user_id"],
        ),
        (
            "SELECT * FROM users JOIN orders USING (user_id) WHERE users.user_id = {id}",
            &["users:user_id", "orders:user_id"],
        ),
        (
            "SELECT * FROM shop.users JOIN shop.orders ON shop.orders.u = shop.users.id WHERE users.id = {id}",
            &["users:id", "orders:u"],
        ),
        ("SELECT * FROM a JOIN b ON b.x = a.x JOIN c ON c.y = b.x WHERE c.y = {id}", &["a:x", "b:x", "c:y"]),
        (
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = {id}",
            &["users:id", "orders:user_id"],
        ),
        (
            "SELECT * FROM orders o RIGHT JOIN users u ON o.user_id = u.id WHERE u.id = {id}",
            &["orders:user_id", "users:id"],
        ),
        (
            "SELECT * FROM u LEFT JOIN (o JOIN i ON i.order_id = o.id AND i.user_id = o.user_id) ON o.user_id = u.id WHERE u.id = {id}",
            &["u:id", "o:user_id", "i:user_id"],
        ),
        (
            "SELECT * FROM users u WHERE u.id = {id} AND EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id)",
            &["users:id", "orders:user_id"],
        ),
        (
            "SELECT u.id, (SELECT COUNT(*) FROM orders WHERE orders.user_id = u.id) AS n FROM users u WHERE u.id = {id}",
            &["users:id", "orders:user_id"],
        ),
        (
            "SELECT * FROM users u WHERE u.id = {id} AND u.id IN (SELECT v.user_id FROM vips v)",
            &["users:id", "vips:user_id"],
        ),
        (
            "SELECT * FROM users u LEFT JOIN (SELECT user_id, SUM(total) t FROM orders GROUP BY user_id) s ON s.user_id = u.id WHERE u.id = {id}",
            &["users:id", "orders:user_id"],
        ),
        ("SELECT * FROM (SELECT * FROM users) u WHERE u.id = {id}", &["users:id"]),
        (
            "WITH o AS (SELECT user_id AS owner, total FROM orders) SELECT * FROM o WHERE o.owner = {id}",
            &["orders:user_id"],
        ),
        ("WITH users AS (SELECT * FROM users WHERE id = {id}) SELECT * FROM users", &["users:id"]),
        (
            "SELECT id FROM a WHERE id = {id} UNION ALL SELECT id FROM b WHERE b.a_id = {id}",
            &["a:id", "b:a_id"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(derived("k:{id:u64}", sql), *expected, "{sql}");
    }
    assert_eq!(derived("k:{a:u64}:{b:str}", "SELECT * FROM t WHERE (x, y) = ({a}, {b})"), ["t:x,y"]);
    assert_eq!(
        derived("k:{a:u64}:{b:str}", "SELECT * FROM t JOIN s ON s.x = t.x WHERE t.x = {a} AND t.y = {b}"),
        ["t:x,y", "s:x,-"]
    );
    assert_eq!(derived("settings", "SELECT * FROM settings"), ["settings:"]);
}

#[test]
fn what_a_row_does_not_tell_is_not_claimed() {
    let cases: &[(&str, &[&str])] = &[
        ("SELECT * FROM users WHERE id = {id} OR parent = {id}", &["users:-"]),
        ("SELECT * FROM users WHERE id > {id}", &["users:-"]),
        ("SELECT * FROM users WHERE NOT id = {id}", &["users:-"]),
        ("SELECT * FROM users WHERE LOWER(id) = {id}", &["users:-"]),
        ("SELECT * FROM users WHERE id NOT IN ({id})", &["users:-"]),
        (
            "SELECT * FROM orders o JOIN products p ON p.id = o.product_id WHERE o.id = {id}",
            &["orders:id", "products:-"],
        ),
        // The condition of an outer join says nothing about the rows that it keeps.
        (
            "SELECT * FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = {id}",
            &["users:-", "orders:user_id"],
        ),
        (
            "SELECT * FROM users u RIGHT JOIN orders o ON o.user_id = u.id AND o.user_id = {id}",
            &["users:id", "orders:-"],
        ),
        // Rows of other keys decide what is within the limit, in the window, or in the group.
        (
            "SELECT * FROM (SELECT user_id FROM orders ORDER BY total LIMIT 10) o WHERE o.user_id = {id}",
            &["orders:-"],
        ),
        (
            "SELECT * FROM (SELECT user_id, RANK() OVER (ORDER BY total) r FROM orders) o WHERE o.user_id = {id}",
            &["orders:-"],
        ),
        (
            "SELECT * FROM (SELECT status, user_id FROM orders GROUP BY status) o WHERE o.user_id = {id}",
            &["orders:-"],
        ),
        (
            "SELECT * FROM (SELECT user_id FROM a UNION SELECT user_id FROM b) o WHERE o.user_id = {id}",
            &["a:-", "b:-"],
        ),
        (
            "SELECT * FROM users u WHERE u.id = {id} AND u.id NOT IN (SELECT b.user_id FROM banned b)",
            &["users:id", "banned:-"],
        ),
        ("SELECT * FROM a NATURAL JOIN b WHERE a.id = {id}", &["a:id", "b:-"]),
        (
            "WITH RECURSIVE t AS (SELECT id FROM c WHERE id = {id} UNION ALL SELECT c.id FROM c JOIN t ON c.parent = t.id) SELECT * FROM t",
            &["c:id", "c:-"],
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(derived("k:{id:u64}", sql), *expected, "{sql}");
    }
}

#[test]
fn the_columns_that_a_query_reads_are_known_where_names_are_clear() {
    let used = |sql: &str| {
        let show = |place: &TableRef| place.used.as_ref().map_or("*".to_owned(), |used| used.join(","));
        parse("k:{id:u64}", sql).1.iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(used("SELECT name, UPPER(email) FROM users WHERE id = {id}"), ["name,email,id"]);
    assert_eq!(
        used("SELECT u.name FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {id}"),
        ["name,id", "user_id"]
    );
    assert_eq!(used("SELECT * FROM users WHERE id = {id}"), ["*"]);
    assert_eq!(used("SELECT a AS b FROM users WHERE id = {id} ORDER BY b"), ["*"]);
    assert_eq!(
        used("SELECT name FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = {id}"),
        ["*", "*"]
    );
    assert_eq!(used("SELECT name FROM users WHERE id = {id} AND MATCH (bio) AGAINST ('x')"), ["*"]);
}

#[test]
fn only_one_select_with_the_templates_parameters_is_a_query() {
    for (sql, part) in [
        ("UPDATE shop.t SET a = {id}", "no SELECT"),
        ("SELECT 1 FROM shop.t WHERE id = {id}; SELECT 2", "several statements"),
        ("SELECT * FROM shop.t WHERE id = {idd}", "did you mean {id}?"),
        ("SELECT * FROM shop.t", "does not use {id}"),
        ("SELECT * FROM t WHERE id = {id}", "has no database"),
        ("SELECT * FROM shop.t WHERE id = {id} FOR UPDATE", "takes no locks"),
        ("SELECT * FROM shop.t WHERE id = ?", "write {param}"),
        ("SELEC * FROM shop.t WHERE id = {id}", "can't be read"),
        ("SELECT * FROM shop.t WHERE id = {id} AND name = 'x", "is not closed"),
        ("", "does not use {id}"),
    ] {
        let error = refused("k:{id:u64}", sql);
        assert!(error.contains(part), "{sql}: {error}");
    }
}

#[test]
fn placeholders_follow_the_text_and_the_batch_asks_for_many() {
    let (query, _) = parse("k:{a:u64}:{b:str}", "SELECT x FROM t WHERE b = {b} AND a = {a} ORDER BY x;");
    assert_eq!(query.render(), ("SELECT x FROM t WHERE b = ? AND a = ? ORDER BY x", &[1, 0][..]));
    let batched = query.batched().unwrap();
    assert_eq!(batched.params(), [1, 0]);
    assert_eq!(batched.key_columns(), ["__freshline_key_0", "__freshline_key_1"]);
    assert_eq!(
        batched.sql(Dialect::MySql, 2),
        "SELECT x, b AS __freshline_key_0, a AS __freshline_key_1 FROM t WHERE (b, a) IN ((?, ?), (?, ?)) AND 1 = 1 ORDER BY x"
    );
    assert!(batched.sql(Dialect::Sqlite, 1).contains("(b, a) IN (VALUES (?, ?)) AND"));

    let (query, _) =
        parse("k:{id:u64}", "SELECT u.*\n -- all of it\nFROM users u WHERE u.`id` IN ({id}) AND u.gone = 0");
    assert_eq!(
        query.batched().unwrap().sql(Dialect::MySql, 3),
        "SELECT u.*\n -- all of it\n, u.`id` AS __freshline_key FROM users u WHERE u.`id` IN (?, ?, ?) AND u.gone = 0"
    );
}

#[test]
fn what_looks_across_rows_is_never_batched() {
    for sql in [
        "SELECT * FROM t WHERE id = {id} LIMIT 3",
        "SELECT COUNT(*) FROM t WHERE id = {id}",
        "SELECT DISTINCT a FROM t WHERE id = {id}",
        "SELECT a FROM t WHERE id = {id} GROUP BY a",
        "SELECT a FROM t WHERE id = {id} OR a = 1",
        "SELECT a, RANK() OVER (ORDER BY a) FROM t WHERE id = {id}",
        "SELECT a FROM t WHERE id = {id} UNION SELECT a FROM s WHERE id = {id}",
        "SELECT a, (SELECT 1 FROM s WHERE s.id = t.id) FROM t WHERE id = {id}",
        "SELECT a FROM (SELECT * FROM t) t WHERE id = {id}",
        "SELECT a FROM t WHERE id = {id} AND b = {id}",
        "SELECT a FROM t LEFT JOIN s ON s.id = t.id AND t.x = {id}",
        "SELECT a FROM t WHERE {id} = id",
    ] {
        assert!(parse("k:{id:u64}", sql).0.batched().is_none(), "{sql}");
    }
}

#[test]
fn each_subquery_is_read_wherever_it_stands() {
    let sql = "SELECT (SELECT COUNT(*) FROM a WHERE a.k IN (SELECT b.k FROM b) AND a.k = t.k) x, \
               (SELECT COUNT(*) FROM c WHERE c.k IN (SELECT d.k FROM d) AND c.k = t.k) y \
               FROM t WHERE t.k = {id} AND EXISTS (SELECT 1 FROM e WHERE e.k IN (SELECT f.k FROM f) AND e.k = t.k) \
               AND t.z NOT IN (SELECT g.z FROM g WHERE g.k = {id}) \
               ORDER BY (SELECT MAX(h.z) FROM h WHERE h.k = {id})";
    let mut tables = derived("k:{id:u64}", sql);
    tables.sort();
    assert_eq!(tables, ["a:k", "b:k", "c:k", "d:k", "e:k", "f:k", "g:k", "h:k", "t:k"]);
}

#[test]
fn columns_inside_functions_and_json_paths_count_as_read() {
    let (_, places) = parse(
        "k:{id:u64}",
        "SELECT doc->>'$.a', EXTRACT(YEAR FROM born), CONVERT(bio USING utf8mb4), IF(x IS NULL, 1, y) \
         FROM t WHERE id = {id} AND z BETWEEN 1 AND 2 ORDER BY TRIM(w)",
    );
    let mut used = places[0].used.clone().unwrap();
    used.sort();
    assert_eq!(used.join(","), "bio,born,doc,id,w,x,y,z");
}
