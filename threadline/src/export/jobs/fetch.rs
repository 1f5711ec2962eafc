//! A stored export is fetched, verified, and then has its name.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use ring::digest::{SHA256, digest};
use serde::Serialize;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Job, JobError, states::existing};
use crate::{
    Timeline,
    export::{
        ExportError, Manifest,
        files::Files,
        verify,
        verify::{MANIFEST_BYTES_MAX, SIGNATURE_BYTES},
    },
    signing::hexadecimal,
    storage::{Location, Storage, StorageSettings},
};

/// An export that was fetched.
#[derive(Debug, Clone, Serialize)]
pub struct Fetched {
    /// The export.
    pub file: PathBuf,
    /// Its manifest.
    pub manifest: PathBuf,
    /// The signature of the manifest, where it has one.
    pub signature: Option<PathBuf>,
    /// Entries.
    pub rows: u64,
    /// Bytes of the export.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Fetches the export of a completed job, with its manifest beside it. Nothing has the name before everything is what the job says.
///
/// # Errors
/// `job_missing`, `job_of_library`, `job_state`, `file_exists` unless `force`, `fetch_differs`, and what the storage or the database says.
pub async fn fetch(
    timeline: &Timeline,
    id: Uuid,
    settings: &StorageSettings,
    to: &Path,
    force: bool,
) -> Result<Fetched, JobError> {
    let job = existing(timeline, id).await?;
    let location = stored(&job)?;
    let files = Files::of(to);
    files.refuse_taken(force)?;
    let folder = to.with_added_extension(format!("{}.fetching", Uuid::now_v7()));
    DirBuilder::new().mode(0o700).create(&folder).map_err(ExportError::file("create", &folder))?;
    let folder = OnWay(folder);
    into(&job, &location, settings, &folder.0, &files).await
}

/// The folder of what is on its way to its name; it goes with whoever fetches, also where that is interrupted.
struct OnWay(PathBuf);

impl Drop for OnWay {
    fn drop(&mut self) {
        // A thread that still copies may make a file in it meanwhile, once.
        let _ = fs::remove_dir_all(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

/// Where the export of a completed job is.
///
/// # Errors
/// `job_of_library`, `job_state`.
pub(super) fn stored(job: &Job) -> Result<Location, JobError> {
    if !job.is_ours() {
        let reason = "the job is the Elixir library's, which stores what it exports in its own way";
        return Err(JobError::refused("job_of_library", reason));
    }
    match &job.location {
        Some(location) if job.status == "completed" => Ok(location.parse()?),
        _ if job.status == "expired" => {
            let reason =
                "what the job has stored was kept as long as it was to be, and is deleted: add the job again";
            Err(JobError::refused("job_state", reason))
        }
        _ => Err(JobError::refused(
            "job_state",
            format!("the job is {}: there is nothing to fetch", job.status),
        )),
    }
}

async fn into(
    job: &Job,
    location: &Location,
    settings: &StorageSettings,
    folder: &Path,
    files: &Files,
) -> Result<Fetched, JobError> {
    let (above, name) = location
        .split()
        .ok_or_else(|| JobError::refused("request_invalid", "the job names no place of its export"))?;
    let storage = Storage::open(&above, settings)?;
    let fetched = Files::of(&folder.join(name));
    let [manifest, signature] = [&fetched.manifest, &fetched.signature]
        .map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    bounded(&storage, &manifest, &fetched.manifest, MANIFEST_BYTES_MAX).await?;
    let bytes = fs::read(&fetched.manifest).map_err(ExportError::file("read", &fetched.manifest))?;
    if job.manifest_sha256.as_deref() != Some(hexadecimal(digest(&SHA256, &bytes).as_ref()).as_str()) {
        return Err(differs("the manifest is not the one that the worker has stored"));
    }
    let claimed: Manifest =
        serde_json::from_slice(&bytes).map_err(|_| differs("the manifest is none of an export"))?;
    if claimed.key.is_some() {
        bounded(&storage, &signature, &fetched.signature, SIGNATURE_BYTES).await?;
    }
    bounded(&storage, name, &fetched.complete, claimed.bytes).await?;
    let (document, export) = (fetched.manifest.clone(), fetched.complete.clone());
    let verified = spawn_blocking(move || verify(&document, Some(&export), None)).await;
    match verified {
        Ok(Ok(_)) => {}
        Ok(Err(faults)) => {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            return Err(differs(&format!("the export is not what its manifest says ({first})")));
        }
        Err(error) => return Err(differs(&format!("the export could not be verified: {error}"))),
    }
    named(&fetched, files, &claimed)?;
    Ok(Fetched {
        file: files.complete.clone(),
        manifest: files.manifest.clone(),
        signature: claimed.key.is_some().then(|| files.signature.clone()),
        rows: claimed.rows.total(),
        bytes: claimed.bytes,
        sha256: claimed.sha256,
    })
}

/// Fetches no more than what may be there.
async fn bounded(storage: &Storage, name: &str, to: &Path, bytes_max: u64) -> Result<(), JobError> {
    match storage.get_up_to(name, to, bytes_max).await {
        Err(error) if error.term() == "storage_longer" => {
            Err(differs(&format!("{name} has more than {bytes_max} bytes")))
        }
        got => Ok(got.map(drop)?),
    }
}

/// The export is named last.
fn named(fetched: &Files, files: &Files, claimed: &Manifest) -> Result<(), ExportError> {
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(ExportError::file("name", to));
    if claimed.key.is_some() {
        rename(&fetched.signature, &files.signature)?;
    } else {
        let _ = fs::remove_file(&files.signature);
    }
    rename(&fetched.manifest, &files.manifest)?;
    rename(&fetched.complete, &files.complete)
}

fn differs(what: &str) -> JobError {
    JobError::refused(
        "fetch_differs",
        format!("{what}: somebody may have changed it where it is stored; nothing was kept"),
    )
}
