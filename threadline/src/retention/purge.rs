//! A purge: walk by walk, batch by batch.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    batch::{Failed, batch, is_busy, settle},
    dry_run,
    error::PurgeError,
    options::PurgeOptions,
    policy::Policy,
    record::{self, Counts, LEASE, Run},
    walk::{self, Of, Place, Visited, Walk},
    windows::Windows,
};
use crate::{Timeline, capture::Refusal, lease::Lease};

/// Between two attempts at a batch that has found a lock.
const LOCKED_PAUSE: Duration = Duration::from_millis(500);

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
    /// Changes by their tables, `schema.table`.
    pub tables: BTreeMap<String, u64>,
    /// Transactions of the database that have deleted something.
    pub batches_run: u32,
    /// Whether it came to its end; otherwise as many batches were run as may be, and a further run goes on.
    pub is_complete: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The cutoffs, as a run records them.
    pub windows: Value,
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
            tables: BTreeMap::new(),
            batches_run: 0,
            is_complete: true,
            duration_ms: 0,
            windows: windows.to_json(),
        }
    }

    fn counts(&self) -> Counts {
        Counts {
            changes: self.deleted_changes,
            transactions: self.deleted_transactions,
            actions: self.deleted_actions,
        }
    }

    fn add(&mut self, walk: &Walk, visited: Visited) {
        self.deleted_changes += visited.deleted.changes;
        self.deleted_transactions += visited.deleted.transactions;
        self.deleted_actions += visited.deleted.actions;
        if walk.of == Of::Actions {
            self.kept_actions += visited.rows - visited.deleted.actions;
        }
        self.batches_run += u32::from(visited.deleted.any());
        for (table, count) in visited.tables {
            *self.tables.entry(table.to_string()).or_default() += count;
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
        if options.dry_run {
            return telemetry(true, Box::pin(dry_run::run(self, policy, options))).await;
        }
        let run = self.begin(policy, options).await?;
        let (stopped, is_stopped) = watch::channel(false);
        let purge = Purge { timeline: self, policy, options, run, is_stopped };
        let mut work = pin!(telemetry(false, purge.work(&mut progress)));
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
        let begin = "begin transaction isolation level read committed, read write";
        let mut transaction = self.pool().begin_with(begin).await?;
        settle(&mut transaction, options.lock_timeout).await?;
        let now = record::now(&mut transaction).await?;
        let windows = Windows::new(policy, now, options.cutoff)?;
        let run = Run::begin(&mut transaction, self.schema(), windows, options.actor.as_ref()).await?;
        transaction.commit().await?;
        Ok(run)
    }
}

struct Purge<'p> {
    timeline: &'p Timeline,
    policy: &'p Policy,
    options: &'p PurgeOptions,
    run: Run,
    is_stopped: watch::Receiver<bool>,
}

impl Purge<'_> {
    /// Deletes, and records how it ended; over another connection where one was lost.
    async fn work(mut self, progress: &mut impl FnMut(&Purged)) -> Result<Purged, PurgeError> {
        let started = Instant::now();
        let mut purged = Purged::new(Some(self.run.id), &self.run.windows);
        let deleted = self.delete(&mut purged, progress).await;
        let took = started.elapsed();
        purged.duration_ms = took.as_millis().try_into().unwrap_or(u64::MAX);
        let failure = deleted.as_ref().err().map(PurgeError::recorded);
        let ended = self.end(purged.counts(), took, failure.as_deref()).await;
        deleted?;
        ended?;
        Ok(purged)
    }

    async fn end(&self, counts: Counts, took: Duration, failure: Option<&str>) -> Result<(), PurgeError> {
        let begin = "begin transaction isolation level read committed, read write";
        let mut transaction = self.timeline.pool().begin_with(begin).await?;
        settle(&mut transaction, self.options.locked_limit).await?;
        let actor = self.options.actor.as_ref();
        self.run.end(&mut transaction, self.timeline.schema(), counts, took, (failure, actor)).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete(
        &mut self,
        purged: &mut Purged,
        progress: &mut impl FnMut(&Purged),
    ) -> Result<(), PurgeError> {
        let walks = self.walks().await?;
        for walk in &walks {
            let mut after = None;
            loop {
                if *self.is_stopped.borrow() {
                    return Err(PurgeError::Cancelled);
                }
                if purged.batches_run == self.options.max_batches {
                    purged.is_complete = false;
                    return Ok(());
                }
                let (visited, took) = self.batch(walk, after.as_ref(), purged.counts()).await?;
                let (rows, deleted) = (visited.rows, visited.deleted);
                after = visited.last.clone().or(after);
                purged.add(walk, visited);
                if deleted.any() {
                    tracing::debug!(
                        name: "threadline.retention.batch_purged",
                        deleted_changes = deleted.changes,
                        deleted_transactions = deleted.transactions,
                        batches_run = purged.batches_run,
                        duration_ms = milliseconds(took),
                        dry_run = false
                    );
                    progress(purged);
                }
                self.pause(self.options.pause(took, deleted.any())).await;
                if rows < u64::from(self.options.batch_size) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What is visited, in which order.
    async fn walks(&mut self) -> Result<Vec<Walk>, PurgeError> {
        let started = Instant::now();
        loop {
            match self.planned().await {
                Ok(walks) => return Ok(walks),
                Err(error) => self.wait(Failed { table: "audit_changes", error }, started).await?,
            }
        }
    }

    async fn planned(&self) -> Result<Vec<Walk>, PurgeError> {
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.lock_timeout).await?;
        let storage = self.timeline.schema();
        let walks = walk::walks(&mut transaction, storage, self.policy, &self.run.windows).await?;
        transaction.rollback().await?;
        Ok(walks)
    }

    /// One batch, and how long it took.
    async fn batch(
        &mut self,
        walk: &Walk,
        after: Option<&Place>,
        before: Counts,
    ) -> Result<(Visited, Duration), PurgeError> {
        let deletes_empty = self.policy.deletes_empty_transactions;
        let started = Instant::now();
        loop {
            let begun = Instant::now();
            let part = (walk, after, before);
            match batch(self.timeline, &self.run, self.options, deletes_empty, part).await {
                Ok(visited) => return Ok((visited, begun.elapsed())),
                Err(failed) => self.wait(failed, started).await?,
            }
        }
    }

    /// Waits for another attempt, where somebody holds a lock or has changed a row meanwhile, and it was not tried for too long already.
    async fn wait(&mut self, failed: Failed, since: Instant) -> Result<(), PurgeError> {
        let Failed { table, error } = failed;
        if !is_busy(&error) {
            return Err(error);
        }
        if since.elapsed() >= self.options.locked_limit {
            return Err(PurgeError::Locked { table, limit: self.options.locked_limit });
        }
        tracing::debug!(table, error = errors::line(&error), "somebody holds a lock; it is tried again");
        self.pause(LOCKED_PAUSE).await;
        if *self.is_stopped.borrow() { Err(PurgeError::Cancelled) } else { Ok(()) }
    }

    /// Lets writers go on for so long, unless the purge is told to stop.
    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            biased;
            // Whoever could say so is gone: there is nothing to wait for.
            _ = self.is_stopped.wait_for(|is_stopped| *is_stopped) => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// Says how the work goes, without a value of a row.
async fn telemetry(
    dry_run: bool,
    work: impl Future<Output = Result<Purged, PurgeError>>,
) -> Result<Purged, PurgeError> {
    tracing::debug!(name: "threadline.retention.purge.start", dry_run);
    let started = Instant::now();
    let done = work.await;
    let duration_ms = milliseconds(started.elapsed());
    match &done {
        Ok(purged) => tracing::debug!(
            name: "threadline.retention.purge.stop",
            deleted_changes = purged.deleted_changes,
            deleted_transactions = purged.deleted_transactions,
            batches_run = purged.batches_run,
            duration_ms,
            dry_run
        ),
        Err(error) => tracing::debug!(
            name: "threadline.retention.purge.exception",
            error = error.term().unwrap_or("database"),
            duration_ms,
            dry_run
        ),
    }
    done
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
