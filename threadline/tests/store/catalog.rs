//! What the migrations make is what an installation is compared with.

use sandbox::fixture::{empty_database, timeline_database};
use sqlx::{Executor as _, PgConnection};
use threadline::{Installation, StorageSchema, catalog, install};

async fn found(connection: &mut PgConnection, schema: &StorageSchema) -> anyhow::Result<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind in ('r', 'p') and c.relname <> 'threadline_migrations'",
    )
    .bind(schema.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let properties = catalog::properties(connection, schema, &tables).await?;
    Ok(properties.iter().map(catalog::Property::line).collect())
}

fn only(one: &str, other: &str) -> Vec<String> {
    one.lines().filter(|line| !other.lines().any(|other| other == *line)).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_file_says_what_the_migrations_make_in_any_schema() -> anyhow::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalog.txt");
    for name in ["public", "Audit_1"] {
        let schema: StorageSchema = name.parse()?;
        let mut connection = empty_database().await?.connect().await?;
        let done = install(&mut connection, &schema).await?;
        let found = found(&mut connection, &schema).await?;
        if std::env::var_os("UPDATE_CATALOG").is_some() {
            std::fs::write(path, &found)?;
        } else {
            assert_eq!(done, Installation::default());
        }
        let said = std::fs::read_to_string(path)?;
        assert_eq!(
            (only(&found, &said), only(&said, &found)),
            (vec![], vec![]),
            "after a new migration run this test once with UPDATE_CATALOG=1"
        );
    }
    Ok(())
}

#[tokio::test]
async fn install_makes_again_what_was_dropped_and_says_so() -> anyhow::Result<()> {
    let mut connection = timeline_database().await?.connect().await?;
    let schema = StorageSchema::default();
    let before = found(&mut connection, &schema).await?;
    connection
        .execute(
            "drop table audit_receipts, threadline_saved_views; drop index audit_changes_captured_at_id_idx;
             drop trigger audit_transactions_delete_changes on audit_transactions;
             alter table audit_changes drop column key_before, drop column changed_fields;
             drop function threadline_hmac(text, text)",
        )
        .await?;
    let done = install(&mut connection, &schema).await?;
    assert_eq!(done.recreated, ["audit_receipts", "threadline_saved_views"]);
    assert_eq!(
        done.added,
        [
            "column changed_fields of audit_changes",
            "column key_before of audit_changes",
            "function threadline_hmac(text, text)",
            "index audit_changes_captured_at_id_idx of audit_changes",
            "index audit_changes_key_after_idx of audit_changes",
            "index audit_changes_key_before_idx of audit_changes",
            "trigger audit_transactions_delete_changes of audit_transactions",
        ]
    );
    assert!(done.lacking.is_empty(), "{done:?}");
    let after = found(&mut connection, &schema).await?;
    assert_eq!((only(&before, &after), only(&after, &before)), (vec![], vec![]));
    assert_eq!(install(&mut connection, &schema).await?, Installation::default());
    Ok(())
}

/// The shape that the Elixir library's version 0.1.0 made, with rows in it.
#[tokio::test]
async fn install_completes_the_oldest_tables_of_the_elixir_library_without_changing_their_rows()
-> anyhow::Result<()> {
    let mut connection = empty_database().await?.connect().await?;
    connection
        .execute(
            "create table audit_transactions (id uuid primary key default gen_random_uuid(), txid bigint not null unique,
                 occurred_at timestamptz not null default now(), source text, meta jsonb);
             create table audit_changes (id uuid primary key default gen_random_uuid(),
                 transaction_id uuid not null references audit_transactions on delete cascade, table_schema text not null,
                 table_name text not null, table_pk jsonb not null, op text not null constraint theirs
                 check (op in ('insert', 'update', 'delete')), data_after jsonb, changed_fields text[],
                 captured_at timestamptz not null default now());
             with t as (insert into audit_transactions (txid) values (7) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 'users', '{\"id\": \"1\"}', 'insert' from t",
        )
        .await?;
    let done = install(&mut connection, &StorageSchema::default()).await?;
    assert!(done.recreated.is_empty() && done.lacking.is_empty(), "{done:?}");
    for added in ["column changed_from of audit_changes", "function threadline_capture_changes()"] {
        assert!(done.added.iter().any(|one| one == added), "{added}: {done:?}");
    }
    assert!(
        done.replaced
            .iter()
            .any(|one| one.starts_with("foreign key of audit_changes: FOREIGN KEY (transaction_id)")),
        "{done:?}"
    );
    let kept: (String, i64, Option<String>) =
        sqlx::query_as("select op, position, changed_from::text from audit_changes")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(kept, ("insert".to_owned(), 0, None));
    connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 'users', '{}', 'truncate' from audit_transactions",
        )
        .await?;
    let wrong = connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 'users', '{}', 'other' from audit_transactions",
        )
        .await;
    assert!(wrong.is_err());
    Ok(())
}

#[tokio::test]
async fn install_refuses_an_index_that_an_interrupted_build_has_left() -> anyhow::Result<()> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    let mut superuser = database.superuser().await?;
    superuser
        .execute(
            "update pg_index set indisvalid = false where indexrelid = 'audit_changes_captured_at_id_idx'::regclass",
        )
        .await?;
    let schema = StorageSchema::default();
    let refused = install(&mut connection, &schema).await.unwrap_err().to_string();
    assert!(
        refused.contains("drop index concurrently \"public\".\"audit_changes_captured_at_id_idx\""),
        "{refused}"
    );
    connection.execute("drop index audit_changes_captured_at_id_idx").await?;
    assert_eq!(
        install(&mut connection, &schema).await?.added,
        ["index audit_changes_captured_at_id_idx of audit_changes"]
    );
    Ok(())
}

/// The foreign key of before is a trigger: it costs nothing where changes are recorded.
#[tokio::test]
async fn changes_go_with_their_transaction_whoever_deletes_it() -> anyhow::Result<()> {
    let database = timeline_database().await?;
    let mut connection = database.connect().await?;
    let mut superuser = database.superuser().await?;
    connection
        .execute(
            "with t as (insert into audit_transactions (txid) select generate_series(1, 3) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 'users', '{}', 'insert' from t cross join generate_series(1, 2)",
        )
        .await?;
    superuser
        .execute(
            "create role keeper; grant select, delete on audit_transactions to keeper; set role keeper;
             delete from audit_transactions where txid > 1; reset role; drop owned by keeper; drop role keeper",
        )
        .await?;
    let left: (i64, i64) =
        sqlx::query_as("select count(*), count(t.id) from audit_changes c left join audit_transactions t on t.id = c.transaction_id")
            .fetch_one(&mut connection)
            .await?;
    assert_eq!(left, (2, 2));
    let refused = connection.execute("truncate audit_transactions cascade").await.unwrap_err();
    assert_eq!(
        refused.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(),
        Some("0A000"),
        "{refused}"
    );
    connection.execute("truncate audit_transactions, audit_changes").await?;
    Ok(())
}
