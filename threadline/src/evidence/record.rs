//! Writing a record, in the transaction of the caller's choice.

use std::borrow::Cow;

use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, PgConnection, Postgres, error::DatabaseError, postgres::PgArguments, query::Query,
};
use time::OffsetDateTime;

use super::{Document, Entrypoint, EvidenceRecord, Subject, stored::COLUMNS};
use crate::{ActorRef, StorageSchema, capture::Refusal};

/// A claim to record: what it is about, and what is so.
///
/// How much the claim is worth may be said in its detail, as `claim_assessment`: an object with a `status`, which is `proven`,
/// `inferred_posture` or `unsupported`, and a `reason`.
#[derive(Debug, Clone)]
#[must_use = "a record is written by Timeline::record_evidence or Record::record"]
pub struct Record {
    subject: Subject,
    subject_ref: Document,
    summary_status: String,
    detail: Document,
    recorded_at: Option<OffsetDateTime>,
    actor: Option<ActorRef>,
    provenance: Map<String, Value>,
    schema_version: i32,
    entrypoint: Option<Entrypoint>,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// `invalid_subject_ref`, `invalid_detail`, `summary_status_blank`, `invalid_schema_version`, and `invalid_value` for what PostgreSQL
    /// cannot store.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the database says, or that it says nothing.
    #[error("{}", errors::database(.0))]
    Database(#[source] sqlx::Error),
}

impl Record {
    /// A claim: its subject, which one of the subject's kind as an object, such as `{"schema": "public"}`, and what is so, such as `ok`.
    pub fn new(
        subject: Subject,
        subject_ref: impl Into<Document>,
        summary_status: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            subject_ref: subject_ref.into(),
            summary_status: summary_status.into(),
            detail: Document::default(),
            recorded_at: None,
            actor: None,
            provenance: Map::new(),
            schema_version: 1,
            entrypoint: None,
        }
    }

    /// What else is so, as an object.
    pub fn detail(self, detail: impl Into<Document>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// When it was so; without it, when it is written.
    pub fn recorded_at(self, at: OffsetDateTime) -> Self {
        Self { recorded_at: Some(at), ..self }
    }

    /// Who says so.
    pub fn actor(self, actor: ActorRef) -> Self {
        Self { actor: Some(actor), ..self }
    }

    /// More of where it comes from. A key that is there already (`writer`, `entrypoint`) is replaced.
    pub fn provenance(self, provenance: Map<String, Value>) -> Self {
        Self { provenance, ..self }
    }

    /// The version of what its detail holds, from 1.
    pub fn schema_version(self, version: i32) -> Self {
        Self { schema_version: version, ..self }
    }

    /// Says that this program has seen or done itself what is claimed; see [`EvidenceRecord::is_machine_made`].
    pub fn made_by(self, entrypoint: Entrypoint) -> Self {
        Self { entrypoint: Some(entrypoint), ..self }
    }

    fn check(&self) -> Result<(), Refusal> {
        if !self.subject_ref.is_object() {
            return Err(Refusal::new(
                "invalid_subject_ref",
                "the reference to the subject is no JSON object",
            )
            .hint("name the subject by members, such as {\"schema\": \"public\"}"));
        }
        if self.summary_status.trim().is_empty() {
            return Err(Refusal::new("summary_status_blank", "the record says no status").hint("such as ok"));
        }
        if !self.detail.is_object() {
            return Err(Refusal::new("invalid_detail", "the detail is no JSON object"));
        }
        if self.schema_version < 1 {
            let reason = format!("the version of the detail is {}", self.schema_version);
            return Err(Refusal::new("invalid_schema_version", reason).hint("versions count from 1"));
        }
        Ok(())
    }

    /// Where it comes from.
    fn origin(&self) -> Map<String, Value> {
        let mut origin = match self.entrypoint {
            Some(entrypoint) => entrypoint.provenance(),
            None => Map::from_iter([
                ("writer".to_owned(), "threadline".into()),
                ("entrypoint".to_owned(), format!("record_{}", self.subject).into()),
            ]),
        };
        origin.extend(self.provenance.clone());
        origin
    }

    /// Writes it in the connection's current transaction if there is one: it is committed or rolled back with what it is about.
    ///
    /// # Errors
    /// When it is no record, before anything is asked of the server; what PostgreSQL cannot store, such as the character NUL; and what the
    /// database says.
    pub async fn record(
        self,
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<EvidenceRecord, EvidenceError> {
        self.check()?;
        let returning = format!("returning {COLUMNS}");
        let row = self.insert(schema, &returning).fetch_one(connection).await.map_err(refused)?;
        EvidenceRecord::of(&row).map_err(EvidenceError::Database)
    }

    /// Writes what a part of this program has made, and reads nothing back: that takes the right to insert alone.
    pub(crate) async fn append(
        self,
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        self.insert(schema, "").execute(connection).await?;
        Ok(())
    }

    fn insert(&self, schema: &StorageSchema, returning: &str) -> Query<'_, Postgres, PgArguments> {
        let statement = format!(
            "insert into {} as r (id, subject, subject_ref, summary_status, recorded_at, actor_ref, provenance, detail, schema_version)
             values (pg_catalog.gen_random_uuid(), $1, $2::jsonb, $3, coalesce($4, pg_catalog.clock_timestamp()), $5, $6, $7::jsonb, $8)
             {returning}",
            schema.table("threadline_evidence_records")
        );
        sqlx::query(AssertSqlSafe(statement))
            .persistent(false)
            .bind(self.subject.as_str())
            .bind(self.subject_ref.text())
            .bind(&self.summary_status)
            .bind(self.recorded_at)
            .bind(self.actor.as_ref().map(ActorRef::to_json))
            .bind(Value::Object(self.origin()))
            .bind(self.detail.text())
            .bind(self.schema_version)
    }
}

/// A value that PostgreSQL does not take is the caller's; everything else is the database's.
fn refused(error: sqlx::Error) -> EvidenceError {
    let code = error.as_database_error().and_then(DatabaseError::code).map(Cow::into_owned);
    match code {
        Some(code) if code.starts_with("22") => Refusal::new(
            "invalid_value",
            format!("PostgreSQL cannot store a value of the record: {}", errors::database(&error)),
        )
        .hint("no text holds the character NUL, and a time is of the years -4712 to 294276")
        .into(),
        _ => EvidenceError::Database(error),
    }
}
