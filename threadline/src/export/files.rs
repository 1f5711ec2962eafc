//! The files of an export: the one that is asked for, and those beside it.
//!
//! Its final name is given last. So a file with that name is complete, has a manifest, and was recorded.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
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

    /// Every file that is ever made for an export, also one that is on its way to its name.
    pub(super) fn all(&self) -> [PathBuf; 8] {
        let Self { complete, partial, progress, manifest, signature } = self.clone();
        let [progress_on_way, manifest_on_way, signature_on_way] =
            [&progress, &manifest, &signature].map(|path| on_way(path));
        [partial, progress, complete, manifest, signature, progress_on_way, manifest_on_way, signature_on_way]
    }

    /// The name of the export.
    pub(super) fn name(&self) -> Option<String> {
        self.complete.file_name().map(|name| name.to_string_lossy().into_owned())
    }

    /// Begins; with force whatever is there.
    pub(super) fn begin(&self, force: bool, can_be_resumed: bool) -> Result<File, ExportError> {
        self.refuse_complete(force)?;
        if !force && (self.partial.exists() || self.progress.exists()) {
            let is_begun = self.partial.exists() && self.progress.exists();
            let remedy =
                if can_be_resumed && is_begun { "--resume goes on with it, --force" } else { "--force" };
            let reason = format!(
                "an export to {} was begun and is not complete: {remedy} begins again",
                self.complete.display()
            );
            return Err(ExportError::refused("export_unfinished", reason));
        }
        self.refuse_described(force)?;
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
            } else if self.partial.exists() || self.progress.exists() {
                format!(
                    "the export to {} was stopped before its first part, or a file of it is gone: --force begins again",
                    self.complete.display()
                )
            } else {
                format!("no export to {} has been begun: leave --resume out", self.complete.display())
            };
            return Err(ExportError::refused("nothing_to_resume", reason));
        }
        self.refuse_complete(force)?;
        self.open(false)
    }

    /// Refuses names that are taken; with force none but a folder.
    pub(super) fn refuse_taken(&self, force: bool) -> Result<(), ExportError> {
        self.refuse_complete(force)?;
        self.refuse_described(force)
    }

    fn refuse_described(&self, force: bool) -> Result<(), ExportError> {
        if force { Ok(()) } else { refuse(&[&self.manifest, &self.signature]) }
    }

    fn refuse_complete(&self, force: bool) -> Result<(), ExportError> {
        if self.complete.is_dir() || self.complete.file_name().is_none() {
            let reason = format!("{} is a folder: name a file in it", self.complete.display());
            return Err(ExportError::refused("file_exists", reason));
        }
        require_folder(&self.complete)?;
        if force { Ok(()) } else { refuse(&[&self.complete]) }
    }

    fn open(&self, create: bool) -> Result<File, ExportError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(create).truncate(false).mode(MODE);
        if self.partial.is_symlink() {
            let error = io::Error::other("it is a symbolic link, which nobody here has made: remove it");
            return Err(ExportError::file("open", &self.partial)(error));
        }
        let file = options.open(&self.partial).map_err(ExportError::file("open", &self.partial))?;
        // One that was there may have been made for others to read, and one of somebody else's is not taken.
        file.set_permissions(fs::Permissions::from_mode(MODE))
            .map_err(ExportError::file("take", &self.partial))?;
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

/// Refuses a file in a folder that is not there, before anything is read for it.
pub(super) fn require_folder(path: &Path) -> Result<(), ExportError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.exists() => {
            let reason = format!(
                "the folder {} is not there: make it, or name a file in another one",
                folder.display()
            );
            Err(ExportError::refused("folder_missing", reason))
        }
        _ => Ok(()),
    }
}

/// Refuses names that are taken, by a link that leads nowhere too.
fn refuse(names: &[&Path]) -> Result<(), ExportError> {
    match names.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => {
            let reason = format!("{} is there already: name another file, or say --force", path.display());
            Err(ExportError::refused("file_exists", reason))
        }
        None => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Where a file is written that gets its name when it is complete.
fn on_way(path: &Path) -> PathBuf {
    beside(path, ".partial")
}

/// Writes a file that is there as a whole or not at all, whatever happens meanwhile.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    let written = on_way(path);
    let write = || -> io::Result<()> {
        // Whatever was there under this name, a link of somebody else's too, is not what is written to.
        match fs::remove_file(&written) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&written)?;
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
