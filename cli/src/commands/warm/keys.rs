//! From what people and tables write to the canonical keys of one group.

use std::sync::Arc;

use catalog::{Catalog, Column, Group, KeyError, Normal, Param, ParamError, ParamType, Value};

/// Makes keys of one group.
pub(crate) struct KeyMaker {
    catalog: Arc<Catalog>,
    group: Arc<Group>,
    /// The field of each parameter, by a heading line or the template's order.
    order: Vec<usize>,
}

impl KeyMaker {
    pub(crate) fn new(catalog: Arc<Catalog>, group: Arc<Group>) -> Self {
        let order = (0..group.template.params().len()).collect();
        Self { catalog, group, order }
    }

    pub(crate) fn params(&self) -> &[Param] {
        self.group.template.params()
    }

    /// What the group's query calls its database.
    pub(crate) fn schema(&self) -> &str {
        self.group.tables().first().map_or("main_file", |table| &table.database)
    }

    /// The key of a line: a key of the group, or its parameters as CSV. `None` for a line that is empty, and for a first line that
    /// names the parameters.
    pub(crate) fn of_line(&mut self, line: &[u8], first: bool) -> Option<Result<String, String>> {
        let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let Ok(text) = std::str::from_utf8(line) else { return Some(Err("not UTF-8 text".to_owned())) };
        if text.trim().is_empty() {
            return None;
        }
        let resolved = self.catalog.resolve(text.trim());
        if let Ok(key) = &resolved
            && key.group.id == self.group.id
        {
            return Some(Ok(key.text.to_string()));
        }
        let fields = match fields(text) {
            Ok(fields) => fields,
            Err(error) => return Some(Err(error)),
        };
        if first && self.heads(&fields) {
            return None;
        }
        let made = self.of_fields(&fields);
        Some(made.map_err(|reason| match resolved {
            Err(error @ (KeyError::Invalid { .. } | KeyError::NotCanonical { .. })) => error.to_string(),
            Ok(key) => format!("{text} is a key of group {}", key.group.name),
            Err(_) => reason,
        }))
    }

    /// The key of a row's columns, in the order of the parameters.
    pub(crate) fn of_columns(&self, columns: &[Column<'_>]) -> Result<String, String> {
        let values =
            self.params().iter().zip(columns).map(|(param, column)| match param.kind.normalize(*column) {
                Ok(Normal::Value(value)) => Ok(value),
                Ok(Normal::NoKey) => Err(format!("{}: NULL or out of range, no key has it", param.name)),
                Err(error) => Err(format!("{}: {error}", param.name)),
            });
        self.render(&values.collect::<Result<Vec<_>, _>>()?)
    }

    fn of_fields(&self, fields: &[String]) -> Result<String, String> {
        let params = self.params();
        if fields.len() != params.len() {
            let names: Vec<&str> = params.iter().map(|param| &*param.name).collect();
            return Err(format!(
                "{} fields, the group has {}: {}",
                fields.len(),
                names.len(),
                names.join(",")
            ));
        }
        let value = |(param, at): (&Param, &usize)| {
            value(&param.kind, fields[*at].trim()).map_err(|error| format!("{}: {error}", param.name))
        };
        self.render(&params.iter().zip(&self.order).map(value).collect::<Result<Vec<_>, _>>()?)
    }

    fn render(&self, values: &[Value]) -> Result<String, String> {
        let key = self.group.template.render(values);
        self.catalog.resolve(&key).map(|key| key.text.to_string()).map_err(|error| error.to_string())
    }

    /// Whether the fields are the parameters' names, in any order; that order is kept then.
    fn heads(&mut self, fields: &[String]) -> bool {
        let find =
            |param: &Param| fields.iter().position(|field| field.trim().eq_ignore_ascii_case(&param.name));
        let order: Option<Vec<usize>> = self.params().iter().map(find).collect();
        match order {
            Some(order) if order.len() == fields.len() && !order.is_empty() => {
                self.order = order;
                true
            }
            _ => false,
        }
    }
}

/// A parameter as keys, people or MySQL write it.
fn value(kind: &ParamType, text: &str) -> Result<Value, String> {
    if !matches!(kind, ParamType::Str(_)) {
        match kind.parse(text) {
            Ok(value) => return Ok(value),
            Err(ParamError::NotCanonical { canonical, .. }) => {
                return kind.parse(&canonical).map_err(|error| error.to_string());
            }
            Err(ParamError::Empty) => return Err(ParamError::Empty.to_string()),
            Err(ParamError::Invalid { .. }) => {}
        }
    }
    match kind.normalize(Column::Text { text, mysql_type: None }) {
        Ok(Normal::Value(value)) => Ok(value),
        Ok(Normal::NoKey) => Err(format!("{text:?} is not {}", kind.describe())),
        Err(error) => Err(error.to_string()),
    }
}

fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
    match reader.records().next() {
        Some(Ok(record)) => Ok(record.iter().map(str::to_owned).collect()),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maker(group: &str) -> KeyMaker {
        let text = r#"
[[group]]
name = "user"
key = "user:{id:u64}"
query = "SELECT id FROM shop.users WHERE id = {id}"
[[group]]
name = "mail"
key = "mail:{email:str|lower}:{day:date}"
query = "SELECT id FROM shop.mails WHERE email = {email} AND day = {day}"
"#;
        let catalog = Arc::new(Catalog::parse("t.toml", text).unwrap());
        let group = catalog.group(group).unwrap().clone();
        KeyMaker::new(catalog, group)
    }

    #[test]
    fn keys_numbers_and_csv_become_canonical_keys() {
        let mut user = maker("user");
        for (line, expected) in [("user:7", "user:7"), ("7", "user:7"), ("007", "user:7"), (" 7 ", "user:7")]
        {
            assert_eq!(user.of_line(line.as_bytes(), false).unwrap().unwrap(), expected, "{line}");
        }
        assert!(user.of_line(b"id", true).is_none(), "a heading");
        assert!(user.of_line(b"  ", false).is_none());
        for (line, reason) in [
            (&b"x"[..], "id: "),
            (b"user:007", "write user:7"),
            (b"-1", "id: "),
            (b"1,2", "2 fields, the group has 1: id"),
            (b"\xff", "not UTF-8"),
            (b"mail:a%40b:2026-01-02", "mail"),
        ] {
            let error = user.of_line(line, false).unwrap().unwrap_err();
            assert!(error.contains(reason), "{line:?}: {error}");
        }
        let mut mail = maker("mail");
        let key = mail.of_line(b"\"Ann,B@x.de\",2026-11-24", false).unwrap().unwrap();
        assert!(key.starts_with("mail:ann") && key.ends_with(":2026-11-24"), "{key}");
        assert!(mail.of_line(b"day,email", true).is_none());
        assert_eq!(mail.of_line(b"2026-11-24,ANN", false).unwrap().unwrap(), "mail:ann:2026-11-24");
    }

    #[test]
    fn columns_become_keys_as_the_sync_service_makes_them() {
        let user = maker("user");
        let text = |text| Column::Text { text, mysql_type: None };
        assert_eq!(user.of_columns(&[text("42")]).unwrap(), "user:42");
        assert!(user.of_columns(&[Column::Null]).unwrap_err().contains("NULL"));
        assert!(user.of_columns(&[text("x")]).is_err());
    }
}
