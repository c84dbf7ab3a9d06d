//! What `--print-config` shows.

use std::fmt;

use serde::Serialize;

/// The configuration that a program runs on, section by section, as TOML with secrets hidden.
///
/// Secrets hide themselves: [`Secret`](super::Secret), [`DatabaseUrl`](super::DatabaseUrl) and
/// [`Properties`](super::Properties) serialize masked.
#[derive(Clone, Debug, Default)]
pub struct Effective(toml::Table);

impl Effective {
    /// Adds a section under its path, such as `node` or `source.kafka`.
    #[must_use]
    pub fn with<T: Serialize>(mut self, path: &str, section: &T) -> Self {
        let value = toml::Value::try_from(section)
            .unwrap_or_else(|error| toml::Value::String(format!("can't be shown: {error}")));
        let mut table = &mut self.0;
        let (parents, name) =
            path.rsplit_once('.').map_or((None, path), |(parents, name)| (Some(parents), name));
        for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
            let entry = table.entry(parent).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let toml::Value::Table(inner) = entry else { return self };
            table = inner;
        }
        table.insert(name.to_owned(), value);
        self
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&toml::to_string(&self.0).map_err(|_| fmt::Error)?)
    }
}
