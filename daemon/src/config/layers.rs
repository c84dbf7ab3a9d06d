//! File and environment laid over each other, every value with its place.

use std::{borrow::Cow, collections::BTreeSet, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{
    Problems,
    environment::{self, Variable},
    place::{Place, Places},
    suggest::{did_you_mean, suggest},
};

mod message;

/// The sections that some binary reads.
const SECTIONS: [&str; 9] =
    ["cluster", "database", "source.kafka", "source.binlog", "node", "sync", "client", "telemetry", "dev"];

/// Tables that the catalog reads from the same file; they can't be set by the environment.
const CATALOG: [&str; 3] = ["group", "rule", "catalog"];

/// What was configured, before any section is taken from it.
#[derive(Clone, Debug)]
pub struct Layers {
    /// The texts; the tree of values borrows from them, so it is made anew by each question.
    places: Places,
    /// Unknown sections and variables; every [`section`](Layers::section) reports them, so that nobody can forget to.
    general: Problems,
}

impl Layers {
    /// Reads the file, if one is given, and the process's environment.
    ///
    /// # Errors
    ///
    /// A file that can't be read, and everything that is not TOML in it. Unknown sections come with the first
    /// [`section`](Self::section), together with the mistakes in that.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let (name, text) = match file {
            None => (String::new(), String::new()),
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => (path.display().to_string(), text),
                Err(error) => {
                    problems.push(format!(
                        "{}: can't read the configuration: {error}; name a file with --config FILE or FRESHLINE__CONFIG",
                        path.display()
                    ));
                    return Err(problems);
                }
            },
        };
        Self::from_text(&name, &text, environment::of_process())
    }

    /// The same from a text, named `name` in messages, and a list of variables.
    pub fn from_text(
        name: &str,
        text: &str,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Problems> {
        let mut general = Problems::default();
        let variables = environment::read(env.into_iter(), &mut general);
        let places = Places { file: name.to_owned(), text: text.to_owned(), variables };
        let (merged, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut seen = BTreeSet::new();
            for error in &errors {
                let start = error.span().map_or(0, |span| span.start);
                if let Place::Line(line) = places.find(start)
                    && seen.insert(line)
                {
                    general.push(format!("{name}:{line}: not TOML: {}", message::syntax(error.message())));
                }
            }
            return Err(general);
        }
        check_sections(merged.get_ref(), &places, &mut general);
        apply_environment(&mut merged.into_inner(), &places, &mut general);
        Ok(Self { places, general })
    }

    /// Takes one section, such as `node` or `source.kafka`, and pushes every mistake in it with its place.
    ///
    /// Each field is read alone, so one bad field hides no other; a bad field keeps its default in the result. `T` must
    /// be `#[serde(default, deny_unknown_fields)]`.
    pub fn section<T: DeserializeOwned + Default>(&self, path: &str, problems: &mut Problems) -> T {
        problems.extend(self.general.clone());
        let merged = self.merged();
        let Some((DeValue::Table(table), _)) = find(&merged, path) else {
            return T::default(); // a section that is no table is among the general problems
        };
        let mut fields: Vec<_> = table.iter().collect();
        fields.sort_by_key(|(key, _)| key.span().start);
        let mut good = DeTable::new();
        for (key, value) in fields {
            match self.field::<T>(path, key, value) {
                Ok(value) => {
                    good.insert(key.clone(), value);
                }
                Err(problem) => problems.push(problem),
            }
        }
        match T::deserialize(Deserializer::from(Spanned::new(0..0, good))) {
            Ok(section) => section,
            Err(error) => {
                // Fields that are right alone and wrong together.
                problems.push(format!("{}: {}", self.place(path), message::field(&error, path, None)));
                T::default()
            }
        }
    }

    /// Whether the file or the environment says anything about a section or field.
    pub fn has(&self, path: &str) -> bool {
        find(&self.merged(), path).is_some()
    }

    /// The file's name as messages show it; empty without a file.
    pub fn file_name(&self) -> &str {
        &self.places.file
    }

    /// The file's text, for the catalog to parse its tables from; empty without a file.
    pub fn text(&self) -> &str {
        &self.places.text
    }

    /// The line of the file, from 1, where a section or field is set; `None` if it isn't, or by the environment.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        match self.places.find(find(&self.merged(), path)?.1) {
            Place::Line(line) => Some(line),
            Place::Variable(_) => None,
        }
    }

    /// How a message names a field: `freshline.toml:12: node.memory`, `FRESHLINE__NODE__MEMORY`, or the field alone if
    /// it isn't set.
    pub fn place(&self, path: &str) -> String {
        match find(&self.merged(), path) {
            Some((_, start)) => self.places.describe(start, path),
            None if self.places.file.is_empty() => format!("{path} ({})", Variable::name_of(path)),
            None => format!("{}: {path}", self.places.file),
        }
    }

    /// One field of `T`, read alone: the value to keep, or what to say.
    fn field<'a, T: DeserializeOwned>(
        &'a self,
        path: &str,
        key: &Spanned<Cow<'a, str>>,
        value: &Spanned<DeValue<'a>>,
    ) -> Result<Spanned<DeValue<'a>>, String> {
        let alone = |value: &Spanned<DeValue<'a>>| {
            let mut table = DeTable::new();
            table.insert(key.clone(), value.clone());
            T::deserialize(Deserializer::from(Spanned::new(0..0, table)))
        };
        let Err(error) = alone(value) else {
            return Ok(value.clone());
        };
        let start = error.span().map_or(key.span().start, |span| span.start);
        let place = self.places.find(start);
        if let Place::Variable(variable) = &place {
            // `FRESHLINE__NODE__ID=7` is a string that looks like a number.
            let text = environment::placed(variable.string(), start);
            if !value.get_ref().is_str() && alone(&text).is_ok() {
                return Ok(text);
            }
        }
        let inner = message::path(&error, key.get_ref());
        let variable = matches!(place, Place::Variable(_)).then_some(());
        let described = self.places.describe(start, &format!("{path}.{inner}"));
        Err(format!("{described}: {}", message::field(&error, path, variable)))
    }

    fn merged(&self) -> DeTable<'_> {
        let (merged, _) = DeTable::parse_recoverable(&self.places.text);
        let mut merged = merged.into_inner();
        apply_environment(&mut merged, &self.places, &mut Problems::default());
        merged
    }
}

/// A path's value and where its key was written.
fn find<'t, 'a>(table: &'t DeTable<'a>, path: &str) -> Option<(&'t DeValue<'a>, usize)> {
    let mut table = table;
    let mut parts = path.split('.').peekable();
    loop {
        let (key, value) = table.get_key_value(parts.next()?)?;
        if parts.peek().is_none() {
            return Some((value.get_ref(), key.span().start));
        }
        table = value.get_ref().as_table()?;
    }
}

/// Names at the top of the file that nobody reads, and sections that are no tables.
fn check_sections(file: &DeTable<'_>, places: &Places, general: &mut Problems) {
    let parents: BTreeSet<&str> = SECTIONS.iter().filter_map(|path| Some(path.split_once('.')?.0)).collect();
    let mut problems = Vec::new();
    let mut check = |start: usize, path: &str, value: &DeValue<'_>| {
        let problem = if SECTIONS.contains(&path) || parents.contains(path) {
            if value.is_table() {
                return;
            }
            format!("must be a table, write [{path}] on a line of its own")
        } else {
            format!("unknown section{}", unknown(path))
        };
        problems.push((start, format!("{}: {problem}", places.describe(start, path))));
    };
    for (key, value) in file {
        let name = key.get_ref().as_ref();
        if CATALOG.contains(&name) {
            continue;
        }
        check(key.span().start, name, value.get_ref());
        if parents.contains(name)
            && let Some(children) = value.get_ref().as_table()
        {
            for (child, value) in children {
                check(child.span().start, &format!("{name}.{}", child.get_ref()), value.get_ref());
            }
        }
    }
    problems.sort();
    for (_, problem) in problems {
        general.push(problem);
    }
}

/// Lays the variables over the file's values.
fn apply_environment<'a>(merged: &mut DeTable<'a>, places: &'a Places, problems: &mut Problems) {
    for (index, variable) in places.variables.iter().enumerate() {
        let (name, path) = (&variable.name, &variable.path);
        if CATALOG.contains(&path[0].as_str()) {
            problems
                .push(format!("{name}: the catalog can't be set by the environment, write it in the file"));
            continue;
        }
        let known = SECTIONS.iter().any(|section| {
            let depth = section.split('.').count();
            path.len() > depth && path[..depth].join(".") == **section
        });
        if !known {
            let near = (1..path.len()).rev().find_map(|depth| {
                let near = suggest(&path[..depth].join("."), SECTIONS)?;
                Some(Variable::name_of(&format!("{near}.{}", path[depth..].join("."))))
            });
            let near = near.map_or_else(
                || format!("; sections are {}", SECTIONS.join(", ")),
                |near| format!(", did you mean {near}?"),
            );
            problems.push(format!("{name}: unknown section{near}"));
            continue;
        }
        if !insert(merged, path, variable.value(), places.of_variable(index)) {
            problems.push(format!("{name}: the file sets a plain value above this field"));
        }
    }
}

fn unknown(path: &str) -> String {
    match did_you_mean(path, SECTIONS.into_iter().chain(CATALOG)) {
        none if none.is_empty() => format!("; sections are {}, {}", SECTIONS.join(", "), CATALOG.join(", ")),
        near => near,
    }
}

/// Sets a path to a value, making tables on the way; `false` if something on the way is no table.
fn insert<'a>(table: &mut DeTable<'a>, path: &'a [String], value: DeValue<'a>, at: usize) -> bool {
    let (name, rest) = path.split_first().expect("a variable's path has two parts or more");
    let key = Spanned::new(at..at, Cow::Borrowed(name.as_str()));
    if rest.is_empty() {
        table.remove(name.as_str()); // the key carries its place, so it goes too
        table.insert(key, environment::placed(value, at));
        return true;
    }
    if !table.contains_key(name.as_str()) {
        table.insert(key, Spanned::new(at..at, DeValue::Table(DeTable::new())));
    }
    match table.get_mut(name.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => insert(inner, rest, value, at),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
