//! Reading a template's text: literals, `{name}` and `{name:type}`.

use super::{Param, Piece, Template};
use crate::param::ParamType;

/// A template whose parameters may lack types, as rules write keys: `user:{owner_id}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawTemplate {
    pub(crate) text: String,
    pub(crate) pieces: Vec<RawPiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RawPiece {
    Literal(String),
    Param { name: String, kind: Option<ParamType> },
}

impl RawTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the key template is empty; write something like user:{id:u64}".to_owned());
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push(first);
                rest = &rest[2..];
            } else if first == '{' {
                let end =
                    rest.find('}').ok_or("a '{' has no '}'; close the parameter, or write {{ for a brace")?;
                let param = param(&rest[1..end])?;
                if literal.is_empty() && matches!(pieces.last(), Some(RawPiece::Param { .. })) {
                    return Err("two parameters touch; put ':' between them".to_owned());
                }
                if !literal.is_empty() {
                    pieces.push(RawPiece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(param);
                rest = &rest[end + 1..];
            } else if first == '}' {
                return Err("a '}' has no '{'; write }} for a brace".to_owned());
            } else if first.is_whitespace() || first.is_control() {
                return Err(format!("keys have no {first:?}; use ':' or '-'"));
            } else {
                literal.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            pieces.push(RawPiece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// Types the template; `missing` names the type of a parameter that has none.
    pub(crate) fn typed(
        &self,
        mut missing: impl FnMut(&str) -> Result<ParamType, String>,
    ) -> Result<Template, String> {
        let (mut pieces, mut params) = (Vec::new(), Vec::new());
        for piece in &self.pieces {
            match piece {
                RawPiece::Literal(text) => pieces.push(Piece::Literal(text.as_str().into())),
                RawPiece::Param { name, kind } => {
                    let kind = kind.clone().map_or_else(|| missing(name), Ok)?;
                    pieces.push(Piece::Param(params.len()));
                    params.push(Param { name: name.as_str().into(), kind });
                }
            }
        }
        Template::new(&self.text, pieces, params)
    }

    /// Sets each parameter's type, in order.
    pub(crate) fn set_kinds(&mut self, mut next: impl FnMut() -> Option<ParamType>) {
        for piece in &mut self.pieces {
            if let RawPiece::Param { kind, .. } = piece {
                *kind = next();
            }
        }
    }

    /// The parameters' names and types, in order.
    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, Option<&ParamType>)> {
        self.pieces.iter().filter_map(|piece| match piece {
            RawPiece::Param { name, kind } => Some((name.as_str(), kind.as_ref())),
            RawPiece::Literal(_) => None,
        })
    }

    /// The template without names and types, to compare by.
    pub(crate) fn bare(&self) -> String {
        let piece = |piece: &RawPiece| match piece {
            RawPiece::Literal(text) => text.clone(),
            RawPiece::Param { .. } => "{}".to_owned(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// Whether both have the same literals, and parameters in the same places.
    pub(crate) fn same_shape(&self, template: &Template) -> bool {
        self.pieces.len() == template.pieces().len()
            && self.pieces.iter().zip(template.pieces()).all(|(raw, piece)| match (raw, piece) {
                (RawPiece::Literal(a), Piece::Literal(b)) => **a == **b,
                (RawPiece::Param { .. }, Piece::Param(_)) => true,
                _ => false,
            })
    }
}

/// Reads what stands between braces.
fn param(text: &str) -> Result<RawPiece, String> {
    let (name, spec) = match text.split_once(':') {
        Some((name, spec)) => (name.trim(), Some(spec.trim())),
        None => (text.trim(), None),
    };
    let good = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
    if name.is_empty() || !name.chars().all(good) {
        return Err(format!("{{{text}}} has no proper name; write {{id:u64}}, with letters, digits and '_'"));
    }
    let kind = spec.map(ParamType::from_spec).transpose().map_err(|error| format!("{{{text}}}: {error}"))?;
    Ok(RawPiece::Param { name: name.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_says_what_to_write() {
        for (text, part) in [
            ("", "empty"),
            ("user:{id:u64", "no '}'"),
            ("user:id}", "no '{'"),
            ("user:{}", "proper name"),
            ("user:{a b:u64}", "proper name"),
            ("user:{a}{b}", "put ':'"),
            ("user {a}", "keys have no"),
            ("user:{id:u65}", "did you mean u64?"),
        ] {
            let error = RawTemplate::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Template::parse("user:{id}").unwrap_err().contains("{id:u64}"));
    }

    #[test]
    fn shapes_compare_literals_and_places_of_parameters() {
        let template = Template::parse("user:{id:u64}:orders").unwrap();
        let same = |text: &str| RawTemplate::parse(text).unwrap().same_shape(&template);
        assert!(same("user:{owner_id}:orders"));
        assert!(!same("user:{owner_id}"));
        assert!(!same("users:{owner_id}:orders"));
        assert!(!same("user:{owner_id}:order"));
    }
}
