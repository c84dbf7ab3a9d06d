//! Column types as MySQL writes them: `bigint(20) unsigned`, `ENUM('a','b')`, `binary(16)`.

/// What a type means for key parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Unsigned,
    Decimal,
    Float,
    Bit,
    Year,
    Date,
    DateTime,
    Timestamp,
    Time,
    Char,
    Text,
    Binary,
    Blob,
    Enum,
    Set,
    Json,
    /// Geometry, vector, and what no MySQL has.
    Other,
}

/// A type's text, read on demand and without allocating.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MysqlType<'a> {
    text: &'a str,
}

impl<'a> MysqlType<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text: text.trim() }
    }

    pub(crate) fn text(self) -> &'a str {
        self.text
    }

    /// What the type means, by whichever of its names: the server tells its own, Canal with a history of tables that of CREATE TABLE.
    pub(crate) fn kind(self) -> Kind {
        const KINDS: [(&str, Kind); 50] = [
            ("bigint", Kind::Int),
            ("int", Kind::Int),
            ("varchar", Kind::Char),
            ("char", Kind::Char),
            ("datetime", Kind::DateTime),
            ("timestamp", Kind::Timestamp),
            ("decimal", Kind::Decimal),
            ("tinyint", Kind::Int),
            ("smallint", Kind::Int),
            ("mediumint", Kind::Int),
            ("middleint", Kind::Int),
            ("integer", Kind::Int),
            ("int1", Kind::Int),
            ("int2", Kind::Int),
            ("int3", Kind::Int),
            ("int4", Kind::Int),
            ("int8", Kind::Int),
            ("bool", Kind::Int),
            ("boolean", Kind::Int),
            ("serial", Kind::Unsigned),
            ("numeric", Kind::Decimal),
            ("dec", Kind::Decimal),
            ("fixed", Kind::Decimal),
            ("float", Kind::Float),
            ("float4", Kind::Float),
            ("float8", Kind::Float),
            ("double", Kind::Float),
            ("real", Kind::Float),
            ("bit", Kind::Bit),
            ("year", Kind::Year),
            ("date", Kind::Date),
            ("time", Kind::Time),
            ("varcharacter", Kind::Char),
            ("character", Kind::Char),
            ("nchar", Kind::Char),
            ("nvarchar", Kind::Char),
            ("text", Kind::Text),
            ("tinytext", Kind::Text),
            ("mediumtext", Kind::Text),
            ("longtext", Kind::Text),
            ("binary", Kind::Binary),
            ("varbinary", Kind::Blob),
            ("blob", Kind::Blob),
            ("tinyblob", Kind::Blob),
            ("mediumblob", Kind::Blob),
            ("longblob", Kind::Blob),
            ("enum", Kind::Enum),
            ("set", Kind::Set),
            ("json", Kind::Json),
            ("long", Kind::Text),
        ];
        let end = self.text.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        let has = |attributes: &[&str]| {
            let behind = rest.split_once(')').map_or("", |(_, behind)| behind);
            let before = rest.split('(').next().unwrap_or_default();
            let mut words = before.split_ascii_whitespace().chain(behind.split_ascii_whitespace());
            words.any(|word| attributes.iter().any(|attribute| word.eq_ignore_ascii_case(attribute)))
        };
        if word.eq_ignore_ascii_case("national") {
            let is_char = has(&["char", "character", "varchar", "varcharacter"]);
            return if is_char { Kind::Char } else { Kind::Other };
        }
        let known = KINDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        match known.map_or(Kind::Other, |(_, kind)| *kind) {
            Kind::Int if has(&["unsigned", "zerofill"]) => Kind::Unsigned,
            // LONG VARBINARY is MEDIUMBLOB, and any text type is one of bytes by the attribute BYTE.
            Kind::Text if has(&["varbinary", "byte"]) => Kind::Blob,
            Kind::Char if has(&["byte"]) => {
                let varying = word.to_ascii_lowercase().contains("var") || has(&["varying"]);
                if varying { Kind::Blob } else { Kind::Binary }
            }
            kind => kind,
        }
    }

    /// Whether `binlog_row_image = NOBLOB` leaves the column out: BLOB and TEXT of any size.
    pub(crate) fn is_large(self) -> bool {
        self.kind() == Kind::Text
            || (self.kind() == Kind::Blob && !self.text.to_ascii_lowercase().starts_with("varbinary"))
    }

    /// The number in the first parentheses.
    pub(crate) fn length(self) -> Option<usize> {
        let (_, rest) = self.text.split_once('(')?;
        rest.split([',', ')']).next()?.trim().parse().ok()
    }

    /// The label of an ENUM's ordinal, or the label itself; empty for ordinal 0, the value that is none.
    ///
    /// A backslash in a label is written once or twice, by whoever tells the type: such a label is not known by its ordinal.
    pub(crate) fn enum_label(self, text: &str) -> Option<String> {
        match text.parse::<usize>() {
            Ok(0) => Some(String::new()),
            Ok(ordinal) => self.labels().nth(ordinal - 1).filter(|label| !label.contains('\\')),
            Err(_) if text.contains('\\') => {
                let known = self.labels().any(|label| label == text || label == text.replace('\\', "\\\\"));
                known.then(|| text.to_owned())
            }
            Err(_) => self.labels().find(|label| label.eq_ignore_ascii_case(text)),
        }
    }

    /// The labels of a SET's bitmask joined by commas, or the labels themselves; as with [`enum_label`](Self::enum_label) where they have a
    /// backslash.
    pub(crate) fn set_labels(self, text: &str) -> Option<String> {
        let labels: Vec<String> = self.labels().collect();
        let Ok(mask) = text.parse::<u64>() else {
            let is = |label: &str, part: &str| label == part || label == part.replace('\\', "\\\\");
            let known = text.split(',').all(|part| labels.iter().any(|label| is(label, part)));
            return (known || text.is_empty()).then(|| text.to_owned());
        };
        if labels.len() < 64 && mask >> labels.len() != 0 {
            return None;
        }
        let chosen = labels.into_iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
        let joined = chosen.map(|(_, label)| label).collect::<Vec<_>>().join(",");
        Some(joined).filter(|joined| !joined.contains('\\'))
    }

    /// The quoted labels of an ENUM or SET; `''` is a quote.
    fn labels(self) -> impl Iterator<Item = String> {
        let mut rest = self.text.split_once('(').map_or("", |(_, rest)| rest);
        std::iter::from_fn(move || {
            rest = &rest[rest.find('\'')? + 1..];
            let mut label = String::new();
            loop {
                let end = rest.find('\'')?;
                label.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                if !rest.starts_with('\'') {
                    return Some(label);
                }
                label.push('\'');
                rest = &rest[1..];
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_in_any_spelling() {
        for (text, kind) in [
            ("bigint unsigned", Kind::Unsigned),
            ("BIGINT(20) UNSIGNED", Kind::Unsigned),
            ("int(5) zerofill", Kind::Unsigned),
            ("INT", Kind::Int),
            ("tinyint(1)", Kind::Int),
            ("varchar(50)", Kind::Char),
            ("decimal(10,2) unsigned", Kind::Decimal),
            ("double", Kind::Float),
            ("datetime(6)", Kind::DateTime),
            ("json", Kind::Json),
            ("geometry", Kind::Other),
            ("enum('a','b')", Kind::Enum),
            ("NVARCHAR(20)", Kind::Char),
            ("NATIONAL VARCHAR(20)", Kind::Char),
            ("national char varying(20)", Kind::Char),
            ("CHARACTER VARYING(20)", Kind::Char),
            ("CHAR VARYING (20)", Kind::Char),
            ("NCHAR VARCHAR(20)", Kind::Char),
            ("CHARACTER(20) CHARACTER SET utf8mb4", Kind::Char),
            ("VARCHARACTER(20)", Kind::Char),
            ("LONG", Kind::Text),
            ("LONG VARCHAR", Kind::Text),
            ("LONG CHAR VARYING", Kind::Text),
            ("LONG VARBINARY", Kind::Blob),
            ("CHAR BYTE", Kind::Binary),
            ("char(8) byte", Kind::Binary),
            ("VARCHAR(8) BYTE", Kind::Blob),
            ("text byte", Kind::Blob),
            ("DEC(10,2) UNSIGNED", Kind::Decimal),
            ("NUMERIC", Kind::Decimal),
            ("FIXED(5)", Kind::Decimal),
            ("INTEGER UNSIGNED", Kind::Unsigned),
            ("INT1", Kind::Int),
            ("INT8 UNSIGNED ZEROFILL", Kind::Unsigned),
            ("MIDDLEINT(5) zerofill", Kind::Unsigned),
            ("BOOLEAN", Kind::Int),
            ("SERIAL", Kind::Unsigned),
            ("DOUBLE PRECISION", Kind::Float),
            ("float8", Kind::Float),
            ("enum('byte','unsigned')", Kind::Enum),
            ("varchar2(5)", Kind::Other),
            ("national", Kind::Other),
        ] {
            assert_eq!(MysqlType::new(text).kind(), kind, "{text}");
        }
        assert_eq!(MysqlType::new("binary(16)").length(), Some(16));
        assert_eq!(MysqlType::new("binary").length(), None);
    }

    #[test]
    fn labels_come_from_the_type() {
        let colours = MysqlType::new("enum('red','it''s','a,b')");
        assert_eq!(colours.enum_label("2").as_deref(), Some("it's"));
        assert_eq!(colours.enum_label("3").as_deref(), Some("a,b"));
        assert_eq!(colours.enum_label("red").as_deref(), Some("red"));
        assert_eq!(colours.enum_label("0").as_deref(), Some(""));
        assert_eq!(colours.enum_label("4"), None);
        let tags = MysqlType::new("SET('x','y','z')");
        assert_eq!(tags.set_labels("5").as_deref(), Some("x,z"));
        assert_eq!(tags.set_labels("x,z").as_deref(), Some("x,z"));
        assert_eq!(tags.set_labels("0").as_deref(), Some(""));
        assert_eq!(tags.set_labels("8"), None);
    }

    #[test]
    fn labels_with_a_backslash_are_known_only_by_themselves() {
        // As the server writes it, and as Canal does.
        for text in ["enum('a\\\\b','x')", "enum('a\\b','x')"] {
            let label = |text_of: &str| MysqlType::new(text).enum_label(text_of);
            assert_eq!(label("1"), None, "{text}");
            assert_eq!(label("2").as_deref(), Some("x"), "{text}");
            assert_eq!(label("a\\b").as_deref(), Some("a\\b"), "{text}");
        }
        let tags = MysqlType::new("set('a\\b','x')");
        assert_eq!((tags.set_labels("1"), tags.set_labels("2").as_deref()), (None, Some("x")));
    }
}
