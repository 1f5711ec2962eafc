//! A bucket of an object store that speaks S3. One part of a file is in memory at a time.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use object_store::{
    BackoffConfig, ClientOptions, MultipartUpload, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};
use tokio::task::spawn_blocking;

use super::{StorageError, StorageSettings, credentials};

/// Bytes of a part. An object has [`PARTS_MAX`] of them; those of a longer one are longer, up to [`LONGEST_PART`].
const PART: u64 = 8 << 20;
const LONGEST_PART: u64 = 24 << 20;

/// Parts of an object: 10,000 of S3.
const PARTS_MAX: u64 = 10_000;

/// How long a server may be silent, also while it takes a part, and time for a connection. What is fetched may take longer as a whole.
const SILENCE: Duration = Duration::from_secs(120);
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// How long one request is repeated.
const RETRY_TIME: Duration = Duration::from_secs(30);

pub(super) struct Bucket {
    store: AmazonS3,
    prefix: String,
}

impl Bucket {
    pub(super) fn open(
        bucket: &str,
        prefix: String,
        settings: &StorageSettings,
    ) -> Result<Self, StorageError> {
        let is_plain = match &settings.endpoint {
            None => false,
            Some(endpoint) if endpoint.contains('@') => {
                let reason = "export.storage.endpoint holds a user or a password: put them into export.storage.credentials_file";
                return Err(StorageError::refused("storage_endpoint", reason));
            }
            Some(endpoint) if endpoint.starts_with("https://") => false,
            Some(endpoint) if endpoint.starts_with("http://") => true,
            Some(_) => {
                let reason = "export.storage.endpoint is no URL: it begins with https://";
                return Err(StorageError::refused("storage_endpoint", reason));
            }
        };
        if is_plain && !settings.allow_http {
            let reason = "the endpoint of the object store is plain http, over which everybody on the way can read: say https, or set export.storage.allow_http = true";
            return Err(StorageError::refused("plain_http", reason));
        }
        if let Some(endpoint) = &settings.endpoint {
            check_endpoint(endpoint)?;
        }
        let region = settings.region.as_deref().unwrap_or("us-east-1");
        if region.is_empty() || !region.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
            let reason = "export.storage.region is no name of a region, such as eu-central-1: it has letters, digits, - and _";
            return Err(StorageError::refused("storage_region", reason));
        }
        let key = credentials::read(settings.credentials_file.as_deref())?;
        // One that is installed already stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_timeout_disabled()
            .with_read_timeout(SILENCE)
            .with_connect_timeout(CONNECT_TIME);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_access_key_id(key.key)
            .with_secret_access_key(key.secret)
            .with_client_options(client)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 3,
                retry_timeout: RETRY_TIME,
            });
        if let Some(token) = key.token {
            builder = builder.with_token(token);
        }
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        Ok(Self { store: builder.build().map_err(|error| of_store(&error))?, prefix })
    }

    fn key(&self, name: &str) -> Key {
        Key::from(format!("{}/{name}", self.prefix))
    }

    pub(super) async fn put(&self, name: &str, from: &Path) -> Result<(), StorageError> {
        let key = self.key(name);
        let mut parts = Parts::open(from.to_owned())?;
        let first = parts.next().await?;
        if parts.left == 0 {
            self.store.put(&key, first.into()).await.map_err(|error| of_store(&error))?;
            return Ok(());
        }
        let mut upload = self.store.put_multipart(&key).await.map_err(|error| of_store(&error))?;
        let sent = send(upload.as_mut(), first, &mut parts).await;
        if sent.is_err() {
            // What it keeps of an upload that is not complete costs; a rule of the bucket removes what this does not.
            let _ = upload.abort().await;
        }
        sent
    }

    pub(super) async fn get(&self, name: &str, to: &Path, bytes_max: u64) -> Result<u64, StorageError> {
        let whole = self.store.get(&self.key(name)).await.map_err(|error| of_store(&error))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)
            .map_err(StorageError::file("write", to))?;
        let (mut stretches, mut size) = (whole.into_stream(), 0_u64);
        while let Some(stretch) = stretches.next().await {
            let stretch = stretch.map_err(|error| of_store(&error))?;
            size += stretch.len() as u64;
            if size > bytes_max {
                return Err(StorageError::longer(name, bytes_max));
            }
            file.write_all(&stretch).map_err(StorageError::file("write", to))?;
        }
        file.sync_all().map_err(StorageError::file("write", to))?;
        Ok(size)
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StorageError> {
        match self.store.delete(&self.key(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(of_store(&error)),
        }
    }

    pub(super) async fn exists(&self, name: &str) -> Result<bool, StorageError> {
        match self.store.head(&self.key(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(of_store(&error)),
        }
    }
}

/// A request to what cannot be read as an address would end the process.
fn check_endpoint(endpoint: &str) -> Result<(), StorageError> {
    let is_plain = !endpoint.contains(['?', '#']) && endpoint.chars().all(|c| c.is_ascii_graphic());
    let has_host =
        endpoint.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let is_url = reqwest::Url::parse(endpoint).is_ok_and(|url| url.has_host());
    if is_plain && has_host && is_url {
        return Ok(());
    }
    let reason =
        "export.storage.endpoint is no URL: it is https:// and a host, perhaps with a port and a path";
    Err(StorageError::refused("storage_endpoint", reason))
}

async fn send(
    upload: &mut (dyn MultipartUpload + 'static),
    first: Vec<u8>,
    parts: &mut Parts,
) -> Result<(), StorageError> {
    let mut part = first;
    loop {
        upload.put_part(part.into()).await.map_err(|error| of_store(&error))?;
        if parts.left == 0 {
            break;
        }
        part = parts.next().await?;
    }
    upload.complete().await.map_err(|error| of_store(&error))?;
    Ok(())
}

/// A file, part by part.
struct Parts {
    path: PathBuf,
    file: Option<File>,
    left: u64,
    length: u64,
}

impl Parts {
    fn open(path: PathBuf) -> Result<Self, StorageError> {
        let file = File::open(&path).map_err(StorageError::file("read", &path))?;
        let left = file.metadata().map_err(StorageError::file("read", &path))?.len();
        let length = PART.max(left.div_ceil(PARTS_MAX));
        if length > LONGEST_PART {
            let reason = format!(
                "a file of {left} bytes is too large for one object: export less of the timeline at once"
            );
            return Err(StorageError::refused("storage_too_large", reason));
        }
        Ok(Self { path, file: Some(file), left, length })
    }

    async fn next(&mut self) -> Result<Vec<u8>, StorageError> {
        let length = usize::try_from(self.left.min(self.length)).unwrap_or(0);
        let Some(mut file) = self.file.take() else { return Ok(Vec::new()) };
        let read = spawn_blocking(move || {
            let mut part = vec![0; length];
            let read = file.read_exact(&mut part);
            (file, read.map(|()| part))
        });
        let (file, part) = match read.await {
            Ok(read) => read,
            Err(error) => return Err(StorageError::file("read", &self.path)(std::io::Error::other(error))),
        };
        self.file = Some(file);
        self.left -= length as u64;
        part.map_err(StorageError::file("read", &self.path))
    }
}

/// What it means. The text of an answer is left out but for its code: it may hold a key, or what was signed with it.
fn of_store(error: &object_store::Error) -> StorageError {
    let code = code(error);
    let (term, what) = match error {
        object_store::Error::NotFound { .. } => ("storage_missing", "has no such bucket or object"),
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => (
            "storage_denied",
            "refuses these credentials: look at them, and at what they allow in this bucket",
        ),
        _ => (
            "storage_unavailable",
            "could not be reached, or could not do it: look at its endpoint, region and state",
        ),
    };
    StorageError::Store { term, what, code }
}

/// The code of an answer in XML, such as `NoSuchBucket`.
fn code(error: &object_store::Error) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        let code = text.split_once("<Code>").and_then(|(_, behind)| behind.split_once("</Code>"));
        if let Some((code, _)) =
            code.filter(|(code, _)| code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphabetic()))
        {
            return Some(code.to_owned());
        }
        next = cause.source();
    }
    None
}
