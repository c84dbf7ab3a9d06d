//! `FRESHLINE__SECTION__FIELD`: the layer above the file.

use std::borrow::Cow;

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::Problems;

/// Two underscores, because Kubernetes injects `FRESHLINE_PORT` and the like beside a service of that name.
pub(super) const PREFIX: &str = "FRESHLINE__";

/// Variables under the prefix that are no configuration: the flag of the same name reads them.
const FLAGS: [&str; 1] = ["FRESHLINE__CONFIG"];

/// One variable, as written.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    /// `["source", "kafka", "brokers"]`
    pub(super) path: Vec<String>,
    pub(super) raw: String,
}

impl Variable {
    /// A number, boolean, list or inline table as in TOML; all else is a string, quoted or not.
    pub(super) fn value(&self) -> DeValue<'_> {
        match DeValue::parse(self.raw.trim()).map(Spanned::into_inner) {
            Ok(value) if !value.is_datetime() => value,
            _ => self.string(),
        }
    }

    /// The text as it stands.
    pub(super) fn string(&self) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(&self.raw))
    }

    /// The variable that sets a path.
    pub(super) fn name_of(path: &str) -> String {
        format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
    }
}

/// Takes what is under the prefix, sorted by name. An empty value counts as not set.
pub(super) fn read(
    variables: impl Iterator<Item = (String, String)>,
    problems: &mut Problems,
) -> Vec<Variable> {
    let mut read = Vec::new();
    for (name, raw) in variables {
        let Some(path) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if raw.is_empty() || FLAGS.contains(&name.as_str()) {
            continue;
        }
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        if path.len() < 2 || path.iter().any(String::is_empty) {
            problems.push(format!(
                "{name}: not a field, write FRESHLINE__SECTION__FIELD, like FRESHLINE__NODE__MEMORY"
            ));
            continue;
        }
        read.push(Variable { name, path, raw });
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

/// Gives a value and all that is in it the place `at`.
pub(super) fn placed(value: DeValue<'_>, at: usize) -> Spanned<DeValue<'_>> {
    let value = match value {
        DeValue::Array(mut items) => {
            let mut array = DeArray::new();
            for item in items.iter_mut() {
                array.push(placed(std::mem::replace(item.get_mut(), DeValue::Boolean(false)), at));
            }
            DeValue::Array(array)
        }
        DeValue::Table(entries) => {
            let mut table = DeTable::new();
            for (key, value) in entries {
                table.insert(Spanned::new(at..at, key.into_inner()), placed(value.into_inner(), at));
            }
            DeValue::Table(table)
        }
        plain => plain,
    };
    Spanned::new(at..at, value)
}

/// The process's environment; names and values that are not UTF-8 are kept as well as can be, to be reported.
pub(super) fn of_process() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}
