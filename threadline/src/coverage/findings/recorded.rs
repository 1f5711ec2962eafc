//! What the timeline's own rows say. Each question is bounded in rows and in time.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::super::{
    Skipped,
    finding::{Finding, FindingCode},
    observation::Observation,
};
use crate::{
    StorageSchema,
    capture::{
        HostTable,
        deployed::is_plain,
        names::{literal, quote},
    },
};

/// Of one question; milliseconds.
const TIMEOUT: u32 = 15_000;

/// Rows that are counted of one table.
const COUNTED: i64 = 10_000;

/// Newest transactions that are looked at.
const TRANSACTIONS: i64 = 100_000;

/// Asks both questions; what had no answer in time, or may not be read, is skipped and named.
pub(in crate::coverage) async fn probe(
    connection: &mut PgConnection,
    observation: &Observation,
) -> Result<(Vec<Finding>, Vec<Skipped>), sqlx::Error> {
    let mut findings = Vec::new();
    let mut skipped = Vec::new();
    let storage = &observation.storage;
    let (has_changes, has_context) = there(connection, storage).await?;
    if has_changes {
        let code = FindingCode::UnresolvedLegacyKeys;
        match bounded(connection, async |connection| unresolved_keys(connection, observation).await).await {
            Ok(found) => findings.extend(found),
            Err(error) => skipped.push(Skipped::because(code, error)?),
        }
    }
    if has_context {
        let code = FindingCode::MalformedContextSeen;
        match bounded(connection, async |connection| malformed_context(connection, storage).await).await {
            Ok(found) => findings.extend(found),
            Err(error) => skipped.push(Skipped::because(code, error)?),
        }
    }
    Ok((findings, skipped))
}

/// Whether there are changes, and transactions with a context: the Elixir library's have none.
async fn there(connection: &mut PgConnection, storage: &StorageSchema) -> Result<(bool, bool), sqlx::Error> {
    sqlx::query_as(
        "select to_regclass($1) is not null,
                exists (select from pg_attribute a
                        where a.attrelid = to_regclass($2) and a.attname = 'context' and not a.attisdropped)",
    )
    .bind(storage.table("audit_changes"))
    .bind(storage.table("audit_transactions"))
    .fetch_one(connection)
    .await
}

async fn bounded<T>(
    connection: &mut PgConnection,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(TIMEOUT.to_string())
        .execute(&mut *transaction)
        .await?;
    let answer = ask(&mut transaction).await;
    // Nothing was written, and the time-out is gone with it.
    transaction.rollback().await?;
    answer
}

/// Changes of older triggers that name no row, although their image has the key.
async fn unresolved_keys(
    connection: &mut PgConnection,
    observation: &Observation,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut asked: Vec<(HostTable, HostTable, Vec<String>)> = Vec::new();
    for subject in observation.subjects().filter(|one| one.table.has_capture() || one.policy.is_some()) {
        let key = subject.key();
        if !key.is_empty() {
            let filed = subject
                .table
                .relations
                .iter()
                .map(|one| (subject.table.name.clone(), one.table(), key.clone()));
            asked.extend(filed);
        }
    }
    let statement = format!(
        "select w.n, f.found
         from unnest($1::text[], $2::text[], $3::jsonb[]) with ordinality w (schema, name, key, n)
         cross join lateral (
             select count(*) as found from (
                 select from {} c
                 where c.table_schema = w.schema and c.table_name = w.name
                   and c.table_pk = any (array['{{}}', '{{\"id\": null}}']::jsonb[]) and c.op in ('insert', 'update')
                   and not exists (select from jsonb_array_elements_text(w.key) k (name) where c.data_after ->> k.name is null)
                 limit $4) c) f
         where f.found > 0",
        observation.storage.table("audit_changes")
    );
    let counted: Vec<(i64, i64)> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(asked.iter().map(|(_, filed, _)| filed.schema.as_str()).collect::<Vec<_>>())
        .bind(asked.iter().map(|(_, filed, _)| filed.name.as_str()).collect::<Vec<_>>())
        .bind(asked.iter().map(|(.., key)| json!(key)).collect::<Vec<Value>>())
        .bind(COUNTED)
        .fetch_all(connection)
        .await?;
    let finding = |(n, found): (i64, i64)| {
        let (table, filed, key) = &asked[usize::try_from(n - 1).unwrap_or_default()];
        let capped = found == COUNTED;
        let message = format!(
            "{}{found} changes of {filed} name no row, and their images have the key ({})",
            if capped { "at least " } else { "" },
            key.join(", ")
        );
        Finding::warning(FindingCode::UnresolvedLegacyKeys, table, message)
            .remedy(is_plain(filed).then(|| format!("threadline backfill-keys --tables {filed}")))
            .details(json!({ "unresolved_count": found, "capped": capped, "key_columns": key, "filed_under": filed.to_string() }))
    };
    Ok(counted.into_iter().map(finding).collect())
}

/// Transactions of the last seven days whose settings could not be read.
async fn malformed_context(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<Option<Finding>, sqlx::Error> {
    let transactions = storage.table("audit_transactions");
    let statement = format!(
        "select count(*), min(t.occurred_at)::text, max(t.occurred_at)::text
         from (select occurred_at, context from {transactions}
               where occurred_at > now() - interval '7 days' order by occurred_at desc limit $1) t
         where t.context ? 'threadline.malformed'"
    );
    let (seen, first, last): (i64, Option<String>, Option<String>) =
        sqlx::query_as(AssertSqlSafe(statement)).bind(TRANSACTIONS).fetch_one(connection).await?;
    if seen == 0 {
        return Ok(None);
    }
    let table = HostTable { schema: storage.as_str().to_owned(), name: "audit_transactions".to_owned() };
    let message = format!(
        "{seen} transactions of the last seven days have no actor or context, because their settings could not be read: whoever sets \
         threadline.actor_ref and threadline.context gives no JSON object of at most 8 KiB"
    );
    let show = format!(
        "select occurred_at, source, request_id, context -> {} as settings from {}.{} where context ? {} order by occurred_at desc limit 20",
        literal("threadline.malformed"),
        quote(storage.as_str()),
        quote("audit_transactions"),
        literal("threadline.malformed")
    );
    Ok(Some(
        Finding::warning(FindingCode::MalformedContextSeen, &table, message)
            .remedy([show])
            .details(json!({ "seen": seen, "first": first, "last": last })),
    ))
}
