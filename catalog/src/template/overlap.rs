//! Could one key match two templates?
//!
//! Both become small automata of steps (one of a set, or any number of a set) that accept at least the template's keys;
//! if no text can be accepted by both, no key can match both. The answer is exact for literals, numbers, text and fixed
//! shapes; where it is not, it errs towards "they overlap".

use std::collections::HashSet;

use super::charset::{Charset, DASH, DIGIT, FRACTION, HEX, NUMBER, SIGNED, TEXT};
use super::{Piece, Template};
use crate::param::ParamType;

#[derive(Clone, Copy)]
enum Step {
    Letter(char),
    One(Charset),
    /// Any number, also none.
    Star(Charset),
}

/// Whether a key could match both.
pub(crate) fn overlap(a: &Template, b: &Template) -> bool {
    let (a, b) = (steps(a), steps(b));
    let mut seen = HashSet::from([(0, 0)]);
    let mut open = vec![(0, 0)];
    while let Some((i, j)) = open.pop() {
        if i == a.len() && j == b.len() {
            return true;
        }
        let (left, right) = (a.get(i).copied(), b.get(j).copied());
        let mut next = Vec::with_capacity(3);
        if matches!(left, Some(Step::Star(_))) {
            next.push((i + 1, j));
        }
        if matches!(right, Some(Step::Star(_))) {
            next.push((i, j + 1));
        }
        if let (Some(left), Some(right)) = (left, right)
            && left.meets(right)
        {
            next.push((left.after(i), right.after(j)));
        }
        open.extend(next.into_iter().filter(|state| seen.insert(*state)));
    }
    false
}

impl Step {
    fn meets(self, other: Self) -> bool {
        match (self, other) {
            (Self::Letter(a), Self::Letter(b)) => a == b,
            (Self::Letter(a), Self::One(set) | Self::Star(set))
            | (Self::One(set) | Self::Star(set), Self::Letter(a)) => set.contains(a),
            (Self::One(a) | Self::Star(a), Self::One(b) | Self::Star(b)) => a.meets(b),
        }
    }

    /// The state after one character.
    fn after(self, state: usize) -> usize {
        if matches!(self, Self::Star(_)) { state } else { state + 1 }
    }
}

fn steps(template: &Template) -> Vec<Step> {
    let mut steps = Vec::new();
    for piece in template.pieces() {
        match piece {
            Piece::Literal(text) => steps.extend(text.chars().map(Step::Letter)),
            Piece::Param(index) => steps_of(&template.params()[*index].kind, &mut steps),
        }
    }
    steps
}

fn steps_of(kind: &ParamType, steps: &mut Vec<Step>) {
    let mut times = |set: Charset, count: usize| steps.extend(std::iter::repeat_n(Step::One(set), count));
    match kind {
        ParamType::U64 => times(DIGIT, 1),
        ParamType::I64 | ParamType::Decimal => times(SIGNED, 1),
        ParamType::Str(_) | ParamType::Compared => times(TEXT, 1),
        ParamType::Bool => {}
        ParamType::Hex => times(HEX, 2),
        ParamType::Date => {
            times(DIGIT, 4);
            times(DASH, 1);
            times(DIGIT, 2);
            times(DASH, 1);
            times(DIGIT, 2);
        }
        ParamType::DateTime => {
            times(DIGIT, 8);
            times(Charset::one(b'T'), 1);
            times(DIGIT, 6);
        }
        ParamType::Time => {
            times(SIGNED, 1);
            times(DIGIT, 5);
        }
        ParamType::Uuid => {
            for (index, digits) in [8, 4, 4, 4, 12].into_iter().enumerate() {
                times(DASH, usize::from(index > 0));
                times(HEX, digits);
            }
        }
    }
    match kind {
        ParamType::U64 | ParamType::I64 => steps.push(Step::Star(DIGIT)),
        ParamType::Decimal => steps.push(Step::Star(NUMBER)),
        ParamType::Str(_) | ParamType::Compared => steps.push(Step::Star(TEXT)),
        ParamType::Bool => steps.extend([Step::One(kind.charset()), Step::Star(kind.charset())]),
        ParamType::Hex => steps.push(Step::Star(HEX)),
        ParamType::DateTime | ParamType::Time => steps.push(Step::Star(FRACTION)),
        ParamType::Date | ParamType::Uuid => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlaps(a: &str, b: &str) -> bool {
        let (a, b) = (Template::parse(a).unwrap(), Template::parse(b).unwrap());
        assert_eq!(overlap(&a, &b), overlap(&b, &a));
        overlap(&a, &b)
    }

    #[test]
    fn templates_that_could_share_a_key_overlap() {
        for (a, b) in [
            ("user:{id:u64}", "user:{key:u64}"),
            ("user:{name:str}", "user:{id:u64}"),
            ("user:{name:str}", "user:me"),
            ("user:{id:u64}", "user:42"),
            ("user:{id:i64}", "user:{id:u64}"),
            ("{a:str}:{b:str}", "user:{id:u64}"),
            ("user:{id:hex}", "user:{id:u64}"),
            ("day:{d:date}", "day:{d:str}"),
            ("x:{a:u64}:y", "x:{a:str}:{b:str}"),
            ("{{a}}:{b:u64}", "{{a}}:{c:i64}"),
        ] {
            assert!(overlaps(a, b), "{a} {b}");
        }
    }

    #[test]
    fn templates_that_never_share_a_key_do_not() {
        for (a, b) in [
            ("user:{id:u64}", "user:{id:u64}:orders"),
            ("user:{name:str}", "user:{name:str}:orders"),
            ("user:{id:u64}", "users:{id:u64}"),
            ("user:{id:u64}", "user:me"),
            ("user:{id:u64}", "user:{id:uuid}"),
            ("day:{d:date}", "day:{d:u64}"),
            ("at:{d:datetime}", "at:{d:u64}"),
            ("flag:{b:bool}", "flag:{b:u64}"),
            ("a:{x:u64}:b", "a:{x:u64}:c"),
            ("a:{x:str}:b:{y:str}", "a:{x:str}:c:{y:str}"),
        ] {
            assert!(!overlaps(a, b), "{a} {b}");
        }
    }
}
