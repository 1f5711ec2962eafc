//! Whoever makes exports: a process, its folder, and the places to which it may bring them.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use uuid::Uuid;

use super::{Ended, JobError, schedules};
use crate::{
    Timeline,
    export::ExportError,
    storage::{Location, Storage, StorageSettings},
    telemetry::jobs as events,
};

/// How long an export is kept, unless said otherwise: the 168 hours of the Elixir library.
pub const KEEP: Duration = Duration::from_secs(168 * 60 * 60);

/// How long one may be kept at most: a hundred years.
pub const KEEP_MAX: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

/// How often a worker that has nothing to do asks for a job.
const IDLE: Duration = Duration::from_secs(5);

/// How often it deletes what has been kept long enough.
const CLEANING: Duration = Duration::from_secs(60);

/// The bits of a mode that let the group and everybody write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Hears how far a job is: its id, entries and bytes.
pub(super) type Progress = Arc<dyn Fn(Uuid, u64, u64) + Send + Sync>;

/// Makes exports. Any number of processes may do so at once; a folder is for one machine, and several workers may share it. It needs a
/// connection of the pool, and makes one more for each export.
///
/// ```no_run
/// use threadline::{Timeline, export::jobs::Worker};
///
/// # async fn example(timeline: Timeline) -> Result<(), Box<dyn std::error::Error>> {
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let worker = Worker::new(timeline, "/var/lib/exports").allow("file:///srv/exports".parse()?);
/// let working = tokio::spawn(async move { worker.run_until(async { let _ = stopped.await; }, |_| ()).await });
/// // … at the end of the process:
/// drop(stop);
/// working.await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is exported until it is run"]
pub struct Worker {
    timeline: Timeline,
    directory: PathBuf,
    storage: StorageSettings,
    allowed: Vec<Location>,
    key: Option<PathBuf>,
    keep: Duration,
    progress: Option<Progress>,
    holder: String,
}

impl Worker {
    /// One that works in a folder, and may not bring exports anywhere yet.
    pub fn new(timeline: Timeline, directory: impl Into<PathBuf>) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("an unknown host");
        Self {
            timeline,
            directory: directory.into(),
            storage: StorageSettings::default(),
            allowed: Vec::new(),
            key: None,
            keep: KEEP,
            progress: None,
            holder: format!("process {} on {host} ({})", std::process::id(), Uuid::now_v7()),
        }
    }

    /// How object stores are spoken to.
    pub fn storage(self, storage: StorageSettings) -> Self {
        Self { storage, ..self }
    }

    /// Also brings exports to this place, and below it. Whoever may add a job names where its export goes: elsewhere it is refused.
    pub fn allow(mut self, location: Location) -> Self {
        self.allowed.push(location);
        self
    }

    /// A PKCS#8 file with the Ed25519 key that signs manifests.
    pub fn sign_with(self, key: Option<PathBuf>) -> Self {
        Self { key, ..self }
    }

    /// How long an export is kept, [`KEEP_MAX`] at most; without it [`KEEP`].
    pub fn keep_for(self, keep: Duration) -> Self {
        Self { keep: keep.min(KEEP_MAX), ..self }
    }

    /// Hears how far a job is: its id, entries and bytes, on another thread.
    pub fn on_progress(self, progress: impl Fn(Uuid, u64, u64) + Send + Sync + 'static) -> Self {
        Self { progress: Some(Arc::new(progress)), ..self }
    }

    /// Makes what is due, fires schedules and cleans up, until `shutdown` ends; a job that is being made then is given back. `heard` hears what became
    /// of each job, and why the worker could not go on; it goes on later.
    pub async fn run_until(
        &self,
        shutdown: impl Future<Output = ()>,
        mut heard: impl FnMut(Result<&Ended, &JobError>),
    ) {
        let shutdown = shutdown.shared();
        let mut cleaned: Option<Instant> = None;
        while shutdown.peek().is_none() {
            if cleaned.is_none_or(|at| at.elapsed() >= CLEANING) {
                if let Err(error) = self.clean().await {
                    warn(&error);
                    heard(Err(&error));
                }
                cleaned = Some(Instant::now());
            }
            match self.next(shutdown.clone()).await {
                Ok(Some(one)) => {
                    heard(Ok(&one));
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    warn(&error);
                    heard(Err(&error));
                }
            }
            tokio::select! {
                biased;
                () = shutdown.clone() => return,
                () = tokio::time::sleep(IDLE) => {}
            }
        }
    }

    /// Makes what is due, and ends when nothing is, or `shutdown` ends.
    ///
    /// # Errors
    /// What the database says.
    pub async fn run_until_idle(
        &self,
        shutdown: impl Future<Output = ()>,
        mut ended: impl FnMut(&Ended),
    ) -> Result<(), JobError> {
        let shutdown = shutdown.shared();
        while shutdown.peek().is_none() {
            match self.next(shutdown.clone()).await? {
                Some(one) => ended(&one),
                None => break,
            }
        }
        self.clean().await.map(drop)
    }

    async fn next(&self, shutdown: impl Future<Output = ()>) -> Result<Option<Ended>, JobError> {
        schedules::fire(&self.timeline).await?;
        self.work_one(None, shutdown).await
    }

    /// The place at or below which this location is allowed, the nearest one.
    ///
    /// # Errors
    /// `location_not_allowed`.
    pub(super) fn allowed(&self, location: &Location) -> Result<&Location, JobError> {
        let allowed = self.allowed.iter().filter(|allowed| allowed.contains(location));
        if let Some(nearest) = allowed.max_by_key(|allowed| allowed.to_string().len()) {
            return Ok(nearest);
        }
        let reason = format!(
            "this worker may not bring exports to {location}: set export.storage.location to it, or start the worker with --allow {location}"
        );
        Err(JobError::refused("location_not_allowed", reason))
    }

    /// Where a job wants to be stored.
    ///
    /// # Errors
    /// `location_not_allowed`, and why it cannot be spoken to.
    pub(super) fn storage_at(&self, location: &Location) -> Result<Storage, JobError> {
        let root = self.allowed(location)?;
        Ok(Storage::open(location, &self.storage)?.below(root))
    }

    /// It holds what was exported: for its owner only. One that others can write to may hold what others have put there, as below that of
    /// temporary files.
    pub(super) fn make_directory(&self) -> Result<(), JobError> {
        let directory = &self.directory;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(ExportError::file("create", directory))?;
        let found = fs::metadata(directory).map_err(ExportError::file("read", directory))?;
        let user = fs::metadata("/proc/self").map_or(found.uid(), |this| this.uid());
        if found.uid() != user || found.mode() & WRITABLE_BY_OTHERS != 0 {
            let reason = format!(
                "others can write to the folder {}: name another one with --directory, or make it this user's alone, mode 0700",
                directory.display()
            );
            return Err(JobError::refused("directory_not_private", reason));
        }
        Ok(())
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn key(&self) -> Option<&Path> {
        self.key.as_deref()
    }

    pub(super) fn keep(&self) -> Duration {
        self.keep
    }

    pub(super) fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    pub(super) fn holder(&self) -> &str {
        &self.holder
    }
}

fn warn(error: &JobError) {
    events::worker_failed(error.kind());
}
