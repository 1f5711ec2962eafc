//! A record as it is read. Nothing is checked: a reader fails on no row that is stored, whoever wrote it.

use serde::Serialize;
use sqlx::{Row as _, postgres::PgRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::machine;
use crate::query::{Json, clamped, json, known, serialize};

/// A record that is stored.
#[derive(Debug, Clone, Serialize)]
pub struct EvidenceRecord {
    /// Primary key.
    pub id: Uuid,
    /// What it is about: one of [`Subject`](super::Subject), unless somebody has written another one.
    pub subject: String,
    /// Which one, as JSON.
    pub subject_ref: Json,
    /// What it says, in a word.
    pub summary_status: String,
    /// When it was so, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub recorded_at: OffsetDateTime,
    /// Who says so, as JSON.
    pub actor_ref: Option<Json>,
    /// Which program wrote it, and through what.
    pub provenance: Json,
    /// What else it says.
    pub detail: Json,
    /// Of the detail, as the host counts.
    pub schema_version: i32,
    /// When it was written, clamped to the years 1 to 9999.
    #[serde(serialize_with = "serialize::time")]
    pub inserted_at: OffsetDateTime,
    /// Whether its provenance says that a command of this program wrote it, of what it had seen itself. It is as good as the rights on the
    /// table: who may insert may write the same.
    #[serde(rename = "machine_made")]
    pub is_machine_made: bool,
}

/// Of `threadline_evidence_records r`.
pub(super) const COLUMNS: &str = concat!(
    "r.id, r.subject, r.subject_ref::text, r.summary_status, ",
    clamped!("r.recorded_at"),
    ", r.actor_ref::text, r.provenance::text, r.detail::text, r.schema_version, ",
    clamped!("r.inserted_at")
);

impl EvidenceRecord {
    /// A row of [`COLUMNS`].
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        let provenance = known(json(row, 6)?, "provenance")?;
        Ok(Self {
            id: row.try_get(0)?,
            subject: row.try_get(1)?,
            subject_ref: known(json(row, 2)?, "subject_ref")?,
            summary_status: row.try_get(3)?,
            recorded_at: row.try_get(4)?,
            actor_ref: json(row, 5)?,
            is_machine_made: machine::is_machine_made(&provenance),
            provenance,
            detail: known(json(row, 7)?, "detail")?,
            schema_version: row.try_get(8)?,
            inserted_at: row.try_get(9)?,
        })
    }
}
