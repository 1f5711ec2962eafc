//! How far an export is: a file beside it, from which another process goes on.

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom},
};

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ExportError, Options, Part, files, files::Files, manifest::FORMAT_VERSION};
use crate::{
    query::{Origin, WholePosition},
    signing::hexadecimal,
};

/// How far an export is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    format_version: u32,
    /// What was asked for.
    pub(super) asked: Asked,
    /// From what it is read.
    pub(super) origin: Origin,
    /// Times at which it was gone on with.
    pub(super) resumed_at: Vec<String>,
    /// What is complete.
    pub(super) parts: Vec<Part>,
    /// Behind the last part.
    pub(super) position: WholePosition,
}

/// What was asked for: whoever goes on has to ask for the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// As a text of filters.
    pub(super) filter: String,
    pub(super) options: Options,
    pub(super) scope: Value,
    pub(super) storage_schema: String,
}

impl Progress {
    pub(super) fn new(asked: Asked, origin: Origin) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            asked,
            origin,
            resumed_at: Vec::new(),
            parts: Vec::new(),
            position: WholePosition::default(),
        }
    }

    /// Reads how far an export is that was asked for in the same way.
    ///
    /// # Errors
    /// `resume_differs`, `resume_changed` and what the operating system says.
    pub(super) fn read(files: &Files, asked: &Asked) -> Result<Self, ExportError> {
        let text = fs::read_to_string(&files.progress).map_err(ExportError::file("read", &files.progress))?;
        let progress: Self = serde_json::from_str(&text)
            .map_err(|error| changed(&format!("{} cannot be read: {error}", files.progress.display())))?;
        if progress.format_version != FORMAT_VERSION {
            return Err(changed(&format!("{} is of another version", files.progress.display())));
        }
        let differs = |what: &str| {
            let reason = format!(
                "the export was begun with {what}: go on with the same filter and options, or begin again with --force"
            );
            Err(ExportError::refused("resume_differs", reason))
        };
        let Asked { filter, options, scope, storage_schema } = &progress.asked;
        if *filter != asked.filter {
            let filter =
                if filter.is_empty() { "no filter".to_owned() } else { format!("the filter {filter:?}") };
            return differs(&filter);
        }
        if *options != asked.options {
            let Options { profile, format, action_metadata, spreadsheet_safe, max_rows } = options;
            return differs(&format!(
                "--profile {profile} --format {format}{}{}{}",
                if *action_metadata { " --include-action-metadata" } else { "" },
                if *spreadsheet_safe { " --spreadsheet-safe" } else { "" },
                max_rows.map(|rows| format!(" --max-rows {rows}")).unwrap_or_default(),
            ));
        }
        if *scope != asked.scope {
            return differs("another scope");
        }
        if *storage_schema != asked.storage_schema {
            return differs(&format!("the storage schema {storage_schema}"));
        }
        Ok(progress)
    }

    /// Writes it.
    pub(super) fn write(&self, files: &Files) -> Result<(), ExportError> {
        let text = serde_json::to_vec(self)
            .map_err(|error| ExportError::file("write", &files.progress)(io::Error::other(error)))?;
        files::replace(&files.progress, &text)
    }

    /// Compares the file with its parts, cuts off what is behind them, and returns the digest of them all, to be gone on with.
    ///
    /// # Errors
    /// `resume_changed` and what the operating system says.
    pub(super) fn check(&self, file: &mut File, files: &Files) -> Result<Context, ExportError> {
        let failed = |what: &'static str| ExportError::file(what, &files.partial);
        let mut whole = Context::new(&SHA256);
        let mut end = 0;
        for (n, part) in self.parts.iter().enumerate() {
            if part.offset != end {
                return Err(changed(&format!("part {} does not begin where the one before it ends", n + 1)));
            }
            let mut digest = Context::new(&SHA256);
            let mut left = Read::by_ref(file).take(part.bytes);
            let read = each_block(&mut left, |block| {
                whole.update(block);
                digest.update(block);
            })
            .map_err(failed("read"))?;
            if read != part.bytes || hexadecimal(digest.finish().as_ref()) != part.sha256 {
                return Err(changed(&format!(
                    "part {} of {}, from byte {} on, is not what was written",
                    n + 1,
                    files.partial.display(),
                    part.offset
                )));
            }
            end += part.bytes;
        }
        file.set_len(end).map_err(failed("cut"))?;
        file.seek(SeekFrom::Start(end)).map_err(failed("read"))?;
        Ok(whole)
    }
}

fn changed(what: &str) -> ExportError {
    ExportError::refused("resume_changed", format!("{what}: begin again with --force"))
}

/// Hands over everything that is read, block by block; returns how many bytes it was.
pub(super) fn each_block(reader: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut block = vec![0; 64 << 10];
    let mut bytes = 0;
    loop {
        match reader.read(&mut block) {
            Ok(0) => return Ok(bytes),
            Ok(read) => {
                take(&block[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
