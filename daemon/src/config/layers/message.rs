//! What the TOML reader says, in words that tell what to write.

use toml::de::Error;

use crate::config::{
    environment::PREFIX,
    suggest::{did_you_mean, suggest},
};

/// A syntax error in one line.
pub(super) fn syntax(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
}

/// The field's path below its section, such as `members.weight`.
pub(super) fn path(error: &Error, key: &str) -> String {
    let shown = error.to_string();
    let keys = shown.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    match keys {
        Some(keys) if keys == key || keys.starts_with(&format!("{key}.")) => keys.to_owned(),
        _ => key.to_owned(),
    }
}

/// What is wrong with a field and what to write. `variable` tells that the environment set it.
pub(super) fn field(error: &Error, section: &str, variable: Option<()>) -> String {
    let message = error.message();
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let names = quoted(rest);
        let Some((written, known)) = names.split_first() else { return message.to_owned() };
        let known = || known.iter().map(String::as_str);
        if variable.is_some() {
            let prefix = format!("{PREFIX}{}__", section.replace('.', "__").to_ascii_uppercase());
            return match suggest(written, known()) {
                Some(near) => format!("unknown field, did you mean {prefix}{}?", near.to_ascii_uppercase()),
                None => format!("unknown field; [{section}] has {}", list(known())),
            };
        }
        return match did_you_mean(written, known()) {
            none if none.is_empty() => format!("unknown field `{written}`; known are {}", list(known())),
            near => format!("unknown field `{written}`{near}"),
        };
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let names = quoted(rest);
        let Some((written, known)) = names.split_first() else { return message.to_owned() };
        let choice = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" or ");
        return format!("`{written}` is not known, write {choice}");
    }
    for kind in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) =
            message.strip_prefix(kind).and_then(|rest| rest.rsplit_once(", expected "))
        {
            return format!("expected {}, found {found}", plain(expected));
        }
    }
    if message == "invalid socket address syntax" {
        return "not an address with a port, write it like \"0.0.0.0:7400\"".to_owned();
    }
    message.to_owned()
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A Rust type in an operator's words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a string in quotes",
        "a sequence" => "a list like [\"a\", \"b\"]",
        "a map" => "a table like { name = \"value\" }",
        "socket address" => "an address like \"0.0.0.0:7400\"",
        other => other,
    }
}
