use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// A statement of the corpus, and what it must flush at least.
struct Case {
    expected: Vec<String>,
    session: String,
    sql: String,
    origin: String,
}

/// Statements of manuals and tools, each with what must be flushed at least; `tests/data/ddl.tsv` says how it is written.
fn corpus() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ddl.tsv");
    let text = std::fs::read_to_string(path).expect("the corpus can be read");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let [expected, session, sql, origin] = *line.split('\t').collect::<Vec<_>>() else {
                panic!("not four fields: {line:?}")
            };
            Case {
                expected: expected.split(',').map(|name| name.trim().to_owned()).collect(),
                session: session.to_owned(),
                sql: sql.replace("\\n", "\n").replace("\\t", "\t"),
                origin: origin.to_owned(),
            }
        })
        .collect()
}

/// Whether a flush of `concerned` covers what `expected` names.
fn covers(concerned: Option<&Concerned>, expected: &str) -> bool {
    match (concerned, expected) {
        (_, "nothing") | (Some(Concerned::Everything), _) => true,
        (None, _) | (_, "all") => false,
        (Some(Concerned::Database(name)), expected) => match expected.split_once(':') {
            Some(("db", database)) => alike(name, database),
            _ => expected.split_once('.').is_some_and(|(database, _)| alike(name, database)),
        },
        (Some(Concerned::Tables(_)), expected) if expected.starts_with("db:") => false,
        (Some(Concerned::Tables(named)), expected) => {
            let (database, table) = expected.split_once('.').expect("a table has a database");
            let database = (database != "*").then(|| database.to_owned());
            let expected = Named { database, table: table.to_owned(), object: super::super::Object::Table };
            named.iter().any(|named| named.covers(&expected))
        }
    }
}

/// Whether `concerned` flushes what `expected` doesn't name.
fn is_more(concerned: Option<&Concerned>, expected: &[String]) -> bool {
    match concerned {
        None => false,
        Some(Concerned::Everything) => expected != ["all"],
        Some(Concerned::Database(name)) => *expected != [format!("db:{name}")] && expected != ["all"],
        Some(Concerned::Tables(named)) => named.iter().any(|named| {
            let same = |expected: &str| {
                expected.split_once('.').is_some_and(|(database, table)| {
                    alike(table, &named.table)
                        && named.database.as_deref().is_none_or(|of| database == "*" || alike(of, database))
                })
            };
            !expected.iter().any(|expected| expected == "all" || same(expected))
        }),
    }
}

/// Which table the program at hand tells of: any of those that the statement changes, or none.
fn told(case: &Case) -> Vec<(String, String)> {
    let named = case.expected.iter().filter(|expected| !expected.starts_with("db:"));
    let mut told: Vec<_> = named
        .filter_map(|name| name.split_once('.'))
        .filter(|(database, _)| *database != "*")
        .map(|(database, table)| (database.to_owned(), table.to_owned()))
        .collect();
    told.push((String::new(), String::new()));
    told
}

/// The type that Canal gives a statement.
fn canals_kind(sql: &str) -> &'static str {
    let tokens = tokens::tokens(sql, tokens::readings(sql)[0]).unwrap_or_default();
    let at = Cursor::new(&tokens);
    let kinds = [
        ("CREATE", "CREATE"),
        ("ALTER", "ALTER"),
        ("DROP", "ERASE"),
        ("RENAME", "RENAME"),
        ("TRUNCATE", "TRUNCATE"),
        ("INSERT", "INSERT"),
        ("UPDATE", "UPDATE"),
        ("DELETE", "DELETE"),
    ];
    kinds.iter().find(|(word, _)| at.is(word)).map_or("QUERY", |(_, kind)| *kind)
}

#[test]
fn the_corpus_misses_nothing_and_flushes_little_more() {
    let cases = corpus();
    assert!(cases.len() >= 300, "{} statements", cases.len());
    let mut wrong = String::new();
    for source in ["binlog", "canal", "debezium"] {
        let mut more = Vec::new();
        for case in &cases {
            let found: Vec<Option<Concerned>> = match source {
                "binlog" => vec![statement(Session::Of(&case.session), &case.sql).0],
                "canal" => {
                    let message = |(database, table): (String, String)| {
                        let kind = if table.is_empty() { "QUERY" } else { canals_kind(&case.sql) };
                        message(kind, &database, &table, &case.sql).0
                    };
                    told(case).into_iter().map(message).collect()
                }
                _ => told(case)
                    .into_iter()
                    .map(|told| statement(Session::Changed(&[told]), &case.sql).0)
                    .collect(),
            };
            let Case { expected, sql, origin, .. } = case;
            for found in &found {
                if let Some(lacks) = expected.iter().find(|expected| !covers(found.as_ref(), expected)) {
                    let _ = writeln!(wrong, "{source}: misses {lacks}: {found:?}: {sql} ({origin})");
                }
            }
            if found.iter().any(|found| is_more(found.as_ref(), expected)) {
                more.push(format!("{source}: more than {expected:?}: {:?}: {sql} ({origin})", found[0]));
            }
        }
        for more in &more {
            println!("{more}");
        }
        if more.len() > 3 {
            let _ = writeln!(wrong, "{}", more.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// `Some("*.a")` for a table in any database.
fn of(session: Session<'_>, sql: &str) -> String {
    statement(session, sql).0.map_or_else(|| "nothing".to_owned(), |concerned| concerned.to_string())
}

#[test]
fn names_without_a_database_are_of_any_unless_the_session_is_known() {
    let changed = |database: &str, table: &str, sql: &str| {
        of(Session::Changed(&[(database.to_owned(), table.to_owned())]), sql)
    };
    let swap = "rename table user to archive.user_2026, user_new to user";
    assert_eq!(changed("archive", "user_2026", swap), "*.user, archive.user_2026, *.user_new");
    assert_eq!(changed("shop", "user", swap), "shop.user, archive.user_2026, shop.user_new");
    assert_eq!(of(Session::Of("shop"), swap), "shop.user, archive.user_2026, shop.user_new");
    assert_eq!(of(Session::Of(""), "DROP TABLE a"), "*.a");
    assert_eq!(changed("", "", "DROP TABLE a, b.c"), "*.a, b.c");
    assert_eq!(changed("archive", "a", "DROP TABLE archive.a, a"), "archive.a, *.a");
    assert_eq!(changed("shop", "A", "DROP TABLE a, b"), "shop.a, shop.b");
    let joined = "UPDATE users u JOIN archive.users a ON u.id = a.id SET u.name = a.name";
    assert_eq!(changed("archive", "users", joined), "*.users", "what is read has the name too");
    assert_eq!(changed("shop", "users", joined), "*.users");
    let both = [("shop".to_owned(), "a".to_owned()), ("crm".to_owned(), "b".to_owned())];
    assert_eq!(of(Session::Changed(&both), "DROP TABLE a, b"), "*.a, *.b", "told two sessions");
}

#[test]
fn rows_of_statements_are_those_of_the_tables_that_change() {
    for (sql, expected) in [
        ("UPDATE users, users_old SET users.name='q', users_old.name='q'", "s.users, s.users_old"),
        ("UPDATE a JOIN b ON a.x = b.x SET a.y = b.y", "s.a"),
        ("UPDATE a x, d.b y SET y.c = 1", "d.b"),
        ("UPDATE a, b SET c = 1", "s.a, s.b"),
        ("UPDATE (a, b) LEFT JOIN (c CROSS JOIN d) USING (id) SET n = 1", "s.a, s.b, s.c, s.d"),
        ("UPDATE a PARTITION (p0, p1) AS z USE INDEX (i, j), (SELECT x FROM q) d SET z.n = d.n", "s.a"),
        ("UPDATE t SET a = (SELECT b FROM u WHERE c = 1), d = 2 WHERE e = 3", "s.t"),
        ("DELETE a, b.* FROM a JOIN d.b JOIN c WHERE a.id = c.id", "s.a, d.b"),
        ("DELETE FROM x, y USING a AS x, b y, c WHERE x.i = y.i", "s.a, s.b"),
        ("DELETE LOW_PRIORITY QUICK FROM d.t AS x WHERE 1", "d.t"),
        ("DELETE q FROM a", "s.a, s.q"),
        ("WITH c AS (SELECT 1), e (x) AS (SELECT 2) UPDATE t, c SET n = 1", "s.t"),
        ("INSERT INTO a SELECT * FROM b", "s.a"),
        ("REPLACE d.a VALUES (1)", "d.a"),
        ("LOAD DATA LOCAL INFILE 'into table x' IGNORE INTO TABLE d.a (x)", "d.a"),
        ("SET STATEMENT max_statement_time=1 FOR DELETE FROM a", "s.a"),
        ("CALL p()", "everything"),
        ("SELECT f()", "everything"),
        ("ANALYZE DELETE FROM a", "everything"),
        ("BEGIN NOT ATOMIC DELETE FROM a; END", "everything"),
        ("EXECUTE IMMEDIATE 'DROP TABLE a'", "everything"),
    ] {
        assert_eq!(of(Session::Of("s"), sql), expected, "{sql}");
    }
}

#[test]
fn what_servers_may_read_differently_is_the_sum_of_it() {
    for (sql, expected) in [
        // With NO_BACKSLASH_ESCAPES the string ends before RENAME.
        (r"ALTER TABLE t COMMENT 'a\', RENAME TO u, COMMENT 'b'", "s.t, s.u"),
        (r"ALTER TABLE t ADD c INT COMMENT 'it\'s', RENAME u", "s.t, s.u"),
        ("DROP TABLE a /*!99999 , b */", "s.a, s.b"),
        ("DROP TABLE a /*M! , b */", "s.a, s.b"),
        ("/*!40000 DROP TABLE a */", "s.a"),
        ("DROP TABLE \"a\"", "s.a"),
        ("DROP TABLE a; DROP TABLE b", "s.a, s.b"),
        ("-- only a comment", "nothing"),
        ("", "everything"),
        ("DROP TABLE 'a", "everything"),
        ("DROP TABLE \u{fffd}t\u{fffd}", "everything"),
    ] {
        assert_eq!(of(Session::Of("s"), sql), expected, "{sql}");
    }
}

/// Nobody waits for them, and no stack is full of them.
#[test]
fn texts_made_to_hurt_are_not_understood_and_cost_little() {
    let begun = std::time::Instant::now();
    let many = |piece: &str, times: usize| piece.repeat(times);
    let numbered = |most: usize, between: &str| {
        (0..most).fold(String::new(), |mut text, at| {
            let _ = write!(text, "t{at}{between}");
            text
        })
    };
    for sql in [
        format!("DROP TABLE {}a", numbered(100_000, ",")),
        format!("DROP TABLE {}a", numbered(50_000, "; DROP TABLE ")),
        format!("UPDATE {}a SET a.b = 1", numbered(100_000, ",")),
        format!("DELETE {}a FROM a", numbered(100_000, ",")),
        format!("UPDATE a, b SET {}a.b = 1", many("a.b = 1,", 100_000)),
        format!("UPDATE {}", many("{a ", 300_000)),
        format!("UPDATE {}", many("(", 500_000)),
        format!("UPDATE {}a{} SET b = 1", many("(", 100_000), many(")", 100_000)),
        format!("WITH {}a AS (SELECT 1) UPDATE t SET c = 1", many("x AS (SELECT 1),", 60_000)),
        format!("ALTER TABLE t {}", many("ADD c INT,", 100_000)),
        format!("ALTER TABLE t {}", many("RENAME x,", 100_000)),
        many("SET STATEMENT a = 1 FOR ", 40_000),
        many("/*!99999 ", 100_000),
        many("/*!99999 a */", 70_000),
        many("'\\\\'", 200_000),
        many("`", 1 << 20),
    ] {
        let of_any = statement(Session::Changed(&[("s".to_owned(), "t1".to_owned())]), &sql).0;
        assert!(of_any.is_some(), "{sql:.60}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_message_of_canal_counts_beside_its_text() {
    let said = |kind: &str, database: &str, table: &str, sql: &str| {
        message(kind, database, table, sql).0.map_or_else(|| "nothing".to_owned(), |c| c.to_string())
    };
    assert_eq!(said("RENAME", "s", "b", "RENAME TABLE a TO b"), "s.a, s.b");
    assert_eq!(
        said("QUERY", "", "", "RENAME TABLES user TO user_old, user_new TO user"),
        "*.user, *.user_old, *.user_new"
    );
    assert_eq!(said("CINDEX", "s", "t", "CREATE INDEX i ON t(a)"), "nothing");
    assert_eq!(said("CINDEX", "s", "t", "ALTER TABLE t ADD COLUMN c INT, ADD INDEX (c)"), "s.t");
    assert_eq!(said("TRUNCATE", "s", "t", ""), "s.t");
    assert_eq!(said("ERASE", "s", "t", ""), "everything");
    assert_eq!(said("TRUNCATE", "", "", "TRUNCATE t"), "*.t");
    assert_eq!(said("RENAME", "s", "t", "RENAME GARBAGE"), "everything");
    assert_eq!(said("ALTER", "s", "t", "ALTER TABLE t EXCHANGE PARTITION p WITH TABLE u"), "s.t, s.u");
    assert_eq!(said("UPDATE", "s", "u", "UPDATE u, v SET u.a = 1, v.a = 1"), "s.u, s.v");
    assert_eq!(said("QUERY", "", "", "DROP DATABASE IF EXISTS zz"), "zz.*");
}

/// The pieces of a text between which nothing changes if spaces and comments come.
fn pieces(sql: &str) -> Vec<String> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut pieces: Vec<String> = Vec::new();
    let mut quote = None;
    for letter in sql.chars() {
        let joins = pieces.last().is_some_and(|last| last.chars().all(word)) && word(letter);
        match quote {
            Some(open) => {
                pieces.last_mut().expect("a quote has begun").push(letter);
                if letter == open {
                    quote = None;
                }
            }
            None if joins => pieces.last_mut().expect("a word has begun").push(letter),
            None => {
                quote = Some(letter).filter(|letter| "'`\"".contains(*letter));
                pieces.push(letter.to_string());
            }
        }
    }
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

proptest! {
    #[test]
    fn no_text_panics(sql in "\\PC{0,80}", kind in "[A-Z]{0,8}") {
        let _ = statement(Session::Of("s"), &sql);
        let _ = message(&kind, "s", "t", &sql);
    }

    /// Words in any order, among which whole statements come.
    #[test]
    fn no_words_panic(words in proptest::collection::vec(
        proptest::sample::select(vec!["ALTER", "TABLE", "RENAME", "TO", "a", ".", "`b`", ",", "(", ")", "UPDATE", "SET", "=", "1", "JOIN", "DELETE",
            "FROM", "USING", "'x'", "/*", "*/", "/*!", ";", "WITH", "AS", "DROP", "EXCHANGE", "PARTITION", "CREATE", "VIEW", "*", "\\", "INDEX"]), 0..24)) {
        let _ = statement(Session::Of("s"), &words.join(" "));
    }

    /// Comments, spaces and the case of keywords say nothing.
    #[test]
    fn comments_and_case_change_nothing(seed in any::<u64>()) {
        let cases: Vec<Case> = corpus().into_iter().filter(|case| !case.sql.contains(['\\', '#', '-']) && !case.sql.contains("/*") && !["''", "``", "\"\""].iter().any(|twice| case.sql.contains(twice))).collect();
        let case = &cases[seed as usize % cases.len()];
        let between = [" ", "\n", " /* DROP TABLE x */ ", "\t-- RENAME\n", " # y\n", "/**/", "/*+ hint */"];
        let mut state = seed;
        let mut text = String::new();
        for piece in pieces(&case.sql) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(between[(state >> 33) as usize % between.len()]);
            let plain = piece.chars().all(|c| c.is_ascii_alphabetic());
            text.push_str(&if plain && state & 1 << 40 != 0 { piece.to_ascii_uppercase() } else { piece });
        }
        let before = of(Session::Of("s"), &case.sql).to_lowercase();
        prop_assert_eq!(of(Session::Of("s"), &text).to_lowercase(), before, "{}", text);
    }

    /// What nobody knows never hides a table.
    #[test]
    fn an_unknown_clause_never_hides_a_table(seed in any::<usize>(), clause in "[A-Z]{5,9} [a-z]{1,5}( [A-Z]{5,9})?") {
        let cases: Vec<Case> = corpus().into_iter().filter(|case| !case.sql.contains("/*!") && !case.sql.contains("--")).collect();
        let case = &cases[seed % cases.len()];
        let sql = case.sql.trim_end().trim_end_matches(';');
        for text in [format!("{sql} {clause}"), format!("{sql}, {clause}")] {
            let found = statement(Session::Of(&case.session), &text).0;
            for expected in &case.expected {
                prop_assert!(covers(found.as_ref(), expected), "{:?} lacks {}: {}", found, expected, text);
            }
        }
    }
}
