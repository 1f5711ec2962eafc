//! Reading evidence. It belongs to no tenant: who sees a part of a timeline sees none of it.

use sqlx::PgPool;

use super::{Document, EvidenceRecord, Subject, stored::COLUMNS};
use crate::{
    StorageSchema,
    query::{Instant, ReadError, Reader, Reading, Scope, Statement},
};

/// Records of an answer, unless said otherwise.
pub const LIMIT: u32 = 1_000;

/// The most records of an answer.
pub const LIMIT_MAX: u32 = 10_000;

/// The evidence of a timeline, to be read. Everything is the newest first, by `recorded_at` and id.
#[derive(Debug, Clone)]
pub struct Evidence(Reader);

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// About what; without it, about everything.
    pub subject: Option<Subject>,
    /// About which one: the whole reference, whatever the order of its members.
    pub subject_ref: Option<Document>,
    /// The first `recorded_at`.
    pub from: Option<Instant>,
    /// The last one.
    pub to: Option<Instant>,
    /// Records at most, 1 to [`LIMIT_MAX`]; without it [`LIMIT`].
    pub limit: Option<u32>,
}

/// Records, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The records.
    pub records: Vec<EvidenceRecord>,
    /// Whether there are older ones.
    pub has_more: bool,
}

impl Evidence {
    pub(crate) fn new(pool: PgPool, schema: StorageSchema) -> Self {
        Self(Reader::new(pool, schema, Scope::everything()))
    }

    /// That of a reader's timeline.
    ///
    /// # Errors
    /// `evidence_scoped` when the reader does not see everything: no rule of a scope holds for evidence.
    pub fn of(reader: &Reader) -> Result<Self, ReadError> {
        if reader.scope().is_everything() {
            return Ok(Self(reader.clone()));
        }
        let reason = "evidence belongs to no tenant, and a scope shows none of it: read it as whoever operates the timeline";
        Err(ReadError::unusable("evidence_scoped", reason))
    }

    /// Records that a filter finds.
    ///
    /// # Errors
    /// `invalid_limit`, `invalid_subject_ref`, `not_installed`, `took_too_long`, and what the database says.
    pub async fn list_history(&self, filter: &HistoryFilter) -> Result<Records, ReadError> {
        let mut statement = Statement::new(format!("select {COLUMNS} from {} r where ", self.table()));
        push_conditions(filter, &mut statement)?;
        self.fetch(statement, filter.limit).await
    }

    /// All records about one subject.
    ///
    /// # Errors
    /// As [`Self::list_history`].
    pub async fn list_subject_ref_history(
        &self,
        subject: Subject,
        subject_ref: Document,
        limit: Option<u32>,
    ) -> Result<Records, ReadError> {
        let (subject, subject_ref) = (Some(subject), Some(subject_ref));
        self.list_history(&HistoryFilter { subject, subject_ref, limit, ..HistoryFilter::default() }).await
    }

    /// The newest record about each one of this subject's.
    ///
    /// # Errors
    /// As [`Self::list_history`].
    pub async fn list_latest_subject_refs(
        &self,
        subject: Subject,
        limit: Option<u32>,
    ) -> Result<Records, ReadError> {
        self.latest(&HistoryFilter { subject: Some(subject), limit, ..HistoryFilter::default() }).await
    }

    /// The same of all subjects.
    ///
    /// # Errors
    /// As [`Self::list_history`].
    pub async fn list_overview(&self, limit: Option<u32>) -> Result<Records, ReadError> {
        self.latest(&HistoryFilter { limit, ..HistoryFilter::default() }).await
    }

    /// The newest record about one subject; `None` where there is none.
    ///
    /// # Errors
    /// As [`Self::list_history`].
    pub async fn get_latest_subject_ref(
        &self,
        subject: Subject,
        subject_ref: Document,
    ) -> Result<Option<EvidenceRecord>, ReadError> {
        let found = self.list_subject_ref_history(subject, subject_ref, Some(1)).await?;
        Ok(found.records.into_iter().next())
    }

    async fn latest(&self, filter: &HistoryFilter) -> Result<Records, ReadError> {
        let table = self.table();
        let mut statement = Statement::new(format!(
            "select {COLUMNS} from {table} r where r.id in (select l.id from \
             (select distinct on (r.subject, r.subject_ref) r.id from {table} r where "
        ));
        push_conditions(filter, &mut statement)?;
        statement.push(" order by r.subject, r.subject_ref, r.recorded_at desc, r.id desc) l)");
        self.fetch(statement, filter.limit).await
    }

    /// The rows of a statement that lacks its end, in order.
    async fn fetch(&self, mut statement: Statement, limit: Option<u32>) -> Result<Records, ReadError> {
        let limit = limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let reason = format!("an answer has 1 to {LIMIT_MAX} records, not {limit}");
            return Err(ReadError::unusable("invalid_limit", reason));
        }
        statement.push(" order by r.recorded_at desc, r.id desc limit ").bind(i64::from(limit) + 1);
        let mut reading = Reading::begin(&self.0, None).await?;
        let rows = reading.fetch_all(&statement).await.map_err(not_installed)?;
        let mut records = rows.iter().map(EvidenceRecord::of).collect::<Result<Vec<_>, _>>()?;
        let has_more = records.len() > limit as usize;
        records.truncate(limit as usize);
        Ok(Records { records, has_more })
    }

    fn table(&self) -> String {
        self.0.schema().table("threadline_evidence_records")
    }
}

fn push_conditions(filter: &HistoryFilter, statement: &mut Statement) -> Result<(), ReadError> {
    statement.push("true");
    if let Some(subject) = filter.subject {
        statement.push(" and r.subject = ").bind(subject.as_str());
    }
    if let Some(subject_ref) = &filter.subject_ref {
        if !subject_ref.is_object() {
            let reason = "a reference to a subject is a JSON object, such as {\"schema\": \"public\"}";
            return Err(ReadError::unusable("invalid_subject_ref", reason));
        }
        statement.push(" and r.subject_ref = ").bind(subject_ref.text()).push("::jsonb");
    }
    for (condition, end) in [(" and r.recorded_at >= ", filter.from), (" and r.recorded_at <= ", filter.to)] {
        if let Some(end) = end {
            statement.push(condition).bind(end.time());
        }
    }
    Ok(())
}

fn not_installed(error: ReadError) -> ReadError {
    let code = match &error {
        ReadError::Database(error) => error.as_database_error().and_then(sqlx::error::DatabaseError::code),
        _ => None,
    };
    match code.as_deref() {
        Some("42P01") => ReadError::unusable(
            "not_installed",
            "there is no table of evidence: `threadline install` makes it",
        ),
        // A text of the reference that PostgreSQL has no place for is in no row.
        Some("22P02" | "22P05") => {
            ReadError::unusable("invalid_subject_ref", "PostgreSQL can store no such reference to a subject")
        }
        _ => error,
    }
}
