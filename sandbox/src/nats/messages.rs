//! The message files of a stopped server's stream.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use anyhow::ensure;

/// What [`Nats::save_messages`](super::Nats::save_messages) copied. It is held in memory.
#[derive(Debug, Clone)]
pub struct SavedMessages {
    stream: String,
    files: Vec<(OsString, Vec<u8>)>,
}

impl SavedMessages {
    pub(super) fn read(store: &Path, stream: &str) -> anyhow::Result<Self> {
        let folder = folder(store, stream)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            ensure!(entry.file_type()?.is_file(), "{} is no file", entry.path().display());
            files.push((entry.file_name(), fs::read(entry.path())?));
        }
        Ok(Self { stream: stream.to_owned(), files })
    }

    pub(super) fn put_back(&self, store: &Path) -> anyhow::Result<()> {
        let folder = folder(store, &self.stream)?;
        // The server's own user, which need not be this process's.
        let owner = fs::metadata(&folder)?;
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
        for (name, content) in &self.files {
            let file = folder.join(name);
            fs::write(&file, content)?;
            chown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }
}

/// Where nats-server keeps the messages of a stream of its default account. Next to it, in `obs`, is the state of the
/// stream's consumers.
fn folder(store: &Path, stream: &str) -> anyhow::Result<PathBuf> {
    let folder = store.join("jetstream/$G/streams").join(stream).join("msgs");
    ensure!(folder.is_dir(), "the server has no messages of a stream {stream}");
    Ok(folder)
}
