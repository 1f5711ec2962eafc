//! What a purge would delete: counted in one state of the timeline, by the same conditions.

use std::time::Instant;

use sqlx::Row as _;

use super::{
    archive::{Archived, url_of},
    error::PurgeError,
    options::PurgeOptions,
    partitions,
    policy::Policy,
    purge::Purged,
    record, tables,
    walk::NOT_RUNNING,
    windows::Windows,
};
use crate::{
    StorageSchema, Timeline,
    capture::Refusal,
    continuity::CAPTURE_DISABLED,
    query::{Statement, is_canceled, limit_time},
    telemetry,
};

/// Counts. The server sees to it that nothing is written.
pub(super) async fn run(
    timeline: &Timeline,
    policy: &Policy,
    options: &PurgeOptions,
) -> Result<Purged, PurgeError> {
    let started = Instant::now();
    if let Some(archive) = &options.archive {
        archive.check_directory()?;
    }
    let begin = "begin transaction isolation level repeatable read, read only";
    let mut transaction = timeline.pool().begin_with(begin).await?;
    limit_time(&mut transaction, options.dry_run_time).await?;
    let now = record::now(&mut transaction).await?;
    let windows = Windows::new(policy, now, options.cutoff)?;
    let counted = async {
        let unknown = tables::unknown(&mut transaction, timeline.schema(), policy.tables.keys()).await?;
        if let Some(refusal) = unknown.into_iter().next() {
            return Ok(Err(refusal));
        }
        let mut purged = Purged::new(None, &windows);
        for row in changes(timeline.schema(), &windows).fetch_all(&mut transaction).await? {
            let (table, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            purged.tables.insert(table, unsigned(count));
        }
        purged.deleted_changes = purged.tables.values().sum();
        let row = others(timeline.schema(), policy, &windows).query().fetch_one(&mut *transaction).await?;
        purged.deleted_transactions = unsigned(row.try_get(0)?);
        purged.deleted_actions = unsigned(row.try_get(1)?);
        purged.kept_actions = unsigned(row.try_get::<i64, _>(2)?).saturating_sub(purged.deleted_actions);
        purged.dropped_partitions = partitions::due(&mut transaction, timeline.schema(), &windows).await?;
        Ok::<_, sqlx::Error>(Ok(purged))
    };
    let mut purged = counted.await.map_err(|error| {
        if !is_canceled(&error) {
            return error.into();
        }
        let seconds = options.dry_run_time.as_secs();
        let reason = format!("counting what would be deleted took longer than {seconds} s");
        let refusal = Refusal::new("took_too_long", reason);
        PurgeError::from(refusal.hint("give it more time, or an earlier cutoff"))
    })??;
    transaction.rollback().await?;
    purged.archived = options.archive.as_ref().map(|archive| Archived {
        location: url_of(&archive.directory),
        files: 0,
        rows: purged.deleted_changes + purged.deleted_actions,
        bytes: 0,
    });
    purged.duration_ms = telemetry::milliseconds(started.elapsed());
    Ok(purged)
}

fn unsigned(count: i64) -> u64 {
    count.try_into().unwrap_or_default()
}

/// Changes by their tables.
fn changes(storage: &StorageSchema, windows: &Windows) -> Statement {
    let mut statement = Statement::new(format!(
        "select c.table_schema || '.' || c.table_name, count(*) from {} c",
        storage.table("audit_changes")
    ));
    windows.push_join("c", &mut statement);
    statement.push(" where ");
    push_due(windows, &mut statement);
    statement.push(" group by 1");
    statement
}

/// That a change `c` beside its window `w` is to go, with a bound that an index knows.
fn push_due(windows: &Windows, statement: &mut Statement) {
    let latest = windows.tables.values().flatten().copied().max().unwrap_or(windows.default);
    statement.push("c.captured_at < ").bind(latest.max(windows.default)).push(" and ");
    windows.push_due("c", statement);
}

/// Captured transactions and actions; and actions that are old enough.
fn others(storage: &StorageSchema, policy: &Policy, windows: &Windows) -> Statement {
    let (changes, transactions) = (storage.table("audit_changes"), storage.table("audit_transactions"));
    let mut statement = Statement::new(format!(
        "with touched as materialized (select distinct c.transaction_id as id from {changes} c"
    ));
    windows.push_join("c", &mut statement);
    statement.push(" where ");
    push_due(windows, &mut statement);
    statement.push(&format!(
        "), gone as materialized (select t.id from {transactions} t where {} and {NOT_RUNNING} and (
             t.id in (select id from touched) and not exists (select from {changes} c",
        policy.deletes_empty_transactions
    ));
    windows.push_join("c", &mut statement);
    statement.push(" where c.transaction_id = t.id and not ");
    windows.push_due("c", &mut statement);
    statement.push(") or t.occurred_at < ").bind(windows.default).push(&format!(
        " and not exists (select from {changes} c where c.transaction_id = t.id))),
         old as materialized (select a.id, a.name from {} a where ",
        storage.actions()
    ));
    match windows.actions {
        Some(cutoff) => statement.push("a.inserted_at < ").bind(cutoff),
        None => statement.push("false"),
    };
    statement.push(&format!(
        ") select (select count(*) from gone),
             (select count(*) from old o where not exists (
                  select from {transactions} t where t.action_id = o.id and not exists (select from gone g where g.id = t.id))
                  and o.name <> "
    ));
    statement.bind(CAPTURE_DISABLED).push("), (select count(*) from old)");
    statement
}
