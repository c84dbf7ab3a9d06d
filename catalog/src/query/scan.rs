//! Finding `{param}` in SQL: outside of strings, quoted names and comments.

use std::ops::Range;

/// A query's text, with its parameters found.
pub(crate) struct Scanned<'a> {
    pub(crate) text: &'a str,
    /// Where parameters stand, braces included, and their names; in the order of the text.
    pub(crate) uses: Vec<(Range<usize>, &'a str)>,
    /// For each byte whether it is SQL proper: not in a string, a quoted name or a comment.
    code: Vec<bool>,
}

impl<'a> Scanned<'a> {
    pub(crate) fn new(text: &'a str) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let mut scanned = Self { text, uses: Vec::new(), code: vec![true; bytes.len()] };
        let mut at = 0;
        while at < bytes.len() {
            let rest = &text[at..];
            let end = match bytes[at] {
                quote @ (b'\'' | b'"' | b'`') => {
                    at + quoted(rest, quote)
                        .ok_or_else(|| format!("a {} is not closed", char::from(quote)))?
                }
                b'#' => at + rest.find('\n').unwrap_or(rest.len()),
                b'-' if is_dash_comment(rest) => at + rest.find('\n').unwrap_or(rest.len()),
                b'/' if rest.starts_with("/*!") => {
                    return Err(
                        "a /*! comment is SQL that only some servers run; write it plainly".to_owned()
                    );
                }
                b'/' if rest.starts_with("/*") => at + rest.find("*/").ok_or("a /* is not closed")? + 2,
                b'{' => {
                    let end = rest.find('}').ok_or("a '{' has no '}'; write {param}")?;
                    scanned.uses.push((at..at + end + 1, rest[1..end].trim()));
                    at += end + 1;
                    continue;
                }
                b'?' => return Err("a '?' stands for no parameter; write {param}".to_owned()),
                _ => {
                    at += rest.chars().next().map_or(1, char::len_utf8);
                    continue;
                }
            };
            scanned.code[at..end].fill(false);
            at = end;
        }
        Ok(scanned)
    }

    /// The text with each parameter replaced by what `write` gives for its index among [`uses`](Self::uses).
    pub(crate) fn replaced(&self, write: impl Fn(usize) -> String) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut from = 0;
        for (index, (range, _)) in self.uses.iter().enumerate() {
            out.push_str(&self.text[from..range.start]);
            out.push_str(&write(index));
            from = range.end;
        }
        out.push_str(&self.text[from..]);
        out
    }

    /// Where the first keyword stands that is `word`, outside of parentheses.
    pub(crate) fn keyword(&self, word: &str) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let part_of_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.') || byte >= 0x80;
        let mut depth = 0i32;
        for at in (0..bytes.len()).filter(|at| self.code[*at]) {
            match bytes[at] {
                b'(' => depth += 1,
                b')' => depth -= 1,
                _ if depth == 0
                    && bytes[at..]
                        .get(..word.len())
                        .is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
                    && !bytes.get(at + word.len()).is_some_and(|byte| part_of_name(*byte))
                    && !(at > 0 && part_of_name(bytes[at - 1])) =>
                {
                    return Some(at);
                }
                _ => {}
            }
        }
        None
    }

    /// For `column = {param}` and `column IN ({param})`: where it all stands, and the column. Other forms: `None`.
    pub(crate) fn comparison(&self, index: usize) -> Option<(Range<usize>, &'a str)> {
        let range = self.uses[index].0.clone();
        let before = self.text[..range.start].trim_end();
        let (left, end) = if let Some(left) = before.strip_suffix('=') {
            (left.trim_end(), range.end)
        } else {
            let left = before.strip_suffix('(')?.trim_end();
            let word = left.len().checked_sub(2).filter(|at| left.is_char_boundary(*at))?;
            let after = self.text[range.end..].find(')').map(|at| range.end + at)?;
            let alone = self.text[range.end..after].trim().is_empty();
            let is_in = alone
                && left[word..].eq_ignore_ascii_case("in")
                && left[..word].ends_with(char::is_whitespace);
            (is_in.then(|| left[..word].trim_end())?, after + 1)
        };
        let start = column_start(left)?;
        Some((start..end, &left[start..]))
    }
}

/// Bytes of a quoted text with its quotes; doubled quotes and, in strings, backslashes go on.
fn quoted(text: &str, quote: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

/// `--` begins a comment only before white space or the end.
fn is_dash_comment(rest: &str) -> bool {
    rest.strip_prefix("--").is_some_and(|after| {
        after.is_empty() || after.starts_with(|letter: char| letter.is_whitespace() || letter.is_control())
    })
}

/// Where the column name begins that `text` ends with: `id`, `u.id`, `` `u`.`id` ``.
fn column_start(text: &str) -> Option<usize> {
    let part_of_name = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$');
    let mut start = text.len();
    loop {
        let before = &text[..start];
        let next = match before.strip_suffix('`') {
            Some(inner) => inner.rfind('`')?,
            None => before
                .rfind(|letter| !part_of_name(letter))
                .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8)),
        };
        if next == start {
            return None;
        }
        start = next;
        match text[..start].strip_suffix('.') {
            Some(before) => start = before.len(),
            None => return Some(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_outside_of_strings_and_comments_only() {
        let text = "SELECT '{a}', \"it''s {b}\", `{c}` -- {d}\n # {e}\n /* {f} */ FROM t WHERE id = {id} AND x = '\\'{g}'";
        let scanned = Scanned::new(text).unwrap();
        assert_eq!(scanned.uses.iter().map(|(_, name)| *name).collect::<Vec<_>>(), ["id"]);
        assert!(scanned.replaced(|_| "?".to_owned()).contains("id = ? AND"));
        for wrong in ["SELECT 'a", "SELECT {id", "SELECT /* a", "SELECT ?", "SELECT /*! 1 */"] {
            assert!(Scanned::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn comparisons_are_found_with_their_columns() {
        let column = |text: &'static str| {
            Scanned::new(text).unwrap().comparison(0).map(|(range, column)| (&text[range], column))
        };
        assert_eq!(column("WHERE u.id = {id} LIMIT 1"), Some(("u.id = {id}", "u.id")));
        assert_eq!(column("WHERE `u`.`id`={id}"), Some(("`u`.`id`={id}", "`u`.`id`")));
        assert_eq!(column("WHERE id IN ( {id} )"), Some(("id IN ( {id} )", "id")));
        assert_eq!(column("WHERE {id} = id"), None);
        assert_eq!(column("WHERE id > {id}"), None);
        assert_eq!(column("WHERE f({id})"), None);
    }

    #[test]
    fn keywords_count_outside_of_parentheses() {
        let text = "SELECT EXTRACT(YEAR FROM d), t.from, 'FROM' FROM t";
        assert_eq!(Scanned::new(text).unwrap().keyword("FROM"), Some(text.rfind("FROM").unwrap()));
    }
}
