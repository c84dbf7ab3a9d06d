//! The line as far as it is typed: which word is being written, and what it stands for.

/// The words before the one that is being written, and that one with its place.
pub(super) struct Words {
    pub(super) before: Vec<String>,
    /// As written, quotes included.
    pub(super) current: String,
    /// Where it begins, in bytes.
    pub(super) start: usize,
}

/// Splits what stands before the cursor.
pub(super) fn split(line: &str) -> Words {
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, _) if c.is_whitespace() => start = at + c.len_utf8(),
            _ => {}
        }
    }
    let mut before = shlex::split(&line[..start]).unwrap_or_default();
    if before.first().is_some_and(|word| word == "freshline") {
        before.remove(0);
    }
    Words { before, current: line[start..].to_owned(), start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_at_the_cursor_is_told_from_those_before() {
        let cases = [
            ("", &[][..], "", 0),
            ("ge", &[], "ge", 0),
            ("get us", &["get"], "us", 4),
            ("freshline get ", &["get"], "", 14),
            ("sql \"SELECT 1\" --d", &["sql", "SELECT 1"], "--d", 15),
            ("sql \"SELECT ", &["sql"], "\"SELECT ", 4),
        ];
        for (line, before, current, start) in cases {
            let words = split(line);
            assert_eq!(
                (words.before, words.current.as_str(), words.start),
                (before.iter().map(ToString::to_string).collect(), current, start),
                "{line}"
            );
        }
    }
}
