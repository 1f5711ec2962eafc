//! The bytes of an export on their way: digests of all of them and of each part, and a part that is on disk before it counts.

use std::{
    fs::File,
    io::{self, Write},
};

use ring::digest::{Context, SHA256};
use time::OffsetDateTime;

use super::{ExportError, Part, Rows, files::Files, manifest::Counted, progress::Progress};
use crate::{
    query::{WholePosition, time_text},
    signing::hexadecimal,
};

/// Where the bytes go to.
pub(super) enum Target {
    /// A file, which can be gone on with where there is something that says how far it is.
    File { file: File, files: Files, progress: Option<Box<Progress>> },
    /// Whoever reads them.
    Stream(Box<dyn Write + Send>),
}

/// The bytes that have been written.
pub(super) struct Output {
    target: Target,
    whole: Context,
    /// Parts that are complete.
    parts: Vec<Part>,
    part: Context,
    part_bytes: u64,
    /// Entries of this part.
    rows: Rows,
    /// Entries of all parts.
    total: u64,
    /// The times of the first and the last entry of this part.
    between: Option<(OffsetDateTime, OffsetDateTime)>,
}

/// What has been written in the end.
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) parts: Vec<Part>,
}

impl Output {
    /// From the beginning.
    pub(super) fn new(target: Target) -> Self {
        Self::from(target, Vec::new(), Context::new(&SHA256))
    }

    /// Behind parts that are there, with the digest of them all.
    pub(super) fn from(target: Target, parts: Vec<Part>, whole: Context) -> Self {
        Self {
            target,
            whole,
            total: Rows::of(&parts).total(),
            parts,
            part: Context::new(&SHA256),
            part_bytes: 0,
            rows: Rows::default(),
            between: None,
        }
    }

    /// Bytes of the part that is not complete.
    pub(super) fn part_bytes(&self) -> u64 {
        self.part_bytes
    }

    /// Entries so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.offset() + self.part_bytes
    }

    fn offset(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.offset + part.bytes)
    }

    /// Counts an entry.
    pub(super) fn count(&mut self, counted: Counted, at: OffsetDateTime) {
        self.total += 1;
        self.rows.count(counted);
        self.between = Some((self.between.map_or(at, |(first, _)| first), at));
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        match &mut self.target {
            Target::File { file, files, .. } => {
                file.write_all(bytes).map_err(ExportError::file("write", &files.partial))?;
            }
            Target::Stream(out) => out.write_all(bytes).map_err(ExportError::Unwritten)?,
        }
        self.whole.update(bytes);
        self.part.update(bytes);
        self.part_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Ends a part. What is behind it can be gone on with from here.
    pub(super) fn end_part(&mut self, position: &WholePosition) -> Result<(), ExportError> {
        self.finish_part();
        if let Target::File { file, files, progress } = &mut self.target {
            file.sync_data().map_err(ExportError::file("write", &files.partial))?;
            if let Some(progress) = progress {
                progress.parts.clone_from(&self.parts);
                progress.position.clone_from(position);
                progress.write(files)?;
            }
        }
        Ok(())
    }

    fn finish_part(&mut self) {
        let digest = std::mem::replace(&mut self.part, Context::new(&SHA256)).finish();
        let between = self.between.take();
        self.parts.push(Part {
            offset: self.offset(),
            bytes: std::mem::take(&mut self.part_bytes),
            sha256: hexadecimal(digest.as_ref()),
            rows: std::mem::take(&mut self.rows),
            first_entry_at: between.map(|(first, _)| time_text(first)),
            last_entry_at: between.map(|(_, last)| time_text(last)),
        });
    }

    /// The last part; everything is on disk then. It is in no progress file: whoever goes on makes it again, with what ends the export.
    pub(super) fn finish(mut self) -> Result<Written, ExportError> {
        if self.part_bytes > 0 {
            self.finish_part();
        }
        match &mut self.target {
            Target::File { file, files, .. } => {
                file.sync_all().map_err(ExportError::file("write", &files.partial))?;
            }
            Target::Stream(out) => out.flush().map_err(ExportError::Unwritten)?,
        }
        Ok(Written {
            bytes: self.bytes(),
            sha256: hexadecimal(self.whole.finish().as_ref()),
            parts: self.parts,
        })
    }
}

impl From<serde_json::Error> for ExportError {
    fn from(error: serde_json::Error) -> Self {
        Self::Unwritten(io::Error::other(error))
    }
}
