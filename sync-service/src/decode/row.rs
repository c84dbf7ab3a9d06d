//! Rows of one message, reduced to the columns of interest.

use std::borrow::Cow;

use catalog::{Column, JsonForm, RowImage};

use super::columns::Columns;

/// One column's value in one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// As Canal writes it.
    Text(Cow<'a, str>),
    /// A JSON value of a column whose type is not told beside it.
    Json(Cow<'a, str>, JsonForm),
    /// The bytes of a binary column; of BIT, big-endian.
    Bytes(Vec<u8>),
    /// A nested object or array: nothing that a key could be made of.
    Unusable,
}

impl Cell<'_> {
    /// True or false, in the place of a number or a bit.
    pub(super) fn truth(value: bool) -> Self {
        Self::Json(Cow::Borrowed(if value { "1" } else { "0" }), JsonForm::Boolean)
    }
}

/// Rows, each a run of cells. Kept flat, so that a batch of messages reuses the memory.
#[derive(Default, Debug)]
pub struct Rows<'a> {
    cells: Vec<(u16, Cell<'a>)>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    end: usize,
    /// Whether the row had any column at all, also one that is of no interest.
    any: bool,
}

impl<'a> Rows<'a> {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The cells of one row.
    pub fn row(&self, index: usize) -> &[(u16, Cell<'a>)] {
        let start = if index == 0 { 0 } else { self.rows[index - 1].end };
        &self.cells[start..self.rows[index].end]
    }

    /// Whether a row had any column, of interest or not.
    pub fn any(&self, index: usize) -> bool {
        self.rows[index].any
    }

    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.rows.clear();
    }

    pub(super) fn push(&mut self, column: u16, cell: Cell<'a>) {
        self.cells.push((column, cell));
    }

    pub(super) fn end_row(&mut self, any: bool) {
        self.rows.push(Row { end: self.cells.len(), any });
    }

    /// Lets `change` rewrite the text of all cells of one column.
    pub(super) fn rewrite(&mut self, column: u16, change: impl Fn(&str) -> Option<String>) {
        for (_, cell) in self.cells.iter_mut().filter(|(id, _)| *id == column) {
            if let Cell::Text(text) = cell
                && let Some(changed) = change(text)
            {
                *text = Cow::Owned(changed);
            }
        }
    }
}

/// What a message's rows are decoded into. Reused from message to message of one batch.
#[derive(Default, Debug)]
pub struct Scratch<'a> {
    /// The rows after an INSERT or UPDATE, before a DELETE.
    pub data: Rows<'a>,
    /// What was different before an UPDATE; as many rows as `data`, or none.
    pub old: Rows<'a>,
    /// Whether `old` stands for itself: what it lacks is unknown, not as in `data`.
    pub old_is_whole: bool,
    /// Column types as the server writes them.
    pub types: Vec<(u16, Cow<'a, str>)>,
}

impl<'a> Scratch<'a> {
    pub(super) fn clear(&mut self) {
        self.data.clear();
        self.old.clear();
        self.old_is_whole = false;
        self.types.clear();
    }

    /// The image that `data` holds.
    pub fn image<'s>(&'s self, row: usize, columns: &'s Columns) -> Image<'s, 'a> {
        Image { row: self.data.row(row), overlay: &[], types: &self.types, columns }
    }

    /// The image before an UPDATE: `data` overlaid with `old`; `None` where the message can't tell it.
    ///
    /// With a full row image an update that is logged at all has changed something, so its `old` names a column. An empty
    /// one comes from a partial image (`binlog_row_image=MINIMAL`), where a column's old value may be unknown.
    pub fn before<'s>(&'s self, row: usize, columns: &'s Columns) -> Option<Image<'s, 'a>> {
        if row >= self.old.len() || !self.old.any(row) {
            return None;
        }
        if self.old_is_whole {
            return Some(Image { row: self.old.row(row), ..self.image(row, columns) });
        }
        Some(Image { overlay: self.old.row(row), ..self.image(row, columns) })
    }
}

/// One row, readable by column name.
#[derive(Clone, Copy, Debug)]
pub struct Image<'s, 'a> {
    row: &'s [(u16, Cell<'a>)],
    overlay: &'s [(u16, Cell<'a>)],
    types: &'s [(u16, Cow<'a, str>)],
    columns: &'s Columns,
}

impl RowImage for Image<'_, '_> {
    fn column(&self, name: &str) -> Column<'_> {
        let Some(id) = self.columns.id(name) else { return Column::Missing };
        // The last one wins, as in every JSON reader, should a producer write a name twice.
        let find = |cells: &'_ [(u16, Cell<'_>)]| cells.iter().rposition(|(column, _)| *column == id);
        let cell = match (find(self.overlay), find(self.row)) {
            (Some(at), _) => &self.overlay[at].1,
            (None, Some(at)) => &self.row[at].1,
            (None, None) => return Column::Missing,
        };
        let told = || self.types.iter().rev().find(|(column, _)| *column == id).map(|(_, text)| &**text);
        match cell {
            // Canal always tells the types, and writes dates with zeros as they are.
            Cell::Null if told().is_some() => Column::Null,
            Cell::Null => Column::Json { text: "", form: JsonForm::Null },
            Cell::Text(text) => match told() {
                Some(mysql_type) => Column::Text { text, mysql_type: Some(mysql_type) },
                // Its relatives that don't (Flink) write bytes as base64.
                None => Column::Json { text, form: JsonForm::String },
            },
            Cell::Json(text, form) => Column::Json { text, form: *form },
            Cell::Bytes(bytes) => Column::Bytes(bytes),
            Cell::Unusable => Column::Missing,
        }
    }
}
