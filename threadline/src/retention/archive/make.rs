//! One archive: exported, verified, recorded. Nothing of it is deleted before.

use std::{
    error::Error,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ring::digest::{SHA256, digest};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    leftovers,
    settings::{Archive, url_of},
    slice::{self, Part, Slice},
    store::Complete,
};
use crate::{
    batches,
    capture::Refusal,
    export::{self, Destination, ExportError, Manifest, Request, export_as},
    lease,
    query::Scope,
    retention::{error::PurgeError, purge::Purge, record::Counts},
    signing::hexadecimal,
    telemetry,
};

/// Between two renewals of the lease while an archive is made.
const RENEWAL: Duration = Duration::from_secs(10);

/// How long before its end a lease that could not be renewed counts as lost.
const LEAD: Duration = Duration::from_secs(20);

/// An archive that may be deleted.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: Uuid,
    pub(super) path: PathBuf,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Purge<'_> {
    /// Where this run archives.
    pub(in crate::retention) fn folder(&self, archive: &Archive) -> PathBuf {
        archive.directory.join(self.run.id.to_string())
    }

    /// Archives a slice as the `n`-th file of the run; none where there is nothing in it.
    pub(super) async fn make(
        &self,
        archive: &Archive,
        part: &Part,
        (slice, n): (Slice, u32),
        counts: &Counts,
    ) -> Result<Option<Made>, PurgeError> {
        let started = Instant::now();
        let path = self.folder(archive).join(part.file_name(n));
        let written = self.while_held(counts, Box::pin(self.write(archive, part, slice, &path))).await;
        let manifest = match written {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return discard(&path).map(|()| None).map_err(|error| failed(&path, &error, ROOM)),
            Err(error) => {
                // A full disk is given back; what cannot be removed is found by the next run.
                let _ = discard(&path);
                return Err(error);
            }
        };
        let made = self.record(part, &manifest, path, counts).await?;
        telemetry::archived(made.rows, made.bytes, started.elapsed());
        Ok(Some(made))
    }

    /// Work of files, which may take longer than a lease: unless the purge is told to stop, or loses the lease meanwhile.
    pub(super) async fn while_held<T>(
        &self,
        counts: &Counts,
        work: impl Future<Output = Result<T, PurgeError>>,
    ) -> Result<T, PurgeError> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.asked_for() => Err(PurgeError::Cancelled),
            error = self.keep_lease(counts) => Err(error),
            done = work => done,
        }
    }

    /// The file, its manifest and its signature, compared with one another; none where nothing is in it.
    async fn write(
        &self,
        archive: &Archive,
        part: &Part,
        slice: Slice,
        path: &Path,
    ) -> Result<Option<Manifest>, PurgeError> {
        begin(archive, path).map_err(|error| failed(path, &error, ROOM))?;
        let key = archive.signing_key()?;
        let public = key.as_ref().map(crate::signing::SigningKey::public);
        let request =
            Request { is_recorded: false, key, ..Request::new(part.filter(slice), slice::options()) };
        let reader = self.timeline.reader(Scope::everything());
        let exported = export_as(&reader, request, Destination::file(path), part.shape()).await;
        let exported = exported.map_err(|error| unexported(path, &error))?;
        if exported.manifest.rows.total() == 0 {
            return Ok(None);
        }
        let manifest_path = exported.manifest_path.unwrap_or_default();
        let verified = spawn_blocking(move || export::verify(&manifest_path, None, public.as_deref())).await;
        let verified = verified.map_err(|error| failed(path, &error, AGAIN))?;
        match verified {
            Ok(verified) if verified.rows == exported.manifest.rows.total() => Ok(Some(exported.manifest)),
            Ok(_) => Err(failed(path, &io::Error::other("its manifest is another one"), AGAIN)),
            Err(faults) => {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Err(failed(path, &io::Error::other(faults.join("; ")), AGAIN))
            }
        }
    }

    /// Records an archive, unless the lease was lost meanwhile.
    async fn record(
        &self,
        part: &Part,
        manifest: &Manifest,
        path: PathBuf,
        counts: &Counts,
    ) -> Result<Made, PurgeError> {
        let complete = Complete {
            run: self.run.id,
            what: part.what(),
            table: part.table.as_ref().map(|table| (&*table.schema, &*table.name)),
            cutoff: part.walk.before,
            manifest,
            manifest_sha256: hexadecimal(digest(&SHA256, &manifest.to_bytes()).as_ref()),
            location: url_of(&path),
        };
        let id = self.insert(&complete, counts).await?;
        Ok(Made { id, path, rows: manifest.rows.total(), bytes: manifest.bytes })
    }

    pub(super) async fn insert(&self, complete: &Complete<'_>, counts: &Counts) -> Result<Uuid, PurgeError> {
        let storage = self.timeline.schema();
        let mut transaction = batches::begin(self.timeline.pool(), self.options.locked_limit).await?;
        self.run.renew(&mut transaction, storage, counts).await?;
        let id = complete.insert(&mut transaction, storage).await?;
        transaction.commit().await?;
        Ok(id)
    }

    /// Renews the lease again and again; returns once it is lost, or may be.
    async fn keep_lease(&self, counts: &Counts) -> PurgeError {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEWAL).await;
            match self.renew(counts).await {
                Ok(()) => renewed = Instant::now(),
                Err(PurgeError::LeaseLost) => return PurgeError::LeaseLost,
                Err(error) if renewed.elapsed() >= lease::LENGTH.saturating_sub(LEAD) => return error,
                Err(error) => telemetry::lease_not_renewed(error.kind()),
            }
        }
    }

    /// Renews the lease by itself, and records how far the run is.
    pub(in crate::retention) async fn renew(&self, counts: &Counts) -> Result<(), PurgeError> {
        let mut transaction = batches::begin(self.timeline.pool(), self.options.lock_timeout).await?;
        self.run.renew(&mut transaction, self.timeline.schema(), counts).await?;
        Ok(transaction.commit().await?)
    }
}

/// Makes the folder of the run, for its owner alone, so that it lasts.
fn begin(archive: &Archive, path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(&archive.directory)?.sync_all()
}

/// Removes what was written of an archive that is none.
fn discard(path: &Path) -> io::Result<()> {
    leftovers::remove(&leftovers::files_of(path))?;
    match path.parent().map(fs::remove_dir) {
        // Other archives of the run are in it.
        Some(Err(error))
            if ![io::ErrorKind::DirectoryNotEmpty, io::ErrorKind::NotFound].contains(&error.kind()) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

const ROOM: &str = "make room there, and let the purge write there";
const RIGHTS: &str = "deploy/postgres/timeline.sql grants audit_archivist what an archive needs";
const AGAIN: &str = "see to the cause, and purge again";

fn unexported(path: &Path, error: &ExportError) -> PurgeError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut is_right = false;
    while let Some(error) = cause {
        let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        is_right |= database.and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42501");
        cause = error.source();
    }
    let hint = match error {
        ExportError::File { .. } | ExportError::Unwritten(_) => ROOM,
        _ if is_right => RIGHTS,
        _ => AGAIN,
    };
    failed(path, error, hint)
}

/// That there is no archive, why, and what to do.
pub(super) fn failed(path: &Path, error: &(dyn Error + 'static), hint: &str) -> PurgeError {
    let reason = format!(
        "what was to be deleted next could not be archived in {}, and was not deleted: {}",
        path.display(),
        errors::line(error)
    );
    Refusal::new("archive_failed", reason).hint(hint).into()
}
