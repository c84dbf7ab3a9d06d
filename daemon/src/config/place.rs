//! Where a value was written: a line of the file, or a variable of the environment.

use super::environment::Variable;

/// A span that starts below the file's length is in the file; past it, the distance is the variable's index.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) file: String,
    pub(super) text: String,
    pub(super) variables: Vec<Variable>,
}

/// One value's origin.
pub(super) enum Place<'a> {
    /// A line of the file, from 1.
    Line(usize),
    /// A variable of the environment.
    Variable(&'a Variable),
}

impl Places {
    /// The span start that stands for a variable.
    pub(super) fn of_variable(&self, index: usize) -> usize {
        self.text.len() + 1 + index
    }

    /// What a span start stands for.
    pub(super) fn find(&self, start: usize) -> Place<'_> {
        match start.checked_sub(self.text.len() + 1).and_then(|index| self.variables.get(index)) {
            Some(variable) => Place::Variable(variable),
            None => Place::Line(self.line(start)),
        }
    }

    /// `freshline.toml:12: node.memory`, or the variable's name.
    pub(super) fn describe(&self, start: usize, path: &str) -> String {
        match self.find(start) {
            Place::Variable(variable) => variable.name.clone(),
            Place::Line(line) => format!("{}:{line}: {path}", self.file),
        }
    }

    fn line(&self, start: usize) -> usize {
        let end = start.min(self.text.len());
        self.text.as_bytes()[..end].split(|byte| *byte == b'\n').count()
    }
}
