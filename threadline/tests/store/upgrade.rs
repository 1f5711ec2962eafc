//! Installing over the tables of an older version, while they are in use.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sandbox::{
    fixture::{TestDatabase, empty_database},
    wait,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{StorageSchema, install};
use tokio::task::JoinSet;

/// The last migration before indexes and the foreign key were replaced.
const OLD: &str = "0012";

/// Of a wait.
const LIMIT: Duration = Duration::from_secs(30);

/// What migrations up to [`OLD`] make.
async fn old_timeline() -> anyhow::Result<(TestDatabase, PgConnection)> {
    let database = empty_database().await?;
    let mut connection = database.connect().await?;
    let mut files = BTreeMap::new();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))? {
        let path = file?.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(path)?);
    }
    for (_, sql) in files.into_iter().filter(|(name, _)| name[..4] <= *OLD) {
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok((database, connection))
}

/// Some lock the captured transaction long before the change, as with an action that is recorded first, some the change a moment before
/// the transaction, as our triggers do: whoever held one of the tables and waited for the other would make the server end one of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_beside_writers_ends_none_of_them() -> anyhow::Result<()> {
    let (database, mut connection) = old_timeline().await?;
    let change = "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
        values (threadline_transaction_id(), 'public', 't', '{}', 'insert')";
    let action = r#"select threadline_begin('{"actor": {"type": "anonymous"}}'), threadline_record_action('a.b', '{}')"#;
    let (done, stop) = tokio::sync::watch::channel(false);
    let mut writers = JoinSet::new();
    for first in [Some(action), None].repeat(2) {
        let (mut writer, stop) = (database.connect().await?, stop.clone());
        writers.spawn(async move {
            let mut written = 0;
            while !*stop.borrow() {
                let mut open = writer.begin().await?;
                if let Some(first) = first {
                    open.execute(first).await?;
                    open.execute("select pg_sleep(0.005)").await?;
                }
                open.execute(change).await?;
                open.commit().await?;
                written += 1;
                // Where writers never pause, an installation gives up after a minute.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok::<i64, sqlx::Error>(written)
        });
    }
    let installed = install(&mut connection, &StorageSchema::default()).await;
    done.send(true)?;
    let mut written = 0;
    while let Some(writer) = writers.join_next().await {
        written += writer??;
    }
    let installed = installed?;
    assert!(installed.lacking.is_empty() && installed.replaced.len() == 13, "{installed:?}");
    let kept: (i64, i64) = sqlx::query_as(
        "select (select count(*) from audit_changes), (select count(*) from audit_transactions)",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(kept, (written, written));
    Ok(())
}

/// It gives up what it holds, so that writers go on, and takes it again when the reader has ended.
#[tokio::test]
async fn an_installation_that_waits_for_a_reader_holds_up_no_writer() -> anyhow::Result<()> {
    let (database, mut connection) = old_timeline().await?;
    let mut reader = database.connect().await?;
    reader.execute("begin; select from audit_changes").await?;
    let mut writer = database.connect().await?;
    let is_installed = AtomicBool::new(false);
    let installing = async {
        let installed = install(&mut connection, &StorageSchema::default()).await?;
        is_installed.store(true, Ordering::SeqCst);
        Ok::<_, anyhow::Error>(installed)
    };
    let writing = async {
        let mut seen = database.connect().await?;
        let waits = "select exists (select from pg_locks where not granted and mode = 'AccessExclusiveLock'
                                    and relation = 'audit_changes'::regclass)";
        wait::until_some("the installation at its lock", LIMIT, async || {
            Ok(sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut seen).await?.then_some(()))
        })
        .await?;
        let write = writer.execute(
            "with t as (insert into audit_transactions (txid) values (1) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 't', '{}', 'insert' from t",
        );
        tokio::time::timeout(LIMIT, write).await??;
        assert!(!is_installed.load(Ordering::SeqCst), "the reader is still there");
        reader.execute("commit").await?;
        Ok::<_, anyhow::Error>(())
    };
    let (installed, ()) = tokio::try_join!(installing, writing)?;
    assert_eq!(installed.replaced.len(), 13);
    Ok(())
}

#[tokio::test]
async fn what_is_the_hosts_own_is_left() -> anyhow::Result<()> {
    let (_database, mut connection) = old_timeline().await?;
    connection
        .execute(
            "alter table audit_changes drop constraint audit_changes_transaction_id_fkey,
                 add constraint of_the_host foreign key (transaction_id) references audit_transactions (id) on delete restrict;
             create index audit_changes_captured_at_id_idx on audit_changes (op);
             drop index audit_transactions_action_id_idx;
             create index audit_transactions_action_id_idx on audit_actions (verb);
             drop index audit_transactions_txid_idx;
             alter table audit_transactions add constraint audit_transactions_txid_idx unique (txid);
             with t as (insert into audit_transactions (txid) values (1) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 't', '{}', 'insert' from t",
        )
        .await?;
    let installed = install(&mut connection, &StorageSchema::default()).await?;
    let mut replaced = installed.replaced.clone();
    replaced.sort();
    assert_eq!(
        replaced,
        [
            "index audit_actions_actor_ref_idx of audit_actions",
            "index audit_actions_correlation_id_idx of audit_actions",
            "index audit_actions_inserted_at_idx of audit_actions",
            "index audit_actions_name_idx of audit_actions",
            "index audit_changes_table_name_idx of audit_changes",
            "index audit_transactions_actor_ref_gin of audit_transactions",
            "index audit_transactions_correlation_id_idx of audit_transactions",
            "index audit_transactions_page_idx of audit_transactions",
        ]
    );
    for forbidden in
        ["delete from audit_transactions", "update audit_transactions set id = gen_random_uuid()"]
    {
        let refused = connection.execute(forbidden).await.unwrap_err();
        let code = refused.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // `restrict` is a violation of its own from 18 on, 23001.
        assert!(matches!(code.as_deref(), Some("23001" | "23503")), "{forbidden}: {refused}");
    }
    Ok(())
}
