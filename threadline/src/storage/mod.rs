//! Where exports are kept: a folder of this machine, or, with the cargo feature `s3`, a bucket of an object store that speaks S3.
//!
//! A [`Location`] is a URL without a secret. Credentials come from a file or from the environment, at the moment at which a [`Storage`] is
//! opened, and stand in no error.

#[cfg(feature = "s3")]
mod credentials;
mod error;
mod local;
mod location;
#[cfg(feature = "s3")]
mod s3;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use error::StorageError;
pub use location::Location;

use location::Place;

/// How an object store is spoken to. A folder needs none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StorageSettings {
    /// The region of the buckets; without it `us-east-1`.
    pub region: Option<String>,
    /// The URL of the store; without it that of AWS for the region.
    pub endpoint: Option<String>,
    /// Takes an endpoint that begins with `http://`.
    pub allow_http: bool,
    /// A file in the format of AWS's shared credentials, of which the section `[default]` counts; without it `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    pub credentials_file: Option<PathBuf>,
}

/// A place that files are brought to and fetched from.
pub struct Storage {
    location: Location,
    inner: Inner,
}

/// Without the key.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.location)
    }
}

enum Inner {
    Local(local::Folder),
    #[cfg(feature = "s3")]
    S3(s3::Bucket),
}

impl Storage {
    /// Nothing is asked of a server. What is stored has names below `location`; a folder has to be there by then.
    ///
    /// # Errors
    /// `s3_not_built`, `plain_http`, `storage_endpoint`, `credentials_missing` and `credentials_file`.
    pub fn open(location: &Location, settings: &StorageSettings) -> Result<Self, StorageError> {
        let inner = match location.place() {
            Place::File(folder) => Inner::Local(local::Folder::new(folder)),
            #[cfg(feature = "s3")]
            Place::S3 { bucket, prefix } => Inner::S3(s3::Bucket::open(bucket, prefix, settings)?),
            #[cfg(not(feature = "s3"))]
            Place::S3 { .. } => {
                let _ = settings;
                let reason = "this program was built without the cargo feature s3: build threadline with --features s3, or name a location file:///…";
                return Err(StorageError::refused("s3_not_built", reason));
            }
        };
        Ok(Self { location: location.clone(), inner })
    }

    /// The same, where a folder above it has to be there, and the folders between them are made.
    pub(crate) fn below(mut self, root: &Location) -> Self {
        match (&mut self.inner, root.place()) {
            (Inner::Local(folder), Place::File(root)) => folder.below(root),
            #[cfg(feature = "s3")]
            _ => {}
            #[cfg(not(feature = "s3"))]
            (Inner::Local(_), Place::S3 { .. }) => {}
        }
        self
    }

    /// Where something of this name is.
    ///
    /// # Errors
    /// `location_invalid` for a name that is none.
    pub fn location_of(&self, name: &str) -> Result<Location, StorageError> {
        self.location.join(name)
    }

    /// Stores a file under a name, or in the place of what has it. It is there as a whole or not at all.
    ///
    /// # Errors
    /// `storage_missing` where the folder or bucket is not there, when the file cannot be read, and what the storage says.
    pub async fn put(&self, name: &str, from: &Path) -> Result<(), StorageError> {
        self.location.join(name)?;
        match &self.inner {
            Inner::Local(folder) => folder.put(name, from).await,
            #[cfg(feature = "s3")]
            Inner::S3(bucket) => bucket.put(name, from).await,
        }
    }

    /// Fetches what has a name into a new file, which only its owner may read; returns how many bytes it has.
    ///
    /// # Errors
    /// `storage_missing`, when the file cannot be written, and what the storage says.
    pub async fn get(&self, name: &str, to: &Path) -> Result<u64, StorageError> {
        self.get_up_to(name, to, u64::MAX).await
    }

    /// As [`Storage::get`], and fetches no more than so many bytes, whatever the storage holds.
    ///
    /// # Errors
    /// `storage_longer` for what has more bytes, and as `get`. What was fetched until then stays in the file.
    pub async fn get_up_to(&self, name: &str, to: &Path, bytes_max: u64) -> Result<u64, StorageError> {
        self.location.join(name)?;
        match &self.inner {
            Inner::Local(folder) => folder.get(name, to, bytes_max).await,
            #[cfg(feature = "s3")]
            Inner::S3(bucket) => bucket.get(name, to, bytes_max).await,
        }
    }

    /// Deletes what has a name; nothing happens where there is nothing.
    ///
    /// # Errors
    /// What the storage says.
    pub async fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.location.join(name)?;
        match &self.inner {
            Inner::Local(folder) => folder.delete(name).await,
            #[cfg(feature = "s3")]
            Inner::S3(bucket) => bucket.delete(name).await,
        }
    }

    /// Whether something has a name.
    ///
    /// # Errors
    /// What the storage says.
    pub async fn exists(&self, name: &str) -> Result<bool, StorageError> {
        self.location.join(name)?;
        match &self.inner {
            Inner::Local(folder) => folder.exists(name).await,
            #[cfg(feature = "s3")]
            Inner::S3(bucket) => bucket.exists(name).await,
        }
    }
}
