//! A stored export in a folder of this machine, opened where it is, to be handed on as it is read.

use std::{
    fs::File,
    io::{self, Read as _, Write},
};

use ring::digest::{Context, SHA256};

use super::{Job, JobError, fetch::stored};
use crate::{export::ExportError, signing::hexadecimal, storage::Location};

/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

/// One of the files of a stored export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredPart {
    /// The export.
    Export,
    /// What it is: its manifest.
    Manifest,
    /// The signature of the manifest, where it has one.
    Signature,
}

/// A file that is open, and what it has to hold.
#[derive(Debug)]
pub struct StoredFile {
    file: File,
    /// Its name, without folders.
    pub name: String,
    /// Its bytes: of the export those that the job says.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, as the job says it; none of a signature.
    pub sha256: Option<String>,
}

impl Job {
    /// Opens what a completed job has stored below `folder`. Whoever reads it compares what they have read with its digest.
    ///
    /// # Errors
    /// `job_of_library`, `job_state`, `location_not_allowed` for what is stored elsewhere, `fetch_differs` where it has not as many bytes as the job
    /// says, `not_signed` for a signature that there is none of, and why the file cannot be read.
    pub fn open(&self, part: StoredPart, folder: &Location) -> Result<StoredFile, JobError> {
        let location = stored(self)?;
        let path = location.path().filter(|_| folder.contains(&location)).ok_or_else(|| {
            let reason = format!(
                "what the job has stored is not in the folder that is opened here: `threadline export jobs fetch {}` fetches it",
                self.id
            );
            JobError::refused("location_not_allowed", reason)
        })?;
        let (extension, sha256) = match part {
            StoredPart::Export => (None, self.sha256.clone()),
            StoredPart::Manifest => (Some("manifest.json"), self.manifest_sha256.clone()),
            StoredPart::Signature => (Some("manifest.sig"), None),
        };
        let path = extension.map_or_else(|| path.clone(), |extension| path.with_added_extension(extension));
        let file = File::open(&path).map_err(|error| {
            if part == StoredPart::Signature && error.kind() == io::ErrorKind::NotFound {
                let reason =
                    "the export is not signed: its worker had no key, so that there is the manifest alone";
                return JobError::refused("not_signed", reason);
            }
            ExportError::file("read", &path)(error).into()
        })?;
        let about = file.metadata().map_err(ExportError::file("read", &path))?;
        if !about.is_file() {
            let error = io::Error::other("it is no regular file");
            return Err(ExportError::file("read", &path)(error).into());
        }
        let bytes = about.len();
        if part == StoredPart::Export && self.bytes.and_then(|bytes| u64::try_from(bytes).ok()) != Some(bytes)
        {
            let reason = "the export has not as many bytes as its worker has stored: somebody may have changed it where it is";
            return Err(JobError::refused("fetch_differs", reason));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(StoredFile { file, name, bytes, sha256 })
    }
}

impl StoredFile {
    /// Writes all of it, a piece at a time. The last piece is written when the digest of everything is what the job says: who reads until the end has
    /// what was stored. It blocks.
    ///
    /// # Errors
    /// `fetch_differs`, why the file cannot be read, and why what was read cannot be written.
    pub fn copy(mut self, out: &mut impl Write) -> Result<(), JobError> {
        let mut digest = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        let mut held = Vec::with_capacity(PIECE);
        loop {
            let read = match self.file.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(ExportError::file("read", self.name.as_ref()))?,
            };
            if read == 0 {
                break;
            }
            digest.update(&piece[..read]);
            out.write_all(&held).map_err(ExportError::Unwritten)?;
            held.clear();
            held.extend_from_slice(&piece[..read]);
        }
        let found = hexadecimal(digest.finish().as_ref());
        if self.sha256.is_some_and(|sha256| sha256 != found) {
            let reason = "the file is not the one that the worker has stored: somebody may have changed it where it is";
            return Err(JobError::refused("fetch_differs", reason));
        }
        out.write_all(&held).and_then(|()| out.flush()).map_err(ExportError::Unwritten)?;
        Ok(())
    }
}
