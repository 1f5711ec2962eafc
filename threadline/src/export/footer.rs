//! How many rows a Parquet file says that it has: the footer is read without the crate that writes it, in no memory, whatever the file is.
//!
//! The file ends with the footer, its length in four bytes, and `PAR1`; the footer is the struct `FileMetaData` in Thrift's compact
//! protocol, whose third field is the number of rows (`parquet.thrift` of `apache/parquet-format`, `thrift-compact-protocol.md` of
//! `apache/thrift`).

use std::io::{self, BufReader, Read, Seek, SeekFrom};

const MAGIC: &[u8; 4] = b"PAR1";

/// The field of `FileMetaData` that holds the number of rows.
const NUM_ROWS: i16 = 3;

/// Structs in structs that are followed; those of a footer are fewer.
const DEPTH_MAX: u8 = 16;

const STOP: u8 = 0;
const I64: u8 = 6;

/// The rows of the file, or why it says none.
pub(super) fn rows(file: &mut (impl Read + Seek)) -> Result<u64, String> {
    let read = |file: &mut _| -> io::Result<Option<i64>> {
        let Some(mut footer) = footer(file)? else { return Ok(None) };
        num_rows(&mut footer)
    };
    match read(file) {
        Ok(Some(rows)) => {
            u64::try_from(rows).map_err(|_| "the file says a negative number of rows".to_owned())
        }
        Ok(None) => Err("the file is no Parquet: it has no footer with a number of rows".to_owned()),
        Err(error) => Err(format!("the footer of the file cannot be read: {error}")),
    }
}

fn footer<F: Read + Seek>(file: &mut F) -> io::Result<Option<impl Read>> {
    let bytes = file.seek(SeekFrom::End(0))?;
    // Magic, footer, its length, magic.
    let Some(before) = bytes.checked_sub(8).filter(|before| *before >= 4) else { return Ok(None) };
    let mut begin = [0; 4];
    file.rewind()?;
    file.read_exact(&mut begin)?;
    let mut end = [0; 8];
    file.seek(SeekFrom::Start(before))?;
    file.read_exact(&mut end)?;
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let from = before.checked_sub(length).filter(|from| *from >= 4);
    let Some(from) = from.filter(|_| begin == *MAGIC && end[4..] == *MAGIC) else { return Ok(None) };
    file.seek(SeekFrom::Start(from))?;
    Ok(Some(BufReader::new(file.take(length))))
}

/// Up to the number of rows. Every step reads a byte at least, so that the length of the footer bounds them.
fn num_rows(footer: &mut impl Read) -> io::Result<Option<i64>> {
    let mut field = 0;
    loop {
        let kind = next_field(footer, &mut field)?;
        match (field, kind) {
            (_, STOP) => return Ok(None),
            (NUM_ROWS, I64) => return integer(footer).map(Some),
            _ => skip(footer, kind, DEPTH_MAX)?,
        }
    }
}

/// The type of the next field of a struct; `field` becomes its number.
fn next_field(footer: &mut impl Read, field: &mut i16) -> io::Result<u8> {
    let head = byte(footer)?;
    let kind = head & 15;
    if kind != STOP {
        *field = match head >> 4 {
            0 => i16::try_from(integer(footer)?).map_err(|_| invalid())?,
            delta => field.checked_add(delta.into()).ok_or_else(invalid)?,
        };
    }
    Ok(kind)
}

fn skip(footer: &mut impl Read, kind: u8, depth: u8) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or_else(invalid)?;
    match kind {
        // A truth of a field stands in its type.
        1 | 2 => Ok(()),
        3 => skip_bytes(footer, 1),
        4..=6 => unsigned(footer).map(drop),
        7 => skip_bytes(footer, 8),
        8 => {
            let length = unsigned(footer)?;
            skip_bytes(footer, length)
        }
        9 | 10 => {
            let head = byte(footer)?;
            let elements = if head >> 4 == 15 { unsigned(footer)? } else { u64::from(head >> 4) };
            for _ in 0..elements {
                skip_element(footer, head & 15, depth)?;
            }
            Ok(())
        }
        11 => {
            let elements = unsigned(footer)?;
            let kinds = if elements > 0 { byte(footer)? } else { 0 };
            for _ in 0..elements {
                skip_element(footer, kinds >> 4, depth)?;
                skip_element(footer, kinds & 15, depth)?;
            }
            Ok(())
        }
        12 => {
            let mut field = 0;
            loop {
                match next_field(footer, &mut field)? {
                    STOP => return Ok(()),
                    kind => skip(footer, kind, depth)?,
                }
            }
        }
        _ => Err(invalid()),
    }
}

/// A truth of a list has a byte of its own.
fn skip_element(footer: &mut impl Read, kind: u8, depth: u8) -> io::Result<()> {
    skip(footer, if kind <= 2 { 3 } else { kind }, depth)
}

fn skip_bytes(footer: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut footer.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn byte(footer: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    footer.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn unsigned(footer: &mut impl Read) -> io::Result<u64> {
    let mut value = 0;
    for place in 0..10 {
        let byte = byte(footer)?;
        value |= u64::from(byte & 127) << (7 * place);
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(invalid())
}

/// Zigzag: the sign is the last bit.
fn integer(footer: &mut impl Read) -> io::Result<i64> {
    let value = unsigned(footer)?;
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn invalid() -> io::Error {
    io::Error::other("it is not in Thrift's compact protocol")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn file(footer: &[u8]) -> Vec<u8> {
        let length = u32::try_from(footer.len()).unwrap_or_default().to_le_bytes();
        [MAGIC, footer, &length, MAGIC].concat()
    }

    #[test]
    fn the_number_of_rows_is_the_third_field_behind_whatever_stands_before_it() {
        // version 2; a list of one struct with a text, a truth and a list of truths; 300 rows.
        let footer = [0x15, 4, 0x19, 0x1c, 0x18, 2, b'a', b'b', 0x11, 0x19, 0x21, 1, 2, 0, 0x16, 0xd8, 4, 0];
        assert_eq!(rows(&mut Cursor::new(file(&footer))), Ok(300));
        // The number of the field written out.
        assert_eq!(rows(&mut Cursor::new(file(&[0x06, 6, 2, 0]))), Ok(1));
        for wrong in
            [&[][..], &[0], &[0x36, 1], &[0x35, 2, 0], &[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x1e]]
        {
            assert!(rows(&mut Cursor::new(file(wrong))).is_err(), "{wrong:?}");
        }
        let nested = [&[0x1c_u8; 4_000][..], &[0; 4_000]].concat();
        assert!(rows(&mut Cursor::new(file(&nested))).is_err());
        let mut longer = file(&footer);
        let length = longer.len();
        longer[length - 8] = 200;
        assert!(rows(&mut Cursor::new(longer)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(footer in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = rows(&mut Cursor::new(file(&footer)));
            let _ = rows(&mut Cursor::new(footer));
        }
    }
}
