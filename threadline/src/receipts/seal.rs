//! Sealing: what has been committed since the last receipt becomes the next one.

use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection};

use super::{
    columns::Kind,
    counts::Counts,
    error::ReceiptError,
    leaf::{PART, WIDTH},
    receipt::{Interval, Receipt},
    row::Row,
    rows::Members,
    snapshot::{self, Here},
    store,
};
use crate::{
    StorageSchema, Timeline,
    erasure::KnownRuns,
    query::{Position, Statement},
    receipt::check_key_change,
    signing::{SigningKey, hexadecimal},
};

/// How long somebody else who seals is waited for.
const LOCK_TIMEOUT: &str = "5s";

/// A receipt that was written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Sealed {
    /// It.
    pub receipt: Receipt,
    /// The receipt before is of another database: this one was restored, or renamed. What no receipt had taken by then is in this one.
    pub is_elsewhere: bool,
}

/// Whether a receipt may be signed otherwise than the one before it: with another key, or not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyChange {
    /// It is refused behind a receipt that was signed: with that key alone the chain would not verify any more.
    #[default]
    Refused,
    /// It is meant.
    Meant,
}

/// Seals what has been committed since the last receipt; the first one takes everything that is there. Two connections of the pool are used, and
/// the receipt is there whole or not at all. `progress` is told how many rows have been read so far.
///
/// # Errors
/// `standby`; `sealed_elsewhere` when another process seals at the same time; `receipt_unsigned`, `receipt_key_changed` behind a receipt that was
/// signed with another key; `not_installed`, `rights`, and what the database says.
pub async fn seal(
    timeline: &Timeline,
    key: Option<&SigningKey>,
    progress: impl FnMut(u64),
) -> Result<Sealed, ReceiptError> {
    seal_as(timeline, key, KeyChange::Refused, progress).await
}

/// The same, where another key, or none from now on, may be meant.
///
/// # Errors
/// As [`seal`].
pub async fn seal_as(
    timeline: &Timeline,
    key: Option<&SigningKey>,
    change: KeyChange,
    mut progress: impl FnMut(u64),
) -> Result<Sealed, ReceiptError> {
    let schema = timeline.schema();
    let (mut reading, mut writing) = (timeline.pool().acquire().await?, timeline.pool().acquire().await?);
    let (mut snapshot, here) = snapshot::begin(&mut reading, schema).await?;
    let last = store::newest(&mut snapshot, schema, 1).await?.pop();
    if let (Some(last), KeyChange::Refused) = (&last, change) {
        check_key_change(last.n, last.key.as_deref(), key)?;
    }
    let mut transaction = writing.begin().await?;
    let limit = Statement::new(format!("select set_config('lock_timeout', '{LOCK_TIMEOUT}', true)"));
    limit.query().execute(&mut *transaction).await?;
    let n = last.as_ref().map_or(0, |last| last.n) + 1;
    let mut leaves = Leaves::new(&mut transaction, schema, n);
    let receipt = async {
        // One that somebody has changed says nothing.
        let position = last.as_ref().and_then(|last| last.position.parse().ok());
        let members = members(last.as_ref(), position.as_ref(), &here);
        let runs = KnownRuns::read(&mut snapshot, schema).await?;
        for kind in Kind::ALL {
            let statement = members.statement(kind, schema);
            let mut rows = statement.query().fetch(&mut *snapshot);
            while let Some(row) = rows.try_next().await? {
                if let Some(row) = Row::read(&row, 0, kind, &runs)? {
                    leaves.push(&row).await?;
                    progress(leaves.counts.rows());
                }
            }
        }
        leaves.end(&here, last.as_ref(), key).await
    };
    match receipt.await {
        Ok(receipt) => {
            transaction.commit().await.map_err(|error| refused_by_another(error, n))?;
            snapshot.rollback().await?;
            let is_elsewhere = last.is_some_and(|last| last.database != receipt.database);
            Ok(Sealed { receipt, is_elsewhere })
        }
        Err(error) => {
            // Now, not when the connection is used next; what matters is why.
            let _ = transaction.rollback().await;
            let _ = snapshot.rollback().await;
            Err(error)
        }
    }
}

/// What the next receipt takes.
pub(super) fn members<'p>(
    last: Option<&Receipt>,
    position: Option<&'p Position>,
    here: &'p Here,
) -> Members<'p> {
    match (last, position) {
        (Some(last), Some(from)) if last.database == here.database && from.may_precede(&here.position) => {
            Members::New { from, to: &here.position }
        }
        (Some(_), _) => Members::Unsealed,
        (None, _) => Members::Everything,
    }
}

/// The leaves of a receipt, on their way into their table.
struct Leaves<'l> {
    connection: &'l mut PgConnection,
    schema: &'l StorageSchema,
    n: i64,
    part: i32,
    bytes: Vec<u8>,
    digest: Sha256,
    counts: Counts,
}

impl<'l> Leaves<'l> {
    fn new(connection: &'l mut PgConnection, schema: &'l StorageSchema, n: i64) -> Self {
        let bytes = Vec::with_capacity(PART * WIDTH);
        Self { connection, schema, n, part: 0, bytes, digest: Sha256::new(), counts: Counts::default() }
    }

    async fn push(&mut self, row: &Row<'_>) -> Result<(), ReceiptError> {
        self.bytes.extend_from_slice(&row.leaf().bytes());
        self.counts.add(row.kind);
        if self.bytes.len() == PART * WIDTH {
            self.write().await?;
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), ReceiptError> {
        self.digest.update(&self.bytes);
        let place = (self.n, self.part);
        store::append_part(self.connection, self.schema, place, &self.bytes)
            .await
            .map_err(|error| refused_by_another(error, self.n))?;
        self.part += 1;
        self.bytes.clear();
        Ok(())
    }

    /// The receipt comes last.
    async fn end(
        mut self,
        here: &Here,
        last: Option<&Receipt>,
        key: Option<&SigningKey>,
    ) -> Result<Receipt, ReceiptError> {
        use sqlx::Row as _;
        if !self.bytes.is_empty() {
            self.write().await?;
        }
        let clock = Statement::new("select clock_timestamp()");
        let sealed_at = clock.query().fetch_one(&mut *self.connection).await?.try_get(0)?;
        let interval = Interval {
            database: here.database.clone(),
            position: here.position.to_string(),
            until: here.at,
            counts: self.counts,
            digest: hexadecimal(&self.digest.finalize()),
            sealed_at,
        };
        let receipt = Receipt::seal(interval, last, key);
        store::append(self.connection, self.schema, &receipt)
            .await
            .map_err(|error| refused_by_another(error, self.n))?;
        Ok(receipt)
    }
}

/// The keys of both tables let one process write a receipt.
fn refused_by_another(error: sqlx::Error, n: i64) -> ReceiptError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("23505") => ReceiptError::refused(
            "sealed_elsewhere",
            format!(
                "another process has written receipt {n} meanwhile: nothing was sealed here, and the next seal goes on behind it"
            ),
        ),
        Some("55P03") => ReceiptError::refused(
            "sealed_elsewhere",
            format!("another process is writing receipt {n}: nothing was sealed here; wait for it"),
        ),
        _ => error.into(),
    }
}
