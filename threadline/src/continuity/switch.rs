//! Switching capture of a table off for maintenance, and on again: with who and why in the timeline, in one transaction.

use std::time::Instant;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{
    locks::{self, PAUSE},
    marks::{self, DISABLED, ENABLED, Marks, OF_TABLE, Switched, TriggerState},
};
use crate::{
    Action, ActorRef, ActorType, StorageSchema,
    capture::{
        HostTable, Refusal,
        names::quote,
        trigger::{self, CaptureTrigger, Firing},
    },
};

/// Why capture was not switched. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// `actor_missing`, `reason_missing`, `no_tables`, `table_twice`, `table_missing`, `not_captured`, `already_off`, `not_off`.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the database says, or that it says nothing.
    #[error("{}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

/// Disables every trigger that captures the tables, ours or the Elixir library's, on partitions too. For each table the action
/// `threadline.capture.disabled` is recorded, and its stored policy, if it has one, says since when, by whom and why.
///
/// # Errors
/// When nobody is named, no reason is given, or a table is not captured or is off already; when the server is away or refuses.
pub async fn disable_capture(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[HostTable],
    actor: &ActorRef,
    reason: &str,
) -> Result<(), SwitchError> {
    switch(connection, storage, tables, (actor, reason), false).await
}

/// Gives every trigger back the firing state from before it was disabled, and records `threadline.capture.enabled` for each table.
///
/// # Errors
/// When nobody is named, no reason is given, or a table is not captured or is not off; when the server is away or refuses.
pub async fn enable_capture(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[HostTable],
    actor: &ActorRef,
    reason: &str,
) -> Result<(), SwitchError> {
    switch(connection, storage, tables, (actor, reason), true).await
}

async fn switch(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[HostTable],
    (actor, reason): (&ActorRef, &str),
    on: bool,
) -> Result<(), SwitchError> {
    let reason = reason.trim();
    if actor.kind() == ActorType::Anonymous {
        return Err(Refusal::new("actor_missing", "nobody is named who switches capture").into());
    }
    if reason.is_empty() {
        return Err(Refusal::new("reason_missing", "no reason is given").into());
    }
    if tables.is_empty() {
        return Err(Refusal::new("no_tables", "no table is named").into());
    }
    // Two who switch the same tables at once take their locks in one order.
    let mut tables: Vec<&HostTable> = tables.iter().collect();
    tables.sort();
    if let Some((table, _)) = tables.iter().zip(&tables[1..]).find(|(one, next)| one == next) {
        return Err(Refusal::new("table_twice", format!("{table} is there twice")).into());
    }
    let started = Instant::now();
    loop {
        let mut transaction = connection.begin().await?;
        match switch_all(&mut transaction, storage, &tables, (actor, reason), on).await {
            Ok(()) => return Ok(transaction.commit().await?),
            Err(SwitchError::Database(error)) if locks::is_worth_another(&error, started) => {
                transaction.rollback().await?;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn switch_all(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    tables: &[&HostTable],
    (actor, reason): (&ActorRef, &str),
    on: bool,
) -> Result<(), SwitchError> {
    for table in tables {
        oid(connection, table).await?;
    }
    locks::lock(connection, tables).await?;
    for table in tables {
        let table_oid = oid(connection, table).await?;
        let triggers = trigger::of_table(connection, storage, table).await?;
        if triggers.is_empty() {
            let refusal = Refusal::new("not_captured", format!("no trigger captures {table}"));
            return Err(refusal.hint(format!("threadline gen-triggers --tables {table}")).into());
        }
        let switched = if on {
            turn_on(connection, storage, (table, table_oid), &triggers).await?
        } else {
            turn_off(connection, storage, (table, table_oid), &triggers, (actor, reason)).await?
        };
        let comment = Switched { table: table.to_string(), table_oid: Some(table_oid), triggers: switched };
        Action::new(if on { ENABLED } else { DISABLED }, actor.clone())
            .verb(if on { "enable" } else { "disable" })
            .category("capture")
            .reason(reason)
            .comment(json!(comment).to_string())
            .record(connection, storage)
            .await?;
    }
    Ok(())
}

/// The oid of the table; refused when there is none.
async fn oid(connection: &mut PgConnection, table: &HostTable) -> Result<i64, SwitchError> {
    let found: Option<i64> = sqlx::query_scalar(
        "select c.oid::int8 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p')",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_optional(connection)
    .await?;
    found.ok_or_else(|| {
        let refusal = Refusal::new("table_missing", format!("there is no table {table}"));
        refusal.hint("name its schema: SCHEMA.NAME").into()
    })
}

/// What the triggers did before. Of a table that is off already, although not all of its triggers are, it is what was before then.
async fn turn_off(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    (table, table_oid): (&HostTable, i64),
    triggers: &[CaptureTrigger],
    (actor, reason): (&ActorRef, &str),
) -> Result<Vec<TriggerState>, SwitchError> {
    if triggers.iter().all(|trigger| trigger.firing == Firing::Disabled) {
        let refusal = Refusal::new("already_off", format!("capture of {table} is off already"));
        return Err(refusal.hint("threadline capture on switches it on").into());
    }
    let present = marks::present(connection, triggers).await?;
    let (marks, _) = Marks::read(connection, storage, table, table_oid, &[DISABLED, ENABLED]).await?;
    let before = marks.completed(&present);
    for trigger in triggers {
        set(connection, trigger, Firing::Disabled).await?;
    }
    let statement = format!(
        "update {} p set off = pg_catalog.jsonb_build_object('at', pg_catalog.transaction_timestamp(), 'actor', $3::jsonb, 'reason', \
         $4::text, 'triggers', $5::jsonb) where {OF_TABLE}",
        storage.table("threadline_capture_policies")
    );
    let update = sqlx::query(AssertSqlSafe(statement)).bind(&table.schema).bind(&table.name);
    update.bind(actor.to_json()).bind(reason).bind(json!(before)).execute(connection).await?;
    Ok(before)
}

/// What the triggers do from now on.
async fn turn_on(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    (table, table_oid): (&HostTable, i64),
    triggers: &[CaptureTrigger],
) -> Result<Vec<TriggerState>, SwitchError> {
    let present = marks::present(connection, triggers).await?;
    let (marks, is_off) = Marks::read(connection, storage, table, table_oid, &[DISABLED]).await?;
    if !is_off && triggers.iter().all(|trigger| trigger.firing != Firing::Disabled) {
        return Err(Refusal::new("not_off", format!("capture of {table} is not off")).into());
    }
    let mut now = Vec::new();
    for (trigger, state) in triggers.iter().zip(&present) {
        if trigger.firing == Firing::Disabled {
            // What nobody has recorded was disabled by hand, or made meanwhile.
            let firing = marks.firing(state, &present).unwrap_or(Firing::Ordinary);
            set(connection, trigger, firing).await?;
            now.push(state.with(firing));
        }
    }
    let statement =
        format!("update {} p set off = null where {OF_TABLE}", storage.table("threadline_capture_policies"));
    let update = sqlx::query(AssertSqlSafe(statement)).bind(&table.schema).bind(&table.name);
    update.execute(connection).await?;
    Ok(now)
}

async fn set(
    connection: &mut PgConnection,
    trigger: &CaptureTrigger,
    firing: Firing,
) -> Result<(), sqlx::Error> {
    let statement = format!(
        "alter table only {} {} trigger {}",
        trigger.table.quoted(),
        firing.verb(),
        quote(&trigger.name)
    );
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}
