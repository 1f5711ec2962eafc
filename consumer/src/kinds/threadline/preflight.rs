//! Checks the timeline, without writing to it.

use std::time::Duration;

use common::{
    doctor::{
        Check, Problem,
        checks::{
            CHECK_FAILED, CONNECTION_UNENCRYPTED, TIMELINE_COLUMN_UNFIT, TIMELINE_DOUBLED, TIMELINE_ENCODING,
            TIMELINE_GRANT_MISSING, TIMELINE_INCOMPLETE, TIMELINE_KEY_MISSING, TIMELINE_MISSING,
            TIMELINE_NAMES_HIDDEN, TIMELINE_NEWER, TIMELINE_READ_ONLY, TIMELINE_ROWS_HIDDEN,
            TIMELINE_STANDBY, TIMELINE_UNREACHABLE,
        },
        source::unreachable,
    },
    identifier::quote,
    starting::StartWait,
};
use sqlx::{Executor as _, PgConnection, error::DatabaseError};
use threadline::{
    ColumnMismatch, SchemaStatus, StorageSchema, action, check_schema, install,
    schema_status::{duplicated_events, mismatched_columns},
};

use super::{
    TimelineForwarder,
    write::{failed, unavailable},
};
use crate::forwarder::{ForwardError, Preflight};

/// Names the place that actions are written to.
pub(super) async fn target(
    connection: &mut PgConnection,
    schema: &StorageSchema,
) -> Result<String, sqlx::Error> {
    let (identifier, database): (i64, String) =
        sqlx::query_as("select system_identifier, current_database()::text from pg_control_system()")
            .fetch_one(connection)
            .await?;
    Ok(format!("threadline {identifier}/{database}/{schema}"))
}

/// On one connection, all there is to say.
pub(super) async fn preflight(timeline: &TimelineForwarder) -> Preflight {
    let mut checks = vec![(CONNECTION_UNENCRYPTED, timeline.unencrypted.clone())];
    let seen = async {
        let TimelineForwarder { database, schema, .. } = timeline;
        let mut connection = database.connect_directly().await?;
        let target = database.with_timeout(target(&mut connection, schema)).await?;
        let status = database.with_timeout(check_schema(&mut connection, schema)).await?;
        let columns = if status.is_installed {
            database.with_timeout(mismatched_columns(&mut connection, schema)).await?
        } else {
            Vec::new()
        };
        let newer = database.with_timeout(install::newer(&mut connection, schema)).await?;
        Ok::<_, sqlx::Error>((target, status, columns, newer))
    };
    let (target, status, columns, newer) = match seen.await {
        Ok(seen) => seen,
        Err(error) => {
            let keys = "threadline.url, THREADLINE_DATABASE_URL or the forwarder's url";
            checks.push((TIMELINE_UNREACHABLE, Some(unreachable("the timeline database", keys, &error))));
            return Preflight { target: None, checks };
        }
    };
    checks.push((TIMELINE_UNREACHABLE, None));
    checks.extend(schema_findings(&timeline.schema, &status));
    if status.is_installed {
        checks.push((TIMELINE_NEWER, newer.map(|version| too_new(&timeline.schema, version))));
        checks.push((TIMELINE_COLUMN_UNFIT, None));
        checks.extend(
            columns
                .iter()
                .map(|column| (TIMELINE_COLUMN_UNFIT, Some(column_mismatch(&timeline.schema, column)))),
        );
    }
    Preflight { target: Some(target), checks }
}

/// What only a command looks for, because it visits many actions; or that it cannot be looked for.
///
/// `None` where table or columns are missing, which other findings say.
pub(super) async fn preflight_thorough(
    timeline: &TimelineForwarder,
) -> Option<(&'static Check, Option<Problem>)> {
    let TimelineForwarder { database, schema, .. } = timeline;
    let seen = async { duplicated_events(&mut database.connect_directly().await?, schema).await };
    let table = schema.table("audit_actions");
    let count = match database.with_timeout(seen).await {
        Ok(count) => count,
        Err(error) => {
            let code = error.as_database_error().and_then(DatabaseError::code);
            if matches!(code.as_deref(), Some("42P01" | "42703")) {
                return None;
            }
            let what = format!(
                "the check {} could not be made: {}",
                TIMELINE_DOUBLED.name,
                errors::database(&error)
            );
            if code.as_deref() == Some("42501") {
                let remedy = "run `consumer doctor` as a role that may read all actions, such as audit_reconciler of \
                              deploy/postgres/timeline.sql";
                return Some((TIMELINE_NAMES_HIDDEN, Some(Problem::new(what, remedy))));
            }
            let remedy = "fix what the server says, and run this again";
            return Some((CHECK_FAILED, Some(Problem::new(what, remedy))));
        }
    };
    let problem = (count > 0).then(|| {
        Problem::new(
            format!(
                "{count} event(s) are in {table} twice: under their own id, and under one of another system, such as Sigra's own \
                 forwarder, which has the event's id as its correlation id"
            ),
            format!(
                "let no other forwarder write there, and remove its actions (docs/switching.md): delete from {table} theirs \
                 using {table} ours where theirs.correlation_id = ours.id::text and ours.correlation_id = ours.id::text and \
                 theirs.id <> ours.id and theirs.name = ours.name"
            ),
        )
    });
    Some((TIMELINE_DOUBLED, problem))
}

fn too_new(schema: &StorageSchema, version: i64) -> Problem {
    Problem::new(
        format!(
            "Threadline's tables in schema {schema} are of a newer version: migration {version}, and this binary knows {}",
            install::newest()
        ),
        "use a binary of that version",
    )
}

fn column_mismatch(schema: &StorageSchema, column: &ColumnMismatch) -> Problem {
    let ColumnMismatch { name, fault, wanted, found, .. } = column;
    let (table, quoted) = (schema.table("audit_actions"), quote(name));
    let alter = format!("run as its owner: alter table {table}");
    let (what, remedy) = match fault.as_str() {
        "missing" => (format!("has no column {name}"), format!("{alter} add column {quoted} {wanted}")),
        "type" => (
            format!("has a column {name} of type {found}, which must be {wanted}"),
            format!("{alter} alter column {quoted} type {wanted} using {quoted}::text::{wanted}"),
        ),
        "generated" => (
            format!("generates its column {name}, which an action brings along"),
            format!("{alter} alter column {quoted} drop expression, or drop identity"),
        ),
        "not null" => (
            format!("lets its column {name} not be null, and not every event has one"),
            format!("{alter} alter column {quoted} drop not null"),
        ),
        _ => (
            format!("has a column {name} of the host's own that must not be null and has no default"),
            format!("{alter} alter column {quoted} set default …, or drop not null"),
        ),
    };
    Problem::new(format!("{table} {what}"), remedy)
}

/// Of an error about a table, a column or a grant: whether the timeline's are what is wrong, or something that a host's
/// trigger or policy names for some events only. The same statement without any rows shows which.
pub(super) async fn classify_failure(timeline: &TimelineForwarder, error: &sqlx::Error) -> ForwardError {
    let TimelineForwarder { database, table, .. } = timeline;
    let empty = async {
        let mut connection = database.connect_directly().await?;
        database.with_timeout(action::insert_new(&mut connection, table, &[])).await
    };
    if empty.await.is_ok() { failed(error) } else { unavailable(error) }
}

/// How long the timeline may take to show that it serves us; a server that an event has crashed recovers meanwhile.
const SERVING_WITHIN: Duration = Duration::from_secs(5);

/// More than what is left in pages that are there.
const ROOM: &str = "begin; create temporary table room on commit drop as
                    select md5(n::text) from generate_series(1, 2000) n; rollback";

/// Whether the timeline lets us in, has the table, takes the statement, and has room.
pub(super) async fn is_serving(timeline: &TimelineForwarder) -> bool {
    let TimelineForwarder { database, table, .. } = timeline;
    let looked = tokio::time::timeout(SERVING_WITHIN, async {
        let starting = StartWait::new(SERVING_WITHIN);
        let mut connection = loop {
            match database.connect_directly().await {
                Err(error) if starting.may_retry(&error).await => {}
                connected => break connected?,
            }
        };
        // Refused in a read-only transaction, and blocked by a lock on the table, though there is nothing to insert.
        action::insert_new(&mut connection, table, &[]).await?;
        match connection.execute(ROOM).await {
            // A role that may not create tables skips this check.
            Err(sqlx::Error::Database(error)) if !is_of_server(&*error) => Ok(()),
            made => made.map(drop),
        }
    });
    match looked.await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(error = errors::line(&error), "the timeline serves no client");
            false
        }
        Err(_) => false,
    }
}

/// Whether an error is about the connection, resources or the system below.
fn is_of_server(error: &dyn DatabaseError) -> bool {
    error.code().is_none_or(|code| ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)))
}

fn schema_findings(schema: &StorageSchema, status: &SchemaStatus) -> Vec<(&'static Check, Option<Problem>)> {
    let SchemaStatus {
        is_standby,
        is_installed,
        missing_grants,
        has_key,
        role,
        is_read_only,
        is_policed,
        ..
    } = status;
    let standby = is_standby.then(|| {
        Problem::new(
            "the timeline is on a standby, where nothing can be written",
            "let its URL lead to the primary, or promote this server",
        )
    });
    let missing = (!is_installed).then(|| {
        Problem::new(
            format!("there is no table {schema}.audit_actions"),
            format!("run `threadline install --schema {schema}`"),
        )
    });
    let read_only = (*is_read_only && !is_standby).then(|| {
        Problem::new(
            format!("transactions of the role {role} at the timeline are read-only: no action can be written"),
            format!(
                "run: alter role {role} set default_transaction_read_only = off; or take the setting from the database or \
                 the server"
            ),
        )
    });
    let encoding = (status.encoding != "UTF8").then(|| {
        Problem::new(
            format!(
                "the timeline's database stores text as {}: what that cannot hold ends as a dead letter, and SQL_ASCII \
                 checks nothing",
                status.encoding
            ),
            "move it into a database that was created with encoding 'UTF8'",
        )
    });
    let mut checks = vec![
        (TIMELINE_STANDBY, standby),
        (TIMELINE_READ_ONLY, read_only),
        (TIMELINE_ENCODING, encoding),
        (TIMELINE_MISSING, missing),
    ];
    if !is_installed {
        return checks;
    }
    let dropped = (!status.missing_tables.is_empty()).then(|| {
        Problem::new(
            format!("schema {schema} has no {}", status.missing_tables.join(", ")),
            format!("run `threadline install --schema {schema}`, which recreates what was dropped"),
        )
    });
    checks.push((TIMELINE_INCOMPLETE, dropped));
    let policed = is_policed.then(|| {
        Problem::new(
            format!(
                "row-level security of {schema}.audit_actions applies to the role {role}, so that no action can be written \
                 or seen"
            ),
            format!("run: alter role {role} bypassrls"),
        )
    });
    checks.push((TIMELINE_ROWS_HIDDEN, policed));
    checks.push((TIMELINE_GRANT_MISSING, None));
    for privilege in missing_grants {
        let object =
            if privilege == "usage" { format!("schema \"{schema}\"") } else { schema.table("audit_actions") };
        let problem = Problem::new(
            format!("the role {role} lacks {privilege} on {object}"),
            format!("run as its owner: grant {privilege} on {object} to {role}"),
        );
        checks.push((TIMELINE_GRANT_MISSING, Some(problem)));
    }
    let hidden_adoptions = status.has_hidden_adoptions.then(|| {
        let table = schema.table("audit_adoptions");
        Problem::new(
            format!("the role {role} lacks select on {table}, which records what is in the timeline under other ids"),
            format!("run as its owner: grant select on {table} to {role}"),
        )
    });
    checks.extend(hidden_adoptions.map(|problem| (TIMELINE_GRANT_MISSING, Some(problem))));
    let keyless = (!has_key).then(|| {
        Problem::new(
            format!(
                "no unique index of {schema}.audit_actions is over id: a redelivered event is there twice"
            ),
            format!("run: alter table {} add primary key (id)", schema.table("audit_actions")),
        )
    });
    checks.push((TIMELINE_KEY_MISSING, keyless));
    checks
}
