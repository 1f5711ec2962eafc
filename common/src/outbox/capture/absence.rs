//! What it means that a row is not where it is looked for. Rows are read by the table's name and by the column `id`; the outbox
//! knows both by what does not change when they are renamed. Where these are not the same any more, nothing is known of
//! any row.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{
    identifier::{TableName, quote},
    outbox::capture::{self, Cause},
    session::Session,
};

/// Why rows are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// They are gone from the captured table.
    Gone,
    /// A standby may not have them yet.
    Standby,
    /// Some have come to light since they were looked for.
    Late,
    /// What they were looked for in is not what was captured; only a person can fix it.
    Elsewhere {
        /// What is so.
        what: String,
        /// The remedy.
        remedy: String,
    },
}

/// What the source says of its table.
type AbsenceRow = (bool, bool, bool, Vec<Uuid>, Option<String>, Option<String>);

/// Looks again for `events` in `table`, and at whether that is the captured one, in one statement: it holds the table under
/// its name until it has ended.
///
/// # Errors
/// When the server is away.
pub async fn read(
    connection: &mut Session,
    table: &TableName,
    events: &[Uuid],
) -> Result<Absence, sqlx::Error> {
    let quoted = table.quoted();
    // A restored database knows its table by name only, until it is attached again: the oid there is another table's or none's.
    let statement = format!(
        "select pg_is_in_recovery(), coalesce(a.oid = to_regclass($1), true), coalesce(i.name = 'id', true),
                array(select e.id from {quoted} e where e.id = any ($2)),
                o.name, o.attname::text
         from (select) one
         left join outbox.source s on true
         left join lateral (select outbox.attached_table() as oid offset 0) a on true
         left join lateral (select c.attname::text as name from pg_attribute c
                            where c.attrelid = a.oid and c.attrelid = s.relation and c.attnum = s.id_number) i on true
         -- The table that it was, where it has neither the name nor the trigger any more.
         left join lateral (select format('%I.%I', n.nspname, c.relname) as name, b.attname
                            from pg_class c
                            join pg_namespace n on n.oid = c.relnamespace
                            join pg_attribute b on b.attrelid = c.oid and b.attnum = s.id_number and not b.attisdropped
                            where c.oid = s.relation and c.oid <> to_regclass($1) and c.relkind in ('r', 'p')
                              and outbox.base_type(b.atttypid) = 'uuid'::regtype
                              and has_schema_privilege(n.oid, 'usage')
                              and has_column_privilege(c.oid, b.attnum, 'select')) o on true"
    );
    let (is_standby, is_table, is_id, found, earlier, column): AbsenceRow =
        sqlx::query_as(AssertSqlSafe(statement))
            .bind(&quoted)
            .bind(events)
            .fetch_one(&mut *connection)
            .await?;
    if is_standby {
        return Ok(Absence::Standby);
    }
    if !is_table || !is_id {
        // As status and doctor report it.
        let state = capture::state(connection).await?;
        let fault = state.fault(if is_table { Cause::is_about_the_id } else { Cause::is_about_the_name });
        let (what, remedy) = fault.unwrap_or_else(|| other_column(table));
        return Ok(Absence::Elsewhere { what, remedy });
    }
    if !found.is_empty() {
        return Ok(Absence::Late);
    }
    let (Some(earlier), Some(column)) = (earlier, column) else { return Ok(Absence::Gone) };
    let column = quote(&column);
    let statement = format!("select exists (select from {earlier} e where e.{column} = any ($1))");
    let is_there: bool =
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(events).fetch_one(connection).await?;
    Ok(if is_there { in_earlier(table, &earlier) } else { Absence::Gone })
}

fn other_column(table: &TableName) -> (String, String) {
    (
        format!("the column \"id\" of {table} is another one than the one that was attached"),
        "give the one that was attached its name back, or run `publisher attach` to continue with the new one"
            .to_owned(),
    )
}

fn in_earlier(table: &TableName, earlier: &str) -> Absence {
    Absence::Elsewhere {
        what: format!(
            "rows that are still to be delivered are in {earlier}, which was captured before, and not in {table}"
        ),
        remedy: format!(
            "copy these rows into {table}, or give {earlier} its name back until they are delivered \
             (docs/operations.md, \"Another table in its place\")"
        ),
    }
}
