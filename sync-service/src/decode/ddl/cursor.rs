//! A place among tokens, and the small steps from it: words, names, parentheses.

use super::subject::TableName;
use super::tokens::Token;

/// Where parsing is. Steps that don't fit leave it where it was.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
}

impl<'t, 'a> Cursor<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>]) -> Self {
        Self { tokens, at: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'t Token<'a>> {
        self.ahead(0)
    }

    pub(super) fn ahead(&self, by: usize) -> Option<&'t Token<'a>> {
        self.tokens.get(self.at + by)
    }

    pub(super) fn step(&mut self) -> Option<&'t Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn ends(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// The word that stands here, without quotes.
    pub(super) fn word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Whether this keyword stands here.
    pub(super) fn is(&self, word: &str) -> bool {
        self.word().is_some_and(|here| here.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// Passes this keyword, if it stands here.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let here = self.is(word);
        self.at += usize::from(here);
        here
    }

    pub(super) fn take_one_of(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.take(word))
    }

    /// Passes these keywords, if all of them stand here.
    pub(super) fn take_all(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let all = words.iter().all(|word| self.take(word));
        if !all {
            self.at = start;
        }
        all
    }

    pub(super) fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    pub(super) fn take_sign(&mut self, sign: char) -> bool {
        let here = self.is_sign(sign);
        self.at += usize::from(here);
        here
    }

    pub(super) fn take_text(&mut self) -> bool {
        let here = matches!(self.peek(), Some(Token::Text | Token::Double(_)));
        self.at += usize::from(here);
        here
    }

    pub(super) fn take_number(&mut self) -> bool {
        let here = self.peek() == Some(&Token::Number);
        self.at += usize::from(here);
        here
    }

    /// `IF EXISTS`, if it stands here.
    pub(super) fn if_exists(&mut self) {
        self.take_all(&["IF", "EXISTS"]);
    }

    /// `IF NOT EXISTS`, if it stands here.
    pub(super) fn if_not_exists(&mut self) {
        self.take_all(&["IF", "NOT", "EXISTS"]);
    }

    /// MariaDB's `WAIT n` or `NOWAIT`, if it stands here.
    pub(super) fn wait(&mut self) {
        let start = self.at;
        if !(self.take("NOWAIT") || self.take("WAIT") && self.take_number()) {
            self.at = start;
        }
    }

    /// A name, of anything.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        let name: &'t str = match self.peek()? {
            Token::Word(word) => word,
            Token::Name(name) | Token::Double(name) => name,
            _ => return None,
        };
        // Names from before MySQL 5.1 are written as files were.
        if name.is_empty() || name.starts_with("#mysql50#") {
            return None;
        }
        self.at += 1;
        Some(name)
    }

    /// The name of a table or another object, with or without its database.
    pub(super) fn table(&mut self) -> Option<TableName> {
        let start = self.at;
        let found = self.qualified();
        if found.is_none() {
            self.at = start;
        }
        found
    }

    fn qualified(&mut self) -> Option<TableName> {
        // `.t` is a table of the session's database.
        self.take_sign('.');
        let first = self.name()?;
        if !self.is_sign('.') || self.ahead(1) == Some(&Token::Sign('*')) {
            return Some(TableName { database: None, table: first.to_owned() });
        }
        self.step();
        let second = match self.peek()? {
            // Digits behind a point are a name.
            Token::Number => return None,
            _ => self.name()?,
        };
        (!self.is_sign('.') || self.ahead(1) == Some(&Token::Sign('*')))
            .then(|| TableName { database: Some(first.to_owned()), table: second.to_owned() })
    }

    /// Names with commas between them.
    pub(super) fn tables(&mut self) -> Option<Vec<TableName>> {
        let mut tables = vec![self.table()?];
        while self.take_sign(',') {
            tables.push(self.table()?);
        }
        Some(tables)
    }

    /// Passes what stands in parentheses, and them.
    pub(super) fn parentheses(&mut self) -> bool {
        if !self.is_sign('(') {
            return false;
        }
        let mut depth = 0usize;
        for (by, token) in self.tokens[self.at..].iter().enumerate() {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at += by + 1;
                return true;
            }
        }
        false
    }

    /// Passes one token, or all that stands in parentheses. `false` where there is none, or the parentheses don't match.
    pub(super) fn skip(&mut self) -> bool {
        if self.is_sign('(') {
            return self.parentheses();
        }
        !self.is_sign(')') && self.step().is_some()
    }

    /// An account: `'u'@'%'`, `u@h`, `CURRENT_USER()`, a role.
    pub(super) fn account(&mut self) -> bool {
        if !self.take_text() && self.name().is_none() {
            return false;
        }
        if self.is_sign('(') {
            return self.parentheses();
        }
        !self.take_sign('@') || self.take_text() || self.name().is_some()
    }

    /// The parts between commas that stand in no parentheses; `None` if these don't match.
    pub(super) fn clauses(mut self) -> Option<Vec<Cursor<'t, 'a>>> {
        let mut clauses = Vec::new();
        let mut start = self.at;
        while !self.ends() {
            if self.is_sign(',') {
                clauses.push(Cursor::new(&self.tokens[start..self.at]));
                start = self.at + 1;
            }
            if !self.skip() {
                return None;
            }
        }
        clauses.push(Cursor::new(&self.tokens[start..self.at]));
        Some(clauses)
    }
}
