//! How many entries a file holds: read byte by byte, in the form in which they are exported. It needs no memory, whatever the file is.

use std::io::Read;

use super::{
    Format, Profile,
    csv::{CsvByte, CsvReader},
    progress::each_block,
};

/// The entries of a file, or why they cannot be counted. Those of Parquet stand in its footer.
pub(super) fn count(reader: &mut impl Read, format: Format, profile: Profile) -> Result<u64, String> {
    match format {
        Format::Csv => records(reader),
        Format::Ndjson | Format::Ocsf => lines(reader),
        Format::Parquet => Err("the entries of Parquet stand in its footer".to_owned()),
        Format::Json => elements(reader, if profile == Profile::Full { "entries" } else { "changes" }),
    }
}

fn each_byte(reader: &mut impl Read, mut take: impl FnMut(u64, u8)) -> Result<(), String> {
    let mut at = 0;
    let read = each_block(reader, |block| {
        for byte in block {
            take(at, *byte);
            at += 1;
        }
    });
    read.map(drop).map_err(|error| format!("the file cannot be read to its end: {error}"))
}

fn records(reader: &mut impl Read) -> Result<u64, String> {
    let (mut state, mut records, mut fault) = (CsvReader::Record, 0_u64, None);
    each_byte(reader, |at, byte| match state.read(byte) {
        CsvByte::EndOfRecord => records += 1,
        CsvByte::Fault => fault = fault.or(Some(at)),
        CsvByte::Text | CsvByte::Quoting | CsvByte::EndOfCell => {}
    })?;
    match fault {
        Some(at) => Err(format!("the file is no CSV: what stands at byte {at} may not stand there")),
        None if !state.is_complete() => Err("the file ends within a record".to_owned()),
        None => records.checked_sub(1).ok_or_else(|| "the file has no header".to_owned()),
    }
}

fn lines(reader: &mut impl Read) -> Result<u64, String> {
    let (mut lines, mut last) = (0_u64, b'\n');
    each_byte(reader, |_, byte| {
        lines += u64::from(byte == b'\n');
        last = byte;
    })?;
    if last == b'\n' { Ok(lines) } else { Err("the file ends within a line".to_owned()) }
}

/// Where a wrapped document is read.
#[derive(Debug, Clone, Copy)]
enum InDocument {
    /// Before its list.
    Begin,
    /// In the list, in so many objects and arrays.
    List { depth: u64, is_string: bool, is_escaped: bool },
    /// Behind the list.
    End,
}

fn elements(reader: &mut impl Read, name: &str) -> Result<u64, String> {
    let begin = format!("{{\"{name}\":[");
    let (mut state, mut count, mut fault, mut last) = (InDocument::Begin, 0_u64, None, b' ');
    each_byte(reader, |at, byte| {
        state = match state {
            InDocument::Begin => {
                let n = usize::try_from(at).unwrap_or(usize::MAX);
                if begin.as_bytes().get(n) != Some(&byte) {
                    fault = fault.or(Some(at));
                    InDocument::End
                } else if n + 1 == begin.len() {
                    InDocument::List { depth: 0, is_string: false, is_escaped: false }
                } else {
                    InDocument::Begin
                }
            }
            InDocument::List { depth, is_string: true, is_escaped } => InDocument::List {
                depth,
                is_string: byte != b'"' || is_escaped,
                is_escaped: byte == b'\\' && !is_escaped,
            },
            InDocument::List { depth, .. } => {
                // Entries are objects, and nothing stands between them but commas.
                count += u64::from(depth == 0 && byte == b'{');
                match (byte, depth) {
                    (b']', 0) => InDocument::End,
                    (b'{' | b'[', _) => {
                        InDocument::List { depth: depth + 1, is_string: false, is_escaped: false }
                    }
                    (b'}' | b']', 1..) => {
                        InDocument::List { depth: depth - 1, is_string: false, is_escaped: false }
                    }
                    (b',', 0) | (_, 1..) => {
                        InDocument::List { depth, is_string: byte == b'"', is_escaped: false }
                    }
                    _ => {
                        fault = fault.or(Some(at));
                        InDocument::End
                    }
                }
            }
            InDocument::End => InDocument::End,
        };
        last = byte;
    })?;
    match (fault, state) {
        (Some(at), _) => Err(format!("the file is no export: what stands at byte {at} may not stand there")),
        (None, InDocument::End) if last == b'}' => Ok(count),
        _ => Err("the file ends within the document".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_in_each_format() {
        for (format, text, entries) in [
            (Format::Csv, "a,b\r\n", Some(0)),
            (Format::Csv, "a,b\r\n1,\"x\r\n,\"\"\"\r\n2,\r\n", Some(2)),
            (Format::Csv, "", None),
            (Format::Csv, "a,b\r\n1", None),
            (Format::Csv, "a,b\r\n1\n", None),
            (Format::Ndjson, "", Some(0)),
            (Format::Ndjson, "{}\n{\"a\":1}\n", Some(2)),
            (Format::Ndjson, "{}\n{", None),
            (Format::Json, r#"{"changes":[],"format_version":1}"#, Some(0)),
            (Format::Json, r#"{"changes":[{"a":"]}\\\"{"},{"b":[{},{}]}],"format_version":1}"#, Some(2)),
            (Format::Json, r#"{"changes":[1],"format_version":1}"#, None),
            (Format::Json, r#"{"entries":[],"format_version":1}"#, None),
            (Format::Json, r#"{"changes":[{"a":1}"#, None),
            (Format::Json, "", None),
        ] {
            assert_eq!(count(&mut text.as_bytes(), format, Profile::Exact).ok(), entries, "{text}");
        }
    }
}
