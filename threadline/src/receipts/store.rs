//! The tables of receipts and of leaves.

use std::collections::VecDeque;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::{
    error::ReceiptError,
    leaf::{Leaf, PART, WIDTH},
    receipt::{COLUMNS, Receipt},
};
use crate::{StorageSchema, query::Statement};

pub(super) const RECEIPTS: &str = "threadline_receipts";
pub(super) const LEAVES: &str = "threadline_receipt_leaves";

/// Receipts that one statement reads.
const RECEIPTS_READ: i64 = 1_000;

/// Parts that one statement reads: 1.6 MiB at most.
const PARTS_READ: i64 = 8;

/// Receipts behind one, in order, `RECEIPTS_READ` at most.
pub(super) async fn receipts_after(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    n: i64,
) -> Result<Vec<Receipt>, ReceiptError> {
    let mut statement =
        Statement::new(format!("select {COLUMNS} from {} where n > ", schema.table(RECEIPTS)));
    statement.bind(n).push(" order by n limit ").bind(RECEIPTS_READ);
    Ok(read(&statement, connection).await?)
}

/// The first receipt behind one.
pub(super) async fn next(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    n: i64,
) -> Result<Option<Receipt>, ReceiptError> {
    let mut statement =
        Statement::new(format!("select {COLUMNS} from {} where n > ", schema.table(RECEIPTS)));
    statement.bind(n).push(" order by n limit 1");
    Ok(read(&statement, connection).await?.pop())
}

/// The newest receipts, the newest of them first.
pub(super) async fn newest(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    limit: i64,
) -> Result<Vec<Receipt>, sqlx::Error> {
    let mut statement = Statement::new(format!("select {COLUMNS} from {}", schema.table(RECEIPTS)));
    statement.push(" order by n desc limit ").bind(limit);
    read(&statement, connection).await
}

async fn read(statement: &Statement, connection: &mut PgConnection) -> Result<Vec<Receipt>, sqlx::Error> {
    statement.fetch_all(connection).await?.iter().map(Receipt::read).collect()
}

/// Appends a receipt; its leaves are there already.
pub(super) async fn append(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    receipt: &Receipt,
) -> Result<(), sqlx::Error> {
    let values = (1..=15).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
    let statement = format!("insert into {} ({COLUMNS}) values ({values})", schema.table(RECEIPTS));
    sqlx::query(AssertSqlSafe(statement))
        .persistent(false)
        .bind(receipt.n)
        .bind(&receipt.database)
        .bind(&receipt.position_before)
        .bind(&receipt.position)
        .bind(receipt.since)
        .bind(receipt.until)
        .bind(receipt.transactions)
        .bind(receipt.changes)
        .bind(receipt.actions)
        .bind(&receipt.digest)
        .bind(&receipt.previous)
        .bind(receipt.sealed_at)
        .bind(&receipt.hash)
        .bind(&receipt.key)
        .bind(&receipt.signature)
        .execute(connection)
        .await?;
    Ok(())
}

/// Appends a part of the leaves of a receipt.
pub(super) async fn append_part(
    connection: &mut PgConnection,
    schema: &StorageSchema,
    (n, part): (i64, i32),
    leaves: &[u8],
) -> Result<(), sqlx::Error> {
    let statement = format!("insert into {} (n, part, leaves) values ($1, $2, $3)", schema.table(LEAVES));
    let query = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(n).bind(part).bind(leaves);
    query.execute(connection).await?;
    Ok(())
}

/// A part of the leaves of a receipt, as it is stored.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) n: i64,
    number: i32,
    /// Empty where somebody has made it longer than a part is.
    pub(super) bytes: Vec<u8>,
}

impl Part {
    /// Its leaves; `None` for bytes that are none.
    pub(super) fn leaves(&self) -> impl Iterator<Item = Option<Leaf>> {
        self.bytes.chunks(WIDTH).map(Leaf::read)
    }
}

/// Parts in the order of their receipts, read a few at a time.
#[derive(Debug)]
pub(super) struct Parts {
    read: VecDeque<Part>,
    after: (i64, i32),
    has_ended: bool,
}

impl Parts {
    /// From the first part of a receipt on.
    pub(super) fn from(n: i64) -> Self {
        Self { read: VecDeque::new(), after: (n, i32::MIN), has_ended: false }
    }

    /// The next part, if it is of a receipt up to `n`.
    pub(super) async fn next_up_to(
        &mut self,
        n: i64,
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<Option<Part>, ReceiptError> {
        if self.read.is_empty() && !self.has_ended {
            let mut statement = Statement::new(format!(
                "select n, part, case when octet_length(leaves) <= {} then leaves else '' end from {} where (n, part) > (",
                PART * WIDTH,
                schema.table(LEAVES)
            ));
            let (after, part) = self.after;
            statement.bind(after).push(", ").bind(i64::from(part)).push(") order by n, part limit ");
            statement.bind(PARTS_READ);
            for row in statement.fetch_all(connection).await? {
                let part = Part { n: row.try_get(0)?, number: row.try_get(1)?, bytes: row.try_get(2)? };
                self.after = (part.n, part.number);
                self.read.push_back(part);
            }
            self.has_ended = self.read.is_empty();
        }
        if self.read.front().is_some_and(|part| part.n <= n) {
            return Ok(self.read.pop_front());
        }
        Ok(None)
    }
}
