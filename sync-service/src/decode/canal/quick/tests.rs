use proptest::prelude::*;

use super::*;

const UPDATE: &str = r#"{"data":[{"id":"7","User_Id":"9","note":"a \"b\" c","city":"Reykjavík","n":null}],"database":"shop","es":1795210153000,"gtid":"","id":3,"isDdl":false,"mysqlType":{"id":"bigint unsigned","user_id":"bigint","note":"varchar(20)","city":"varchar(9)","n":"int"},"old":[{"user_id":"8","note":null}],"pkNames":["id"],"sql":"","sqlType":{"id":-5,"user_id":-5,"note":12,"city":12,"n":4},"table":"orders","ts":1795210154360,"type":"UPDATE"}"#;

const NATIVE: &str = r#"{"type":"INSERT","table":"orders","database":"shop","data":[{"id":7,"user_id":true,"x":{"a":[1,{}],"b":[]}},null,{}],"old":null,"isDdl":null,"es":null,"mysqlType":null,"ts":-1,"sql":null}"#;

fn columns() -> Columns {
    let mut columns = Columns::default();
    columns.add("id");
    columns.add("user_id");
    columns
}

/// Reads with both passes; says whether the quick one did. What it accepts the other must accept, and understand in the same way.
fn check(message: &[u8], memos: &mut Memos) -> bool {
    let columns = columns();
    let (mut quick, mut slow) = (Scratch::default(), Scratch::default());
    let Some(envelope) = read(message, &mut quick, &columns, memos) else { return false };
    let mut expected = Envelope::default();
    let text = String::from_utf8_lossy(message);
    expected.read(message, &mut slow, &columns, false).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(format!("{envelope:?}"), format!("{expected:?}"), "{text}");
    assert_eq!(format!("{quick:?}"), format!("{slow:?}"), "{text}");
    true
}

#[test]
fn canals_own_form_is_read_quickly_and_in_the_same_way() {
    let mut memos = Memos::default();
    for _ in 0..2 {
        assert!(check(UPDATE.as_bytes(), &mut memos));
        assert!(check(NATIVE.as_bytes(), &mut memos));
    }
}

#[test]
fn types_are_remembered_and_reread_when_they_or_the_columns_change() {
    let mut memos = Memos::default();
    assert!(check(UPDATE.as_bytes(), &mut memos));
    let changed = UPDATE.replace("\"bigint unsigned\"", "\"binary(16)\"");
    assert!(check(changed.as_bytes(), &mut memos));
    assert!(check(UPDATE.as_bytes(), &mut memos));

    let mut more = columns();
    more.add("city");
    let mut scratch = Scratch::default();
    read(UPDATE.as_bytes(), &mut scratch, &more, &mut memos);
    assert_eq!(scratch.types.len(), 3);
}

#[test]
fn types_that_break_off_leave_no_memory_of_the_ones_before() {
    let mut memos = Memos::default();
    assert!(check(UPDATE.as_bytes(), &mut memos));
    let broken = UPDATE.replace("\"int\"}", "5}");
    assert!(!check(broken.as_bytes(), &mut memos));
    assert!(check(UPDATE.as_bytes(), &mut memos));
}

#[test]
fn types_that_came_as_something_else_before_are_read_again() {
    let mut memos = Memos::default();
    let other = UPDATE.replace("mysqlType", "elseTypes");
    assert!(check(other.as_bytes(), &mut memos));
    assert!(check(UPDATE.as_bytes(), &mut memos));
    assert!(check(other.as_bytes(), &mut memos));
}

#[test]
fn other_forms_are_left_to_the_other_pass() {
    let mut memos = Memos::default();
    for (from, to) in [
        (":[", ": ["),
        ("\"7\"", "1.5"),
        ("\"7\"", "-0"),
        ("\"7\"", "007"),
        ("\"7\"", "1234567890123456789"),
        ("\"7\"", "\"\\u0037\""),
        ("\"7\"", "[7]"),
        ("a \\\"b", "a \\ud800"),
        ("\"database\"", "\"data\\u0062ase\""),
        ("\"UPDATE\"}", "\"UPDATE\"}x"),
        ("\"UPDATE\"}", "\"UPDATE\""),
        ("\"UPDATE\"}", "\"UPDATE\",}"),
        ("\"int\"}", "5}"),
        ("false", "\"no\""),
    ] {
        let message = UPDATE.replacen(from, to, 1);
        assert_ne!(message, UPDATE);
        assert!(!check(message.as_bytes(), &mut memos), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_accepted_is_understood_in_the_same_way(
        native in any::<bool>(),
        changes in proptest::collection::vec((0..1000_usize, prop_oneof![Just(b'"'), Just(b'\\'), Just(b','), Just(b':'), Just(b'}'), Just(b']'), Just(b'0'), Just(b'-'), any::<u8>()], 0..3_u8), 1..4),
    ) {
        let mut memos = Memos::default();
        let mut message = if native { NATIVE } else { UPDATE }.as_bytes().to_vec();
        check(&message, &mut memos);
        for (at, byte, how) in changes {
            let at = at % message.len();
            match how {
                0 => message[at] = byte,
                1 => message.insert(at, byte),
                _ => drop(message.remove(at)),
            }
        }
        check(&message, &mut memos);
    }
}
