//! The files of an export: the one that is asked for, and those beside it.
//!
//! Its final name is given last. So a file with that name is complete, has a manifest, and was recorded.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::ExportError;

/// An export is for whoever asked for it.
const MODE: u32 = 0o600;

/// Where the files of an export are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// The export, complete.
    pub(super) complete: PathBuf,
    /// The export on its way.
    pub(super) partial: PathBuf,
    /// How far it is.
    pub(super) progress: PathBuf,
    pub(super) manifest: PathBuf,
    pub(super) signature: PathBuf,
}

impl Files {
    pub(super) fn of(path: &Path) -> Self {
        let manifest = beside(path, ".manifest.json");
        Self {
            complete: path.to_owned(),
            partial: beside(path, ".partial"),
            progress: beside(path, ".progress.json"),
            signature: signature_of(&manifest),
            manifest,
        }
    }

    /// The name of the export.
    pub(super) fn name(&self) -> Option<String> {
        self.complete.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// Begins; with force whatever is there.
    pub(super) fn begin(&self, force: bool) -> Result<File, ExportError> {
        self.refuse_complete(force)?;
        if !force && (self.partial.exists() || self.progress.exists()) {
            let reason = format!(
                "an export to {} was begun and is not complete: --resume goes on with it, --force begins again",
                self.complete.display()
            );
            return Err(ExportError::refused("export_unfinished", reason));
        }
        let file = self.open(true)?;
        file.set_len(0).map_err(ExportError::file("write", &self.partial))?;
        Ok(file)
    }

    /// Goes on.
    pub(super) fn resume(&self, force: bool) -> Result<File, ExportError> {
        if !self.partial.exists() || !self.progress.exists() {
            let reason = if self.complete.exists() {
                // The last step was not taken.
                let _ = fs::remove_file(&self.progress);
                format!("{} is complete", self.complete.display())
            } else {
                format!(
                    "no export to {} has been begun, or it was stopped before the first entry: leave --resume out",
                    self.complete.display()
                )
            };
            return Err(ExportError::refused("nothing_to_resume", reason));
        }
        self.refuse_complete(force)?;
        self.open(false)
    }

    fn refuse_complete(&self, force: bool) -> Result<(), ExportError> {
        if self.complete.is_dir() || self.complete.file_name().is_none() {
            let reason = format!("{} is a folder: name a file in it", self.complete.display());
            return Err(ExportError::refused("file_exists", reason));
        }
        if !force && self.complete.exists() {
            let reason =
                format!("{} is there already: name another file, or say --force", self.complete.display());
            return Err(ExportError::refused("file_exists", reason));
        }
        Ok(())
    }

    fn open(&self, create: bool) -> Result<File, ExportError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(create).truncate(false).mode(MODE);
        let file = options.open(&self.partial).map_err(ExportError::file("open", &self.partial))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                let reason = format!("another process exports to {}: wait for it", self.complete.display());
                Err(ExportError::refused("export_in_use", reason))
            }
            Err(TryLockError::Error(error)) => Err(ExportError::file("lock", &self.partial)(error)),
        }
    }

    /// Gives everything its final name, the export at last.
    pub(super) fn complete(&self, manifest: &[u8], signature: Option<&[u8]>) -> Result<(), ExportError> {
        match signature {
            Some(signature) => replace(&self.signature, signature)?,
            None => remove(&self.signature)?,
        }
        replace(&self.manifest, manifest)?;
        fs::rename(&self.partial, &self.complete).map_err(ExportError::file("name", &self.complete))?;
        sync_folder(&self.complete)?;
        remove(&self.progress)
    }
}

/// Where the signature of a manifest is.
pub(super) fn signature_of(manifest: &Path) -> PathBuf {
    match manifest.extension() {
        Some(extension) if extension == "json" => manifest.with_extension("sig"),
        _ => beside(manifest, ".sig"),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Writes a file that is there as a whole or not at all, whatever happens meanwhile.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    let written = beside(path, ".partial");
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&written)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&written, path)
    };
    write().map_err(ExportError::file("write", path))?;
    sync_folder(path)
}

/// Makes the names of a folder last.
fn sync_folder(path: &Path) -> Result<(), ExportError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(ExportError::file("write", folder))
}

fn remove(path: &Path) -> Result<(), ExportError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ExportError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}
