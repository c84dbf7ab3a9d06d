//! Fields of one section: typed, each asked for by name; what nobody asked for is a mistake.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::report::{Collector, did_you_mean};

/// A value and where it stands.
pub(super) type Placed<T> = (T, Range<usize>);

pub(super) struct Fields<'a, 'i> {
    section: String,
    table: &'a DeTable<'i>,
    span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Fields<'a, 'i> {
    pub(super) fn new(section: impl Into<String>, table: &'a DeTable<'i>, span: Range<usize>) -> Self {
        Self { section: section.into(), table, span, known: Vec::new() }
    }

    pub(super) fn span(&self) -> &Range<usize> {
        &self.span
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known.push(name);
        self.table.get(name)
    }

    fn wrong(&self, name: &str, value: &Spanned<DeValue<'i>>, wanted: &str, problems: &mut Collector<'_>) {
        let message =
            format!("{}: {name} is {}, not {wanted}", self.section, article(value.get_ref().type_str()));
        problems.error(&value.span(), message, format!("write {name} = {}", example(wanted)));
    }

    pub(super) fn text(
        &mut self,
        name: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<Placed<String>> {
        let value = self.value(name)?;
        match value.get_ref().as_str() {
            Some("") => {
                problems.error(
                    &value.span(),
                    format!("{}: {name} is empty", self.section),
                    format!("write a {name}"),
                );
                None
            }
            Some(text) => Some((text.to_owned(), value.span())),
            None => {
                self.wrong(name, value, "text", problems);
                None
            }
        }
    }

    pub(super) fn required(
        &mut self,
        name: &'static str,
        example: &str,
        problems: &mut Collector<'_>,
    ) -> Option<Placed<String>> {
        if self.table.get(name).is_none() {
            problems.error(
                &self.span,
                format!("{} has no {name}", self.section),
                format!("write {name} = {example:?}"),
            );
        }
        self.text(name, problems)
    }

    pub(super) fn list(&mut self, name: &'static str, problems: &mut Collector<'_>) -> Vec<Placed<String>> {
        let Some(value) = self.value(name) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(name, value, "a list of texts", problems);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span())),
                None => self.wrong(name, item, "a list of texts", problems),
            }
        }
        texts
    }

    pub(super) fn duration(
        &mut self,
        name: &'static str,
        problems: &mut Collector<'_>,
    ) -> Option<Placed<Duration>> {
        let value = self.value(name)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(name, value, "a duration", problems);
            return None;
        };
        match humantime::parse_duration(text) {
            Ok(duration) => Some((duration, value.span())),
            Err(error) => {
                let message = format!("{}: {name} = {text:?} is no duration: {error}", self.section);
                problems.error(
                    &value.span(),
                    message,
                    "write a number and a unit, like \"30s\", \"10m\" or \"1h\"",
                );
                None
            }
        }
    }

    pub(super) fn number(&mut self, name: &'static str, problems: &mut Collector<'_>) -> Option<Placed<f64>> {
        let value = self.value(name)?;
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(number) => {
                i32::from_str_radix(number.as_str(), number.radix()).ok().map(f64::from)
            }
            _ => None,
        };
        if number.is_none() {
            self.wrong(name, value, "a number", problems);
        }
        number.map(|number| (number, value.span()))
    }

    /// Bytes, as a number or with a unit: `1MiB`, `64KB`.
    pub(super) fn size(&mut self, name: &'static str, problems: &mut Collector<'_>) -> Option<Placed<u64>> {
        let value = self.value(name)?;
        let size = match value.get_ref() {
            DeValue::String(text) => size(text),
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if size.is_none() {
            self.wrong(name, value, "a size", problems);
        }
        size.map(|size| (size, value.span()))
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn finish(self, problems: &mut Collector<'_>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let remedy = match did_you_mean(name, self.known.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => format!("known are {}", self.known.join(", ")),
            };
            problems.error(&key.span(), format!("{} has no field {name}", self.section), remedy);
        }
    }
}

fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

fn example(wanted: &str) -> &'static str {
    match wanted {
        "a duration" => "\"10m\"",
        "a number" => "0.1",
        "a size" => "\"1MiB\"",
        "a list of texts" => "[\"..\"]",
        _ => "\"..\"",
    }
}
