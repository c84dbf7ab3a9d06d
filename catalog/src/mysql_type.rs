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

    pub(crate) fn kind(self) -> Kind {
        const KINDS: [(&str, Kind); 36] = [
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
            ("integer", Kind::Int),
            ("bool", Kind::Int),
            ("boolean", Kind::Int),
            ("serial", Kind::Unsigned),
            ("numeric", Kind::Decimal),
            ("dec", Kind::Decimal),
            ("fixed", Kind::Decimal),
            ("float", Kind::Float),
            ("double", Kind::Float),
            ("real", Kind::Float),
            ("bit", Kind::Bit),
            ("year", Kind::Year),
            ("date", Kind::Date),
            ("time", Kind::Time),
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
        ];
        let end = self.text.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        if word.eq_ignore_ascii_case("json") {
            return Kind::Json;
        }
        let kind = KINDS
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map_or(Kind::Other, |(_, kind)| *kind);
        let unsigned = || {
            rest.split_ascii_whitespace()
                .any(|word| word.eq_ignore_ascii_case("unsigned") || word.eq_ignore_ascii_case("zerofill"))
        };
        if kind == Kind::Int && unsigned() { Kind::Unsigned } else { kind }
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
    pub(crate) fn enum_label(self, text: &str) -> Option<String> {
        match text.parse::<usize>() {
            Ok(0) => Some(String::new()),
            Ok(ordinal) => self.labels().nth(ordinal - 1),
            Err(_) => self.labels().find(|label| label.eq_ignore_ascii_case(text)),
        }
    }

    /// The labels of a SET's bitmask joined by commas, or the labels themselves.
    pub(crate) fn set_labels(self, text: &str) -> Option<String> {
        let labels: Vec<String> = self.labels().collect();
        let Ok(mask) = text.parse::<u64>() else {
            let known = text.split(',').all(|part| labels.iter().any(|label| label == part));
            return (known || text.is_empty()).then(|| text.to_owned());
        };
        if labels.len() < 64 && mask >> labels.len() != 0 {
            return None;
        }
        let chosen = labels.into_iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
        Some(chosen.map(|(_, label)| label).collect::<Vec<_>>().join(","))
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
}
