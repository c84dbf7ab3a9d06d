//! Key templates: `user:{id:u64}:orders`. Parsing, matching and rendering by the same pieces.
//!
//! Parameters are separated by literals whose first character no value of the parameter before can contain, so there is
//! at most one way to read a key. `{{` and `}}` stand for the braces themselves (hash tags).

pub(crate) mod charset;
pub(crate) mod escape;
pub(crate) mod overlap;
mod parse;

use std::fmt;

use crate::param::{ParamError, ParamType};
use crate::value::Value;
pub(crate) use parse::RawTemplate;

/// A typed template: what the keys of a group look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: Box<str>,
    pieces: Vec<Piece>,
    params: Vec<Param>,
}

/// A parameter of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, as the query uses it; in a rule's key the column that it takes.
    pub name: Box<str>,
    /// Its type.
    pub kind: ParamType,
}

/// A literal or a parameter, by its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Box<str>),
    Param(usize),
}

/// How a text that is no key of a template nearly is one.
#[derive(Debug)]
pub(crate) enum Near {
    /// Each part is readable, one is not canonical.
    NotCanonical { canonical: String },
    /// A part is not of its type.
    Invalid { param: usize, error: ParamError },
}

impl Template {
    /// Reads a template whose parameters all have types.
    pub fn parse(text: &str) -> Result<Self, String> {
        RawTemplate::parse(text)?.typed(|param| {
            Err(format!(
                "{{{param}}} has no type; write {{{param}:u64}} or another of {}",
                ParamType::NAMES.join(", ")
            ))
        })
    }

    /// Makes a template of checked pieces. Fails where a parameter's end could not be told.
    pub(crate) fn new(text: &str, pieces: Vec<Piece>, params: Vec<Param>) -> Result<Self, String> {
        for pair in pieces.windows(2) {
            let (Piece::Param(param), Piece::Literal(next)) = (&pair[0], &pair[1]) else { continue };
            let param = &params[*param];
            let first = next.chars().next().expect("literals are not empty");
            if param.kind.charset().contains(first) {
                let Param { name, kind } = param;
                return Err(format!(
                    "{first:?} after {{{name}:{kind}}} could be part of the value; put ':' after the parameter"
                ));
            }
        }
        Ok(Self { text: text.into(), pieces, params })
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The parameters, in the order of the template.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The index of the parameter of that name.
    pub fn param(&self, name: &str) -> Option<usize> {
        self.params.iter().position(|param| *param.name == *name)
    }

    /// The key of these values, which must be as many as there are parameters, in their order.
    pub fn render(&self, values: &[Value]) -> String {
        use fmt::Write as _;
        let mut key = String::with_capacity(self.text.len() + 16);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Param(index) => {
                    write!(key, "{}", values[*index]).expect("writing to a string never fails");
                }
            }
        }
        key
    }

    /// The same keys made of columns: each parameter has the name of the column that it takes.
    pub(crate) fn of_columns(&self, columns: &[Box<str>]) -> Self {
        let renamed = self.params.iter().zip(columns);
        let params: Vec<Param> =
            renamed.map(|(param, column)| Param { name: column.clone(), kind: param.kind.clone() }).collect();
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => text.push_str(&literal.replace('{', "{{").replace('}', "}}")),
                Piece::Param(index) => text.extend(["{", &params[*index].name, "}"]),
            }
        }
        Self { text: text.into(), pieces: self.pieces.clone(), params }
    }

    /// Whether both make the same texts, whatever their parameters are called.
    pub(crate) fn alike(&self, other: &Self) -> bool {
        self.pieces == other.pieces
            && self.params.iter().map(|param| &param.kind).eq(other.params.iter().map(|param| &param.kind))
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The literal that every key begins with; may be empty.
    pub(crate) fn prefix(&self) -> &str {
        match self.pieces.first() {
            Some(Piece::Literal(text)) => text,
            _ => "",
        }
    }

    /// All that its keys have in common.
    pub(crate) fn literals(&self) -> String {
        let literals = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(&**text),
            Piece::Param(_) => None,
        });
        literals.collect()
    }

    /// The values of a canonical key of this template, or `None`. No regex, one pass.
    pub(crate) fn matches(&self, key: &str) -> Option<Vec<Value>> {
        let mut rest = key;
        let mut values = Vec::with_capacity(self.params.len());
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => rest = rest.strip_prefix(&**text)?,
                Piece::Param(index) => {
                    let kind = &self.params[*index].kind;
                    let (part, after) = rest.split_at(kind.charset().run(rest));
                    values.push(kind.parse(part).ok()?);
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(values)
    }

    /// How a text that doesn't match is still like a key of this template; for messages, not for speed.
    pub(crate) fn near(&self, key: &str) -> Option<Near> {
        let mut rest = key;
        let mut values = Vec::new();
        let mut invalid = None;
        for (at, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Literal(text) => rest = rest.strip_prefix(&**text)?,
                Piece::Param(index) => {
                    let end = match self.pieces.get(at + 1) {
                        Some(Piece::Literal(next)) => rest.find(&**next)?,
                        _ => rest.len(),
                    };
                    let (part, after) = rest.split_at(end);
                    match self.params[*index].kind.parse_any(part) {
                        Ok(value) => values.push(value),
                        Err(error) => invalid = invalid.or(Some((*index, error))),
                    }
                    rest = after;
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        Some(match invalid {
            Some((param, error)) => Near::Invalid { param, error },
            None => Near::NotCanonical { canonical: self.render(&values) },
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_and_written_by_the_same_pieces() {
        let template = Template::parse("{{user:{id:u64}}}:{tag:str}:orders").unwrap();
        let values = template.matches("{user:42}:a%3Ab:orders").unwrap();
        assert_eq!(values, [Value::U64(42), Value::Str("a:b".into())]);
        assert_eq!(template.render(&values), "{user:42}:a%3Ab:orders");
        for wrong in [
            "{user:42}:a:b:orders",
            "{user:42}::orders",
            "{user:042}:a:orders",
            "{user:42}:a:orders ",
            "{user:42}",
        ] {
            assert_eq!(template.matches(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_template_without_parameters_is_one_key() {
        let template = Template::parse("settings").unwrap();
        assert_eq!(template.matches("settings"), Some(vec![]));
        assert_eq!(template.matches("settings2"), None);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in
            ["{a:u64}{b:u64}", "{a:str}-{b:str}", "{a:u64}0", "{a:date}-x", "{a:hex}beef", "{a:bool}x"]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        for text in ["{a:u64}-{b:str}", "{a:str}:{b:u64}", "{a:date}:x", "{a:u64}x", "{a:u64}é"] {
            assert!(Template::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_near_miss_says_which_part_is_wrong() {
        let template = Template::parse("user:{id:u64}:orders").unwrap();
        assert!(
            matches!(template.near("user:007:orders"), Some(Near::NotCanonical { canonical }) if canonical == "user:7:orders")
        );
        assert!(matches!(template.near("user:abc:orders"), Some(Near::Invalid { param: 0, .. })));
        assert!(template.near("user:7:order").is_none());
    }
}
