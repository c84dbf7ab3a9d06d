//! What the reader says to the decoder: messages in the form of Canal's, and a few of its own kinds.

use std::io;

use mysql_async::binlog::events::{RowsEventData, TableMapEvent};
use mysql_async::binlog::row::BinlogRow;

use super::render;
use super::tables::{ColumnInfo, Definition};

/// Carries the position past transactions that changed nothing of interest.
pub(super) const POSITION: &[u8] = br#"{"type":"FRESHLINE_POSITION"}"#;

/// A statement, of which only its text is known.
pub(super) fn statement(database: &str, sql: &str, committed_ms: i64) -> Vec<u8> {
    let mut out = br#"{"type":"FRESHLINE_STATEMENT","isDdl":true,"database":"#.to_vec();
    render::string(&mut out, database);
    out.extend_from_slice(format!(",\"table\":\"\",\"es\":{committed_ms},\"sql\":").as_bytes());
    render::string(&mut out, sql);
    out.push(b'}');
    out
}

/// The commit of a transaction that was prepared before.
pub(super) fn xa_commit(committed_ms: i64) -> Vec<u8> {
    format!(r#"{{"type":"XACOMMIT","es":{committed_ms}}}"#).into_bytes()
}

/// Rows that can't be told; of any table where none is named.
pub(super) fn flush(database: &str, table: &str) -> Vec<u8> {
    let mut out = br#"{"type":"FRESHLINE_FLUSH","database":"#.to_vec();
    render::string(&mut out, database);
    out.extend_from_slice(br#","table":"#);
    render::string(&mut out, table);
    out.push(b'}');
    out
}

/// All rows of an event, reduced to the columns of interest (`None`: all of them).
pub(super) fn rows(
    rows: &RowsEventData<'_>,
    table_map: &TableMapEvent<'_>,
    definition: &Definition,
    wanted: Option<&[Box<str>]>,
    (database, table): (&str, &str),
    committed_ms: i64,
) -> io::Result<Vec<u8>> {
    let kind = match rows {
        RowsEventData::WriteRowsEvent(_) | RowsEventData::WriteRowsEventV1(_) => "INSERT",
        RowsEventData::DeleteRowsEvent(_) | RowsEventData::DeleteRowsEventV1(_) => "DELETE",
        RowsEventData::UpdateRowsEvent(_)
        | RowsEventData::UpdateRowsEventV1(_)
        | RowsEventData::PartialUpdateRowsEvent(_) => "UPDATE",
    };
    let wanted: Vec<bool> = (0..definition.columns.len())
        .map(|index| {
            let column = &definition.columns[index];
            // A row without any column would count as one that is unknown.
            wanted.is_none_or(|wanted| {
                (wanted.is_empty() && index == 0) || wanted.iter().any(|name| same(name, &column.name))
            })
        })
        .collect();
    let (mut data, mut old) = (Vec::new(), Vec::new());
    for row in rows.rows(table_map) {
        let (before, after) = row?;
        let before = before.as_ref().map(|row| Image::new(row, definition)).transpose()?;
        let after = after.as_ref().map(|row| Image::new(row, definition)).transpose()?;
        let comma = if data.is_empty() { "" } else { "," };
        data.extend_from_slice(comma.as_bytes());
        match (&before, &after) {
            (Some(before), Some(after)) => {
                // A partial image lacks what did not change, or what it was: the first is in the other image, the second is unknown.
                object(&mut data, definition, &wanted, |out, index, column| {
                    after.value(out, index, column) || before.value(out, index, column)
                });
                old.extend_from_slice(comma.as_bytes());
                object(&mut old, definition, &wanted, |out, index, column| {
                    if before.value(out, index, column) {
                        return true;
                    }
                    let changed = after.has(index);
                    if changed {
                        out.extend_from_slice(b"{}");
                    }
                    changed
                });
            }
            (Some(image), None) | (None, Some(image)) => {
                object(&mut data, definition, &wanted, |out, index, column| image.value(out, index, column));
            }
            (None, None) => data.extend_from_slice(b"{}"),
        }
    }
    let mut out = format!("{{\"type\":\"{kind}\",\"database\":").into_bytes();
    render::string(&mut out, database);
    out.extend_from_slice(br#","table":"#);
    render::string(&mut out, table);
    out.extend_from_slice(format!(",\"es\":{committed_ms},\"mysqlType\":").as_bytes());
    object(&mut out, definition, &wanted, |out, _, column| {
        render::string(out, column.told_type());
        true
    });
    out.extend_from_slice(br#","data":["#);
    out.extend_from_slice(&data);
    out.push(b']');
    if kind == "UPDATE" {
        out.extend_from_slice(br#","old":["#);
        out.extend_from_slice(&old);
        out.push(b']');
    }
    out.push(b'}');
    Ok(out)
}

/// Column names don't regard case.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

/// A row whose columns are found by their place in the table; images may lack some.
struct Image<'a> {
    row: &'a BinlogRow,
    /// For each column of the table, its place in the row.
    places: Vec<Option<usize>>,
}

impl<'a> Image<'a> {
    fn new(row: &'a BinlogRow, definition: &Definition) -> io::Result<Self> {
        let mut places = vec![None; definition.columns.len()];
        for (place, column) in row.columns_ref().iter().enumerate() {
            let name = column.name_str();
            // `@3` where the binlog has no names; with binlog_row_metadata=FULL it has, and they are those of the row's own time.
            let index = match name.strip_prefix('@').and_then(|number| number.parse::<usize>().ok()) {
                Some(index) => Some(index),
                None => definition.columns.iter().position(|known| same(&known.name, &name)),
            };
            match index.and_then(|index| places.get_mut(index)) {
                Some(slot) => *slot = Some(place),
                None => return Err(io::Error::other(format!("the table has no column {name:?} any more"))),
            }
        }
        Ok(Self { row, places })
    }

    fn has(&self, index: usize) -> bool {
        self.places[index].is_some()
    }

    /// Appends a column's value, if the image has it.
    fn value(&self, out: &mut Vec<u8>, index: usize, column: &ColumnInfo) -> bool {
        let Some(value) = self.places[index].and_then(|place| self.row.as_ref(place)) else { return false };
        render::value(out, value, column);
        true
    }
}

/// Appends an object of the wanted columns for which `value` appends one.
fn object(
    out: &mut Vec<u8>,
    definition: &Definition,
    wanted: &[bool],
    mut value: impl FnMut(&mut Vec<u8>, usize, &ColumnInfo) -> bool,
) {
    out.push(b'{');
    let mut any = false;
    for (index, column) in definition.columns.iter().enumerate().filter(|(index, _)| wanted[*index]) {
        let start = out.len();
        if any {
            out.push(b',');
        }
        render::string(out, &column.name);
        out.push(b':');
        if value(out, index, column) {
            any = true;
        } else {
            out.truncate(start);
        }
    }
    out.push(b'}');
}
