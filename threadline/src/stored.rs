//! Actions as they are stored, to be compared with what should be there. One documented function per statement.

use std::collections::HashMap;

use futures::{Stream, TryStreamExt as _};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{ActionTable, AuditAction, StorageSchema, schema::ACTION_COLUMNS};

/// A row of `audit_actions`, whatever was changed in it: nothing here is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAction {
    /// Primary key.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Who, as JSON with sorted keys.
    pub actor: String,
    /// How it ended.
    pub status: String,
    /// The texts that may be absent, in the order of the table: verb, category, reason, comment, correlation id, request
    /// id, job id.
    pub texts: [Option<String>; 7],
    /// When, clamped to the years 1 to 9999.
    pub inserted_at: OffsetDateTime,
    /// The columns of which something was erased.
    pub erased: Vec<String>,
}

impl StoredAction {
    /// What the table will hold for an action.
    #[must_use]
    pub fn expected(action: &AuditAction) -> Self {
        let AuditAction { id, name, actor, status, inserted_at, .. } = action;
        let texts = [
            &action.verb,
            &action.category,
            &action.reason,
            &action.comment,
            &action.correlation_id,
            &action.request_id,
            &action.job_id,
        ];
        Self {
            id: *id,
            name: name.clone(),
            actor: actor.to_json().to_string(),
            status: status.as_str().to_owned(),
            texts: texts.map(Clone::clone),
            inserted_at: *inserted_at,
            erased: Vec::new(),
        }
    }

    /// With what was erased as it should be: that it is not there any more is no difference.
    #[must_use]
    pub fn but_for_erasures(mut self, expected: &Self) -> Self {
        for column in std::mem::take(&mut self.erased) {
            match column.as_str() {
                "actor_ref" => self.actor.clone_from(&expected.actor),
                "reason" => self.texts[2].clone_from(&expected.texts[2]),
                "comment" => self.texts[3].clone_from(&expected.texts[3]),
                _ => {}
            }
        }
        self
    }

    /// The correlation id.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.texts[4].as_deref()
    }

    /// Without its time, where that is the time of delivery and says nothing.
    #[must_use]
    pub fn timeless(self) -> Self {
        Self { inserted_at: OffsetDateTime::UNIX_EPOCH, ..self }
    }

    fn parts(&self) -> [Option<String>; 12] {
        let micros = self.inserted_at.unix_timestamp_nanos() / 1_000;
        let mut parts: [Option<String>; 12] = std::array::from_fn(|_| None);
        parts[0] = Some(self.id.to_string());
        parts[1] = Some(self.name.clone());
        parts[2] = Some(self.actor.clone());
        parts[3] = Some(self.status.clone());
        parts[4..11].clone_from_slice(&self.texts);
        parts[11] = Some(micros.to_string());
        parts
    }

    /// One form for one row: each part with its length before it, so that nothing can move from one part to the next.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        for part in self.parts() {
            match part {
                Some(text) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                None => bytes.push(0),
            }
        }
        bytes
    }

    /// The names of the parts in which two rows differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (ours, theirs) = (self.parts(), other.parts());
        ACTION_COLUMNS
            .iter()
            .zip(ours.iter().zip(&theirs))
            .filter(|(_, (a, b))| a != b)
            .map(|(name, _)| *name)
            .collect()
    }
}

/// `infinity` and the year 10000 are legal in PostgreSQL and make a driver panic: clamped there. It is never NULL.
const TIME: &str =
    "least(greatest(a.inserted_at, '0001-01-01 00:00:00+00'), '9999-12-31 23:59:59.999999+00')";

/// From one time to before another; absent ends are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Happened at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Happened before this time.
    pub until: Option<OffsetDateTime>,
}

const COLUMNS: &str = "a.id, a.name, a.actor_ref::text, a.status, a.verb, a.category, a.reason, a.comment, \
    a.correlation_id, a.request_id, a.job_id";

/// Names of columns; none in a table from before there were erasures.
const ERASED: &str = "array(select jsonb_object_keys(case jsonb_typeof(to_jsonb(a) #> '{erased,columns}') when 'object'
                                                          then to_jsonb(a) #> '{erased,columns}' else '{}' end))";

/// The actions of a window that the pipeline has projected, by ascending id: those whose correlation id is their own id. A
/// host records its own ones otherwise.
pub fn projected<'c>(
    connection: &'c mut PgConnection,
    table: &ActionTable,
    window: Window,
) -> impl Stream<Item = Result<StoredAction, sqlx::Error>> + use<'c> {
    let statement = format!(
        "select {COLUMNS}, {TIME}, {ERASED} from {table} a
         where a.correlation_id = a.id::text
           and ($1::timestamptz is null or a.inserted_at >= $1) and ($2::timestamptz is null or a.inserted_at < $2)
         order by a.id"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(window.since)
        .bind(window.until)
        .fetch(connection)
        .map_err(std::convert::identity)
        .and_then(|row| std::future::ready(decode(&row)))
}

/// The actions under these ids, whatever wrote them.
///
/// # Errors
/// When the server is away.
pub async fn find(
    connection: &mut PgConnection,
    table: &ActionTable,
    ids: &[Uuid],
) -> Result<Vec<StoredAction>, sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!(
        "select {COLUMNS}, {TIME}, {ERASED} from {table} a where a.id = any ($1)"
    )))
    .bind(ids)
    .try_map(|row| decode(&row))
    .fetch_all(connection)
    .await
}

/// Those of `ids` that are taken, whatever wrote them.
///
/// # Errors
/// When the server is away.
pub async fn present(
    connection: &mut PgConnection,
    table: &ActionTable,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let statement = format!("select id from {table} where id = any ($1)");
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(ids).fetch_all(connection).await
}

/// Those of `ids` that are taken, each with its correlation id.
///
/// # Errors
/// When the server is away.
pub(crate) async fn correlation_ids(
    connection: &mut PgConnection,
    table: &ActionTable,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Option<String>>, sqlx::Error> {
    let statement = format!("select id, correlation_id from {table} where id = any ($1)");
    let found: Vec<(Uuid, Option<String>)> =
        sqlx::query_as(AssertSqlSafe(statement)).bind(ids).fetch_all(connection).await?;
    Ok(found.into_iter().collect())
}

/// When the oldest action that the pipeline has projected happened, and up to which retention may have deleted others: it keeps those that
/// a captured transaction is linked to, however old.
///
/// # Errors
/// When the server is away.
pub async fn oldest(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    table: &ActionTable,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let statement = format!(
        "select {TIME} from {table} a
         where a.correlation_id = a.id::text and not exists (select from {} t where t.action_id = a.id)
         order by a.inserted_at limit 1",
        schema.table("audit_transactions")
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_optional(connection).await
}

/// Actions that the pipeline has projected and that none of some windows contains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, FromRow)]
pub struct Outside {
    /// Before the first window.
    pub before: i64,
    /// Between two windows.
    pub between: i64,
    /// Behind the last window.
    pub behind: i64,
}

/// Counts what lies outside of these windows. Visits all actions.
///
/// # Errors
/// When the server is away.
pub async fn outside(
    connection: &mut PgConnection,
    table: &ActionTable,
    windows: &[(OffsetDateTime, OffsetDateTime)],
) -> Result<Outside, sqlx::Error> {
    let (since, until): (Vec<OffsetDateTime>, Vec<OffsetDateTime>) = windows.iter().copied().unzip();
    let statement = format!(
        "select count(*) filter (where a.inserted_at < lower(w.windows)) as before,
                count(*) filter (where a.inserted_at >= lower(w.windows) and a.inserted_at < upper(w.windows)) as between,
                count(*) filter (where a.inserted_at >= upper(w.windows)) as behind
         from (select range_agg(tstzrange(s, u)) as windows from unnest($1::timestamptz[], $2::timestamptz[]) w (s, u)) w
         join {table} a on a.correlation_id = a.id::text and not a.inserted_at <@ w.windows"
    );
    sqlx::query_as(AssertSqlSafe(statement)).bind(since).bind(until).fetch_one(connection).await
}

/// Removes actions; returns how many there were.
///
/// # Errors
/// When the server is away.
pub async fn remove(
    connection: &mut PgConnection,
    table: &ActionTable,
    ids: &[Uuid],
) -> Result<u64, sqlx::Error> {
    let statement = format!("delete from {table} where id = any ($1)");
    Ok(sqlx::query(AssertSqlSafe(statement)).bind(ids).execute(connection).await?.rows_affected())
}

fn decode(row: &PgRow) -> Result<StoredAction, sqlx::Error> {
    let actor: String = row.try_get(2)?;
    // The server's own form sorts keys by length.
    let actor = serde_json::from_str::<Value>(&actor).map_or(actor, |value| value.to_string());
    let mut texts: [Option<String>; 7] = Default::default();
    for (place, text) in texts.iter_mut().enumerate() {
        *text = row.try_get(4 + place)?;
    }
    Ok(StoredAction {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        actor,
        status: row.try_get(3)?,
        texts,
        inserted_at: row.try_get(11)?,
        erased: row.try_get(12)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stored(name: &str, texts: [Option<&str>; 7]) -> StoredAction {
        StoredAction {
            id: Uuid::nil(),
            name: name.to_owned(),
            actor: "{}".to_owned(),
            status: "ok".to_owned(),
            texts: texts.map(|text| text.map(str::to_owned)),
            inserted_at: OffsetDateTime::UNIX_EPOCH,
            erased: Vec::new(),
        }
    }

    #[test]
    fn text_that_moves_from_one_column_to_the_next_is_another_row() {
        let none = [None; 7];
        let [mut one, mut other] = [none; 2];
        (one[0], one[1]) = (Some("ab"), Some("c"));
        (other[0], other[1]) = (Some("a"), Some("bc"));
        assert_ne!(stored("n", one).canonical(), stored("n", other).canonical());
        let mut empty = none;
        empty[0] = Some("");
        assert_ne!(stored("n", none).canonical(), stored("n", empty).canonical());
        assert_eq!(stored("n", one).differences(&stored("m", other)), ["name", "verb", "category"]);
    }

    proptest! {
        #[test]
        fn two_rows_have_one_canonical_form_exactly_when_nothing_differs(
            name in ".{0,3}", other in ".{0,3}", verb in proptest::option::of(".{0,3}"), reason in proptest::option::of(".{0,3}"),
        ) {
            let mut texts = [None; 7];
            (texts[0], texts[2]) = (verb.as_deref(), reason.as_deref());
            let (one, two) = (stored(&name, texts), stored(&other, [None; 7]));
            prop_assert_eq!(one.canonical() == two.canonical(), one.differences(&two).is_empty());
        }
    }
}
