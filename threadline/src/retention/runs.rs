//! The runs that there were, ours and the Elixir library's.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::archive::{self, Archived};
use crate::{
    StorageSchema,
    query::{ReadError, Statement, clamped_time, serialize},
};

/// Runs that are listed, unless said otherwise.
pub const RUNS_LISTED: u16 = 20;

/// Runs that can be listed.
pub const RUNS_LISTED_MAX: u16 = 1_000;

/// A row of `threadline_retention_runs`, as it is stored: a reader fails on none.
#[derive(Debug, Clone, Serialize)]
pub struct RecordedRun {
    /// Primary key.
    pub id: Uuid,
    /// `running`, `completed`, `failed`; `interrupted` of one that says that it is running while nobody has renewed its lease.
    pub status: String,
    /// When it began, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::optional_time")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(serialize_with = "serialize::optional_time")]
    pub completed_at: Option<OffsetDateTime>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i32>,
    /// Changes and captured transactions together, at most 2,147,483,647: the Elixir library knows no more.
    pub deleted_count: Option<i32>,
    /// Changes.
    pub deleted_changes: Option<i64>,
    /// Captured transactions.
    pub deleted_transactions: Option<i64>,
    /// Actions.
    pub deleted_actions: Option<i64>,
    /// Why it failed: a term and words.
    pub error_message: Option<String>,
    /// Its process; none of a run of the library's.
    pub holder: Option<String>,
    /// Its cutoffs.
    pub windows: Option<Box<RawValue>>,
    /// What it has archived; none where it has archived nothing, or this role may not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
}

/// The newest runs, the newest first.
///
/// # Errors
/// `page_size`, and what the database says.
pub async fn runs(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    limit: u16,
) -> Result<Vec<RecordedRun>, ReadError> {
    if !(1..=RUNS_LISTED_MAX).contains(&limit) {
        let reason = format!("a list has 1 to {RUNS_LISTED_MAX} runs, not {limit}");
        return Err(ReadError::unusable("page_size", reason));
    }
    let mut statement = Statement::new(format!(
        "select r.id, case when r.status = 'running' and r.holder is not null and coalesce(r.lease_until, '-infinity') < clock_timestamp()
                           then 'interrupted' else r.status end,
                {}, {}, r.duration_ms, r.deleted_count, r.deleted_changes, r.deleted_transactions, r.deleted_actions, r.error_message,
                r.holder, r.windows::text
         from {} r order by coalesce(r.started_at, r.inserted_at) desc, r.id desc limit ",
        clamped_time("r.started_at"),
        clamped_time("r.completed_at"),
        storage.table("threadline_retention_runs")
    ));
    statement.bind(i64::from(limit));
    let rows = statement.fetch_all(&mut *connection).await?;
    let mut runs = rows.iter().map(recorded).collect::<Result<Vec<_>, _>>()?;
    let ids = runs.iter().map(|run| run.id).collect();
    for (run, archived) in archive::of_runs(connection, storage, ids).await? {
        if let Some(of) = runs.iter_mut().find(|of| of.id == run) {
            of.archived = Some(archived);
        }
    }
    Ok(runs)
}

fn recorded(row: &PgRow) -> Result<RecordedRun, sqlx::Error> {
    let windows: Option<String> = row.try_get(11)?;
    Ok(RecordedRun {
        id: row.try_get(0)?,
        status: row.try_get(1)?,
        started_at: row.try_get(2)?,
        completed_at: row.try_get(3)?,
        duration_ms: row.try_get(4)?,
        deleted_count: row.try_get(5)?,
        deleted_changes: row.try_get(6)?,
        deleted_transactions: row.try_get(7)?,
        deleted_actions: row.try_get(8)?,
        error_message: row.try_get(9)?,
        holder: row.try_get(10)?,
        windows: windows.and_then(|text| RawValue::from_string(text).ok()),
        archived: None,
    })
}
