//! Rows of `audit_actions`, and inserting many of them at once: [`insert_batch`] and [`insert_new`]. Both are idempotent writes: what is
//! there already under the same id has no effect.

pub mod verified;

use std::collections::HashSet;

use sqlx::{PgConnection, Postgres, Row as _, postgres::PgArguments, query::Query};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{ActionTable, ActorRef, Adoption, stored};

/// How it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// As wanted.
    #[default]
    Ok,
    /// Refused or failed.
    Error,
}

impl Status {
    /// The name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// A row of `audit_actions`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditAction {
    /// Primary key.
    pub id: Uuid,
    /// Such as `auth.login.success`.
    pub name: String,
    /// Who.
    pub actor: ActorRef,
    /// How it ended.
    pub status: Status,
    /// What was done.
    pub verb: Option<String>,
    /// What kind of thing it was done to.
    pub category: Option<String>,
    /// Why it ended as it did.
    pub reason: Option<String>,
    /// Free text.
    pub comment: Option<String>,
    /// Ties actions and changes together.
    pub correlation_id: Option<String>,
    /// The HTTP request.
    pub request_id: Option<String>,
    /// The background job.
    pub job_id: Option<String>,
    /// When it happened.
    pub inserted_at: OffsetDateTime,
}

impl AuditAction {
    /// An action that ended as wanted; all else is absent.
    #[must_use]
    pub fn new(id: Uuid, name: impl Into<String>, actor: ActorRef, inserted_at: OffsetDateTime) -> Self {
        Self {
            id,
            name: name.into(),
            actor,
            status: Status::Ok,
            verb: None,
            category: None,
            reason: None,
            comment: None,
            correlation_id: None,
            request_id: None,
            job_id: None,
            inserted_at,
        }
    }
}

/// What became of the actions of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Ids that were written now.
    pub written: Vec<Uuid>,
    /// Ids that were there already, written for the same correlation id; or whose correlation id somebody else's action has,
    /// where the table takes no second one.
    pub present: Vec<Uuid>,
    /// Ids under which something else is stored.
    pub conflicting: Vec<Uuid>,
    /// Ids that the database took and under which it kept nothing: a trigger that returns NULL or changes the id, a rule.
    pub swallowed: Vec<Uuid>,
    /// Ids that are free, and whose actions another unique index or an exclusion constraint keeps out, with its words.
    pub refused: Vec<(Uuid, String)>,
}

/// Inserts many actions under ids of the caller's choice, with one statement; harmless when repeated.
///
/// The statement works on a table without any constraint of ours. Rows go in by ascending id: batches that overlap,
/// such as redeliveries to two workers, would deadlock otherwise.
///
/// # Errors
/// What the database says; then nothing of the batch was written.
pub async fn insert_batch(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
) -> Result<Inserted, sqlx::Error> {
    let statement = format!("{} on conflict do nothing {RETURNING}", insert(table));
    let written = match written_ids(connection, statement, actions).await {
        Ok(written) => written,
        Err(error) if needs_verification(&error) => {
            return verified::insert(connection, table, actions).await;
        }
        Err(error) => return Err(error),
    };
    if written.len() == actions.len() {
        return Ok(Inserted { written, ..Inserted::default() });
    }
    explain_unwritten(connection, table, actions, written).await
}

/// The same for actions of which none is expected to be there: an eighth cheaper for the server, which need not look
/// before it writes. `None` when one was there: then nothing of the batch was written. Not within a transaction, which that
/// would end.
///
/// # Errors
/// What the database says otherwise.
pub async fn insert_new(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
) -> Result<Option<Inserted>, sqlx::Error> {
    match insert_plainly(connection, table, actions).await {
        Ok(inserted) => Ok(Some(inserted)),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The insert without any clause for what is there.
async fn insert_plainly(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
) -> Result<Inserted, sqlx::Error> {
    let statement = format!("{} {RETURNING}", insert(table));
    match written_ids(connection, statement, actions).await {
        // Fewer, and nothing was in the way.
        Ok(written) if written.len() < actions.len() => kept(connection, table, actions).await,
        Ok(written) => Ok(Inserted { written, ..Inserted::default() }),
        Err(error) if needs_verification(&error) => verified::insert(connection, table, actions).await,
        Err(error) => Err(error),
    }
}

async fn written_ids(
    connection: &mut PgConnection,
    statement: String,
    actions: &[AuditAction],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows = bind(sqlx::query(sqlx::AssertSqlSafe(statement)), actions).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| codes.contains(&&*code))
}

/// Whether only the verifying insert can do it: a rule of the host's own allows neither `on conflict` nor `returning`, a deferrable
/// constraint not the first; or a trigger has given an action another id.
fn needs_verification(error: &sqlx::Error) -> bool {
    has_code(error, &[FEATURE_NOT_SUPPORTED, NOT_IN_PREREQUISITE_STATE]) || has_changed_id(error)
}

/// Whether a trigger has given an action another id. Then nothing of the statement was written.
pub(crate) fn has_changed_id(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.message().contains(CHANGED_ID))
}

/// Whether a unique index or an exclusion constraint says no.
pub(crate) fn is_kept_out(error: &sqlx::Error) -> bool {
    has_code(error, &[UNIQUE_VIOLATION, EXCLUSION_VIOLATION])
}

/// Tells what was kept of actions that were taken, when the database counts fewer: a trigger may have put the rest elsewhere
/// in the same table.
///
/// # Errors
/// When the server is away.
async fn kept(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
) -> Result<Inserted, sqlx::Error> {
    let ids: Vec<Uuid> = actions.iter().map(|action| action.id).collect();
    let kept: HashSet<Uuid> = stored::present(connection, table, &ids).await?.into_iter().collect();
    let (written, swallowed) = ids.into_iter().partition(|id| kept.contains(id));
    Ok(Inserted { written, swallowed, ..Inserted::default() })
}

/// The statement that inserts what is absent, for any table whatever its rules: without a word of what was written.
pub(crate) fn insert_absent(table: &ActionTable) -> String {
    let absent = format!("where not exists (select from {table} t where t.id = n.id) order by n.id");
    insert(table).replace("order by n.id", &absent)
}

/// Writes many actions over whatever is stored under their ids, with one statement: a repair, or a mapping that has
/// changed. One of which something was erased stays as it is. With `times` their times as well; where those are of the delivery, what is stored is the only one there is.
/// Returns how many rows were written.
///
/// # Errors
/// What the database says; then nothing of the batch was written.
pub async fn overwrite_batch(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
    times: bool,
) -> Result<u64, sqlx::Error> {
    Ok(written_ids(connection, overwrite(table, times), actions).await?.len() as u64)
}

pub(crate) fn overwrite(table: &ActionTable, times: bool) -> String {
    let time = if times { ", inserted_at = excluded.inserted_at" } else { "" };
    format!(
        "{} on conflict (id) do update
         set name = excluded.name, actor_ref = excluded.actor_ref, status = excluded.status, verb = excluded.verb,
             category = excluded.category, reason = excluded.reason, comment = excluded.comment,
             correlation_id = excluded.correlation_id, request_id = excluded.request_id, job_id = excluded.job_id{time}
         where {NOT_ERASED}
         {RETURNING}",
        insert(table).replacen(" (id,", " as a (id,", 1)
    )
}

/// Those of these ids under which an action of that event is stored.
///
/// # Errors
/// What the database says.
pub async fn present(
    connection: &mut PgConnection,
    table: &ActionTable,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let statement = format!("select id from {table} where id = any ($1) and correlation_id = id::text");
    sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(ids).fetch_all(connection).await
}

/// Writes actions over those that are there; others are left out. Unlike [`overwrite_batch`] it takes no number of a sequence. Returns
/// how many were written.
pub(crate) async fn update_batch(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
    times: bool,
) -> Result<u64, sqlx::Error> {
    let time = if times { ", inserted_at = n.inserted_at" } else { "" };
    let statement = format!(
        "update {table} a
         set name = n.name, actor_ref = n.actor_ref::jsonb, status = n.status, verb = n.verb, category = n.category,
             reason = n.reason, comment = n.comment, correlation_id = n.correlation_id, request_id = n.request_id,
             job_id = n.job_id{time}
         from {SENT} where a.id = n.id and {NOT_ERASED}"
    );
    Ok(bind(sqlx::query(sqlx::AssertSqlSafe(statement)), actions).execute(connection).await?.rows_affected())
}

/// That nothing was erased of an action `a`: what was is not written again. A table from before there were erasures says so too.
const NOT_ERASED: &str = "to_jsonb(a) ->> 'erased' is null";

fn insert(table: &ActionTable) -> String {
    format!(
        "insert into {table} (id, name, actor_ref, status, verb, category, reason, comment, correlation_id,
                              request_id, job_id, inserted_at)
         select n.id, n.name, n.actor_ref::jsonb, n.status, n.verb, n.category, n.reason, n.comment,
                n.correlation_id, n.request_id, n.job_id, n.inserted_at
         from {SENT} order by n.id"
    )
}

/// What [`bind`] sends, as a table. Unqualified on purpose: with several arguments `unnest` is PostgreSQL's own by its grammar, whatever
/// the search path.
const SENT: &str = "unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::text[], $12::timestamptz[])
              n (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id,
                 inserted_at)";

/// Returns the ids that were written. Raises when one is none of those that were sent: nothing is kept of what the host gives an id
/// of its own, because it would not be found, and would be written once more.
const RETURNING: &str = "returning case when id in (select pg_catalog.unnest($1::uuid[])) then id
                                        else pg_catalog.concat('a trigger on the table of actions has changed the id of an action to ',
                                                               id)::uuid end";

/// Words of it that no other error has.
const CHANGED_ID: &str = "a trigger on the table of actions has changed the id";

const UNIQUE_VIOLATION: &str = "23505";
const EXCLUSION_VIOLATION: &str = "23P01";

/// What PostgreSQL calls it when a deferrable constraint gets in the way of `on conflict`.
const NOT_IN_PREREQUISITE_STATE: &str = "55000";

/// What PostgreSQL calls it when rules get in the way of `on conflict` and `returning`.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

pub(crate) type Statement<'q> = Query<'q, Postgres, PgArguments>;

pub(crate) fn bind<'q>(statement: Statement<'q>, actions: &'q [AuditAction]) -> Statement<'q> {
    let texts = |field: fn(&AuditAction) -> Option<&str>| {
        // `unnest` fills up a column that has nothing; no array is cheaper than one of NULLs.
        let any = actions.iter().any(|action| field(action).is_some());
        any.then(|| actions.iter().map(field).collect::<Vec<_>>())
    };
    statement
        .bind(actions.iter().map(|action| action.id).collect::<Vec<_>>())
        .bind(texts(|action| Some(&action.name)))
        .bind(actions.iter().map(|action| action.actor.to_json_text()).collect::<Vec<_>>())
        .bind(texts(|action| Some(action.status.as_str())))
        .bind(texts(|action| action.verb.as_deref()))
        .bind(texts(|action| action.category.as_deref()))
        .bind(texts(|action| action.reason.as_deref()))
        .bind(texts(|action| action.comment.as_deref()))
        .bind(texts(|action| action.correlation_id.as_deref()))
        .bind(texts(|action| action.request_id.as_deref()))
        .bind(texts(|action| action.job_id.as_deref()))
        .bind(actions.iter().map(|action| action.inserted_at).collect::<Vec<_>>())
}

/// Tells what is there already from what is in the way.
async fn explain_unwritten(
    connection: &mut PgConnection,
    table: &ActionTable,
    actions: &[AuditAction],
    written: Vec<Uuid>,
) -> Result<Inserted, sqlx::Error> {
    let new: HashSet<Uuid> = written.iter().copied().collect();
    let unwritten: Vec<&AuditAction> = actions.iter().filter(|action| !new.contains(&action.id)).collect();
    let ids: Vec<Uuid> = unwritten.iter().map(|action| action.id).collect();
    let stored = stored::correlation_ids(connection, table, &ids).await?;
    let free: Vec<Uuid> =
        unwritten.iter().map(|action| action.id).filter(|id| !stored.contains_key(id)).collect();
    let held =
        if free.is_empty() { HashSet::new() } else { Adoption::All.find(connection, table, &free).await? };
    let mut inserted = Inserted { written, ..Inserted::default() };
    for action in unwritten {
        match stored.get(&action.id) {
            Some(correlation) if *correlation == action.correlation_id => inserted.present.push(action.id),
            Some(_) => inserted.conflicting.push(action.id),
            None if held.contains(&action.id) => inserted.present.push(action.id),
            // Its id is free: another constraint refuses it, or nothing does.
            None => match insert_plainly(connection, table, std::slice::from_ref(action)).await {
                Ok(one) => {
                    inserted.written.extend(one.written);
                    inserted.swallowed.extend(one.swallowed);
                }
                Err(error) if is_kept_out(&error) => {
                    inserted.refused.push((action.id, errors::database(&error)));
                }
                Err(error) => return Err(error),
            },
        }
    }
    Ok(inserted)
}
