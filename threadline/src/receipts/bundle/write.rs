//! Writing a bundle, in one snapshot.

use std::io::Write;

use futures::TryStreamExt as _;
use serde::Serialize;
use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{
        columns::Kind,
        error::ReceiptError,
        leaf::Leaf,
        lookup::each_row,
        purges::{Bounds, Purges},
        receipt::Receipt,
        row::Row,
        rows,
        seal::members,
        snapshot::{self, Here},
        store::{self, Parts},
    },
    format::{Columns, End, Header, LINE_MAX, Line, RowLine, VALUE_MAX, VERSION},
    lines::Output,
};
use crate::{
    StorageSchema, Timeline,
    erasure::KnownRuns,
    query::{Position, Statement},
    signing::hexadecimal,
};

/// Which receipts: those of which a moment lies between both times; all of them where there are none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// The first moment.
    pub since: Option<OffsetDateTime>,
    /// The first moment behind it.
    pub until: Option<OffsetDateTime>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Bundled {
    /// The number of the first receipt.
    pub from: i64,
    /// The number of the last one.
    pub to: i64,
    /// Receipts.
    pub receipts: u64,
    /// Rows, those that are gone too.
    pub rows: u64,
    /// Of everything before the last line.
    pub sha256: String,
}

/// Writes receipts and their rows. `progress` is told how many rows have been written so far.
///
/// # Errors
/// `interval` that no moment lies in, `no_receipts` of that time, `row_too_large`, `standby`, `not_installed`, `rights`, what the database says, and that the bundle cannot be written.
pub async fn bundle<W: Write>(
    timeline: &Timeline,
    span: Span,
    writer: &mut W,
    progress: impl FnMut(u64),
) -> Result<Bundled, ReceiptError> {
    if let (Some(since), Some(until)) = (span.since, span.until)
        && since >= until
    {
        let reason = "--since is not before --until, so no moment lies between them: exchange them";
        return Err(ReceiptError::refused("interval", reason));
    }
    let schema = timeline.schema();
    let mut connection = timeline.pool().acquire().await?;
    let (mut snapshot, here) = snapshot::begin(&mut connection, schema).await?;
    let (from, to) = numbers(&mut snapshot, schema, span).await?;
    let purges = Purges::read(&mut snapshot, schema).await?;
    let runs = KnownRuns::read(&mut snapshot, schema).await?;
    let mut bundle = Bundle { output: Output::new(writer), schema, purges, rows: 0, progress };
    bundle.output.line(&Line::Bundle(Header { version: VERSION, from, to }))?;
    let mut parts = Parts::from(from);
    let (mut receipts, mut after) = (0, from - 1);
    while after < to {
        let page = store::receipts_after(&mut snapshot, schema, after).await?;
        for receipt in page.iter().take_while(|receipt| receipt.n <= to) {
            bundle.receipt(receipt, &mut parts, &runs, &mut snapshot).await?;
            receipts += 1;
        }
        after = page.last().map_or(to, |last| last.n);
    }
    bundle.added(&here, &runs, &mut snapshot).await?;
    snapshot.rollback().await?;
    let (rows, sha256) = (bundle.rows, bundle.output.digest());
    bundle.output.line(&Line::End(End { receipts, rows, sha256: sha256.clone() }))?;
    bundle.output.flush()?;
    Ok(Bundled { from, to, receipts, rows, sha256 })
}

/// The numbers of the first and the last receipt.
async fn numbers(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    span: Span,
) -> Result<(i64, i64), ReceiptError> {
    let mut statement =
        Statement::new(format!("select min(n), max(n) from {} where true", schema.table(store::RECEIPTS)));
    if let Some(since) = span.since {
        statement.push(" and until >= ").bind(since);
    }
    if let Some(until) = span.until {
        statement.push(" and coalesce(since, '-infinity') < ").bind(until);
    }
    let row = statement.query().fetch_one(&mut *connection).await?;
    if let (Some(from), Some(to)) = (row.try_get(0)?, row.try_get(1)?) {
        return Ok((from, to));
    }
    let reason = if store::newest(connection, schema, 1).await?.is_empty() {
        "there are no receipts: `threadline receipts seal` writes one"
    } else {
        "there are receipts, and none of that time: `threadline receipts list` shows of which they are"
    };
    Err(ReceiptError::refused("no_receipts", reason))
}

/// A bundle as far as it was written.
struct Bundle<'b, W, P> {
    output: Output<'b, W>,
    schema: &'b StorageSchema,
    purges: Purges,
    rows: u64,
    progress: P,
}

impl<W: Write, P: FnMut(u64)> Bundle<'_, W, P> {
    async fn receipt(
        &mut self,
        receipt: &Receipt,
        parts: &mut Parts,
        runs: &KnownRuns,
        connection: &mut PgConnection,
    ) -> Result<(), ReceiptError> {
        self.output.line(&Line::Receipt(receipt.clone()))?;
        while let Some(part) = parts.next_up_to(receipt.n, connection, self.schema).await? {
            // Bytes that are no leaf are missing then, which the digest says.
            let leaves: Vec<Leaf> = part.leaves().flatten().filter(|_| part.n == receipt.n).collect();
            for of_kind in leaves.chunk_by(|one, other| one.kind == other.kind) {
                let Some(Leaf { kind, .. }) = of_kind.first() else { continue };
                each_row(connection, self.schema, *kind, of_kind, runs, |place, row| {
                    let leaf = place.and_then(|place| of_kind.get(place));
                    match (leaf, row) {
                        (Some(leaf), None) => {
                            let purged = self.purges.run_of(leaf, Bounds::of(receipt));
                            self.row(*kind, leaf.id, Some(leaf), None, purged)
                        }
                        (leaf, Some(row)) => self.row(*kind, row.id, leaf, Some(row), None),
                        (None, None) => Ok(()),
                    }
                })
                .await?;
            }
            (self.progress)(self.rows);
        }
        Ok(())
    }

    /// Rows that no receipt has taken, and the next one will not take either.
    async fn added(
        &mut self,
        here: &Here,
        runs: &KnownRuns,
        connection: &mut PgConnection,
    ) -> Result<(), ReceiptError> {
        let last = store::newest(connection, self.schema, 1).await?.pop();
        let position: Option<Position> = last.as_ref().and_then(|last| last.position.parse().ok());
        let next = members(last.as_ref(), position.as_ref(), here);
        for kind in Kind::ALL {
            let statement = rows::unsealed(kind, next, self.schema);
            let mut unsealed = statement.query().fetch(&mut *connection);
            while let Some(row) = unsealed.try_next().await? {
                if row.try_get(0)? {
                    continue;
                }
                if let Some(row) = Row::read(&row, 1, kind, runs)? {
                    self.row(kind, row.id, None, Some(row), None)?;
                }
            }
        }
        Ok(())
    }

    fn row(
        &mut self,
        kind: Kind,
        id: Uuid,
        leaf: Option<&Leaf>,
        row: Option<Row<'_>>,
        purged: Option<Uuid>,
    ) -> Result<(), ReceiptError> {
        let leaf = leaf.map(|leaf| hexadecimal(&leaf.hash).into());
        let columns = row.map(|row| Columns::Of(row.without_larger(VALUE_MAX)));
        if !self.output.line(&Line::Row(RowLine { kind, id, leaf, purged, columns }))? {
            let reason = format!(
                "{kind} {id} has texts of more than {} MiB: bundle the receipts before and behind it with --since and --until",
                LINE_MAX >> 20
            );
            return Err(ReceiptError::refused("row_too_large", reason));
        }
        self.rows += 1;
        Ok(())
    }
}
