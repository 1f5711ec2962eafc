//! Writing actions to a table where something of the host's acts: a trigger that removes them or gives them other ids, a rule.
//!
//! What a statement says of its rows is not what is there afterwards. So it is looked at in the same transaction, and what is not
//! kept under its id is undone: it would not be found there, and would be written once more.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::{
    ActionTable, Adoption, AuditAction, StorageSchema,
    action::{self, Inserted},
    schema::JOURNAL_TRIGGER,
    stored,
};

/// Whether something of the host's acts on inserts after the statement has said what it wrote: triggers that come after it, and
/// rules.
///
/// # Errors
/// When the server is away.
pub async fn is_needed(connection: &mut PgConnection, schema: &StorageSchema) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (
             select from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = $1 and c.relname = 'audit_actions'
               and (exists (select from pg_rewrite r where r.ev_class = c.oid and r.ev_type = '3' and r.ev_enabled <> 'D')
                    or exists (select from pg_trigger t
                               where (t.tgrelid = c.oid or t.tgrelid in (select p.relid from pg_catalog.pg_partition_tree(c.oid) p))
                                 and not t.tgisinternal and t.tgenabled <> 'D' and t.tgname <> $2
                                 -- On insert, and not before it.
                                 and t.tgtype::integer & 4 <> 0 and t.tgtype::integer & 2 = 0)))",
    )
    .bind(schema.as_str())
    .bind(JOURNAL_TRIGGER)
    .fetch_one(connection)
    .await
}

/// Inserts many actions under ids of the caller's choice; harmless when repeated. Nothing is kept of those that end up in
/// [`Inserted::swallowed`]. Not within a transaction.
///
/// # Errors
/// What the database says; some may be written then.
pub async fn insert(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
) -> Result<Inserted, sqlx::Error> {
    let mut inserted = Inserted::default();
    let mut absent = without_repeats(actions);
    let stored = stored::correlation_ids(connection, table, &ids(&absent)).await?;
    absent.retain(|action| !sort_in(action, &stored, &mut inserted));
    write(connection, table, &action::insert_absent(table), absent, &mut inserted).await?;
    Ok(inserted)
}

/// The same, writing over whatever is stored under their ids, with `times` their times as well.
///
/// # Errors
/// What the database says; some may be written then.
pub async fn overwrite(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
    times: bool,
) -> Result<Inserted, sqlx::Error> {
    let mut inserted = Inserted::default();
    let statement = action::overwrite(table, times);
    write(connection, table, &statement, without_repeats(actions), &mut inserted).await?;
    Ok(inserted)
}

/// Writes all, and less and less of them as long as some are not kept or not let in.
async fn write(
    connection: &mut PgConnection,
    table: &ActionTable,
    statement: &str,
    actions: Vec<AuditAction>,
    inserted: &mut Inserted,
) -> Result<(), sqlx::Error> {
    let mut open = vec![actions];
    while let Some(mut batch) = open.pop() {
        if batch.is_empty() {
            continue;
        }
        match write_once(connection, table, statement, &batch).await {
            Ok(kept) => {
                let (kept, lost): (Vec<_>, Vec<_>) =
                    batch.into_iter().partition(|action| kept.contains(&action.id));
                if lost.is_empty() {
                    inserted.written.extend(ids(&kept));
                } else {
                    // All of it was undone.
                    inserted.swallowed.extend(ids(&lost));
                    open.push(kept);
                }
            }
            Err(error) if !action::is_kept_out(&error) && !action::has_changed_id(&error) => {
                return Err(error);
            }
            Err(_) if batch.len() > 1 => {
                let half = batch.split_off(batch.len() / 2);
                open.extend([half, batch]);
            }
            Err(error) if action::has_changed_id(&error) => inserted.swallowed.extend(ids(&batch)),
            Err(error) => {
                let stored = stored::correlation_ids(connection, table, &ids(&batch)).await?;
                let held = Adoption::All.find(connection, table, &ids(&batch)).await?;
                for action in batch {
                    // Another session was faster; or a unique index over the correlation id, or a constraint, keeps it out.
                    match sort_in(&action, &stored, inserted) {
                        true => {}
                        false if held.contains(&action.id) => inserted.present.push(action.id),
                        false => inserted.refused.push((action.id, errors::database(&error))),
                    }
                }
            }
        }
    }
    Ok(())
}

/// Returns the ids that are there at the end. Undone unless that is all of them.
async fn write_once(
    connection: &mut PgConnection,
    table: &ActionTable,
    statement: &str,
    actions: &[AuditAction],
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    action::bind(sqlx::query(AssertSqlSafe(statement.to_owned())), actions)
        .execute(&mut *transaction)
        .await?;
    // Triggers that would come with the commit come now.
    transaction.execute("set constraints all immediate").await?;
    let kept = stored::present(&mut transaction, table, &ids(actions)).await?;
    let kept: HashSet<Uuid> = kept.into_iter().collect();
    if kept.len() == actions.len() {
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(kept)
}

/// Whether something is stored under its id, which is noted then.
fn sort_in(action: &AuditAction, stored: &HashMap<Uuid, Option<String>>, inserted: &mut Inserted) -> bool {
    match stored.get(&action.id) {
        Some(correlation) if *correlation == action.correlation_id => inserted.present.push(action.id),
        Some(_) => inserted.conflicting.push(action.id),
        None => return false,
    }
    true
}

fn without_repeats(actions: &[AuditAction]) -> Vec<AuditAction> {
    let mut seen = HashSet::new();
    actions.iter().filter(|action| seen.insert(action.id)).cloned().collect()
}

fn ids(actions: &[AuditAction]) -> Vec<Uuid> {
    actions.iter().map(|action| action.id).collect()
}
