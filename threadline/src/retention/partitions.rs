//! Months of changes, which go as a whole where nothing of them is to stay.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;

use super::{
    batch::{is_busy, took_too_long},
    error::PurgeError,
    purge::{Progress, Purge, Purged},
    record::Counts,
    windows::Windows,
};
use crate::{
    StorageSchema,
    batches::{self, LOCKED_PAUSE, settle},
    partitions::{self, OF_CHANGES},
    query::Statement,
    telemetry::{self, Deleted},
};

/// A table of changes, of times `from` up to `until`.
#[derive(Debug)]
pub(super) struct Month {
    pub(super) name: String,
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

/// What a dropped month held, by its tables.
type Held = BTreeMap<String, u64>;

/// What has become of a month.
enum Attempt {
    /// With what it held, in so much time.
    Dropped(Held, Duration),
    /// Something of it is to stay, or it is deleted row by row.
    Stays,
    /// Somebody holds a lock.
    Locked,
}

impl Purge<'_> {
    /// Makes the months that are to come; what locks keep from being made is left to a further run.
    pub(super) async fn prepare_months(&mut self) -> Result<(), PurgeError> {
        let started = Instant::now();
        while let Err(error) = self.prepared().await {
            self.give_way(error, &Counts::default()).await?;
            if started.elapsed() >= self.options.locked_limit {
                self.left.push("to make the months to come".to_owned());
                break;
            }
        }
        Ok(())
    }

    async fn prepared(&self) -> Result<(), PurgeError> {
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.lock_timeout).await?;
        partitions::prepare(&mut transaction, self.timeline.schema()).await?;
        Ok(transaction.commit().await?)
    }

    /// Drops the months of which everything is to go; with an archive, those that are empty by now. Returns those that locks have kept from
    /// being dropped, the oldest first; none where the run has had as many batches as it may.
    pub(super) async fn drop_months(
        &mut self,
        progress: &mut Progress<'_, impl FnMut(&Purged)>,
    ) -> Result<Option<Vec<Month>>, PurgeError> {
        let started = Instant::now();
        let mut due = self.months().await?;
        loop {
            let mut locked = Vec::new();
            for month in due {
                if self.stop.is_asked_for() {
                    return Err(PurgeError::Cancelled);
                }
                let purged = &mut *progress.purged;
                if purged.batches_run == self.options.max_batches {
                    purged.is_complete = false;
                    return Ok(None);
                }
                match self.drop_month(&month, &purged.counts()).await? {
                    Attempt::Dropped(held, took) => {
                        progress.add_month(month.name, held, took);
                        self.stop.pause(self.options.pause(took, true)).await;
                    }
                    Attempt::Stays => {}
                    Attempt::Locked => locked.push(month),
                }
            }
            if locked.is_empty() || started.elapsed() >= self.options.locked_limit {
                self.left.extend(locked.iter().map(|month| format!("to drop {}", month.name)));
                return Ok(Some(locked));
            }
            due = locked;
        }
    }

    async fn months(&self) -> Result<Vec<Month>, PurgeError> {
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.locked_limit).await?;
        let months = months(&mut transaction, self.timeline.schema(), self.run.windows.default).await?;
        transaction.rollback().await?;
        Ok(months)
    }

    async fn drop_month(&mut self, month: &Month, before: &Counts) -> Result<Attempt, PurgeError> {
        let begun = Instant::now();
        match self.dropped(month, before).await {
            Ok(Some(held)) => Ok(Attempt::Dropped(held, begun.elapsed())),
            Ok(None) => Ok(Attempt::Stays),
            Err(error) if took_too_long(&error) => {
                telemetry::month_not_counted();
                Ok(Attempt::Stays)
            }
            Err(error) => self.give_way(error, before).await.map(|()| Attempt::Locked),
        }
    }

    /// Behind a step that a lock has undone: keeps the lease, and lets others go on for a while. Any other error ends the run.
    async fn give_way(&mut self, error: PurgeError, counts: &Counts) -> Result<(), PurgeError> {
        if !is_busy(&error) {
            return Err(error);
        }
        telemetry::purge_waits("audit_changes", error.kind());
        match self.renew(counts).await {
            Err(error) if !is_busy(&error) => return Err(error),
            _ => {}
        }
        self.stop.pause(LOCKED_PAUSE).await;
        if self.stop.is_asked_for() { Err(PurgeError::Cancelled) } else { Ok(()) }
    }

    /// One attempt, as one transaction that also renews the lease and records how far the run is.
    async fn dropped(&self, month: &Month, before: &Counts) -> Result<Option<Held>, PurgeError> {
        let storage = self.timeline.schema();
        let mut transaction = batches::begin(self.timeline.pool(), self.options.lock_timeout).await?;
        // First of all: whoever has lost the lease drops nothing.
        self.run.lease.renew(&mut transaction, storage).await?.ok_or(PurgeError::LeaseLost)?;
        let mut statement = Statement::new(format!("select \"{storage}\".threadline_drop_partition("));
        statement.bind(&month.name).push(", ").bind(self.run.windows.default).push(", ");
        self.run.windows.push_tables(&mut statement);
        statement.push(if self.options.archive.is_some() { ", true)::text" } else { ", false)::text" });
        let held: Option<String> = statement.query().fetch_one(&mut *transaction).await?.try_get(0)?;
        let Some(held) = held else {
            transaction.rollback().await?;
            return Ok(None);
        };
        let held: Held = serde_json::from_str(&held).map_err(|error| sqlx::Error::Decode(error.into()))?;
        let changes = held.values().sum();
        let counts = before.clone() + Counts { changes, tables: held.clone(), ..Counts::default() };
        self.run.renew(&mut transaction, storage, &counts).await?;
        transaction.commit().await?;
        Ok(Some(held))
    }
}

impl<Hear: FnMut(&Purged)> Progress<'_, Hear> {
    fn add_month(&mut self, name: String, held: Held, took: Duration) {
        let changes = held.values().sum::<u64>();
        self.purged.deleted_changes += changes;
        self.purged.batches_run += 1;
        for (table, count) in held {
            *self.purged.tables.entry(table).or_default() += count;
        }
        self.purged.dropped_partitions.push(name);
        let batches_run = self.purged.batches_run;
        telemetry::batch_purged(Deleted { changes, transactions: 0, batches_run }, took);
        self.report();
    }
}

/// Those that end at `before` or earlier, the oldest first; none where changes are stored in one table.
async fn months(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    before: OffsetDateTime,
) -> Result<Vec<Month>, sqlx::Error> {
    let bound = |word: &str| {
        format!(
            "substring(pg_catalog.pg_get_expr(c.relpartbound, c.oid) from '{word} \\(''([^'']+)''\\)')::timestamptz"
        )
    };
    let mut statement = Statement::new(format!(
        "select m.name, m.since, m.until from (
             select c.relname::text as name, {} as since, {} as until
             from {OF_CHANGES}",
        bound("FROM"),
        bound("TO")
    ));
    statement.bind(storage.as_str().to_owned()).push(") m where m.until <= ").bind(before);
    statement.push(" and isfinite(m.since) order by m.until");
    let rows = statement.query().fetch_all(connection).await?;
    rows.iter()
        .map(|row| Ok(Month { name: row.try_get(0)?, from: row.try_get(1)?, until: row.try_get(2)? }))
        .collect()
}

/// The months that a purge without an archive would drop now.
pub(super) async fn due(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    windows: &Windows,
) -> Result<Vec<String>, sqlx::Error> {
    let mut due = Vec::new();
    for month in months(connection, storage, windows.default).await? {
        let mut statement = Statement::new("select exists (select from unnest(");
        windows.push_tables(&mut statement);
        statement.push(") w (schema, name, cutoff) where w.cutoff < ").bind(month.until).push(&format!(
            " and exists (select from {} c where c.table_name = w.name and c.table_schema = w.schema and c.captured_at >= ",
            storage.table("audit_changes")
        ));
        statement.bind(month.from).push(" and c.captured_at < ").bind(month.until).push("))");
        let is_kept: bool = statement.query().fetch_one(&mut *connection).await?.try_get(0)?;
        if !is_kept {
            due.push(month.name);
        }
    }
    Ok(due)
}
