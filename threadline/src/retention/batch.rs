//! One transaction of a purge.

use super::{
    archive::{Compared, Held, compared},
    error::PurgeError,
    options::PurgeOptions,
    record::{Counts, Run},
    walk::{self, Place, Seen, Visited, Walk},
};
use crate::{
    Timeline,
    batches::{self, settle_batch},
};

/// Why a batch was rolled back, and what a statement of it wanted to write to.
pub(super) struct Failed {
    pub(super) table: &'static str,
    pub(super) error: PurgeError,
}

/// Which rows of a walk are next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next<'a> {
    /// Those behind a place.
    Behind(Option<&'a Place>),
    /// Those that are still what these lines of an archive say.
    Archived(&'a [Held]),
}

/// Deletes the next rows of a walk, as one transaction that also renews the lease and records how far the run is.
///
/// It sees one state of the timeline. So do triggers in it: whoever adds a change to a captured transaction that was empty keeps it, since
/// the trigger that deletes changes with their transaction sees none.
pub(super) async fn batch(
    timeline: &Timeline,
    run: &Run,
    options: &PurgeOptions,
    (deletes_empty, batch_size): (bool, u32),
    (walk, next, before): (&Walk, Next<'_>, &Counts),
) -> Result<Visited, Failed> {
    let storage = timeline.schema();
    let of = |table| move |error: sqlx::Error| Failed { table, error: error.into() };
    let begin = "begin transaction isolation level repeatable read, read write";
    let mut transaction = timeline.pool().begin_with(begin).await.map_err(of(walk.table()))?;
    settle_batch(&mut transaction, options.lock_timeout).await.map_err(of(walk.table()))?;
    // First of all: whoever has lost the lease deletes nothing.
    let lease = run.lease.renew(&mut transaction, storage).await.map_err(of("threadline_leases"))?;
    lease.ok_or(Failed { table: "threadline_leases", error: PurgeError::LeaseLost })?;
    let mut archived = Compared::default();
    if let Next::Archived(held) = next {
        let compared = compared(&mut transaction, storage, &walk.of, first(held, batch_size)).await;
        archived = compared.map_err(of(walk.table()))?;
    }
    let seen = match next {
        Next::Behind(place) => Seen::Behind(place),
        Next::Archived(_) => Seen::These(&archived.unchanged),
    };
    let statement = walk.statement(storage, &run.windows, seen, batch_size);
    let row = statement.query().fetch_one(&mut *transaction).await.map_err(of(walk.table()))?;
    let mut visited = walk.visited(&row).map_err(of(walk.table()))?;
    visited.changed = archived.changed;
    if deletes_empty && !visited.touched.is_empty() {
        let touched = std::mem::take(&mut visited.touched);
        let deleted = walk::delete_empty(storage, touched).query().execute(&mut *transaction).await;
        visited.deleted.transactions = deleted.map_err(of("audit_transactions"))?.rows_affected();
    }
    let renewed = run.renew(&mut transaction, storage, &(before.clone() + visited.deleted.clone())).await;
    renewed.map_err(|error| Failed { table: "threadline_retention_runs", error })?;
    transaction.commit().await.map_err(of(walk.table()))?;
    Ok(visited)
}

/// As many lines as a batch has.
pub(super) fn first(held: &[Held], batch_size: u32) -> &[Held] {
    &held[..held.len().min(usize::try_from(batch_size).unwrap_or(usize::MAX))]
}

/// Whether a statement took longer than it may: a smaller batch may not.
pub(super) fn took_too_long(error: &PurgeError) -> bool {
    error.term() == Some("took_too_long")
}

/// Whether the same transaction may succeed a little later.
pub(super) fn is_busy(error: &PurgeError) -> bool {
    matches!(error, PurgeError::Database(error) if batches::is_busy(error))
}
