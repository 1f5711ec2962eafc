//! What the Elixir library recorded of its workload, in our tables: rows without positions, as they are adopted.

use sqlx::{Connection as _, Executor as _};

use super::Read;

const CHANGES: &str = include_str!("library_changes.tsv");
const TRANSACTIONS: &str = include_str!("library_transactions.tsv");

const ACTIONS: &str = "insert into audit_actions
    (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at) values
    ('bbbbbbbb-0000-4000-8000-000000000001', 'user.created', '{\"type\": \"user\", \"id\": \"u-1\"}', 'ok', 'created', 'user', null, null,
     'corr-1', 'req-1', null, '2026-03-01 00:01:00Z'),
    ('bbbbbbbb-0000-4000-8000-000000000002', 'user.renamed', '{\"type\": \"admin\", \"id\": \"a-9\"}', 'error', null, null, 'why',
     'a \"comment\", with comma', 'corr-1', null, 'job-7', '2026-03-01 00:02:00.000001Z'),
    ('bbbbbbbb-0000-4000-8000-000000000003', 'user.unlinked', '{\"type\": \"anonymous\"}', 'ok', null, null, null, null, 'corr-2', null,
     null, '2026-03-01 00:03:00Z')";

/// Seconds after the first of March, but for two of equal times and one of milliseconds.
const TIMES: &str = "update audit_changes set captured_at = case right(id::text, 12)::int
        when 3 then timestamptz '2026-03-01 00:00:03Z' when 4 then timestamptz '2026-03-01 00:00:03Z'
        when 5 then timestamptz '2026-03-01 00:00:05.120Z'
        else timestamptz '2026-03-01 00:00:00Z' + right(id::text, 12)::int * interval '1.000001 second' end";

/// The fields of a line; `\N` is a null.
fn lines(text: &'static str) -> impl Iterator<Item = Vec<Option<&'static str>>> {
    let field = |field: &'static str| (field != "\\N").then_some(field);
    text.lines().skip(1).map(move |line| line.split('\t').map(field).collect())
}

/// A timeline with what the library recorded.
pub(crate) async fn library_database() -> anyhow::Result<Read> {
    let mut read = Read::after(ACTIONS).await?;
    let mut transaction = read.connection.begin().await?;
    for (fields, txid) in lines(TRANSACTIONS).zip(1_001_i64..) {
        sqlx::query(
            "insert into audit_transactions (id, occurred_at, source, meta, actor_ref, action_id, txid)
             values ($1::uuid, $2::timestamptz, $3, $4::jsonb, $5::jsonb, $6::uuid, $7)",
        )
        .bind(fields[0])
        .bind(fields[1])
        .bind(fields[2])
        .bind(fields[3])
        .bind(fields[4])
        .bind(fields[5])
        .bind(txid)
        .execute(&mut *transaction)
        .await?;
    }
    for fields in lines(CHANGES) {
        sqlx::query(
            "insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from,
                 position) values ($1::uuid, $2::uuid, $3, $4, $5::jsonb, $6, $7::jsonb, $8::text[], $9::jsonb, 0)",
        )
        .bind(fields[0])
        .bind(fields[1])
        .bind(fields[2])
        .bind(fields[3])
        .bind(fields[4])
        .bind(fields[5])
        .bind(fields[6])
        .bind(fields[7])
        .bind(fields[8])
        .execute(&mut *transaction)
        .await?;
    }
    transaction.execute(TIMES).await?;
    transaction.commit().await?;
    Ok(read)
}
