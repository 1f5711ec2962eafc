//! CSV as RFC 4180 has it: cells as they are written, and records as they are read back.

/// What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection").
const FORMULA: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Appends a cell, in quotes where it needs them. A safe one begins with an apostrophe where a spreadsheet would take it for a formula.
pub(super) fn write_cell(text: &str, is_safe: bool, out: &mut String) {
    let apostrophe = if is_safe && text.starts_with(FORMULA) { "'" } else { "" };
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        out.push_str(apostrophe);
        out.push_str(text);
        return;
    }
    out.push('"');
    out.push_str(apostrophe);
    for (n, part) in text.split('"').enumerate() {
        if n > 0 {
            out.push_str("\"\"");
        }
        out.push_str(part);
    }
    out.push('"');
}

/// Reads records byte by byte, so that it needs no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CsvReader {
    /// Before the first byte of a record.
    Record,
    /// Before the first byte of a cell.
    Cell,
    /// In a cell without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote between quotes: the end of them, or the first one of two.
    Quote,
    /// Behind a carriage return that ends a record.
    Return,
}

/// What a byte was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CsvByte {
    /// A part of a cell.
    Text,
    /// Nothing of a cell.
    Quoting,
    /// The end of a cell that is not the last one.
    EndOfCell,
    /// The end of a record.
    EndOfRecord,
    /// What may not stand there.
    Fault,
}

impl CsvReader {
    pub(super) fn read(&mut self, byte: u8) -> CsvByte {
        let (next, was) = match (*self, byte) {
            (Self::Record | Self::Cell, b'"') => (Self::Quoted, CsvByte::Quoting),
            (Self::Quoted, b'"') => (Self::Quote, CsvByte::Quoting),
            (Self::Quote, b'"') | (Self::Quoted, _) => (Self::Quoted, CsvByte::Text),
            (Self::Return, b'\n') => (Self::Record, CsvByte::EndOfRecord),
            (Self::Return, _) => (Self::Plain, CsvByte::Fault),
            (_, b',') => (Self::Cell, CsvByte::EndOfCell),
            (_, b'\r') => (Self::Return, CsvByte::Quoting),
            (_, b'\n' | b'"') | (Self::Quote, _) => (Self::Plain, CsvByte::Fault),
            _ => (Self::Plain, CsvByte::Text),
        };
        *self = next;
        was
    }

    /// Whether the last record has its end.
    pub(super) fn is_complete(self) -> bool {
        self == Self::Record
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The records of a text; none where it is no CSV.
    fn records(text: &str) -> Option<Vec<Vec<String>>> {
        let (mut records, mut record, mut cell) = (Vec::new(), Vec::new(), Vec::new());
        let mut reader = CsvReader::Record;
        for byte in text.bytes() {
            match reader.read(byte) {
                CsvByte::Text => cell.push(byte),
                CsvByte::Quoting => {}
                CsvByte::EndOfCell => record.push(String::from_utf8(std::mem::take(&mut cell)).unwrap()),
                CsvByte::EndOfRecord => {
                    record.push(String::from_utf8(std::mem::take(&mut cell)).unwrap());
                    records.push(std::mem::take(&mut record));
                }
                CsvByte::Fault => return None,
            }
        }
        reader.is_complete().then_some(records)
    }

    fn written(records: &[Vec<String>], is_safe: bool) -> String {
        let mut out = String::new();
        for record in records {
            for (n, cell) in record.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_cell(cell, is_safe, &mut out);
            }
            out.push_str("\r\n");
        }
        out
    }

    #[test]
    fn cells_are_quoted_where_they_need_it_and_formulas_are_taken_for_texts_where_that_is_asked_for() {
        for (cell, plain, safe) in [
            ("", "", ""),
            ("a", "a", "a"),
            (" a ", " a ", " a "),
            ("a,b", "\"a,b\"", "\"a,b\""),
            ("a\"b", "\"a\"\"b\"", "\"a\"\"b\""),
            ("a\rb", "\"a\rb\"", "\"a\rb\""),
            ("a\nb", "\"a\nb\"", "\"a\nb\""),
            ("=1+1", "=1+1", "'=1+1"),
            ("-5", "-5", "'-5"),
            ("+a", "+a", "'+a"),
            ("@a", "@a", "'@a"),
            ("\ta", "\ta", "'\ta"),
            ("\ra", "\"\ra\"", "\"'\ra\""),
            ("=a,\"b\"", "\"=a,\"\"b\"\"\"", "\"'=a,\"\"b\"\"\""),
            ("a=1", "a=1", "a=1"),
        ] {
            for (is_safe, expected) in [(false, plain), (true, safe)] {
                let mut out = String::new();
                write_cell(cell, is_safe, &mut out);
                assert_eq!(out, expected, "{cell:?}");
            }
        }
    }

    #[test]
    fn what_is_no_csv_is_a_fault() {
        for text in ["a\nb\r\n", "a\rb\r\n", "\"a\"b\r\n", "a\"b\r\n", "a", "\"a\r\n", "a\r", "a,"] {
            assert_eq!(records(text), None, "{text:?}");
        }
        assert_eq!(records(""), Some(Vec::new()));
        assert_eq!(records("\r\n"), Some(vec![vec![String::new()]]));
    }

    proptest! {
        #[test]
        fn any_cells_are_read_back_as_they_were_written(
            table in prop::collection::vec(prop::collection::vec("[a,\"\r\n=' ü\t-]{0,6}|.{0,6}", 1..5), 0..5),
        ) {
            let text = written(&table, false);
            prop_assert_eq!(records(&text), Some(table.clone()));
            let safe: Vec<Vec<String>> = table
                .iter()
                .map(|record| {
                    let cell = |cell: &String| if cell.starts_with(FORMULA) { format!("'{cell}") } else { cell.clone() };
                    record.iter().map(cell).collect()
                })
                .collect();
            prop_assert_eq!(records(&written(&table, true)), Some(safe));
        }
    }
}
