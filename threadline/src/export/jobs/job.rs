//! A job as it stands in its row.

use serde::Serialize;
use serde_json::{Value, value::RawValue};
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{TABLE, claim::is_over, request::Stored};
use crate::{
    ActorRef, StorageSchema,
    export::Options,
    query::{Filter, Scope, Statement, clamped_time, serialize},
};

/// A row of `threadline_export_jobs`, as it is stored: a reader fails on none. Times are clamped to the years 1 to 9999.
#[derive(Debug, Clone, Serialize)]
pub struct Job {
    /// Primary key.
    pub id: Uuid,
    /// `pending`, `running`, `completed`, `failed`, `cancelled` or `expired`; `interrupted` of one that is running while nobody has renewed
    /// its lease, which the next worker takes.
    pub status: String,
    /// What is to be exported: `filter`, `options`, `scope` and `storage`. None of a job of the Elixir library's.
    pub request: Option<Box<RawValue>>,
    /// The filter by the keys of a URL.
    pub query_params: Option<Box<RawValue>>,
    /// On whose behalf.
    pub actor_ref: Option<Box<RawValue>>,
    /// Not before.
    #[serde(serialize_with = "serialize::optional_time")]
    pub due_at: Option<OffsetDateTime>,
    /// When it was asked for.
    #[serde(serialize_with = "serialize::optional_time")]
    pub inserted_at: Option<OffsetDateTime>,
    /// When a worker took it the last time.
    #[serde(serialize_with = "serialize::optional_time")]
    pub started_at: Option<OffsetDateTime>,
    /// When it ended.
    #[serde(serialize_with = "serialize::optional_time")]
    pub completed_at: Option<OffsetDateTime>,
    /// Until when what was stored is kept.
    #[serde(serialize_with = "serialize::optional_time")]
    pub keep_until: Option<OffsetDateTime>,
    /// The worker that has it, for people.
    pub holder: Option<String>,
    /// How often it was taken since it was asked for.
    pub attempts: Option<i32>,
    /// Where the export is, the manifest beside it; of a job that is not completed, where an attempt would have stored it.
    pub location: Option<String>,
    /// Entries.
    pub rows: Option<i64>,
    /// Bytes of the export.
    pub bytes: Option<i64>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: Option<String>,
    /// That of its manifest.
    pub manifest_sha256: Option<String>,
    /// Why it failed, or why what was stored could not be deleted: a term and words.
    pub error_message: Option<String>,
    /// The schedule that it was made for.
    pub schedule: Option<String>,
}

impl Job {
    /// Whether it is one of ours; otherwise it is the Elixir library's.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.request.is_some()
    }

    /// What it exports, and whose entries; none of a job of the Elixir library's, or where this version cannot read it.
    #[must_use]
    pub fn exports(&self) -> Option<(Filter, Options, Scope)> {
        let stored = Stored::read(self.request.as_ref()?.get()).ok()?;
        let scope = stored.scope().ok()?;
        Some((stored.filter.parse().ok()?, stored.options, scope))
    }

    /// Whether it was asked for on behalf of this actor.
    #[must_use]
    pub fn is_of(&self, actor: &ActorRef) -> bool {
        let stored =
            self.actor_ref.as_ref().and_then(|stored| serde_json::from_str::<Value>(stored.get()).ok());
        stored.is_some_and(|stored| stored == actor.to_json())
    }

    /// Whether nothing more happens to it by itself, but that it expires.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        ["completed", "failed", "cancelled", "expired"].contains(&self.status.as_str())
    }

    /// The beginning of a statement that reads jobs `j`.
    pub(super) fn select(storage: &StorageSchema) -> Statement {
        let times = ["due_at", "inserted_at", "started_at", "completed_at", "keep_until"];
        let times = times.map(|column| clamped_time(&format!("j.{column}"))).join(", ");
        Statement::new(format!(
            "select j.id, case when j.request is not null and j.holder is not null and j.status in ('running', 'failed')
                               then case when {} then 'interrupted' else 'running' end else j.status end,
                    j.request::text, j.query_params::text, j.actor_ref::text, {times}, j.holder, j.attempts,
                    j.location, j.rows, j.bytes, j.sha256, j.manifest_sha256, j.error_message, j.schedule
             from {} j ",
            is_over(),
            storage.table(TABLE)
        ))
    }

    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let json = |index: usize| -> Result<Option<Box<RawValue>>, sqlx::Error> {
            let text: Option<String> = row.try_get(index)?;
            Ok(text.and_then(|text| RawValue::from_string(text).ok()))
        };
        Ok(Self {
            id: row.try_get(0)?,
            status: row.try_get(1)?,
            request: json(2)?,
            query_params: json(3)?,
            actor_ref: json(4)?,
            due_at: row.try_get(5)?,
            inserted_at: row.try_get(6)?,
            started_at: row.try_get(7)?,
            completed_at: row.try_get(8)?,
            keep_until: row.try_get(9)?,
            holder: row.try_get(10)?,
            attempts: row.try_get(11)?,
            location: row.try_get(12)?,
            rows: row.try_get(13)?,
            bytes: row.try_get(14)?,
            sha256: row.try_get(15)?,
            manifest_sha256: row.try_get(16)?,
            error_message: row.try_get(17)?,
            schedule: row.try_get(18)?,
        })
    }
}
