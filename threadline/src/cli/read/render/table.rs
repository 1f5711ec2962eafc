//! Tables for people: each row is one line, and what does not fit is cut.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, presets};

use super::safe;

/// Rows of cells. A column that says nothing in any row is left out.
pub(in crate::cli::read) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

/// Columns that are never cut: without their end they say nothing.
const WHOLE: [&str; 4] = ["TIME", "OP", "CHANGES", "TRANSACTION"];

impl Table {
    pub(in crate::cli::read) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; what acts on a terminal is made visible here.
    pub(in crate::cli::read) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| safe(&cell)).collect());
    }

    /// The lines, the first one of which is the header; none where there is no row.
    pub(in crate::cli::read) fn lines(&self, width: u16) -> Vec<String> {
        let shown: Vec<usize> = (0..self.header.len())
            .filter(|column| self.rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty())))
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
            let cells = shown.iter().map(|column| row.get(*column).map(String::as_str).unwrap_or_default());
            let mut row = Row::from(cells);
            row.max_height(1);
            table.add_row(row);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if WHOLE.contains(&self.header[shown[index]]) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// All lines as a text.
    pub(in crate::cli::read) fn text(&self, width: u16) -> String {
        self.lines(width).iter().fold(String::new(), |text, line| text + line + "\n")
    }
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
    fn without_rows_there_is_no_header() {
        assert!(table(&[]).lines(80).is_empty());
    }
}
