//! Switching capture of a table off for maintenance, and on again: with who and why in the timeline, in one transaction.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    Action, ActorRef, ActorType, StorageSchema,
    capture::{
        HostTable, Refusal,
        names::quote,
        trigger::{self, CaptureTrigger, Firing},
    },
};

/// The action that stands for capture being switched off.
const DISABLED: &str = "threadline.capture.disabled";

/// The action that stands for capture being switched on.
const ENABLED: &str = "threadline.capture.enabled";

/// Why capture was not switched. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwitchError {
    /// `actor_missing`, `reason_missing`, `no_tables`, `table_twice`, `table_missing`, `not_captured`, `already_off`, `not_off`.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the database says, or that it says nothing.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// A table and when its triggers fired, as the comment of the action holds it.
#[derive(Serialize, Deserialize)]
struct Switched {
    table: String,
    triggers: Vec<TriggerState>,
}

/// When a trigger fired before it was disabled.
#[derive(Clone, Serialize, Deserialize)]
struct TriggerState {
    table: String,
    name: String,
    firing: Firing,
}

impl TriggerState {
    fn of(trigger: &CaptureTrigger) -> Self {
        Self { table: trigger.table.to_string(), name: trigger.name.clone(), firing: trigger.firing }
    }

    fn is(&self, trigger: &CaptureTrigger) -> bool {
        self.name == trigger.name && self.table == trigger.table.to_string()
    }
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
    let mut transaction = connection.begin().await?;
    for table in tables {
        lock(&mut transaction, table).await?;
        let triggers = trigger::of_table(&mut transaction, storage, table).await?;
        if triggers.is_empty() {
            let refusal = Refusal::new("not_captured", format!("no trigger captures {table}"));
            return Err(refusal.hint(format!("threadline gen-triggers --tables {table}")).into());
        }
        let switched = if on {
            turn_on(&mut transaction, storage, table, &triggers).await?
        } else {
            turn_off(&mut transaction, storage, table, &triggers, (actor, reason)).await?
        };
        let comment = Switched { table: table.to_string(), triggers: switched };
        Action::new(if on { ENABLED } else { DISABLED }, actor.clone())
            .verb(if on { "enable" } else { "disable" })
            .category("capture")
            .reason(reason)
            .comment(json!(comment).to_string())
            .record(&mut transaction, storage)
            .await?;
    }
    Ok(transaction.commit().await?)
}

/// Nobody writes to the table or changes its triggers until the end of the transaction. Writers queue behind this lock while it
/// waits: not for long.
async fn lock(connection: &mut PgConnection, table: &HostTable) -> Result<(), SwitchError> {
    let is_table: bool = sqlx::query_scalar(
        "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                        where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p'))",
    )
    .bind(&table.schema)
    .bind(&table.name)
    .fetch_one(&mut *connection)
    .await?;
    if !is_table {
        let refusal = Refusal::new("table_missing", format!("there is no table {table}"));
        return Err(refusal.hint("name its schema: SCHEMA.NAME").into());
    }
    let statement =
        format!("set local lock_timeout = '5s'; lock table {} in share row exclusive mode", table.quoted());
    connection.execute(AssertSqlSafe(statement)).await?;
    Ok(())
}

/// What the triggers did before.
async fn turn_off(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
    triggers: &[CaptureTrigger],
    (actor, reason): (&ActorRef, &str),
) -> Result<Vec<TriggerState>, SwitchError> {
    if triggers.iter().all(|trigger| trigger.firing == Firing::Disabled) {
        let refusal = Refusal::new("already_off", format!("capture of {table} is off already"));
        return Err(refusal.hint("threadline capture on switches it on").into());
    }
    for trigger in triggers {
        set(connection, trigger, Firing::Disabled).await?;
    }
    let before: Vec<TriggerState> = triggers.iter().map(TriggerState::of).collect();
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
    table: &HostTable,
    triggers: &[CaptureTrigger],
) -> Result<Vec<TriggerState>, SwitchError> {
    let policies = storage.table("threadline_capture_policies");
    let statement =
        format!("select off -> 'triggers' from {policies} p where off is not null and {OF_TABLE}");
    let marked: Option<Option<serde_json::Value>> = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(&table.schema)
        .bind(&table.name)
        .fetch_optional(&mut *connection)
        .await?;
    let disabled: Vec<&CaptureTrigger> =
        triggers.iter().filter(|trigger| trigger.firing == Firing::Disabled).collect();
    if marked.is_none() && disabled.is_empty() {
        return Err(Refusal::new("not_off", format!("capture of {table} is not off")).into());
    }
    let before: Vec<TriggerState> =
        match marked.flatten().and_then(|triggers| serde_json::from_value(triggers).ok()) {
            Some(before) => before,
            None => recorded(connection, storage, table).await?,
        };
    let mut now = Vec::new();
    for trigger in disabled {
        // What nobody has recorded was disabled by hand, or made meanwhile.
        let firing = before.iter().find(|one| one.is(trigger)).map_or(Firing::Ordinary, |one| one.firing);
        set(connection, trigger, firing).await?;
        now.push(TriggerState { firing, ..TriggerState::of(trigger) });
    }
    let statement = format!("update {policies} p set off = null where {OF_TABLE}");
    let update = sqlx::query(AssertSqlSafe(statement)).bind(&table.schema).bind(&table.name);
    update.execute(connection).await?;
    Ok(now)
}

/// Which stored policy is the table's, by its name when it was made, or under the one that it has now.
const OF_TABLE: &str = "((p.table_schema, p.table_name) = ($1, $2) or p.table_oid = \
     (select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
      where n.nspname = $1 and c.relname = $2))";

/// What the last action says: a table of the Elixir library's has no stored policy.
async fn recorded(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Vec<TriggerState>, sqlx::Error> {
    let beginning = json!({"table": table.to_string()}).to_string();
    let beginning = beginning.trim_end_matches('}');
    let statement = format!(
        "select comment from {} where name = $1 and pg_catalog.starts_with(comment, $2) order by inserted_at desc limit 1",
        storage.actions()
    );
    let comment: Option<String> = sqlx::query_scalar(AssertSqlSafe(statement))
        .bind(DISABLED)
        .bind(format!("{beginning},"))
        .fetch_optional(connection)
        .await?;
    let switched = comment.and_then(|comment| serde_json::from_str::<Switched>(&comment).ok());
    Ok(switched.map(|switched| switched.triggers).unwrap_or_default())
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
