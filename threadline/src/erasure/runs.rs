//! The erasures that there were.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{counts::Counts, left::ERASURES};
use crate::{
    StorageSchema,
    query::{ReadError, Statement, clamped_time, serialize},
};

/// Runs that are listed, unless said otherwise.
pub const RUNS_LISTED: u16 = 20;

/// Runs that can be listed.
pub const RUNS_LISTED_MAX: u16 = 1_000;

/// A row of `threadline_erasures`, without what a subject could be looked for with.
#[derive(Debug, Clone, Serialize)]
pub struct ErasureRun {
    /// Primary key.
    pub id: Uuid,
    /// `running`, `completed`, `failed`; `interrupted` of one that says that it is running while nobody has renewed its lease.
    pub status: String,
    /// `row`, `actor`, `person`.
    pub kind: String,
    /// Why.
    pub reason: String,
    /// Who, as JSON.
    pub actor_ref: Option<Box<RawValue>>,
    /// Tables and columns.
    pub policy: Box<RawValue>,
    /// How much.
    #[serde(flatten)]
    pub counts: Counts,
    /// When it began, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::optional_time")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(serialize_with = "serialize::optional_time")]
    pub completed_at: Option<OffsetDateTime>,
    /// Why it failed: a term and words.
    pub error_message: Option<String>,
}

/// The newest erasures, the newest first.
///
/// # Errors
/// `page_size`, and what the database says.
pub async fn runs(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    limit: u16,
) -> Result<Vec<ErasureRun>, ReadError> {
    if !(1..=RUNS_LISTED_MAX).contains(&limit) {
        let reason = format!("a list has 1 to {RUNS_LISTED_MAX} runs, not {limit}");
        return Err(ReadError::unusable("page_size", reason));
    }
    let mut statement = Statement::new(format!(
        "select r.id, case when r.status = 'running' and coalesce(r.lease_until, '-infinity') < clock_timestamp()
                           then 'interrupted' else r.status end,
                r.kind, r.reason, r.actor_ref::text, r.policy::text, r.counts::text, {}, {}, r.error_message
         from {} r order by r.started_at desc, r.id desc limit ",
        clamped_time("r.started_at"),
        clamped_time("r.completed_at"),
        storage.table(ERASURES)
    ));
    statement.bind(i64::from(limit));
    let rows = statement.fetch_all(connection).await?;
    Ok(rows.iter().map(run).collect::<Result<_, _>>()?)
}

fn run(row: &PgRow) -> Result<ErasureRun, sqlx::Error> {
    let json = |text: String| RawValue::from_string(text).map_err(|error| sqlx::Error::Decode(error.into()));
    Ok(ErasureRun {
        id: row.try_get(0)?,
        status: row.try_get(1)?,
        kind: row.try_get(2)?,
        reason: row.try_get(3)?,
        actor_ref: row.try_get::<Option<String>, _>(4)?.map(json).transpose()?,
        policy: json(row.try_get(5)?)?,
        counts: serde_json::from_str(row.try_get(6)?).unwrap_or_default(),
        started_at: row.try_get(7)?,
        completed_at: row.try_get(8)?,
        error_message: row.try_get(9)?,
    })
}
