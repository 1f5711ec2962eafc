//! Deleting what is in archives, slice by slice.

use std::time::Instant;

use sqlx::Row as _;
use tokio::task::spawn_blocking;

use super::{
    ids::Backwards,
    make::{Made, failed},
    settings::Archive,
    slice::{self, Part, Slice},
    store,
};
use crate::{
    batches::{self, settle},
    capture::HostTable,
    query::Statement,
    retention::{
        batch::{Failed, Next, first},
        error::PurgeError,
        purge::{Progress, Purge, Purged},
        walk::Walk,
    },
};

/// What is to be done where a file that was just written cannot be read.
const READABLE: &str = "see to the disk, and purge again; what is in it is archived again then";

impl Purge<'_> {
    /// Archives what the walks would delete, and deletes what is in the archives, the oldest first.
    pub(in crate::retention) async fn delete_archived(
        &mut self,
        archive: &Archive,
        walks: &[Walk],
        tables: &[HostTable],
        progress: &mut Progress<'_, impl FnMut(&Purged)>,
    ) -> Result<(), PurgeError> {
        archive.check_directory()?;
        self.take_over(&archive.directory, &progress.purged.counts()).await?;
        let mut n = 0;
        for part in slice::parts(walks, tables, &self.run.windows) {
            let mut behind = None;
            loop {
                if self.stop.is_asked_for() {
                    return Err(PurgeError::Cancelled);
                }
                let left = self.options.max_batches - progress.purged.batches_run;
                if left == 0 {
                    progress.purged.is_complete = false;
                    return Ok(());
                }
                // No more is archived than may be deleted.
                let rows = u64::from(archive.rows).min(u64::from(left) * u64::from(self.options.batch_size));
                let Some(slice) = self.next(&part, behind, rows).await? else { break };
                behind = Some(slice);
                let made =
                    Box::pin(self.make(archive, &part, (slice, n + 1), &progress.purged.counts())).await?;
                let Some(made) = made else { continue };
                n += 1;
                progress.purged.add_archive(&self.folder(archive), made.rows, made.bytes);
                if !self.delete_all_of(&made, &part.walk, progress).await? {
                    return Ok(());
                }
                self.mark(&made).await?;
            }
        }
        progress.purged.kept_actions = self.kept_actions().await?;
        Ok(())
    }

    async fn next(
        &mut self,
        part: &Part,
        behind: Option<Slice>,
        rows: u64,
    ) -> Result<Option<Slice>, PurgeError> {
        let started = Instant::now();
        loop {
            match self.sliced(part, behind, rows).await {
                Ok(slice) => return Ok(slice),
                Err(error) => self.wait(Failed { table: part.walk.table(), error }, started).await?,
            }
        }
    }

    async fn sliced(
        &self,
        part: &Part,
        behind: Option<Slice>,
        rows: u64,
    ) -> Result<Option<Slice>, PurgeError> {
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.lock_timeout).await?;
        let slice = part.next(&mut transaction, self.timeline.schema(), behind, rows).await?;
        transaction.rollback().await?;
        Ok(slice)
    }

    /// Deletes what is in an archive, batch by batch; whether the run may go on.
    async fn delete_all_of(
        &mut self,
        made: &Made,
        walk: &Walk,
        progress: &mut Progress<'_, impl FnMut(&Purged)>,
    ) -> Result<bool, PurgeError> {
        let unreadable = |error| failed(&made.path, &error, READABLE);
        let mut rest = Backwards::open(&made.path).map_err(unreadable)?;
        loop {
            let limit = usize::try_from(self.batch_size).unwrap_or(usize::MAX);
            let read = spawn_blocking(move || rest.next(limit).map(|held| (held, rest))).await;
            let (held, left) = read.map_err(std::io::Error::other).flatten().map_err(unreadable)?;
            rest = left;
            if held.is_empty() {
                return Ok(true);
            }
            let mut held = &held[..];
            while !held.is_empty() {
                if self.step(walk, Next::Archived(held), progress).await?.is_none() {
                    return Ok(false);
                }
                held = &held[first(held, self.batch_size).len()..];
            }
        }
    }

    async fn mark(&self, made: &Made) -> Result<(), PurgeError> {
        let mut transaction = batches::begin(self.timeline.pool(), self.options.locked_limit).await?;
        store::mark_deleted(&mut transaction, self.timeline.schema(), made.id).await?;
        Ok(transaction.commit().await?)
    }

    /// Actions that are old enough, and stay.
    async fn kept_actions(&self) -> Result<u64, PurgeError> {
        let Some(cutoff) = self.run.windows.actions else { return Ok(0) };
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.locked_limit).await?;
        let actions = self.timeline.schema().actions();
        let mut statement =
            Statement::new(format!("select count(*) from {actions} a where a.inserted_at < "));
        let kept: i64 = statement.bind(cutoff).query().fetch_one(&mut *transaction).await?.try_get(0)?;
        transaction.rollback().await?;
        Ok(kept.try_into().unwrap_or_default())
    }
}
