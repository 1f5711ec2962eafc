//! From a job that was taken to an export that is stored: made in the worker's folder, where another attempt goes on with it, and then
//! brought to its place, the manifest at last.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ring::digest::{SHA256, digest};
use sqlx::PgPool;
use tokio::{task::spawn_blocking, time::timeout};
use uuid::Uuid;

use super::{
    JobError,
    claim::{Claim, Delivered},
    request::Stored,
    worker::Worker,
};
use crate::{
    ActorRef, Timeline,
    export::{
        Destination, ExportError, Exported, Format, Manifest, Options, Request, export,
        files::Files,
        manifest::{Database, Said},
        verify,
    },
    query::{Filter, Reader, database},
    signing::{SigningKey, hexadecimal},
    storage::Storage,
    telemetry::jobs as events,
};

/// What is left of an attempt that cannot be gone on with.
const BEGIN_AGAIN: [&str; 5] =
    ["resume_changed", "resume_differs", "nothing_to_resume", "file_exists", "other_database"];

/// How long a storage that may be away is asked to remove what an attempt has stored.
const TAKING_BACK: Duration = Duration::from_secs(60);

/// The names of what an attempt stores. Each attempt has names of its own: one that has lost its job overwrites nothing of the next one.
pub(super) struct Names {
    pub(super) export: String,
    pub(super) manifest: String,
    pub(super) signature: String,
}

impl Names {
    pub(super) fn of(id: Uuid, generation: i32, format: Format) -> Self {
        let export = format!("{id}/{generation}/{}", file_name(id, format));
        Self {
            manifest: format!("{export}.manifest.json"),
            signature: format!("{export}.manifest.sig"),
            export,
        }
    }

    pub(super) fn longest(&self) -> &str {
        &self.manifest
    }

    /// What may be deleted, the manifest first.
    pub(super) fn all(&self) -> [&str; 3] {
        [&self.manifest, &self.signature, &self.export]
    }
}

pub(super) fn file_name(id: Uuid, format: Format) -> String {
    format!("{id}.{format}")
}

/// Who is recorded as having exported. Whoever cannot be read is nobody else.
fn actor(stored: &str) -> Result<ActorRef, JobError> {
    let read = serde_json::from_str(stored).ok().and_then(|stored| ActorRef::from_json(&stored).ok());
    read.ok_or_else(|| {
        JobError::refused("request_invalid", "the actor of the job cannot be read: add the job again")
    })
}

/// Connections of an attempt alone. One that is left in the middle, as its job is lost, leaves behind a statement that still runs, or a transaction
/// that has begun and that nobody knows of: whoever takes the connection next would be in it.
fn own_pool(pool: &PgPool) -> PgPool {
    let options = pool.options().clone().min_connections(0).max_connections(2);
    options.connect_lazy_with(pool.connect_options().as_ref().clone())
}

/// What is made of a claim.
pub(super) struct Steps<'w> {
    worker: &'w Worker,
    claim: &'w Claim,
    stored: Stored,
    filter: Filter,
    actor: Option<ActorRef>,
    reader: Reader,
    /// Whether something of this attempt may be stored.
    has_stored: AtomicBool,
}

impl<'w> Steps<'w> {
    /// # Errors
    /// `attempts_invalid`, `request_invalid`, `actor_missing`, `location_not_allowed`, and what of the filter cannot be read.
    pub(super) fn of(worker: &'w Worker, claim: &'w Claim) -> Result<Self, JobError> {
        if !claim.is_countable() {
            return Err(JobError::attempts_invalid());
        }
        let stored = Stored::read(&claim.request)?;
        worker.allowed(&stored.storage)?;
        let filter: Filter = stored.filter.parse()?;
        let actor = claim.actor.as_deref().map(actor).transpose()?;
        let reader = Timeline::new(own_pool(worker.timeline().pool()), worker.timeline().schema().clone())
            .reader(stored.scope()?);
        Ok(Self { worker, claim, stored, filter, actor, reader, has_stored: AtomicBool::new(false) })
    }

    pub(super) fn names(&self) -> Names {
        Names::of(self.claim.id, self.claim.generation, self.stored.options.format)
    }

    pub(super) fn storage(&self) -> Result<Storage, JobError> {
        self.worker.storage_at(&self.stored.storage)
    }

    fn path(&self) -> PathBuf {
        self.worker.directory().join(file_name(self.claim.id, self.stored.options.format))
    }

    /// Makes the export, or goes on with it, and stores it; none where the job was lost before anything was stored.
    pub(super) async fn carry_out(&self) -> Result<Option<Delivered>, JobError> {
        let (storage, names) = (self.storage()?, self.names());
        let location = storage.location_of(&names.export)?.to_string();
        self.worker.make_directory()?;
        let manifest = match self.complete().await? {
            Some(manifest) => manifest,
            None => self.make().await?.manifest,
        };
        let files = Files::of(&self.path());
        if !self.claim.will_store(self.worker.timeline(), &location).await? {
            return Ok(None);
        }
        let bytes = fs::read(&files.manifest).map_err(ExportError::file("read", &files.manifest))?;
        self.has_stored.store(true, Ordering::Relaxed);
        storage.put(&names.export, &files.complete).await?;
        if files.signature.exists() {
            storage.put(&names.signature, &files.signature).await?;
        }
        storage.put(&names.manifest, &files.manifest).await?;
        Ok(Some(Delivered {
            location,
            rows: manifest.rows.total(),
            bytes: manifest.bytes,
            sha256: manifest.sha256,
            manifest_sha256: hexadecimal(digest(&SHA256, &bytes).as_ref()),
        }))
    }

    /// An export that another attempt has completed, and could not bring away.
    async fn complete(&self) -> Result<Option<Manifest>, JobError> {
        let files = Files::of(&self.path());
        let read = spawn_blocking(move || {
            if !files.complete.exists() || verify(&files.manifest, Some(&files.complete), None).is_err() {
                return None;
            }
            serde_json::from_slice(&fs::read(&files.manifest).ok()?).ok()
        });
        let key = self.key()?.map(|key| key.public());
        let ready: Option<Manifest> = read.await.ok().flatten();
        let Some(ready) = ready.filter(|manifest| self.is_asked_for(manifest) && manifest.key == key) else {
            return Ok(None);
        };
        // A copy of a database has the same jobs, and other rows.
        let here = database(self.worker.timeline().pool()).await?;
        let Database { name, system_identifier } = &ready.database;
        Ok(((name, system_identifier) == (&here.0, &here.1)).then_some(ready))
    }

    /// Whether an export is what the job asks for: its row may have been changed since.
    fn is_asked_for(&self, manifest: &Manifest) -> bool {
        let Options { profile, format, action_metadata, spreadsheet_safe, max_rows } = self.stored.options;
        let said = Said { action_metadata, spreadsheet_safe };
        manifest.recorded
            && (manifest.profile, manifest.format, manifest.max_rows) == (profile, format, max_rows)
            && manifest.options == said
            && manifest.filter == self.filter.to_string()
            && manifest.scope == self.reader.scope().describe()
            && manifest.storage_schema == self.reader.schema().to_string()
    }

    fn key(&self) -> Result<Option<SigningKey>, JobError> {
        self.worker.key().map(SigningKey::read).transpose().map_err(|error| {
            JobError::refused("signing_key", format!("the key that signs manifests cannot be read: {error}"))
        })
    }

    async fn make(&self) -> Result<Exported, JobError> {
        let files = Files::of(&self.path());
        if files.partial.exists() && files.progress.exists() {
            match self.export(true).await {
                Err(JobError::Export(error))
                    if error.term().is_some_and(|term| BEGIN_AGAIN.contains(&term)) =>
                {
                    events::begun_again(self.claim.id, error.kind());
                }
                made => return made,
            }
        }
        self.export(false).await
    }

    async fn export(&self, resume: bool) -> Result<Exported, JobError> {
        let key = self.key()?;
        let on_progress = self.worker.progress().map(|progress| {
            let (progress, id) = (Arc::clone(progress), self.claim.id);
            Box::new(move |rows, bytes| progress(id, rows, bytes)) as crate::export::OnProgress
        });
        let request = Request {
            actor: self.actor.clone(),
            key,
            on_progress,
            ..Request::new(self.filter.clone(), self.stored.options.clone())
        };
        let destination = Destination::File { path: self.path(), resume, force: !resume };
        Ok(export(&self.reader, request, destination).await?)
    }

    /// Removes what this attempt has stored. What stays is found by nobody, and goes when the job expires.
    pub(super) async fn take_back(&self) {
        if self.has_stored.load(Ordering::Relaxed) {
            let _ = timeout(TAKING_BACK, self.remove(self.claim.generation)).await;
        }
    }

    /// Removes what earlier attempts have stored that were not completed.
    pub(super) async fn take_back_earlier(&self) {
        for generation in 1..self.claim.generation {
            self.remove(generation).await;
        }
    }

    async fn remove(&self, generation: i32) {
        let names = Names::of(self.claim.id, generation, self.stored.options.format);
        if let Ok(storage) = self.storage() {
            for name in names.all() {
                let _ = storage.delete(name).await;
            }
        }
    }

    /// Removes the files of this machine.
    pub(super) fn tidy(&self) {
        for path in Files::of(&self.path()).all() {
            let _ = fs::remove_file(path);
        }
    }
}
