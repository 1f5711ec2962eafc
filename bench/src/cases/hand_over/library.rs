//! What the Elixir library does for an export: pages of a thousand rows in its order, each behind the last row of the one before. In a
//! statement written for this comparison after what its functions do, and in a loop as anybody would write it.

use std::{
    borrow::Cow,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgRow};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{cases::Bench, meter::Meter, results::Sample};

/// Rows of a page, as the library reads them unless it is told otherwise.
const PAGE: i64 = 1_000;

macro_rules! page {
    ($behind:literal, $limit:literal) => {
        concat!(
            "select c.id, c.transaction_id, c.table_schema, c.table_name, c.op, c.captured_at, c.table_pk, c.data_after, ",
            "c.changed_fields, c.changed_from, t.occurred_at, t.actor_ref, t.source, a.id, a.correlation_id ",
            "from library.audit_changes c join library.audit_transactions t on t.id = c.transaction_id ",
            "left join library.audit_actions a on a.id = t.action_id ",
            $behind,
            "order by c.captured_at desc, c.id desc limit ",
            $limit
        )
    };
}

const FIRST: &str = page!("", "$1");
const NEXT: &str = page!("where (c.captured_at, c.id) < ($1, $2) ", "$3");

/// Writes all changes as CSV.
pub(super) async fn take(
    bench: &Bench<'_>,
    (case, variant, repeat): (&str, &str, u32),
    url: &str,
    path: &Path,
) -> anyhow::Result<Sample> {
    let meter = Meter::begin(bench.environment).await?;
    let mut connection = PgConnection::connect(url).await?;
    let mut out = BufWriter::new(File::create(path)?);
    let (mut rows, mut behind) = (0, None);
    loop {
        let page = page(&mut connection, behind).await?;
        for row in &page {
            write(row, &mut out)?;
        }
        rows += page.len() as u64;
        let Some(last) = page.last() else { break };
        behind = Some((last.try_get(5)?, last.try_get(0)?));
    }
    out.into_inner()?.sync_all()?;
    connection.close().await?;
    let mut sample = meter.end(case, variant, repeat).await?;
    sample.rows = rows;
    Ok(sample)
}

async fn page(
    connection: &mut PgConnection,
    behind: Option<(OffsetDateTime, Uuid)>,
) -> Result<Vec<PgRow>, sqlx::Error> {
    match behind {
        None => sqlx::query(FIRST).bind(PAGE).fetch_all(connection).await,
        Some((at, id)) => sqlx::query(NEXT).bind(at).bind(id).bind(PAGE).fetch_all(connection).await,
    }
}

/// The cells that the library writes, each document decoded and encoded again.
fn write(row: &PgRow, out: &mut impl Write) -> anyhow::Result<()> {
    let transaction_id: Uuid = row.try_get(1)?;
    let captured_at: OffsetDateTime = row.try_get(5)?;
    let occurred_at: OffsetDateTime = row.try_get(10)?;
    let data_after: Option<Value> = row.try_get(7)?;
    let changed_fields: Option<Vec<String>> = row.try_get(8)?;
    let changed_from: Option<Value> = row.try_get(9)?;
    let transaction = json!({
        "id": transaction_id.to_string(),
        "occurred_at": occurred_at.format(&Rfc3339)?,
        "actor_ref": row.try_get::<Option<Value>, _>(11)?,
        "source": row.try_get::<Option<String>, _>(12)?,
    });
    let cells = [
        row.try_get::<Uuid, _>(0)?.to_string(),
        transaction_id.to_string(),
        row.try_get(2)?,
        row.try_get(3)?,
        row.try_get(4)?,
        captured_at.format(&Rfc3339)?,
        row.try_get::<Value, _>(6)?.to_string(),
        data_after.unwrap_or_else(|| json!({})).to_string(),
        json!(changed_fields.unwrap_or_default()).to_string(),
        changed_from.unwrap_or_else(|| json!({})).to_string(),
        transaction.to_string(),
    ];
    let cells: Vec<Cow<'_, str>> = cells.iter().map(|cell| quoted(cell)).collect();
    Ok(write!(out, "{}\r\n", cells.join(","))?)
}

fn quoted(cell: &str) -> Cow<'_, str> {
    if cell.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\"")).into()
    } else {
        cell.into()
    }
}
