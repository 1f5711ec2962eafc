//! The server's own way to hand rows over: `copy`, through a connection like that of the command, into a file.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use futures::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection};

use crate::{cases::Bench, meter::Meter, results::Sample};

/// Bytes that are written at a time, as by the command.
const WRITTEN: usize = 256 << 10;

/// What CSV of the command holds, in its order. The server makes the document of the transaction.
pub(super) const OF_CSV: &str = "copy (
    select c.id, c.transaction_id, c.table_schema, c.table_name, c.op, c.captured_at, c.table_pk, coalesce(c.data_after, '{}'),
           coalesce(to_jsonb(c.changed_fields), '[]'), coalesce(c.changed_from, '{}'),
           jsonb_build_object('id', t.id, 'occurred_at', t.occurred_at, 'actor_ref', t.actor_ref, 'source', t.source)
    from audit_changes c left join audit_transactions t on t.id = c.transaction_id
    order by c.captured_at desc, c.id desc
) to stdout (format csv)";

/// The same with what lines of JSON hold besides: the linked action.
pub(super) const OF_NDJSON: &str = "copy (
    select c.id, c.transaction_id, c.table_schema, c.table_name, c.op, c.captured_at, c.table_pk, coalesce(c.data_after, '{}'),
           coalesce(to_jsonb(c.changed_fields), '[]'), coalesce(c.changed_from, '{}'),
           jsonb_build_object('id', t.id, 'occurred_at', t.occurred_at, 'actor_ref', t.actor_ref, 'source', t.source),
           a.correlation_id, a.id
    from audit_changes c left join audit_transactions t on t.id = c.transaction_id left join audit_actions a on a.id = t.action_id
    order by c.captured_at desc, c.id desc
) to stdout (format csv)";

/// Copies into a file that is on disk in the end, as that of an export is.
pub(super) async fn take(
    bench: &Bench<'_>,
    (case, variant, repeat): (&str, &str, u32),
    (url, statement): (&str, &'static str),
    path: &Path,
) -> anyhow::Result<Sample> {
    let meter = Meter::begin(bench.environment).await?;
    let mut connection = PgConnection::connect(url).await?;
    let mut out = BufWriter::with_capacity(WRITTEN, File::create(path)?);
    let mut rows = 0;
    let mut copied = connection.copy_out_raw(statement).await?;
    // The server sends each row by itself.
    while let Some(row) = copied.try_next().await? {
        out.write_all(&row)?;
        rows += 1;
    }
    drop(copied);
    out.into_inner()?.sync_all()?;
    connection.close().await?;
    let mut sample = meter.end(case, variant, repeat).await?;
    sample.rows = rows;
    Ok(sample)
}
