//! A purge: walk by walk, batch by batch.

use std::{
    collections::BTreeMap,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{
    archive::{Archived, url_of},
    batch::{Failed, Next, batch, is_busy, took_too_long},
    dry_run,
    error::PurgeError,
    options::PurgeOptions,
    policy::Policy,
    record::{self, Counts, LEASE, Run},
    tables,
    walk::{self, Of, Place, Visited, Walk},
    windows::Windows,
};
use crate::{
    Timeline,
    batches::{self, LOCKED_PAUSE, Stop, settle},
    capture::{HostTable, Refusal},
    lease::Lease,
    telemetry::{self, Deleted},
};

/// What a purge has deleted, or, of a dry run, what one would delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Purged {
    /// The run that says so in `threadline_retention_runs`; none of a dry run.
    pub run: Option<Uuid>,
    /// Nothing was deleted.
    pub dry_run: bool,
    /// Changes.
    pub deleted_changes: u64,
    /// Captured transactions: those that have lost their last change, and those of before the cutoff that had none.
    pub deleted_transactions: u64,
    /// Actions.
    pub deleted_actions: u64,
    /// Actions that are old enough, and that are kept: a captured transaction that is kept is linked to them, or they are needed to switch
    /// capture on again.
    pub kept_actions: u64,
    /// Rows that somebody has changed after they were archived, themselves or what they are linked to: they stay, and the next run archives
    /// them as they are then.
    #[serde(skip_serializing_if = "is_zero")]
    pub changed: u64,
    /// Changes by their tables, `schema.table`.
    pub tables: BTreeMap<String, u64>,
    /// Months of changes that were dropped as a whole, by the names of their tables; what was in them is counted above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_partitions: Vec<String>,
    /// Transactions of the database that have deleted something.
    pub batches_run: u32,
    /// Whether it came to its end; otherwise as many batches were run as may be, and a further run goes on.
    pub is_complete: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The cutoffs, as a run records them.
    pub windows: Value,
    /// What was archived before it was deleted, or would be; none where nothing was, or no archive is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "how serde asks")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Purged {
    pub(super) fn new(run: Option<Uuid>, windows: &Windows) -> Self {
        Self {
            run,
            dry_run: run.is_none(),
            deleted_changes: 0,
            deleted_transactions: 0,
            deleted_actions: 0,
            kept_actions: 0,
            changed: 0,
            tables: BTreeMap::new(),
            dropped_partitions: Vec::new(),
            batches_run: 0,
            is_complete: true,
            duration_ms: 0,
            windows: windows.to_json(),
            archived: None,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            changes: self.deleted_changes,
            transactions: self.deleted_transactions,
            actions: self.deleted_actions,
            tables: self.tables.clone(),
        }
    }

    /// Counts a file that is in this folder.
    pub(super) fn add_archive(&mut self, folder: &Path, rows: u64, bytes: u64) {
        let archived = self.archived.get_or_insert_with(|| Archived {
            location: url_of(folder),
            files: 0,
            rows: 0,
            bytes: 0,
        });
        archived.files += 1;
        archived.rows += rows;
        archived.bytes += bytes;
    }

    fn add(&mut self, walk: &Walk, visited: Visited) {
        self.deleted_changes += visited.deleted.changes;
        self.deleted_transactions += visited.deleted.transactions;
        self.deleted_actions += visited.deleted.actions;
        if walk.of == Of::Actions {
            self.kept_actions += visited.rows - visited.deleted.actions;
        }
        self.changed += visited.changed;
        self.batches_run += u32::from(visited.deleted.any());
        for (table, count) in visited.deleted.tables {
            *self.tables.entry(table).or_default() += count;
        }
    }
}

impl Timeline {
    /// Deletes what the policy no longer keeps, in short transactions with pauses between them.
    ///
    /// # Errors
    /// Where nothing is to be deleted, another process purges, or the database refuses or is away. What was deleted before stays deleted,
    /// and a run that had begun is recorded as failed.
    pub async fn purge(&self, policy: &Policy, options: &PurgeOptions) -> Result<Purged, PurgeError> {
        self.purge_until(policy, options, std::future::pending(), |_| ()).await
    }

    /// The same, until `stop` ends: the batch that is being deleted is finished, and the run has failed with [`PurgeError::Cancelled`].
    /// `progress` has what was deleted so far, after each batch that has deleted something.
    ///
    /// # Errors
    /// As [`Self::purge`].
    pub async fn purge_until(
        &self,
        policy: &Policy,
        options: &PurgeOptions,
        stop: impl Future<Output = ()>,
        mut progress: impl FnMut(&Purged),
    ) -> Result<Purged, PurgeError> {
        if !policy.is_enabled {
            let refusal = Refusal::new("disabled", "retention is not enabled, and nothing is deleted");
            return Err(refusal.hint("enabled = true in the section [retention] of audit.toml").into());
        }
        options.check()?;
        if options.archive.is_some() && self.pool().options().get_max_connections() < 2 {
            let reason = "a purge that archives needs two connections at a time, and the pool has one";
            return Err(Refusal::new("option_invalid", reason).hint("give the pool more").into());
        }
        if options.dry_run {
            return with_events(true, Box::pin(dry_run::run(self, policy, options))).await;
        }
        let run = self.begin(policy, options).await?;
        let (stopped, stop_asked) = Stop::new();
        let batch_size = options.batch_size;
        let purge =
            Purge { timeline: self, policy, options, run, batch_size, left: Vec::new(), stop: stop_asked };
        let mut work = pin!(with_events(false, Box::pin(purge.work(&mut progress))));
        tokio::select! {
            done = &mut work => return done,
            () = stop => {}
        }
        stopped.send_replace(true);
        work.await
    }

    /// Whoever purges renews its lease while it deletes: that is not waited for.
    async fn begin(&self, policy: &Policy, options: &PurgeOptions) -> Result<Run, PurgeError> {
        match self.begun(policy, options).await {
            Err(error) if is_busy(&error) => {
                // Behind a pooler a statement without a transaction may be sent to two sessions.
                let mut transaction = self.pool().begin().await?;
                let holder = Lease::new(LEASE).other(&mut transaction, self.schema()).await?;
                let locked = PurgeError::Locked { table: "threadline_leases", limit: options.lock_timeout };
                Err(holder.map_or(locked, PurgeError::from))
            }
            begun => begun,
        }
    }

    async fn begun(&self, policy: &Policy, options: &PurgeOptions) -> Result<Run, PurgeError> {
        let mut transaction = batches::begin(self.pool(), options.lock_timeout).await?;
        let now = record::now(&mut transaction).await?;
        let windows = Windows::new(policy, now, options.cutoff)?;
        let run = Run::begin(&mut transaction, self.schema(), windows, options.actor.as_ref()).await?;
        transaction.commit().await?;
        Ok(run)
    }
}

/// A run on its way.
pub(super) struct Purge<'p> {
    pub(super) timeline: &'p Timeline,
    policy: &'p Policy,
    pub(super) options: &'p PurgeOptions,
    pub(super) run: Run,
    /// Rows of a batch: fewer than were asked for, where one of as many took too long.
    pub(super) batch_size: u32,
    /// What locks of others have kept from being done.
    pub(super) left: Vec<String>,
    pub(super) stop: Stop,
}

/// How far it is, and who hears of it.
pub(super) struct Progress<'p, Hear> {
    pub(super) purged: &'p mut Purged,
    hear: &'p mut Hear,
}

impl<Hear: FnMut(&Purged)> Progress<'_, Hear> {
    /// Says how far it is.
    pub(super) fn report(&mut self) {
        (self.hear)(self.purged);
    }
}

impl Purge<'_> {
    /// Deletes, and records how it ended; over another connection where one was lost.
    async fn work(mut self, progress: &mut impl FnMut(&Purged)) -> Result<Purged, PurgeError> {
        let started = Instant::now();
        let mut purged = Purged::new(Some(self.run.id), &self.run.windows);
        let deleted = self.delete(&mut Progress { purged: &mut purged, hear: progress }).await;
        let took = started.elapsed();
        purged.duration_ms = telemetry::milliseconds(took);
        let failure = deleted.as_ref().err().map(PurgeError::recorded);
        let ended = self.end(&purged.counts(), took, failure.as_deref()).await;
        deleted?;
        ended?;
        Ok(purged)
    }

    async fn end(&self, counts: &Counts, took: Duration, failure: Option<&str>) -> Result<(), PurgeError> {
        let mut transaction = batches::begin(self.timeline.pool(), self.options.locked_limit).await?;
        let actor = self.options.actor.as_ref();
        self.run.end(&mut transaction, self.timeline.schema(), counts, took, (failure, actor)).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete(&mut self, progress: &mut Progress<'_, impl FnMut(&Purged)>) -> Result<(), PurgeError> {
        self.prepare_months().await?;
        let (walks, tables) = self.walks().await?;
        if let Some(archive) = &self.options.archive {
            self.delete_archived(archive, &walks, &tables, progress).await?;
            self.drop_months(progress).await?;
        } else if let Some(locked) = self.drop_months(progress).await? {
            // The next run drops them, with everything in them.
            let walks: Vec<Walk> = walks.iter().flat_map(|walk| walk.beside(&locked)).collect();
            self.delete_rows(&walks, progress).await?;
        }
        if self.left.is_empty() {
            return Ok(());
        }
        Err(PurgeError::Left { what: std::mem::take(&mut self.left), limit: self.options.locked_limit })
    }

    async fn delete_rows(
        &mut self,
        walks: &[Walk],
        progress: &mut Progress<'_, impl FnMut(&Purged)>,
    ) -> Result<(), PurgeError> {
        for walk in walks {
            let mut after: Option<Place> = None;
            loop {
                let visited = self.step(walk, Next::Behind(after.as_ref()), progress).await?;
                let Some((rows, last)) = visited else { return Ok(()) };
                after = last.or(after);
                if rows < u64::from(self.batch_size) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A batch, and the pause behind it: how many rows it has visited, and up to where; none where the run has had as many as it may.
    pub(super) async fn step(
        &mut self,
        walk: &Walk,
        next: Next<'_>,
        progress: &mut Progress<'_, impl FnMut(&Purged)>,
    ) -> Result<Option<(u64, Option<Place>)>, PurgeError> {
        if self.stop.is_asked_for() {
            return Err(PurgeError::Cancelled);
        }
        let purged = &mut *progress.purged;
        if purged.batches_run == self.options.max_batches {
            purged.is_complete = false;
            return Ok(None);
        }
        let (mut visited, took) = self.batch(walk, next, &purged.counts()).await?;
        let (rows, deleted, last) = (visited.rows, visited.deleted.clone(), visited.last.take());
        purged.add(walk, visited);
        if deleted.any() {
            let (changes, transactions) = (deleted.changes, deleted.transactions);
            let batches_run = purged.batches_run;
            telemetry::batch_purged(Deleted { changes, transactions, batches_run }, took);
            progress.report();
        }
        self.stop.pause(self.options.pause(took, deleted.any())).await;
        Ok(Some((rows, last)))
    }

    /// What is visited, in which order; and the tables that there are changes of. Nothing, where the policy names tables that there are not.
    async fn walks(&mut self) -> Result<(Vec<Walk>, Vec<HostTable>), PurgeError> {
        let started = Instant::now();
        loop {
            match self.planned().await {
                Ok(walks) => return Ok(walks),
                Err(error) => self.wait(Failed { table: "audit_changes", error }, started).await?,
            }
        }
    }

    async fn planned(&self) -> Result<(Vec<Walk>, Vec<HostTable>), PurgeError> {
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.lock_timeout).await?;
        let storage = self.timeline.schema();
        let unknown = tables::unknown(&mut transaction, storage, self.policy.tables.keys()).await?;
        if let Some(refusal) = unknown.into_iter().next() {
            return Err(refusal.into());
        }
        let walks = walk::walks(&mut transaction, storage, self.policy, &self.run.windows).await?;
        transaction.rollback().await?;
        Ok(walks)
    }

    /// One batch, and how long it took.
    async fn batch(
        &mut self,
        walk: &Walk,
        next: Next<'_>,
        before: &Counts,
    ) -> Result<(Visited, Duration), PurgeError> {
        let deletes_empty = self.policy.deletes_empty_transactions;
        let started = Instant::now();
        loop {
            let begun = Instant::now();
            let how = (deletes_empty, self.batch_size);
            match batch(self.timeline, &self.run, self.options, how, (walk, next, before)).await {
                Ok(visited) => return Ok((visited, begun.elapsed())),
                Err(failed) if self.batch_size > 1 && took_too_long(&failed.error) => {
                    self.batch_size /= 2;
                    let (table, batch_size) = (failed.table, self.batch_size);
                    telemetry::batch_halved(table, batch_size);
                }
                Err(failed) => self.wait(failed, started).await?,
            }
        }
    }

    /// Waits for another attempt, where somebody holds a lock or has changed a row meanwhile, and it was not tried for too long already.
    pub(super) async fn wait(&mut self, failed: Failed, since: Instant) -> Result<(), PurgeError> {
        let Failed { table, error } = failed;
        if !is_busy(&error) {
            return Err(error);
        }
        if since.elapsed() >= self.options.locked_limit {
            return Err(PurgeError::Locked { table, limit: self.options.locked_limit });
        }
        telemetry::purge_waits(table, error.kind());
        self.stop.pause(LOCKED_PAUSE).await;
        if self.stop.is_asked_for() { Err(PurgeError::Cancelled) } else { Ok(()) }
    }
}

/// Says how the work goes.
async fn with_events(
    dry_run: bool,
    work: impl Future<Output = Result<Purged, PurgeError>>,
) -> Result<Purged, PurgeError> {
    telemetry::purge_started(dry_run);
    let started = Instant::now();
    let done = work.await;
    let took = started.elapsed();
    match &done {
        Ok(Purged { deleted_changes, deleted_transactions, batches_run, .. }) => {
            let (changes, transactions) = (*deleted_changes, *deleted_transactions);
            let deleted = Deleted { changes, transactions, batches_run: *batches_run };
            telemetry::purge_stopped(deleted, took, dry_run);
        }
        Err(error) => telemetry::purge_failed(error.kind(), took, dry_run),
    }
    done
}
