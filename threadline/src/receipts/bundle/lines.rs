//! Lines as they are written and read, with the SHA-256 of all of them.

use std::io::{self, BufRead, Read as _, Write};

use sha2::{Digest as _, Sha256};

use super::{
    super::error::ReceiptError,
    format::{LINE_MAX, Line},
};
use crate::signing::hexadecimal;

/// Lines on their way out.
pub(super) struct Output<'w, W> {
    writer: &'w mut W,
    /// Of one line.
    buffer: Vec<u8>,
    digest: Sha256,
}

impl<'w, W: Write> Output<'w, W> {
    pub(super) fn new(writer: &'w mut W) -> Self {
        Self { writer, buffer: Vec::new(), digest: Sha256::new() }
    }

    /// Writes one; `false` when it would be longer than a line may be, and was not.
    pub(super) fn line(&mut self, line: &Line<'_>) -> Result<bool, ReceiptError> {
        let failed = |error| ReceiptError::File("written", error);
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, line).map_err(|error| failed(error.into()))?;
        self.buffer.push(b'\n');
        if self.buffer.len() > LINE_MAX {
            return Ok(false);
        }
        self.digest.update(&self.buffer);
        self.writer.write_all(&self.buffer).map_err(failed)?;
        Ok(true)
    }

    /// The digest of all lines so far.
    pub(super) fn digest(&self) -> String {
        hexadecimal(&self.digest.clone().finalize())
    }

    pub(super) fn flush(&mut self) -> Result<(), ReceiptError> {
        self.writer.flush().map_err(|error| ReceiptError::File("written", error))
    }
}

/// Lines on their way in.
pub(super) struct Input<R> {
    reader: R,
    /// The number of the last line, from 1.
    pub(super) number: u64,
    digest: Sha256,
}

/// How reading a line ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// It is there.
    Whole,
    /// It is longer than a line may be.
    TooLong,
    /// It has no line feed.
    Cut,
    /// There is none.
    None,
}

impl<R: BufRead> Input<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, digest: Sha256::new() }
    }

    /// Reads the next line.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<LineEnd> {
        line.clear();
        let read = self.reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', line)?;
        self.number += u64::from(read > 0);
        Ok(match line.last() {
            None => LineEnd::None,
            Some(b'\n') => LineEnd::Whole,
            Some(_) if read == LINE_MAX => LineEnd::TooLong,
            Some(_) => LineEnd::Cut,
        })
    }

    /// Adds a line to the digest.
    pub(super) fn add(&mut self, line: &[u8]) {
        self.digest.update(line);
    }

    /// The digest of all lines that were added.
    pub(super) fn digest(&self) -> String {
        hexadecimal(&self.digest.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_whole_cut_or_too_long() {
        let mut line = Vec::new();
        let ends = |text: &[u8], line: &mut Vec<u8>| {
            let mut input = Input::new(text);
            let mut ends = Vec::new();
            loop {
                let end = input.next(line).expect("memory");
                let has_ended = end != LineEnd::Whole;
                ends.push(end);
                if has_ended {
                    return ends;
                }
            }
        };
        assert_eq!(
            ends(b"a\n\nb\n", &mut line),
            [LineEnd::Whole, LineEnd::Whole, LineEnd::Whole, LineEnd::None]
        );
        assert_eq!(ends(b"a\nb", &mut line), [LineEnd::Whole, LineEnd::Cut]);
        assert_eq!(ends(b"", &mut line), [LineEnd::None]);
        assert_eq!(ends(&vec![b'a'; LINE_MAX + 7], &mut line), [LineEnd::TooLong]);
    }
}
