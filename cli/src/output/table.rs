//! Rows in columns, as wide as the terminal is: whole words or nothing.

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// Spaces between columns.
const GAP: u16 = 2;

/// How wide the terminal is that standard output goes to, if it is one.
pub(super) fn terminal() -> Option<u16> {
    Table::new().width()
}

/// Rows under a heading. What is wider than `width` is wrapped between words; if even that is too wide, each row is told by itself, a line for
/// each of its values.
pub(super) fn laid_out(heading: &[&str], rows: &[Vec<String>], width: Option<u16>, colour: bool) -> String {
    let mut table = columns(heading.iter().map(|name| title(name)), rows, colour);
    let Some(width) = width.filter(|width| whole(&table.column_max_content_widths()) > u32::from(*width))
    else {
        return trimmed(&table);
    };
    // One word a line: as narrow as it gets.
    let broken = |text: &str| text.split(' ').collect::<Vec<_>>().join("\n");
    let narrow: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| broken(cell)).collect()).collect();
    let words = columns(heading.iter().map(|name| Cell::new(broken(name))), &narrow, false);
    let words = words.column_max_content_widths();
    if whole(&words) > u32::from(width) {
        return records(heading, rows, width, colour);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    let last = words.len().saturating_sub(1);
    for (number, (column, word)) in table.column_iter_mut().zip(words).enumerate() {
        let gap = if number < last { GAP } else { 0 };
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(word + gap)));
    }
    trimmed(&table)
}

/// Each row as names and values below each other.
fn records(heading: &[&str], rows: &[Vec<String>], width: u16, colour: bool) -> String {
    let record = |row: &Vec<String>| {
        let facts = heading.iter().zip(row).filter(|(_, value)| !value.is_empty());
        let mut table = Table::new();
        prepare(&mut table, colour);
        for (name, value) in facts {
            table.add_row([title(name), Cell::new(value)]);
        }
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        gaps(&mut table);
        trimmed(&table)
    };
    rows.iter().map(record).collect::<Vec<_>>().join("\n\n")
}

fn columns(heading: impl Iterator<Item = Cell>, rows: &[Vec<String>], colour: bool) -> Table {
    let mut table = Table::new();
    prepare(&mut table, colour);
    table.set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    gaps(&mut table);
    table
}

fn prepare(table: &mut Table, colour: bool) {
    // Whether there may be colour is decided once, for all that is printed.
    table.load_preset(presets::NOTHING).force_no_tty();
    if colour {
        table.enforce_styling();
    }
}

fn gaps(table: &mut Table) {
    let last = table.column_count().saturating_sub(1);
    for (number, column) in table.column_iter_mut().enumerate() {
        // Nothing stands beyond the last one: a space there might be one too many for the terminal.
        column.set_padding((0, if number < last { GAP } else { 0 }));
    }
}

fn title(name: &str) -> Cell {
    Cell::new(name).add_attribute(Attribute::Dim)
}

fn whole(widths: &[u16]) -> u32 {
    widths.iter().map(|width| u32::from(width + GAP)).sum::<u32>().saturating_sub(GAP.into())
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: [&str; 12] = [
        "node",
        "up",
        "entries",
        "negative",
        "memory",
        "hit ratio",
        "hits",
        "misses",
        "fills",
        "refused",
        "removes",
        "slots",
    ];

    fn stats() -> Vec<Vec<String>> {
        let row =
            "cache-1|3d 4h|1620000|120|54.8 MiB of 256.0 MiB|99.6 %|123456789|165000|165000|12|40000|5368";
        vec![row.split('|').map(String::from).collect(); 2]
    }

    fn plain(text: &str) -> String {
        text.replace("\u{1b}[2m", "").replace("\u{1b}[0m", "").replace("\u{1b}[22m", "")
    }

    #[test]
    fn no_word_is_cut_and_no_line_is_wider_than_the_terminal() {
        for width in [40, 60, 80, 100, 120, 200] {
            let text = plain(&laid_out(&HEADING, &stats(), Some(width), true));
            assert!(!text.contains('\u{1b}'), "{text:?}");
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            let words: Vec<&str> = text.split_whitespace().collect();
            for word in HEADING.iter().flat_map(|name| name.split(' ')).chain([
                "cache-1",
                "123456789",
                "256.0",
                "99.6",
            ]) {
                assert!(words.contains(&word), "{width}: {word} is not whole in\n{text}");
            }
        }
    }

    #[test]
    fn columns_stand_below_their_names_in_colour_too() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["node-b".to_owned(), "22".to_owned()]];
        for colour in [false, true] {
            let text = laid_out(&["id", "slots owned"], &rows, None, colour);
            assert_eq!(text.contains("\u{1b}[2m"), colour, "{text:?}");
            let lines: Vec<String> = plain(&text).lines().map(|line| line.trim_end().to_owned()).collect();
            assert_eq!(lines, ["id      slots owned", "a       1", "node-b  22"]);
        }
    }

    #[test]
    fn what_is_too_wide_by_words_is_told_row_by_row() {
        let text = laid_out(&HEADING, &stats(), Some(60), false);
        assert!(text.starts_with("node       cache-1\nup         3d 4h\n"), "{text}");
        assert_eq!(text.matches("\n\n").count(), 1, "{text}");
    }
}
