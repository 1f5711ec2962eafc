//! Which columns the audit table has. Only `id` and `occurred_at` are sure to be there: `outbox.attach` insists on them, and
//! code that reads another one checks here first.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use crate::{
    identifier::{TableName, quote},
    session::Session,
};

/// Column names with their types, those under domains.
pub type Columns = HashMap<String, String>;

/// The columns of the table.
///
/// # Errors
/// When the server is away or the table is missing.
pub async fn of(connection: &mut Session, table: &TableName) -> Result<Columns, sqlx::Error> {
    let statement = "select a.attname::text, outbox.base_type(a.atttypid)::regtype::text from pg_attribute a
                     where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped";
    let columns: Vec<(String, String)> =
        sqlx::query_as(AssertSqlSafe(statement)).bind(table.quoted()).fetch_all(connection).await?;
    Ok(columns.into_iter().collect())
}

/// The columns that the connection's role may read, in their order.
///
/// # Errors
/// When the server is away or the table is missing.
pub async fn readable(session: &mut Session, table: &TableName) -> Result<Vec<String>, sqlx::Error> {
    let statement = "select attname::text from pg_attribute
                     where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
                       and has_column_privilege(attrelid, attnum, 'select')
                     order by attnum";
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(table.quoted()).fetch_all(session).await
}

/// SQL for a column of the row `row` as text: NULL where the table does not have it.
#[must_use]
pub fn text(columns: &Columns, row: &str, name: &str) -> String {
    if columns.contains_key(name) { format!("{row}.{}::text", quote(name)) } else { "null::text".to_owned() }
}

/// SQL for a time of the row `row` as [`to_rfc3339`](crate::time_arg::to_rfc3339) shows it, as JSON: in UTC, which what has no zone
/// is by convention. What is no time, endless, or before the year 1 is shown as it is.
#[must_use]
pub fn shown_time(columns: &Columns, row: &str, name: &str) -> String {
    let column = format!("{row}.{}", quote(name));
    let utc = match columns.get(name).map(String::as_str) {
        Some("timestamp with time zone") => format!("({column} at time zone 'UTC')"),
        Some("timestamp without time zone" | "date") => format!("{column}::timestamp"),
        _ => return format!("to_jsonb({column})"),
    };
    format!(
        "case when isfinite({utc}) and {utc} >= '0001-01-01' then to_jsonb((to_jsonb({utc}) #>> '{{}}') || 'Z') \
         else to_jsonb({column}) end"
    )
}

/// SQL for whether the row `row` has the action that a filter names in a parameter; with a `*` at its end, one that begins
/// like this. NULL where the table has no actions.
#[must_use]
pub fn action_matches(columns: &Columns, row: &str, parameter: &str) -> String {
    let action = text(columns, row, "action");
    format!(
        "case when right({parameter}, 1) = '*' then starts_with({action}, left({parameter}, -1)) \
         else {action} = {parameter} end"
    )
}

/// Refuses a filter by action where the table has none: it would match nothing, and look as if there were nothing.
///
/// # Errors
/// When it does.
pub fn refuse_action(
    columns: &Columns,
    table: &TableName,
    action: Option<&String>,
) -> Result<(), sqlx::Error> {
    if action.is_some() && !columns.contains_key("action") {
        let message = format!("{table} has no column \"action\": leave out --action");
        return Err(sqlx::Error::Configuration(message.into()));
    }
    Ok(())
}

/// Refuses to look for rows by a column that is no `uuid`: the server's own message names neither table nor column.
///
/// # Errors
/// When it is not.
pub fn refuse_id(columns: &Columns, table: &TableName) -> Result<(), sqlx::Error> {
    let kind = columns.get("id").map(String::as_str);
    if kind == Some("uuid") {
        return Ok(());
    }
    let is = kind.map_or_else(|| "missing".to_owned(), |kind| format!("of type {kind}"));
    let message = format!(
        "the column \"id\" of {table}, by which its rows are found, is {is}: give it back its name and the type uuid"
    );
    Err(sqlx::Error::Configuration(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_is_not_there_is_null_and_a_filter_by_it_is_refused() {
        let table: TableName = "public.audit_events".parse().expect("a name");
        let columns = Columns::from([("action".to_owned(), "text".to_owned())]);
        assert_eq!(text(&columns, "e", "action"), "e.\"action\"::text");
        assert_eq!(text(&columns, "e", "outcome"), "null::text");
        let (none, asked) = (Columns::new(), "auth.*".to_owned());
        assert!(
            refuse_action(&columns, &table, Some(&asked)).is_ok()
                && refuse_action(&none, &table, None).is_ok()
        );
        let error = refuse_action(&none, &table, Some(&asked)).expect_err("refused").to_string();
        assert!(error.contains("public.audit_events has no column \"action\""), "{error}");
        let error = refuse_id(&Columns::from([("id".to_owned(), "text".to_owned())]), &table);
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("\"id\" of public.audit_events") && error.contains("of type text"), "{error}");
    }
}
