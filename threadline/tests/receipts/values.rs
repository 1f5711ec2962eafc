//! Whatever is stored can be sealed, bundled and verified.

use threadline::receipts::Trust;

use super::{Host, offline};

/// Times that no driver knows, documents of every form, texts that end lines, arrays of every shape, nulls.
pub(crate) const HOSTILE: &str = r#"
    insert into audit_transactions (txid, occurred_at, source, meta, actor_ref, correlation_id, request_id, job_id, context) values
        (1, 'infinity', E'a\nb', '[1, 1.10, 1e400]', '"text"', E'\t', '', null, 'null'),
        (2, '-infinity', null, null, null, null, null, null, null),
        (3, '4713-01-01 00:00:00Z BC', E'Grüße 🦀 \u202e', '123456789012345678901234567890.10', '[]', '{"end": 1}', 'null', E'\u2028', '{}'),
        (4, '294276-12-31 23:59:59.999999Z', E'\\u0000', '{"a": {"b": [null, true]}}', 'true', E'\x01', '\', '"', '{"\u00e9": "\""}'),
        (-9223372036854775808, '2000-01-01 00:00:00Z', repeat('x', 100000), jsonb_build_object('x', repeat('y', 2000000)), '{}', null, null, null, null);
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at, key_before,
                               data_before, partition, json_nulls, position)
    select t.id, E'a"b', E'c.d\n', '{}', 'update', x.document, x.items, x.document, t.occurred_at, 'null', '"x"', '', x.items, t.txid
    from audit_transactions t cross join (values
        ('{"n": 1.10, "e": 1e-300}'::jsonb, '{}'::text[]), (null, null), ('[]', '{NULL,"NULL",""}'), ('"\u0001"', '{{a,NULL},{"c d","\"e\""}}'),
        ('null', '[0:1]={a,b}'), ('{}', array[E'\t\n\v', '🦀', '\', '{}', ','])) x (document, items);
    insert into audit_actions (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at, txid) values
        (E'\r\n', 'null', 'ok', '', E'\x7f', E'line\nline', repeat('ü', 1000), 'x', null, null, 'infinity', null),
        ('', '{"type": "anonymous"}', 'error', null, null, null, null, null, null, null, '-infinity', 9223372036854775807)"#;

#[tokio::test]
async fn whatever_is_stored_is_sealed_and_verified() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run(HOSTILE).await?;
    let receipt = host.seal().await?;
    assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (5, 30, 2));
    let bundle = host.bundle().await?;
    let [online, offline] = [host.verify(&Trust::nothing()).await?, offline(&bundle, &Trust::nothing())?];
    for found in [&online, &offline] {
        assert!(found.holds(), "{found:?}");
        assert_eq!(found.compared.rows(), 37);
    }
    // A value of two megabytes stands as its hash.
    assert_eq!((online.withheld, offline.withheld), (0, 1));
    assert!(bundle.len() < 1_000_000, "{}", bundle.len());
    Ok(())
}

/// Settings of a session say how values are printed; what is hashed does not follow them.
#[tokio::test]
async fn settings_of_the_server_change_no_leaf() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run(HOSTILE).await?;
    host.seal().await?;
    let mut superuser = host.database.superuser().await?;
    let name = host.database.name();
    let settings = [
        "timezone = 'Asia/Kathmandu'",
        "datestyle = 'German'",
        "intervalstyle = 'iso_8601'",
        "extra_float_digits = -5",
        "bytea_output = 'escape'",
        "standard_conforming_strings = off",
        "row_security = off",
        "jit = on",
    ];
    for setting in settings {
        let statement = format!("alter database {name} set {setting}");
        sqlx::Executor::execute(&mut superuser, sqlx::AssertSqlSafe(statement)).await?;
    }
    let timeline = threadline::Timeline::new(
        sqlx::PgPool::connect(&host.database.url).await?,
        threadline::StorageSchema::default(),
    );
    let found = threadline::receipts::verify(&timeline, &Trust::nothing(), |_| {}).await?;
    assert!(found.holds(), "{found:?}");
    Ok(())
}

/// Rows that a policy hides are no rows that are gone, and none that may be left out.
#[tokio::test]
async fn rows_that_are_hidden_from_the_role_are_refused() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v) values (1)").await?;
    host.run("alter table audit_changes enable row level security; alter table audit_changes force row level security").await?;
    let refused = threadline::receipts::seal(&host.timeline, None, |_| {}).await.unwrap_err();
    assert_eq!(refused.term(), Some("rights"), "{refused}");
    assert!(refused.to_string().contains("row level security"), "{refused}");
    assert_eq!(host.count("threadline_receipts").await?, 0);
    Ok(())
}

/// Rows as the Elixir library has left them, adopted by an installation over them: without positions, and with one number for all actions.
#[tokio::test]
async fn adopted_rows_of_the_library_are_sealed() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let database = sandbox::fixture::empty_database().await?;
    let mut connection = database.connect().await?;
    connection
        .execute(
            "create table audit_transactions (id uuid primary key default gen_random_uuid(), txid bigint not null unique,
                 occurred_at timestamptz not null default now(), source text, meta jsonb);
             create table audit_changes (id uuid primary key default gen_random_uuid(),
                 transaction_id uuid not null references audit_transactions on delete cascade, table_schema text not null,
                 table_name text not null, table_pk jsonb not null, op text not null check (op in ('insert', 'update', 'delete')),
                 data_after jsonb, changed_fields text[], captured_at timestamptz not null default now());
             create table audit_actions (id uuid primary key default gen_random_uuid(), name text not null, actor_ref jsonb not null,
                 status text not null check (status in ('ok', 'error')), verb text, category text, reason text, comment text,
                 correlation_id text, request_id text, job_id text, inserted_at timestamptz not null default now());
             insert into audit_actions (name, actor_ref, status) select 'a.b', '{}', 'ok' from generate_series(1, 4);
             with t as (insert into audit_transactions (txid) select generate_series(1, 3) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, changed_fields)
             select id, 'public', 'users', '{\"id\": \"1\"}', 'update', '{name}' from t",
        )
        .await?;
    threadline::install(&mut connection, &threadline::StorageSchema::default()).await?;
    connection
        .execute("insert into audit_actions (name, actor_ref, status, txid) values ('a.c', '{}', 'ok', null)")
        .await?;
    let mut host = Host::of(database).await?;
    let receipt = host.seal().await?;
    assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (3, 3, 5));
    host.run("insert into t (v) values (1)").await?;
    assert_eq!(host.seal().await?.changes, 1);
    for found in host.both(&Trust::nothing()).await? {
        assert!(found.holds(), "{found:?}");
        assert_eq!(found.compared.rows(), 13);
    }
    Ok(())
}
