//! Errors in Redis's form: a class that clients decide by, and words for people.

use tonic::Code;

use super::codec::Arguments;
use crate::error::Error;

/// The classes that there are; what has none of them is of the first.
pub(super) const CLASSES: [&str; 9] =
    ["ERR", "CLUSTERDOWN", "CROSSSLOT", "EXECABORT", "MOVED", "NOAUTH", "NOPROTO", "TRYAGAIN", "WRONGPASS"];

/// The place of an error's class.
pub(super) fn class(text: &str) -> usize {
    let word = text.split(' ').next().unwrap_or_default();
    CLASSES.iter().position(|class| *class == word).unwrap_or(0)
}

/// Bytes of a client's own words that an error repeats.
const QUOTED: usize = 128;

/// The text of an error that a node gives.
///
/// `TRYAGAIN` is what clients ask again for by themselves, as is `LOADING`; `CLUSTERDOWN` says that another node has to be asked.
pub(super) fn text(error: &Error) -> String {
    let class = match error {
        Error::Fenced => "CLUSTERDOWN",
        Error::Starting => "LOADING",
        _ => match error.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => "TRYAGAIN",
            _ => "ERR",
        },
    };
    if let Error::Fill(loader::Error::NoQuery { group }) = error {
        return format!(
            "ERR group {group} has no query that could fill it; its values are set, see docs/redis.md"
        );
    }
    format!("{class} {error}")
}

/// The same of a write that must not be done twice: if it may have been done, the error is of no class that clients ask again for by themselves.
pub(super) fn once(error: &Error) -> String {
    match error {
        Error::Unacknowledged { .. } | Error::Peer { .. } => {
            format!("ERR {error}; it may have been done: read the key before the SET is sent again")
        }
        _ => text(error),
    }
}

/// What a client has kept for it under a name of its own, and patterns, which are compared with many: their most bytes.
const MOST: usize = 1024;

/// Refuses what is too long to be kept, or compared.
pub(super) fn short(what: &str, given: &[u8]) -> Result<(), String> {
    if given.len() <= MOST { Ok(()) } else { Err(format!("ERR {what} has at most {MOST} bytes")) }
}

/// What is answered to a command that there is none of, in Redis's words.
pub(super) fn unknown(name: &[u8], arguments: Arguments<'_>) -> String {
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", quoted(name));
    let begins = text.len();
    for argument in arguments.from(1) {
        if text.len() - begins >= QUOTED {
            break;
        }
        let room = QUOTED - (text.len() - begins);
        text.push('\'');
        text.extend(quoted(argument).chars().take(room));
        text.push_str("' ");
    }
    text
}

/// The same of a command that belongs to another.
pub(super) fn unknown_part(of: &str, part: &[u8]) -> String {
    format!("ERR unknown subcommand '{}'. Try {of} HELP.", quoted(part))
}

fn quoted(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED)]).into_owned()
}
