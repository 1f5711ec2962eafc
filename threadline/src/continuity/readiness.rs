//! Whether every change of a table is recorded from now on, and under which key.

use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    StorageSchema,
    capture::{
        DeployedPolicy, HostTable, Level, Policy, Refusal, Table,
        trigger::{self, CaptureTrigger, Event},
    },
};

/// A table of which every insert, update and delete is recorded once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Readiness {
    /// Where its triggers fire.
    pub level: Level,
    /// The columns by which a change names its row.
    pub key: Vec<String>,
    /// The partitions that hold its rows, as `schema.table`; none of a table that is not partitioned.
    pub partitions: Vec<String>,
    /// Whether it is recorded when the table is emptied by `truncate`, which the Elixir library's triggers do not see.
    pub records_truncate: bool,
}

/// Why a table is not ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// Everything that is wrong, the cause first. The terms: `timeline_missing`, `table_missing`, `not_captured`,
    /// `capture_trigger_disabled`, `missing_trigger`, `duplicate_capture_trigger`, `pk_drift`; and those of a table that cannot be captured.
    #[error("{}", lines(.0))]
    Unready(Vec<Refusal>),
    /// What the database says, or that it says nothing.
    #[error("{}", errors::database(.0))]
    Database(#[from] sqlx::Error),
}

fn lines(problems: &[Refusal]) -> String {
    let lines: Vec<String> = problems.iter().map(|one| format!("{}: {one}", one.term)).collect();
    lines.join("\n")
}

/// Asserts that every insert, update and delete of the table's rows is recorded once, wherever its rows are, with their key.
/// Looks at catalogs, and for what to do at the stored policy.
///
/// # Errors
/// Everything that is in the way, each with what to do.
pub async fn assert_ready(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    table: &HostTable,
) -> Result<Readiness, NotReady> {
    let alone = |refusal| NotReady::Unready(vec![refusal]);
    let has_timeline: bool = sqlx::query_scalar("select pg_catalog.to_regclass($1) is not null")
        .bind(storage.table("audit_changes"))
        .fetch_one(&mut *connection)
        .await?;
    if !has_timeline {
        let refusal = Refusal::new("timeline_missing", format!("there is no timeline in schema {storage}"));
        return Err(alone(refusal.hint("threadline install")));
    }
    let Some(shape) = Table::read(connection, table).await? else {
        let refusal = Refusal::new("table_missing", format!("there is no table {table}"));
        return Err(alone(refusal.hint("name its schema: SCHEMA.NAME")));
    };
    let triggers = trigger::of_table(connection, storage, table).await?;
    let places = if shape.is_partitioned() { shape.leaves.clone() } else { vec![table.clone()] };
    let mut problems: Vec<Refusal> =
        places.iter().filter_map(|place| problem_at(table, place, &triggers)).collect();
    let main = triggers.iter().find(|one| one.fires_after(Event::Insert));
    let key = match main.map_or(Ok(Vec::new()), |main| key(&shape, main)) {
        Ok(key) => key,
        Err(refusal) => {
            problems.push(refusal);
            Vec::new()
        }
    };
    let Some(main) = main.filter(|_| problems.is_empty()) else {
        if problems.is_empty() {
            // Partitioned, and without a partition.
            problems.push(not_captured(table));
        }
        hint(connection, storage, &shape, &mut problems).await?;
        return Err(NotReady::Unready(problems));
    };
    let truncate = |place: &HostTable| {
        triggers
            .iter()
            .any(|one| one.table == *place && one.firing.sees_writers() && one.fires_after(Event::Truncate))
    };
    Ok(Readiness {
        level: if main.is_for_rows() { Level::Row } else { Level::Statement },
        key,
        partitions: shape.leaves.iter().map(HostTable::to_string).collect(),
        records_truncate: truncate(table) && places.iter().all(truncate),
    })
}

/// What is wrong with the triggers of a table that holds rows.
fn problem_at(table: &HostTable, place: &HostTable, triggers: &[CaptureTrigger]) -> Option<Refusal> {
    let here: Vec<&CaptureTrigger> = triggers.iter().filter(|one| one.table == *place).collect();
    if here.iter().all(|one| !one.fires_after(Event::Insert)) {
        return Some(not_captured(place));
    }
    let off: Vec<&str> =
        here.iter().filter(|one| !one.firing.sees_writers()).map(|one| one.name.as_str()).collect();
    if !off.is_empty() {
        let reason = format!("{place}: disabled, or for replicas alone: {}", off.join(", "));
        return Some(
            Refusal::new("capture_trigger_disabled", reason)
                .hint(format!("threadline capture on --tables {table} --actor TYPE:ID --reason TEXT")),
        );
    }
    for event in Event::OF_ROWS {
        let firing: Vec<&&CaptureTrigger> = here.iter().filter(|one| one.fires_after(event)).collect();
        let names: Vec<&str> = firing.iter().map(|one| one.name.as_str()).collect();
        if firing.is_empty() || firing.iter().any(|one| one.is_partial) {
            let reason = if firing.is_empty() {
                format!("{place}: no trigger records {event}")
            } else {
                format!("{place}: a trigger has a condition and misses some of {event}: {}", names.join(", "))
            };
            return Some(Refusal::new("missing_trigger", reason));
        }
        if firing.len() > 1 {
            let reason = format!("{place}: {event} is recorded by each of {}", names.join(", "));
            return Some(Refusal::new("duplicate_capture_trigger", reason));
        }
    }
    None
}

fn not_captured(place: &HostTable) -> Refusal {
    Refusal::new("not_captured", format!("{place}: no trigger records its changes"))
}

/// Adds the command that ends a problem where triggers are to be made again: under the policy that is deployed.
async fn hint(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    shape: &Table,
    problems: &mut [Refusal],
) -> Result<(), sqlx::Error> {
    let table = &shape.name;
    let may_read: Option<bool> =
        sqlx::query_scalar("select pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'select')")
            .bind(storage.table("threadline_capture_policies"))
            .fetch_one(&mut *connection)
            .await?;
    let deployed = if may_read == Some(true) {
        DeployedPolicy::read(connection, storage, std::slice::from_ref(table)).await?.remove(table)
    } else {
        None
    };
    let plain = format!("threadline gen-triggers --tables {table}");
    let again = match &deployed {
        Some(deployed) => deployed.command().unwrap_or_else(|| {
            format!(
                "write the policy that is deployed, which no option says, as the section [capture.tables.\"{table}\"] of audit.toml; \
                 then {plain}"
            )
        }),
        None => plain,
    };
    for problem in problems {
        match problem.term {
            "not_captured" | "missing_trigger" | "pk_drift" => problem.hint = Some(again.clone()),
            "duplicate_capture_trigger" => {
                problem.hint = Some(format!(
                    "{again}; or, to leave it to the Elixir library's trigger, threadline gen-triggers --to-library --tables {table}"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The key that the trigger records, which has to be the table's own.
fn key(shape: &Table, main: &CaptureTrigger) -> Result<Vec<String>, Refusal> {
    let table = &shape.name;
    // Triggers from before version 0.11 of the library look for a column `id` alone.
    let recorded = if main.arguments.is_empty() { vec!["id".to_owned()] } else { main.arguments.clone() };
    let primary_key = if shape.has_primary_key() { Vec::new() } else { recorded.clone() };
    let own = match shape.check(&Policy { primary_key, ..Policy::default() }) {
        Ok(key) if key.len() == recorded.len() && key.iter().all(|column| recorded.contains(column)) => {
            return Ok(recorded);
        }
        Ok(key) => format!("the table's key is ({})", key.join(", ")),
        Err(refusal) if refusal.term == "primary_key_column_unknown" => {
            "the table has no such column".to_owned()
        }
        Err(refusal) => return Err(refusal),
    };
    let reason = format!("{table}: its trigger {} records ({}), and {own}", main.name, recorded.join(", "));
    Err(Refusal::new("pk_drift", reason))
}
