//! Saved views: filters of a timeline that somebody has given a name.
//!
//! They are rows of `threadline_saved_views`, where the Elixir library keeps its own. Ours are stored as [`filter::json`](crate::query::filter::json)
//! writes them, so that a relative window stays one. Each belongs to one actor, who alone sees it. Whatever is done to one is an action, which is
//! recorded first and in the same transaction; it names the view by its id, and never says what stands in it.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row as _, Transaction, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Action, ActorRef, ActorType, Status, Timeline, batches,
    query::{Filter, Table, clamped_time, filter::url::from_pairs, serialize},
    telemetry, visible,
};

/// Views that an actor has at most.
pub const VIEWS_MAX: usize = 100;

/// Characters of a name.
pub const NAME_MAX: usize = 100;

/// Bytes of a filter, as it is stored.
pub const FILTER_BYTES_MAX: usize = 16 * 1024;

/// How long is waited for somebody else who changes views of the same actor.
const LOCK_TIME: Duration = Duration::from_secs(2);

/// A filter under a name.
#[derive(Debug, Clone, Serialize)]
pub struct SavedView {
    /// Primary key.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// What it asks for; none where another program has stored something that is no filter here.
    pub filter: Option<Filter>,
    /// When it was saved, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub saved_at: OffsetDateTime,
}

/// Why something cannot be done with a view.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// It was not done, and nothing was written.
    #[error("{reason}")]
    Refused {
        /// What programs can rely on: `actor_missing`, `name_invalid`, `name_taken`, `filter_invalid`, `filter_too_long`, `too_many_views`,
        /// `form_used`, `not_found`, `busy`.
        term: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// What the database says.
    #[error("saved views cannot be reached")]
    Database(#[source] sqlx::Error),
}

impl ViewError {
    fn refused(term: &'static str, reason: impl Into<String>) -> Self {
        Self::Refused { term, reason: reason.into() }
    }

    fn not_found() -> Self {
        Self::refused("not_found", "There is no such view of yours: it may have been deleted meanwhile.")
    }
}

impl From<sqlx::Error> for ViewError {
    fn from(error: sqlx::Error) -> Self {
        if batches::is_busy(&error) {
            return Self::refused(
                "busy",
                "Somebody changes your views at the same time. Try again in a moment.",
            );
        }
        Self::Database(error)
    }
}

/// The views of an actor by their names, [`VIEWS_MAX`] at most; none of one that is anonymous.
///
/// # Errors
/// What the database says.
pub async fn list(timeline: &Timeline, actor: &ActorRef) -> Result<Vec<SavedView>, ViewError> {
    if actor.kind() == ActorType::Anonymous {
        return Ok(Vec::new());
    }
    let statement = format!(
        "select id, name, filters, {} from {} where actor_ref = $1 order by lower(name), name, id limit $2",
        clamped_time("inserted_at"),
        table(timeline)
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .bind(actor.to_json())
        .bind(i64::try_from(VIEWS_MAX).unwrap_or(i64::MAX))
        .fetch_all(timeline.pool())
        .await?;
    Ok(rows.iter().map(view).collect::<Result<_, _>>()?)
}

/// Saves a filter under an id of the caller's choice. Returns the action that stands for it; none where the same view is there already, so that
/// a form that is sent twice saves once.
///
/// # Errors
/// `actor_missing`, `name_invalid`, `name_taken`, `filter_invalid`, `filter_too_long`, `too_many_views`, `form_used`, `busy`, and what the database says.
pub async fn save(
    timeline: &Timeline,
    actor: &ActorRef,
    id: Uuid,
    name: &str,
    filter: &Filter,
) -> Result<Option<Uuid>, ViewError> {
    let name = checked_name(name)?;
    filter.check().map_err(|error| ViewError::refused("filter_invalid", error.to_string()))?;
    let stored = json!(filter);
    if stored.to_string().len() > FILTER_BYTES_MAX {
        let reason = format!("A saved filter has at most {FILTER_BYTES_MAX} bytes.");
        return Err(ViewError::refused("filter_too_long", reason));
    }
    let mut act = Act::begin(timeline, actor).await?;
    if act.is_there(id, name, &stored).await? {
        return Ok(None);
    }
    let action = act.record("audit.view_saved", "save", id).await?;
    act.check_free(id, name).await?;
    act.check_room().await?;
    let statement = format!(
        "insert into {} (id, name, actor_ref, filters) values ($1, $2, $3, $4) on conflict (id) do nothing",
        table(timeline)
    );
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(id).bind(name);
    let query = query.bind(actor.to_json()).bind(stored);
    if query.execute(&mut *act.transaction).await?.rows_affected() == 0 {
        let reason = "This form was sent before, and what it saved was changed since: open the page again.";
        return Err(ViewError::refused("form_used", reason));
    }
    act.commit().await?;
    Ok(Some(action))
}

/// Gives a view another name. Returns the action that stands for it.
///
/// # Errors
/// `actor_missing`, `name_invalid`, `name_taken`, `not_found`, `busy`, and what the database says.
pub async fn rename(timeline: &Timeline, actor: &ActorRef, id: Uuid, name: &str) -> Result<Uuid, ViewError> {
    let name = checked_name(name)?;
    let mut act = Act::begin(timeline, actor).await?;
    let action = act.record("audit.view_renamed", "rename", id).await?;
    act.check_free(id, name).await?;
    let statement = format!(
        "update {} set name = $3, updated_at = now() where id = $1 and actor_ref = $2",
        table(timeline)
    );
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(id).bind(actor.to_json());
    one(query.bind(name).execute(&mut *act.transaction).await?.rows_affected())?;
    act.commit().await?;
    Ok(action)
}

/// Deletes a view. Returns the action that stands for it.
///
/// # Errors
/// `actor_missing`, `not_found`, `busy`, and what the database says.
pub async fn remove(timeline: &Timeline, actor: &ActorRef, id: Uuid) -> Result<Uuid, ViewError> {
    let mut act = Act::begin(timeline, actor).await?;
    let action = act.record("audit.view_removed", "remove", id).await?;
    let statement = format!("delete from {} where id = $1 and actor_ref = $2", table(timeline));
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(id).bind(actor.to_json());
    one(query.execute(&mut *act.transaction).await?.rows_affected())?;
    act.commit().await?;
    Ok(action)
}

/// A transaction in which an actor does something to a view; dropped, it has done nothing.
struct Act<'a> {
    timeline: &'a Timeline,
    actor: &'a ActorRef,
    transaction: Transaction<'static, Postgres>,
}

impl<'a> Act<'a> {
    /// Begins it; acts of one actor come one after another.
    async fn begin(timeline: &'a Timeline, actor: &'a ActorRef) -> Result<Self, ViewError> {
        if actor.kind() == ActorType::Anonymous {
            let reason = "Views belong to somebody, and it is not known who you are.";
            return Err(ViewError::refused("actor_missing", reason));
        }
        let mut transaction = batches::begin(timeline.pool(), LOCK_TIME).await?;
        lock(&mut transaction, &format!("{} {}", table(timeline), actor.to_json_text())).await?;
        Ok(Self { timeline, actor, transaction })
    }

    async fn record(&mut self, name: &str, verb: &str, view: Uuid) -> Result<Uuid, ViewError> {
        let action = Action::new(name, self.actor.clone())
            .verb(verb)
            .category("audit")
            .comment(json!({ "view": view }).to_string());
        Ok(action.record(&mut self.transaction, self.timeline.schema()).await?.id)
    }

    /// Whether the same view is there.
    async fn is_there(&mut self, id: Uuid, name: &str, filter: &Value) -> Result<bool, ViewError> {
        let statement = format!(
            "select exists (select from {} where id = $1 and actor_ref = $2 and name = $3 and filters = $4)",
            table(self.timeline)
        );
        let query = sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).bind(id);
        let query = query.bind(self.actor.to_json()).bind(name).bind(filter);
        Ok(query.fetch_one(&mut *self.transaction).await?)
    }

    /// That no other view of the actor has this name.
    async fn check_free(&mut self, id: Uuid, name: &str) -> Result<(), ViewError> {
        let statement = format!(
            "select exists (select from {} where id <> $1 and actor_ref = $2 and name = $3)",
            table(self.timeline)
        );
        let query = sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).bind(id);
        if query.bind(self.actor.to_json()).bind(name).fetch_one(&mut *self.transaction).await? {
            let reason = "Another view of yours has this name: take another one, or delete that view first.";
            return Err(ViewError::refused("name_taken", reason));
        }
        Ok(())
    }

    /// That the actor has room for one more.
    async fn check_room(&mut self) -> Result<(), ViewError> {
        let statement = format!("select count(*) from {} where actor_ref = $1", table(self.timeline));
        let query = sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).bind(self.actor.to_json());
        let views: i64 = query.fetch_one(&mut *self.transaction).await?;
        if usize::try_from(views).is_ok_and(|views| views < VIEWS_MAX) {
            return Ok(());
        }
        let reason = format!("Nobody has more than {VIEWS_MAX} saved views: delete one first.");
        Err(ViewError::refused("too_many_views", reason))
    }

    async fn commit(self) -> Result<(), ViewError> {
        self.transaction.commit().await?;
        telemetry::action_recorded(Status::Ok);
        Ok(())
    }
}

/// That there was such a view.
fn one(rows: u64) -> Result<(), ViewError> {
    if rows == 0 { Err(ViewError::not_found()) } else { Ok(()) }
}

async fn lock(connection: &mut PgConnection, what: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 0))")
        .persistent(false)
        .bind(what)
        .execute(connection)
        .await?;
    Ok(())
}

fn table(timeline: &Timeline) -> String {
    timeline.schema().table("threadline_saved_views")
}

fn checked_name(name: &str) -> Result<&str, ViewError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > NAME_MAX || name.chars().any(visible::acts) {
        let reason = format!("A view has a name of 1 to {NAME_MAX} characters, each of which can be seen.");
        return Err(ViewError::refused("name_invalid", reason));
    }
    Ok(name)
}

fn view(row: &PgRow) -> Result<SavedView, sqlx::Error> {
    let stored: Value = row.try_get(2)?;
    Ok(SavedView {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        filter: read(&stored),
        saved_at: row.try_get(3)?,
    })
}

/// What is stored, as a filter: ours, or one of the Elixir library's, which has other names for some terms and may have empty ones.
fn read(stored: &Value) -> Option<Filter> {
    if let Ok(filter) = serde_json::from_value(stored.clone()) {
        return Some(filter);
    }
    let mut terms = BTreeMap::new();
    for (name, value) in stored.as_object()? {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                terms.insert(name.as_str(), text.clone());
            }
            _ => return None,
        }
    }
    let mut of_library = |names: &[&str]| names.iter().find_map(|name| terms.remove(*name));
    let schema = of_library(&["schema", "table_schema"]);
    let kind = of_library(&["actor_kind", "actor_type"]);
    let id = of_library(&["actor_id"]);
    let correlation = of_library(&["correlation_id", "correlation"]);
    let table = of_library(&["table", "table_name"]);
    let time = |text: String| if text.len() == "2026-05-15T12:00".len() { text + ":00Z" } else { text };
    let (from, to) = (of_library(&["from"]).map(time), of_library(&["to"]).map(time));
    let actor = match (kind.as_deref(), id) {
        (None, None) => None,
        (Some("anonymous"), _) => Some("anonymous".to_owned()),
        (Some(kind), Some(id)) => Some(format!("{kind}:{id}")),
        _ => return None,
    };
    let table = match (schema, table) {
        (Some(schema), Some(name)) => Some(Table { schema: Some(schema), name }.to_string()),
        (None, table) => table,
        (Some(_), None) => return None,
    };
    let own = [("table", table), ("actor", actor), ("correlation", correlation), ("from", from), ("to", to)];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let rest = terms.into_iter().map(|(name, value)| (name.to_owned(), value));
    from_pairs(own.chain(rest).collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_of_the_library_is_read_and_what_is_no_filter_is_none() {
        for (stored, filter) in [
            (json!({"table": "posts", "last": "24h"}), Some("table:posts last:1d")),
            (json!({}), Some("")),
            (
                json!({"table": "posts", "schema": "billing", "actor_kind": "user", "actor_id": "u1", "correlation_id": "", "from": "2026-05-15T12:00", "to": null}),
                Some("table:billing.posts actor:user:u1 from:2026-05-15T12:00:00.000000Z"),
            ),
            (json!({"actor_kind": "anonymous", "actor_id": ""}), Some("actor:anonymous")),
            (json!({"correlation_id": "c1"}), Some("correlation:c1")),
            (json!({"schema": "billing"}), None),
            (json!({"actor_kind": "user"}), None),
            (json!({"page": "7"}), None),
            (json!({"table": 7}), None),
            (json!("table:posts"), None),
            (json!(null), None),
        ] {
            assert_eq!(read(&stored).map(|filter| filter.to_string()).as_deref(), filter, "{stored}");
        }
    }
}
