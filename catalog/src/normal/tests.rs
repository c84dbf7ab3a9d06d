use super::*;

/// `Ok(None)` is `NoKey`.
fn part(spec: &str, mysql_type: &str, text: &str) -> Result<Option<String>, &'static str> {
    let param = ParamType::from_spec(spec).unwrap();
    match param.normalize(Column::Text { text, mysql_type: Some(mysql_type) }) {
        Ok(Normal::Value(value)) => {
            let key = value.to_string();
            assert_eq!(param.parse(&key), Ok(value), "{spec} {mysql_type} {text:?}: the key part reads back");
            Ok(Some(key))
        }
        Ok(Normal::NoKey) => Ok(None),
        Err(ColumnError::Missing) => Err("missing"),
        Err(ColumnError::Type { .. }) => Err("type"),
        Err(ColumnError::Unreadable { .. }) => Err("unreadable"),
        Err(ColumnError::Value { .. }) => Err("value"),
    }
}

#[test]
fn every_mysql_type_has_one_key_part_for_what_canal_writes() {
    type Expected = Result<Option<&'static str>, &'static str>;
    let cases: &[(&str, &str, &str, Expected)] = &[
        ("u64", "tinyint unsigned", "255", Ok(Some("255"))),
        ("u64", "smallint", "7", Ok(Some("7"))),
        ("u64", "mediumint", "7", Ok(Some("7"))),
        ("u64", "int", "-7", Ok(None)),
        ("i64", "int", "-7", Ok(Some("-7"))),
        ("u64", "BIGINT UNSIGNED", "18446744073709551615", Ok(Some("18446744073709551615"))),
        ("i64", "bigint unsigned", "18446744073709551615", Ok(None)),
        ("u64", "int", "x", Err("value")),
        ("u64", "varchar(10)", "7", Err("type")),
        ("bool", "tinyint(1)", "1", Ok(Some("true"))),
        ("bool", "bool", "0", Ok(Some("false"))),
        ("bool", "tinyint(1)", "2", Ok(None)),
        ("u64", "bit(8)", "170", Ok(Some("170"))),
        ("bool", "bit(1)", "1", Ok(Some("true"))),
        ("u64", "year", "2026", Ok(Some("2026"))),
        ("u64", "decimal(10,0)", "101.0", Ok(Some("101"))),
        ("u64", "decimal(10,2)", "101.50", Ok(None)),
        ("decimal", "decimal(10,2)", "100.0", Ok(Some("100"))),
        ("decimal", "decimal(10,6)", "12345.678900", Ok(Some("12345.6789"))),
        ("decimal", "decimal(5,2)", "-0.50", Ok(Some("-0.5"))),
        ("decimal", "decimal(5,2)", "-0.0", Ok(Some("0"))),
        ("decimal", "int", "007", Ok(Some("7"))),
        ("decimal", "double", "1.0E10", Err("type")),
        ("u64", "float", "1.0", Err("type")),
        ("str", "double", "1.0", Err("type")),
        ("str", "json", "{}", Err("type")),
        ("str", "geometry", "x", Err("type")),
        ("hex", "json", "{}", Err("type")),
        ("date", "date", "2026-11-20", Ok(Some("2026-11-20"))),
        ("date", "date", "0000-00-00", Ok(Some("0000-00-00"))),
        ("date", "datetime", "2026-11-20 00:00:00", Ok(Some("2026-11-20"))),
        ("date", "datetime", "2026-11-20 00:00:01", Ok(None)),
        ("datetime", "datetime(6)", "2026-11-20 12:34:56.500000", Ok(Some("20261120T123456.5"))),
        ("datetime", "timestamp", "2026-11-20 12:34:56", Ok(Some("20261120T123456"))),
        ("datetime", "datetime", "0000-00-00 00:00:00", Ok(Some("00000000T000000"))),
        ("datetime", "date", "2026-11-20", Ok(Some("20261120T000000"))),
        ("time", "time(6)", "-01:02:03.000004", Ok(Some("-010203.000004"))),
        ("time", "time", "838:59:59", Ok(Some("8385959"))),
        ("str", "char(10)", "Ann", Ok(Some("Ann"))),
        ("str", "varchar(50)", "a:b c%", Ok(Some("a%3Ab%20c%25"))),
        ("str", "varchar(50)", "", Ok(None)),
        ("str", "longtext", "\u{1f600}é", Ok(Some("\u{1f600}é"))),
        ("str|lower", "varchar(50)", "Ann@X", Ok(Some("ann@x"))),
        ("str|lower|trim_end", "varchar(50)", "ANN  ", Ok(Some("ann"))),
        ("str|trim_end", "varchar(50)", "  ", Ok(None)),
        ("str", "NATIONAL VARCHAR(20)", "Ann", Ok(Some("Ann"))),
        ("str", "NVARCHAR(20)", "Ann", Ok(Some("Ann"))),
        ("str", "CHARACTER VARYING(20)", "Ann", Ok(Some("Ann"))),
        ("str", "LONG VARCHAR", "Ann", Ok(Some("Ann"))),
        ("u64", "INT8 UNSIGNED", "18446744073709551615", Ok(Some("18446744073709551615"))),
        ("i64", "MIDDLEINT", "-7", Ok(Some("-7"))),
        ("decimal", "FIXED(5,2)", "1.50", Ok(Some("1.5"))),
        ("hex", "CHAR(4) BYTE", "\u{1}", Ok(Some("01000000"))),
        ("hex", "LONG VARBINARY", "\u{1}", Ok(Some("01"))),
        ("str", "enum('a\\\\b','x')", "1", Err("value")),
        ("str", "enum('red','dark blue')", "2", Ok(Some("dark%20blue"))),
        ("str", "enum('red','dark blue')", "0", Ok(None)),
        ("str", "enum('red','dark blue')", "3", Err("value")),
        ("str", "set('a','b','c')", "5", Ok(Some("a,c"))),
        ("str", "set('a','b','c')", "0", Ok(None)),
        ("str", "set('a','b','c')", "9", Err("value")),
        ("hex", "binary(4)", "\u{1}\u{ee}", Ok(Some("01ee0000"))),
        ("hex", "binary(2)", "", Ok(Some("0000"))),
        ("hex", "varbinary(4)", "\u{1}\u{ee}", Ok(Some("01ee"))),
        ("hex", "blob", "\u{ff}", Ok(Some("ff"))),
        ("hex", "varbinary(4)", "\u{101}", Err("value")),
        ("hex", "varchar(4)", "ff", Err("type")),
        ("str", "varbinary(9)", "\u{c3}\u{a9}", Ok(Some("é"))),
        ("str", "varbinary(9)", "\u{ff}", Err("value")),
        ("uuid", "binary(16)", "\u{1}\u{2}", Ok(Some("01020000-0000-0000-0000-000000000000"))),
        (
            "uuid",
            "char(36)",
            "0188C9CE-1B6E-7C3A-9D2F-0123456789AB",
            Ok(Some("0188c9ce-1b6e-7c3a-9d2f-0123456789ab")),
        ),
        ("uuid", "char(36)", "none", Err("value")),
        ("uuid", "uuid", "garbage", Err("type")),
        ("str", "varchar(20)", "\u{fffd}", Err("unreadable")),
        ("str|lower", "text", "caf\u{fffd}", Err("unreadable")),
        ("str", "varbinary(9)", "\u{ef}\u{bf}\u{bd}", Err("unreadable")),
    ];
    for (spec, mysql_type, text, expected) in cases {
        let expected = expected.map(|part| part.map(str::to_owned));
        assert_eq!(part(spec, mysql_type, text), expected, "{spec} of {mysql_type} {text:?}");
    }
}

#[test]
fn null_is_in_no_key_and_a_missing_column_is_an_error() {
    assert_eq!(ParamType::U64.normalize(Column::Null), Ok(Normal::NoKey));
    assert_eq!(ParamType::U64.normalize(Column::Missing), Err(ColumnError::Missing));
}

#[test]
fn bytes_are_taken_as_the_column_has_them() {
    assert_eq!(ParamType::U64.normalize(Column::Bytes(&[1, 0])), Ok(Normal::Value(Value::U64(256))));
    assert_eq!(ParamType::Hex.normalize(Column::Bytes(&[1, 0])), Ok(Normal::Value(Value::Bytes(vec![1, 0]))));
    assert_eq!(ParamType::Uuid.normalize(Column::Bytes(&[7; 16])), Ok(Normal::Value(Value::Uuid([7; 16]))));
    assert_eq!(
        ParamType::Str([].into()).normalize(Column::Bytes(b"a")),
        Ok(Normal::Value(Value::Str("a".into())))
    );
    assert_eq!(ParamType::Hex.normalize(Column::Bytes(&[])), Ok(Normal::NoKey));
}

#[test]
fn values_without_a_type_are_read_as_the_parameter_wants_them() {
    let read = |spec: &str, text| {
        let param = ParamType::from_spec(spec).unwrap();
        param.normalize(Column::Text { text, mysql_type: None }).map(|normal| match normal {
            Normal::Value(value) => value.to_string(),
            Normal::NoKey => "-".to_owned(),
        })
    };
    assert_eq!(read("u64", "7").unwrap(), "7");
    assert_eq!(read("str", "7").unwrap(), "7");
    assert_eq!(read("hex", "\u{1}\u{ff}").unwrap(), "01ff");
    assert_eq!(
        read("uuid", "0188c9ce-1b6e-7c3a-9d2f-0123456789ab").unwrap(),
        "0188c9ce-1b6e-7c3a-9d2f-0123456789ab"
    );
    assert!(read("u64", "1.5").unwrap() == "-" && read("u64", "x").is_err());
}
