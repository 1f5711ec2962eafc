//! Tables for people: each row is one line, and what does not fit is cut.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, Width, presets};

use super::safe;

/// Rows of cells. A column that says nothing in any row is left out.
pub(in crate::cli) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Columns that are never cut: times, and what another command is to be given. Without their end they say nothing.
const WHOLE: [&str; 13] = [
    "TIME",
    "ADDED",
    "ARCHIVED",
    "OLDER THAN",
    "NEXT",
    "OP",
    "CHANGES",
    "TRANSACTION",
    "COLUMN",
    "RUN",
    "JOB",
    "SCHEDULE",
    "REF",
];

/// How wide such a column is at most: a digest with its name fits.
const WHOLE_MAX: u16 = 80;

/// Between two columns.
const GAP: u16 = 2;

/// The part of a line, in percent, that another column takes while columns behind it have to be cut.
const SHARE: u16 = 16;

/// The narrowest last column, which takes what is left.
const LAST_MIN: u16 = 16;

/// Characters of a cell that are looked at, for each place of a line: to cut one at its width takes time with the square of its length. There
/// is room for marks that take no place.
const CHARACTERS: usize = 4;

impl Table {
    pub(in crate::cli) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; what acts on a terminal is made visible here.
    pub(in crate::cli) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| safe(&cell)).collect());
    }

    /// The lines, the first one of which is the header; none where there is no row.
    pub(in crate::cli) fn lines(&self, width: u16) -> Vec<String> {
        let shown: Vec<usize> = (0..self.header.len())
            .filter(|column| {
                self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty()))
            })
            .collect();
        if shown.is_empty() {
            return Vec::new();
        }
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width)
            .set_truncation_indicator("…")
            .set_header(shown.iter().map(|column| self.header[*column]));
        for row in &self.rows {
            let cells = shown
                .iter()
                .map(|column| row.get(*column).map(|cell| beginning(cell, width)).unwrap_or_default());
            let mut row = Row::from(cells);
            row.max_height(1);
            table.add_row(row);
        }
        let whole: Vec<bool> = shown.iter().map(|column| WHOLE.contains(&self.header[*column])).collect();
        let widths = widths(width, &table.column_max_content_widths(), &whole);
        for ((index, column), width) in table.column_iter_mut().enumerate().zip(widths) {
            let gap = if index + 1 == shown.len() { 0 } else { GAP };
            column
                // A cell is cut at its width, not at a space before it: none holds this character.
                .set_delimiter('\0')
                .set_padding((0, gap))
                .set_constraint(ColumnConstraint::Absolute(Width::Fixed(width + gap)));
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// All lines as a text.
    pub(in crate::cli) fn text(&self, width: u16) -> String {
        self.lines(width).iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// As much of a cell as can be on a line, and a little more.
fn beginning(cell: &str, width: u16) -> &str {
    let end = cell.char_indices().nth(CHARACTERS * (usize::from(width) + 1));
    end.map_or(cell, |(end, _)| &cell[..end])
}

/// How wide columns of this content are on a line: the last one takes what the others leave, and what it leaves goes to them.
fn widths(line: u16, contents: &[u16], whole: &[bool]) -> Vec<u16> {
    let share = line * SHARE / 100;
    let mut widths: Vec<u16> = contents
        .iter()
        .zip(whole)
        .map(|(content, whole)| if *whole { (*content).min(WHOLE_MAX) } else { (*content).min(share) })
        .collect();
    let Some((last, others)) = widths.split_last_mut() else { return widths };
    let gaps = GAP * u16::try_from(others.len()).unwrap_or_default();
    let mut left = line.saturating_sub(gaps + others.iter().sum::<u16>()).max(LAST_MIN);
    *last = contents.last().copied().unwrap_or_default().min(left);
    left -= *last;
    for (width, content) in widths.iter_mut().zip(contents) {
        let more = left.min(content - *width);
        *width += more;
        left -= more;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 4]]) -> Table {
        let mut table = Table::new(&["TIME", "TABLE", "WHO", "WHAT"]);
        for row in rows {
            table.push(row.map(str::to_owned));
        }
        table
    }

    #[test]
    fn a_row_is_a_line_whatever_it_holds() {
        let long = "x ".repeat(200);
        let table = table(&[["2026-05-15T12:00:00Z", "a\nb", "", &long], ["", "", "", ""]]);
        let lines = table.lines(80);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[1].starts_with("2026-05-15T12:00:00Z  a\\u{a}b  x x"), "{lines:?}");
        assert!(lines[1].ends_with('…') && lines[1].chars().count() <= 80, "{lines:?}");
        assert!(!lines[0].contains("WHO"), "no row says who: {lines:?}");
    }

    #[test]
    fn a_cell_of_megabytes_costs_no_more_than_what_is_shown_of_it() {
        let huge = "é".repeat(4 << 20);
        let lines = table(&[["", "t", "", &huge]]).lines(80);
        assert_eq!(lines[1], format!("t      {}…", "é".repeat(72)));
        assert_eq!(beginning(&huge, 80).chars().count(), 324);
        assert_eq!(beginning("short", 80), "short");
    }

    #[test]
    fn the_last_column_takes_what_is_left_and_leaves_what_it_does_not_need() {
        let whole = [true, false, false];
        assert_eq!(widths(100, &[20, 40, 500], &whole), [20, 16, 60]);
        assert_eq!(widths(100, &[20, 40, 10], &whole), [20, 40, 10]);
        assert_eq!(widths(100, &[20, 90, 10], &whole), [20, 66, 10]);
        assert_eq!(widths(60, &[50, 30, 30], &whole), [50, 9, 16], "too narrow for all");
        assert_eq!(widths(100, &[500], &[false]), [100]);
    }

    #[test]
    fn what_another_command_is_given_is_whole_on_the_narrowest_line() {
        let id = "01890000-0000-7000-8000-000000000001";
        let digest = "sha256: ".to_owned() + &"0123456789abcdef".repeat(4);
        let mut table = Table::new(&["JOB", "ADDED", "STATUS", "FILTER", "REF", "WHY"]);
        let long = "x".repeat(100);
        table.push([id, "2026-05-15T12:00:00Z", "completed", &long, &digest, &long].map(str::to_owned));
        let lines = table.lines(40);
        let whole = format!("{id}  2026-05-15T12:00:00Z  ");
        assert!(lines[1].starts_with(&whole) && lines[1].contains(&digest), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn without_rows_there_is_no_header() {
        assert!(table(&[]).lines(80).is_empty());
    }
}
