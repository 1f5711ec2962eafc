//! A folder of this machine.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::spawn_blocking;

use super::StorageError;

/// What is stored is for whoever stores it.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

pub(super) struct Folder {
    path: PathBuf,
    /// It, or one above it: what is between them is made here.
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { root: path.clone(), path }
    }

    pub(super) fn below(&mut self, root: PathBuf) {
        if self.path.starts_with(&root) {
            self.root = root;
        }
    }

    pub(super) async fn put(&self, name: &str, from: &Path) -> Result<(), StorageError> {
        let (root, path, from) = (self.root.clone(), self.path.join(name), from.to_owned());
        let wanted = Wanted::default();
        let is_wanted = Arc::clone(&wanted.0);
        blocking(move || {
            let folder = path.parent().unwrap_or(&path);
            require(&root)?;
            refuse_links(&root, &path)?;
            make_folder(folder).map_err(StorageError::file("create", folder))?;
            let partial = partial(&path);
            // Whatever has this name, a link of somebody else's too, is not what is written to.
            remove(&partial)?;
            if let Err(error) = copy(&from, &partial, u64::MAX) {
                // Where there was no room for it, it takes none.
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
            let no_longer = is_wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if *no_longer {
                return fs::remove_file(&partial).map_err(StorageError::file("remove", &partial));
            }
            fs::rename(&partial, &path).map_err(StorageError::file("write", &path))?;
            sync_folder(folder)
        })
        .await
    }

    pub(super) async fn get(&self, name: &str, to: &Path, bytes_max: u64) -> Result<u64, StorageError> {
        let (path, to) = (self.path.join(name), to.to_owned());
        blocking(move || copy(&path, &to, bytes_max)).await
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let (root, above, path) = (self.root.clone(), self.path.clone(), self.path.join(name));
        blocking(move || {
            require(&root)?;
            refuse_links(&root, &path)?;
            remove(&path)?;
            remove(&partial(&path))?;
            // Folders that were made for it, as long as nothing else is in them.
            for folder in path.ancestors().skip(1).take_while(|folder| **folder != *above) {
                if fs::remove_dir(folder).is_err() {
                    break;
                }
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn exists(&self, name: &str) -> Result<bool, StorageError> {
        let (root, path) = (self.root.clone(), self.path.join(name));
        blocking(move || {
            require(&root)?;
            path.try_exists().map_err(StorageError::file("read", &path))
        })
        .await
    }
}

/// Says at its end that what a thread still copies is to have no name: whoever waited for it has gone.
#[derive(Default)]
struct Wanted(Arc<Mutex<bool>>);

impl Drop for Wanted {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

/// The name of a file on its way.
fn partial(path: &Path) -> PathBuf {
    path.with_added_extension("partial")
}

/// A path through what is no folder leads to nothing.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// The root is made by nobody here: where it is on a disk that is not mounted, files would go to the disk below it, and what is to be
/// deleted would seem to be gone.
fn require(root: &Path) -> Result<(), StorageError> {
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(StorageError::file("use", root)(io::Error::other("it is no folder"))),
        Err(error) if is_gone(&error) => {
            let reason = "the folder is not there: mount the disk that it is on, or make it if it never was";
            Err(StorageError::file("use", root)(io::Error::new(io::ErrorKind::NotFound, reason)))
        }
        Err(error) => Err(StorageError::file("read", root)(error)),
    }
}

/// The folders of a file are made here and are no links: through one that somebody else has put there, other files would be written or deleted.
fn refuse_links(root: &Path, path: &Path) -> Result<(), StorageError> {
    let folders = path.ancestors().skip(1).take_while(|folder| *folder != root);
    for folder in folders {
        if folder.is_symlink() {
            let error = io::Error::other("it is a symbolic link, which nobody here has made: remove it");
            return Err(StorageError::file("use", folder)(error));
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), StorageError> {
    match fs::remove_file(path) {
        Err(error) if !is_gone(&error) => Err(StorageError::file("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Copies a file into a new one, and has it on disk before it returns. Nothing that may be waited for or never ends is read.
fn copy(from: &Path, to: &Path, bytes_max: u64) -> Result<u64, StorageError> {
    if !fs::metadata(from).map_err(StorageError::file("read", from))?.is_file() {
        return Err(StorageError::file("read", from)(io::Error::other("it is no regular file")));
    }
    let source = File::open(from).map_err(StorageError::file("read", from))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(to)
        .map_err(StorageError::file("write", to))?;
    let copied = io::copy(&mut source.take(bytes_max.saturating_add(1)), &mut target);
    let bytes = copied
        .and_then(|bytes| target.sync_all().map(|()| bytes))
        .map_err(StorageError::file("write", to))?;
    if bytes > bytes_max {
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        return Err(StorageError::longer(&name, bytes_max));
    }
    Ok(bytes)
}

fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(StorageError::file("write", folder))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(StorageError::file("use", Path::new("the storage"))(io::Error::other(error))),
    }
}
