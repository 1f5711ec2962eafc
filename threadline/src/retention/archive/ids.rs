//! What is in an archive: read from the file itself, from its end, where the oldest is. What is deleted is what stands there.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use uuid::Uuid;

/// Bytes that are read at once, at least.
const BLOCK: u64 = 64 << 10;

/// An NDJSON file that is read from its last line to its first. It needs memory for the longest line.
pub(super) struct Backwards {
    file: File,
    /// Bytes before those in the buffer.
    left: u64,
    /// Ends with a line that was not handed over.
    buffer: Vec<u8>,
}

/// A line: the row that it is of, and what it says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::retention) struct Held {
    pub(super) id: Uuid,
    /// Of the line without its end.
    pub(super) sha256: [u8; 32],
    /// Its length.
    pub(super) bytes: usize,
}

/// Of each line only this is decoded.
#[derive(Deserialize)]
struct Line {
    id: Uuid,
}

impl Backwards {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        Ok(Self { file, left, buffer: Vec::new() })
    }

    /// The next lines, `limit` at most; none at the beginning of the file.
    pub(super) fn next(&mut self, limit: usize) -> io::Result<Vec<Held>> {
        let mut held = Vec::new();
        while held.len() < limit {
            let Some(begin) = self.line()? else { break };
            let line = self.buffer[begin..].trim_ascii_end();
            let Line { id } = serde_json::from_slice(line)?;
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(digest(&SHA256, line).as_ref());
            held.push(Held { id, sha256, bytes: line.len() });
            self.buffer.truncate(begin);
        }
        Ok(held)
    }

    /// Where the last line in the buffer begins, which is read up to there.
    fn line(&mut self) -> io::Result<Option<usize>> {
        loop {
            let before = self.buffer.len().saturating_sub(1);
            if let Some(end) = self.buffer[..before].iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(end + 1));
            }
            if self.left == 0 {
                return Ok((!self.buffer.is_empty()).then_some(0));
            }
            self.read()?;
        }
    }

    /// Reads what stands before the buffer: as much again, so that a long line is not moved too often.
    fn read(&mut self) -> io::Result<()> {
        let bytes = BLOCK.max(self.buffer.len() as u64).min(self.left);
        self.left -= bytes;
        self.file.seek(SeekFrom::Start(self.left))?;
        let mut block = Vec::new();
        io::Read::by_ref(&mut self.file).take(bytes).read_to_end(&mut block)?;
        if block.len() as u64 != bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it was"));
        }
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn ids_are_read_from_the_last_line_to_the_first() -> io::Result<()> {
        let path = std::env::temp_dir().join(format!("threadline-ids-{}", Uuid::now_v7()));
        let ids: Vec<Uuid> = (0..500).map(|_| Uuid::now_v7()).collect();
        let mut file = File::create(&path)?;
        for (n, id) in ids.iter().enumerate() {
            // Some lines are longer than a block.
            let more = "x".repeat(if n % 100 == 7 { 300_000 } else { n });
            writeln!(file, r#"{{"kind":"change","id":"{id}","data_after":{{"id":"{more}"}}}}"#)?;
        }
        let mut backwards = Backwards::open(&path)?;
        let mut read = Vec::new();
        loop {
            let next = backwards.next(7)?;
            if next.is_empty() {
                break;
            }
            read.extend(next);
        }
        read.reverse();
        let text = std::fs::read_to_string(&path)?;
        let lines = text.lines().map(|line| (line.len(), digest(&SHA256, line.as_bytes())));
        for ((held, id), (bytes, sha256)) in read.iter().zip(&ids).zip(lines) {
            assert_eq!((held.id, held.bytes, &held.sha256[..]), (*id, bytes, sha256.as_ref()));
        }
        assert_eq!(read.len(), ids.len());
        std::fs::write(&path, "")?;
        assert!(Backwards::open(&path)?.next(1)?.is_empty());
        std::fs::write(&path, "{}\n")?;
        assert!(Backwards::open(&path)?.next(1).is_err());
        std::fs::remove_file(&path)
    }
}
