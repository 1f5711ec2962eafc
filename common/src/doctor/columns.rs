//! Whether forwarders find the columns that they need in the audit table, and may read them.

use super::{
    Problem, Report,
    checks::{FORWARDER_COLUMN_ABSENT, FORWARDER_COLUMN_MISSING, GRANT_MISSING},
};
use crate::{
    database::Database,
    identifier::{ForwarderId, TableName, quote},
    session::Session,
};

/// Columns that are read for every forwarder, where they are there.
const ALWAYS: [&str; 3] = ["id", "occurred_at", "inserted_at"];

/// What a forwarder reads.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Which forwarder.
    pub forwarder: &'a ForwarderId,
    /// The columns that it reads.
    pub columns: &'a [&'a str],
    /// Those of them without which it delivers nothing.
    pub needed: &'a [&'a str],
}

/// Makes the checks.
pub async fn check(
    report: &mut Report,
    table: &TableName,
    wanted: &[Wanted<'_>],
    database: &Database,
    connection: &mut Session,
) {
    if wanted.is_empty() {
        return;
    }
    let found = match database.with_timeout(found(connection, table)).await {
        Ok(found) => found,
        Err(error) => {
            report.record_result(FORWARDER_COLUMN_MISSING, Err::<Option<Problem>, _>(error));
            return;
        }
    };
    report.record(FORWARDER_COLUMN_MISSING, wanted.iter().filter_map(|one| missing(table, one, &found)));
    if !report.is_at_boot() {
        report.record(FORWARDER_COLUMN_ABSENT, wanted.iter().filter_map(|one| absent(table, one, &found)));
    }
    report.record(GRANT_MISSING, wanted.iter().filter_map(|one| unreadable(table, one, &found)));
}

/// A column of the table, whether our role may read it, and that role.
type Found = (String, bool, String);

/// The columns of the table; none without such a table, which another check reports.
async fn found(connection: &mut Session, table: &TableName) -> Result<Vec<Found>, sqlx::Error> {
    sqlx::query_as(
        "select a.attname::text, has_column_privilege(c.oid, a.attnum, 'select'), format('%I', current_user)
         from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
         join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where n.nspname = $1 and c.relname = $2",
    )
    .bind(table.schema())
    .bind(table.table())
    .fetch_all(connection)
    .await
}

/// Of these columns those that the table does not have.
fn lacking<'a>(columns: &[&'a str], found: &[Found]) -> Vec<&'a str> {
    let there = |name: &str| found.is_empty() || found.iter().any(|(found, ..)| found == name);
    columns.iter().copied().filter(|name| !there(name)).collect()
}

fn missing(table: &TableName, wanted: &Wanted<'_>, found: &[Found]) -> Option<Problem> {
    let lacking = lacking(wanted.needed, found);
    (!lacking.is_empty()).then(|| undeliverable(table, wanted.forwarder, &lacking))
}

/// That a table lacks what a forwarder needs.
#[must_use]
pub fn undeliverable(table: &TableName, id: &ForwarderId, lacking: &[&str]) -> Problem {
    let lacking = lacking.join(", ");
    Problem::new(
        format!("forwarder {id}: {table} has no column {lacking}: every event would be a dead letter"),
        format!(
            "add it to the table, or give it its name back, or remove the forwarder {id} from the settings (docs/events.md)"
        ),
    )
}

fn absent(table: &TableName, wanted: &Wanted<'_>, found: &[Found]) -> Option<Problem> {
    let lacking = lacking(wanted.columns, found);
    let lacking: Vec<&str> = lacking.into_iter().filter(|name| !wanted.needed.contains(name)).collect();
    (!lacking.is_empty()).then(|| {
        Problem::new(
            format!("forwarder {}: {table} has no column {}: it counts as NULL", wanted.forwarder, lacking.join(", ")),
            "docs/events.md says what becomes of an event without it; add the column if that is not what you want",
        )
    })
}

fn unreadable(table: &TableName, wanted: &Wanted<'_>, found: &[Found]) -> Option<Problem> {
    // That it may read nothing at all is a finding already.
    found.iter().find(|(_, readable, _)| *readable)?;
    let looks_at = |name: &str| ALWAYS.contains(&name) || wanted.columns.contains(&name);
    let hidden = found.iter().filter(|(name, readable, _)| !readable && looks_at(name));
    let (names, roles): (Vec<String>, Vec<&str>) =
        hidden.map(|(name, _, role)| (quote(name), role.as_str())).unzip();
    let role = roles.first()?;
    let names = names.join(", ");
    Some(Problem::new(
        format!("forwarder {}: the role {role} lacks select ({names}) on {table}", wanted.forwarder),
        format!("run as its owner: grant select ({names}) on {} to {role}", table.quoted()),
    ))
}
