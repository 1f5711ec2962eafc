//! A timeline that is open for reading.

use anyhow::anyhow;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::{
    StorageSchema, catalog,
    query::{ReadError, Reader, Scope},
};

use crate::cli::{
    answer::{Answer, Failure},
    database::{Interrupt, Rights, connect, line, runtime},
    settings::{Settings, Target},
};

use super::render::safe;

/// Connections of one command; the second one is for what is read beside a list.
const CONNECTIONS: u32 = 2;

/// An open timeline. Whoever has the rights of the database sees everything.
pub(in crate::cli) struct Session {
    pub(super) reader: Reader,
    pool: PgPool,
    interrupt: Interrupt,
}

/// Does something with the timeline that the settings name; the exit status is what it returns.
pub(in crate::cli) fn reading(
    target: Target,
    work: impl AsyncFnOnce(&mut Session) -> Result<u8, Failure>,
) -> Result<Answer, Failure> {
    let Settings { options, schema, .. } = Settings::read(target)?;
    let runtime = runtime()?;
    let status = runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        let pool = tokio::select! {
            opened = open(options, &schema) => opened?,
            () = interrupt.come() => return Err(interrupted()),
        };
        let reader = Reader::new(pool.clone(), schema, Scope::everything());
        let mut session = Session { reader, pool, interrupt };
        work(&mut session).await
    })?;
    // A question that was left is not waited for.
    runtime.shutdown_background();
    Ok(Answer { text: String::new(), status })
}

impl Session {
    /// The answer to a question, unless a signal comes first.
    pub(in crate::cli) async fn answer<T>(
        &mut self,
        question: impl AsyncFnOnce(&Reader) -> Result<T, ReadError>,
    ) -> Result<T, Failure> {
        self.answer_or_stop(question).await?.ok_or_else(interrupted)
    }

    /// The answer to a question; none when a signal came first.
    pub(super) async fn answer_or_stop<T>(
        &mut self,
        question: impl AsyncFnOnce(&Reader) -> Result<T, ReadError>,
    ) -> Result<Option<T>, Failure> {
        tokio::select! {
            answer = question(&self.reader) => answer.map(Some).map_err(|error| refused(&error)),
            () = self.interrupt.come() => Ok(None),
        }
    }

    /// For statements that are explained.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

async fn open(options: PgConnectOptions, schema: &StorageSchema) -> Result<PgPool, Failure> {
    // The server sees to it that nothing is written, whatever is asked.
    let options = options.options([("default_transaction_read_only", "on")]);
    check_timeline(&options, schema).await?;
    Ok(PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(options))
}

/// Refuses a database whose timeline is not there or not complete.
pub(in crate::cli) async fn check_timeline(
    options: &PgConnectOptions,
    schema: &StorageSchema,
) -> Result<(), Failure> {
    let mut connection = connect(options).await?;
    let missing = catalog::missing_columns(&mut connection, schema).await.map_err(anyhow::Error::new)?;
    let Some(first) = missing.first() else { return Ok(()) };
    let what = if missing.iter().any(|column| column == "audit_changes.id") {
        format!("not_installed: the schema {schema} of this database holds no timeline")
    } else {
        format!(
            "timeline_incomplete: the timeline in the schema {schema} is of an older version, and lacks {first}"
        )
    };
    Err(Failure::Failed(anyhow!(
        "{what}: `threadline install` completes it, and `--schema` names another one"
    )))
}

/// A signal ended the question.
pub(super) fn interrupted() -> Failure {
    Failure::Failed(anyhow!("interrupted before the answer was there; nothing was changed"))
}

/// Terms of questions that were asked well, and have no answer.
const UNANSWERED: [&str; 4] = ["not_found", "table_unknown", "too_many_changes", "took_too_long"];

/// Why a question has no answer, with its term.
pub(in crate::cli) fn refused(error: &ReadError) -> Failure {
    match error.term() {
        Some(term) if UNANSWERED.contains(&term) => without_answer(term, &error.to_string()),
        Some(term) => Failure::Misused(safe(&format!("{term}: {error}"))),
        None => Failure::Failed(anyhow!(safe(&line(error, Rights::Reader)))),
    }
}

/// A question that was asked well, and has no answer.
pub(super) fn without_answer(term: &str, why: &str) -> Failure {
    Failure::Failed(anyhow!(safe(&format!("{term}: {why}"))))
}
