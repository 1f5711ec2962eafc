//! What operators read and decide: lists of failures, one failure with its audit row, re-drive, discard. One documented
//! function per statement.

use std::fmt;

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, postgres::PgArguments, query::QueryAs};
use time::OffsetDateTime;

use super::FailureState;
use crate::{
    fault::{Fault, classify},
    identifier::{ForwarderId, TableName, quote},
    outbox::capture::columns::{self, Columns},
    session::Session,
    time_arg::{as_captured, to_rfc3339},
};

/// Which failures; every part that is absent matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One forwarder's.
    pub forwarder: Option<ForwarderId>,
    /// One reason's, by its name.
    pub reason: Option<String>,
    /// Those in one of these states.
    pub states: Vec<FailureState>,
    /// Those whose audit row has this action; with a `*` at its end, one that begins like this.
    pub action: Option<String>,
    /// Failed last at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Failed last before this time.
    pub until: Option<OffsetDateTime>,
    /// One event, or one message that cannot be read.
    pub reference: Option<String>,
}

impl Filter {
    /// Whether it leaves nothing out but states.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        Self { states: Vec::new(), ..self.clone() } == Self::default()
    }
}

/// For the record.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { forwarder, reason, states, action, since, until, reference } = self;
        let states: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
        write!(f, "state {}", states.join(" or "))?;
        let parts = [
            ("forwarder", forwarder.as_ref().map(ToString::to_string)),
            ("reason", reason.clone()),
            ("action", action.clone()),
            ("since", since.map(to_rfc3339)),
            ("until", until.map(to_rfc3339)),
            ("id", reference.clone()),
        ];
        parts
            .iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| (name, value)))
            .try_for_each(|(name, value)| write!(f, ", {name} {value}"))
    }
}

/// One failure, without anything of its audit row but the action.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct FailureRecord {
    /// Whose.
    pub forwarder: String,
    /// The event's id, or `stream:<created>:<sequence>`.
    #[sqlx(rename = "ref")]
    #[serde(rename = "ref")]
    pub reference: String,
    /// From the audit row, while that is there.
    pub action: Option<String>,
    /// What becomes of it.
    #[sqlx(try_from = "String")]
    pub state: FailureState,
    /// Why it will not be tried again by itself.
    pub reason: Option<String>,
    /// The last error.
    pub error: Option<String>,
    /// Failed attempts.
    pub attempts: i32,
    /// When it failed first, RFC 3339.
    pub first_failed_at: String,
    /// When it failed last, RFC 3339.
    pub last_failed_at: String,
    /// When it is tried again, RFC 3339.
    pub next_attempt_at: Option<String>,
    /// Why an operator discarded it.
    pub note: Option<String>,
}

/// A filter as SQL, with parameters 1 to 7.
fn condition(table: &TableName, columns: &Columns, filter: &Filter) -> Result<String, sqlx::Error> {
    columns::refuse_action(columns, table, filter.action.as_ref())?;
    Ok(format!(
        "($1::text is null or f.forwarder = $1) and ($2::text is null or f.reason = $2)
         and (cardinality($3::text[]) = 0 or f.state = any ($3))
         and ($4::text is null or exists (
             select from {} a where a.id = f.audit_event_id and {}))
         and ($5::timestamptz is null or f.last_failed_at >= $5)
         and ($6::timestamptz is null or f.last_failed_at < $6)
         and ($7::text is null or f.ref = $7)",
        table.quoted(),
        columns::action_matches(columns, "a", "$4")
    ))
}

fn filtered<O>(statement: String, filter: &Filter) -> QueryAs<'static, sqlx::Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(filter.forwarder.as_ref().map(ToString::to_string))
        .bind(filter.reason.clone())
        .bind(filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
        .bind(filter.action.clone())
        .bind(filter.since)
        .bind(filter.until)
        .bind(filter.reference.clone())
}

/// The failures that match, last failed first, at most `limit`.
///
/// # Errors
/// When the server is away.
pub async fn list(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<FailureRecord>, sqlx::Error> {
    let time = |column: &str| {
        format!("to_char(f.{column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as {column}")
    };
    let columns = columns::of(connection, table).await?;
    let condition = condition(table, &columns, filter)?;
    let statement = |action: &str| {
        format!(
        "select f.forwarder, f.ref, {action} as action, f.state, f.reason, f.error, f.attempts, {}, {}, {}, f.note
         from outbox.failures f left join {} e on e.id = f.audit_event_id
         where {} order by f.last_failed_at desc, f.forwarder, f.ref limit $8",
        time("first_failed_at"),
        time("last_failed_at"),
        time("next_attempt_at"),
        table.quoted(),
        condition
    )
    };
    let action = format!("left({}, 1000)", columns::text(&columns, "e", "action"));
    let listed = filtered(statement(&action), filter).bind(limit).fetch_all(&mut *connection);
    match listed.await {
        // One row whose action cannot be read hides no other.
        Err(error) if is_of_row(&error) => {
            filtered(statement("null::text"), filter).bind(limit).fetch_all(connection).await
        }
        listed => listed,
    }
}

/// The database's own time, which failures are stamped with.
///
/// # Errors
/// When the server is away.
pub async fn now(connection: &mut Session) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await
}

/// How many of those that match there are, by forwarder, state and reason; and of how many the audit row is gone. With a limit, no
/// more than so many are looked at, in no order.
///
/// # Errors
/// When the server is away.
pub async fn summary(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    limit: Option<i64>,
) -> Result<Vec<FailureSummary>, sqlx::Error> {
    let columns = columns::of(connection, table).await?;
    let statement = format!(
        "select f.forwarder, f.state, f.reason, count(*) as count, count(*) filter (where e.id is null) as gone
         from (select f.forwarder, f.state, f.reason, f.audit_event_id from outbox.failures f where {} limit $8) f
         left join {} e on e.id = f.audit_event_id
         group by f.forwarder, f.state, f.reason order by f.forwarder, f.state, f.reason",
        condition(table, &columns, filter)?,
        table.quoted()
    );
    filtered(statement, filter).bind(limit).fetch_all(connection).await
}

/// Failures that have forwarder, state and reason in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct FailureSummary {
    /// Whose.
    pub forwarder: String,
    /// Their state.
    #[sqlx(try_from = "String")]
    pub state: FailureState,
    /// Their reason.
    pub reason: Option<String>,
    /// How many.
    pub count: i64,
    /// Of how many the audit row does not exist any more.
    pub gone: i64,
}

/// Most bytes that one column of an audit row is shown with.
const SHOWN_BYTES: usize = 64 << 10;

/// The audit row behind a failure, all columns that may be read; `None` when it is gone. Of a column that is too large to be
/// looked at, or that the server cannot hand over, only that is said.
///
/// # Errors
/// When the server is away.
pub async fn audit_row(
    connection: &mut Session,
    table: &TableName,
    reference: &str,
) -> Result<Option<serde_json::Value>, sqlx::Error> {
    let Ok(id) = reference.parse::<uuid::Uuid>() else {
        return Ok(None);
    };
    let types = columns::of(connection, table).await?;
    let columns = columns::readable(connection, table).await?;
    let shown: Vec<String> = columns
        .iter()
        .map(|name| {
            let value = match name.as_str() {
                "occurred_at" | "inserted_at" => columns::shown_time(&types, "e", name),
                _ => format!("to_jsonb(e.{})", quote(name)),
            };
            let name = quote(name);
            format!(
                "case when octet_length(x.{name}) > {SHOWN_BYTES}
                      then to_jsonb('(' || octet_length(x.{name}) || ' bytes as text, not shown)')
                      else {value} end as {name}"
            )
        })
        .collect();
    let row = row_of(connection, table, id, &columns, &shown).await;
    match row {
        Err(error) if is_of_row(&error) => {}
        row => return row,
    }
    // One of them cannot be handed over.
    let mut whole = serde_json::Map::new();
    for (name, shown) in columns.iter().zip(shown) {
        let value = match row_of(connection, table, id, std::slice::from_ref(name), &[shown]).await {
            Ok(None) => return Ok(None),
            Ok(Some(mut one)) => one.get_mut(name).map(serde_json::Value::take).unwrap_or_default(),
            Err(error) if is_of_row(&error) => {
                format!("(cannot be read: {})", errors::database(&error)).into()
            }
            Err(error) => return Err(error),
        };
        whole.insert(name.clone(), value);
    }
    Ok(Some(whole.into()))
}

/// Columns of an audit row that say what happened, and when, and not to whom. Whatever else a host has put into its table
/// may be about a person.
const UNMASKED_FIELDS: [&str; 8] =
    ["id", "occurred_at", "inserted_at", "action", "outcome", "actor_type", "target_type", "organization_id"];

/// What stands in the place of a value that is hidden.
pub const MASK: &str = "***";

/// Hides in an audit row whatever may reveal something about a person. NULL stays NULL: that there is nothing is no secret.
pub fn mask(row: &mut serde_json::Value) {
    for (column, value) in row.as_object_mut().into_iter().flatten() {
        if !UNMASKED_FIELDS.contains(&column.as_str()) && !value.is_null() {
            *value = MASK.into();
        }
    }
}

fn is_of_row(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Decode(_)) || matches!(classify(error), Fault::Event | Fault::Statement)
}

/// Some columns of an audit row as an object, each text made once.
async fn row_of(
    connection: &mut Session,
    table: &TableName,
    id: uuid::Uuid,
    columns: &[String],
    shown: &[String],
) -> Result<Option<serde_json::Value>, sqlx::Error> {
    let texts: Vec<String> = columns.iter().map(|name| format!("e.{0}::text as {0}", quote(name))).collect();
    let statement = format!(
        "select to_jsonb(r)::text from {} e cross join lateral (select {} offset 0) x
             cross join lateral (select {}) r
         where e.id = $1",
        table.quoted(),
        texts.join(", "),
        shown.join(", ")
    );
    let text: Option<String> =
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(id).fetch_optional(connection).await?;
    // Numbers of any size are legal there.
    text.map(|text| serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into())))
        .transpose()
}

/// Enters up to `limit` of those that match into the log again, each addressed to its forwarder, and counts their
/// attempts from the beginning. Returns how many. Those whose audit row is gone, or whose forwarder is none of
/// `forwarders`, would only die again, and are left as they are.
///
/// One statement: entry and state share their fate.
///
/// # Errors
/// When the server is away.
pub async fn redrive(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    forwarders: &[String],
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let columns = columns::of(connection, table).await?;
    let statement = format!(
        "with chosen as (
             select f.forwarder, f.ref, f.audit_event_id, {} as at
             from outbox.failures f join {} e on e.id = f.audit_event_id
             where {} and f.forwarder = any ($9)
             order by f.first_failed_at, f.ref limit $8 for update of f),
         queued as (
             update outbox.failures f
             set state = 'queued', attempts = 0, started = 0, next_attempt_at = null, note = null
             from chosen c where f.forwarder = c.forwarder and f.ref = c.ref
             returning c.audit_event_id, c.at, c.forwarder),
         entered as (
             insert into outbox.entries (audit_event_id, occurred_at, forwarder)
             select q.audit_event_id, q.at, q.forwarder from queued q
             returning 1)
         select count(*) from entered",
        as_captured("e.occurred_at"),
        table.quoted(),
        condition(table, &columns, filter)?
    );
    let (entered,): (i64,) =
        filtered(statement, filter).bind(limit).bind(forwarders.to_vec()).fetch_one(connection).await?;
    Ok(entered.cast_unsigned())
}

/// Marks those that match as not to be delivered, with the operator's reason. Returns how many.
///
/// # Errors
/// When the server is away.
pub async fn discard(
    connection: &mut Session,
    table: &TableName,
    filter: &Filter,
    note: &str,
) -> Result<u64, sqlx::Error> {
    let columns = columns::of(connection, table).await?;
    let statement = format!(
        "with discarded as (
             update outbox.failures f set state = 'discarded', note = $8, next_attempt_at = null
             where {} returning 1)
         select count(*) from discarded",
        condition(table, &columns, filter)?
    );
    let (discarded,): (i64,) =
        filtered(statement, filter).bind(note.to_owned()).fetch_one(connection).await?;
    Ok(discarded.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn personal_fields_are_masked_and_the_others_stay() {
        let mut row = json!({"id": "1", "action": "auth.login.failure", "actor_id": null, "ip_address": "203.0.113.7",
                             "metadata": {"email": "a@b.example"}, "email": "a@b.example"});
        mask(&mut row);
        assert_eq!(
            row,
            json!({"id": "1", "action": "auth.login.failure", "actor_id": null, "ip_address": "***", "metadata": "***",
                   "email": "***"})
        );
    }
}
