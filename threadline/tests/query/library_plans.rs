//! What the Elixir library asks of a timeline of ours is answered by an index, as far as it was before.

use sandbox::fixture::empty_database;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{StorageSchema, install};

/// The table in which an application of Elixir keeps the versions of its migrations, under a name of its choice.
const ECTO: &str =
    "create table versions (version bigint primary key, inserted_at timestamp(0) without time zone)";

const ROWS: &str = "
    insert into audit_actions (id, name, actor_ref, status, correlation_id)
    select md5('a' || n)::uuid, 'order.paid', '{\"type\": \"system\", \"id\": \"cron\"}', 'ok',
           case when n % 2 = 0 then md5('a' || n)::uuid::text else 'c' || n / 7 end
    from generate_series(1, 20000) n;
    insert into audit_transactions (id, txid, action_id)
    select md5('t' || n)::uuid, n, md5('a' || n * 2 + 1)::uuid from generate_series(1, 9000) n;
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
    select md5('t' || n)::uuid, 'public', 'orders', '{\"id\": \"1\"}', 'update' from generate_series(1, 9000) n";

/// `Threadline.correlation_bundle`, as the library sends it.
const BUNDLE: &str = "
    select c.* from audit_changes c join audit_transactions t on t.id = c.transaction_id join audit_actions a on a.id = t.action_id
    where a.correlation_id = 'c1000' order by c.captured_at desc, c.id desc";

async fn installed(before: &str) -> anyhow::Result<PgConnection> {
    let mut connection = empty_database().await?.connect().await?;
    connection.execute(AssertSqlSafe(before.to_owned())).await?;
    install(&mut connection, &StorageSchema::default()).await?;
    connection.execute(ROWS).await?;
    connection.execute("vacuum analyze audit_actions, audit_transactions, audit_changes").await?;
    Ok(connection)
}

async fn indexes(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    let found =
        "select indexname::text from pg_indexes where indexname like 'audit_actions_corr%' order by 1";
    Ok(sqlx::query_scalar(found).fetch_all(connection).await?)
}

#[tokio::test]
async fn the_index_that_the_library_reads_by_stays_where_its_application_is() -> anyhow::Result<()> {
    let mut connection = installed(ECTO).await?;
    let both = ["audit_actions_correlation_id_idx", "audit_actions_correlation_idx"];
    assert_eq!(indexes(&mut connection).await?, both);
    let plan: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(format!("explain {BUNDLE}"))).fetch_all(&mut connection).await?;
    let plan = plan.join("\n");
    assert!(plan.contains("audit_actions_correlation_id_idx") && !plan.contains("Seq Scan"), "{plan}");
    connection.close().await?;
    // A framework of another language has a table of the same name, with other columns.
    let mut other = installed("create table schema_migrations (version varchar primary key)").await?;
    assert_eq!(indexes(&mut other).await?, both[1..]);
    Ok(())
}
