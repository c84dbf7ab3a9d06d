//! Who writes the change stream, and which columns it can't carry to a key.
//!
//! What it can't carry and shows by itself (U+FFFD, a value that can be read in two ways) flushes; what it carries as another value would
//! remove a key that doesn't exist. Both are told before they happen.

use super::Field;
use crate::mysql_type::{Kind, MysqlType};
use crate::param::ParamType;
use crate::report::Severity;

/// A way in which changes reach the sync service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Canal, and what writes like it.
    Canal,
    /// Debezium, unwrapped or not.
    Debezium,
    /// Maxwell.
    Maxwell,
    /// Alibaba Cloud `DataWorks`.
    Aliyun,
    /// The binlog of MySQL itself.
    Binlog,
}

/// Why a column can't be a key part through a stream, and what to do.
pub(super) struct Lost {
    pub(super) severity: Severity,
    pub(super) reason: String,
    pub(super) remedy: &'static str,
}

/// Character sets without a counterpart in Java: their characters become others.
const NOT_IN_JAVA: [&str; 6] = ["armscii8", "dec8", "geostd8", "hp8", "keybcs2", "swe7"];
/// Those in which ASCII is written with other bytes, or other bytes are taken for it.
const NOT_LIKE_ASCII: [&str; 7] = ["cp932", "sjis", "swe7", "ucs2", "utf16", "utf16le", "utf32"];
/// Those that any reader of UTF-8 can read.
const UTF8: [&str; 5] = ["ascii", "utf8", "utf8mb3", "utf8mb4", "uca1400"];

const TO_UTF8: &str =
    "convert the column to utf8mb4; or read the table through another source, see docs/sources.md";

impl Stream {
    /// Its name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Canal => "Canal",
            Self::Debezium => "Debezium",
            Self::Maxwell => "Maxwell",
            Self::Aliyun => "DataWorks",
            Self::Binlog => "the binlog's reader",
        }
    }

    /// What of a key column is lost on the way.
    pub(super) fn loses(self, column: &Field, param: &ParamType) -> Vec<Lost> {
        let mysql_type = MysqlType::new(&column.mysql_type);
        let kind = mysql_type.kind();
        // ENUM and SET travel as numbers, or their labels in the character set of the definition.
        let charset = match (kind, &column.collation) {
            (Kind::Char | Kind::Text, Some(collation)) => {
                collation.split('_').next().unwrap_or_default().to_ascii_lowercase()
            }
            _ => "utf8mb4".to_owned(),
        };
        let mut lost: Vec<Lost> = self.characters(&charset, param).into_iter().collect();
        if self == Self::Maxwell {
            lost.extend(of_maxwell(mysql_type, param));
        }
        lost
    }

    fn characters(self, charset: &str, param: &ParamType) -> Option<Lost> {
        if UTF8.contains(&charset) {
            return None;
        }
        // Of a UUID all characters are ASCII, and a tag of a join is made of no others.
        let ascii =
            matches!(param, ParamType::Uuid | ParamType::Compared) && !NOT_LIKE_ASCII.contains(&charset);
        let error = |reason: String| Some(Lost { severity: Severity::Error, reason, remedy: TO_UTF8 });
        let warning = |reason: String| Some(Lost { severity: Severity::Warning, reason, remedy: TO_UTF8 });
        match self {
            _ if ascii => None,
            Self::Canal => error(format!(
                "is in {charset}, and Canal reads all text as UTF-8: its changes remove other keys"
            )),
            Self::Debezium | Self::Maxwell | Self::Aliyun if NOT_IN_JAVA.contains(&charset) => {
                error(format!("is in {charset}, which Java doesn't know: its changes remove other keys"))
            }
            Self::Debezium | Self::Maxwell | Self::Aliyun => None,
            Self::Binlog if NOT_LIKE_ASCII.contains(&charset) => {
                warning(format!("is in {charset}, which is not read: every change flushes the group"))
            }
            Self::Binlog if charset == "latin1" => None,
            Self::Binlog => warning(format!(
                "is in {charset}, of which ASCII alone is read: other values flush the group"
            )),
        }
    }
}

fn of_maxwell(mysql_type: MysqlType<'_>, param: &ParamType) -> Option<Lost> {
    let (severity, reason, remedy) = match (mysql_type.kind(), param) {
        (Kind::Bit, _) if mysql_type.length().unwrap_or(1) >= 32 => (
            Severity::Error,
            "has 32 bits or more, of which Maxwell writes a wrong number: its changes remove other keys",
            "use another column, or read the table through another source",
        ),
        (Kind::Binary, ParamType::Str(_)) => (
            Severity::Error,
            "is BINARY, whose zeros at the end Maxwell leaves out: its changes may remove other keys",
            "use VARBINARY or a text column, or read the table through another source",
        ),
        (Kind::Binary | Kind::Blob, ParamType::Hex) => (
            Severity::Warning,
            "is of bytes, and Maxwell leaves out the zeros at the end of BINARY: every change flushes the group",
            "give a BINARY(16) the type uuid, or read the table through another source",
        ),
        (Kind::Time, ParamType::Time) => (
            Severity::Warning,
            "is TIME, of which Maxwell leaves out the days: every change flushes the group",
            "use another column, or read the table through another source",
        ),
        _ => return None,
    };
    Some(Lost { severity, reason: reason.to_owned(), remedy })
}
