//! Writers beside a purge lose nothing, and are not in its way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use sqlx::{Connection as _, Executor as _};
use threadline::{
    StorageSchema,
    capture::{Capture, Migration, Policy, plan},
};

use super::{host, options, table, ten_days};

/// Captured writers of several changes a transaction, with savepoints, while old changes of the same tables go. What they have committed is
/// there afterwards, each change under its transaction; what was old is gone.
#[tokio::test(flavor = "multi_thread")]
async fn writers_in_the_middle_of_a_purge_lose_nothing() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection.execute("create table posts (id bigint primary key, note text)").await?;
    let wanted = [(table("posts"), Policy::default())];
    let captures = plan(&mut host.connection, &StorageSchema::default(), &wanted).await?;
    let migration = Migration::new(&captures, 1, Capture::is_rerun);
    host.connection.execute(sqlx::AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    host.connection
        .execute(
            "insert into audit_transactions (txid, occurred_at) select -n, now() - interval '20 days' from generate_series(1, 3000) n;
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'posts', '{}', 'delete', occurred_at + k * interval '1 second'
             from audit_transactions cross join generate_series(1, 3) k where txid % 10 <> 0",
        )
        .await?;
    let is_done = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..3_i64 {
        let (database, is_done) = (host.database.clone(), is_done.clone());
        writers.push(tokio::spawn(async move {
            let mut connection = database.connect().await?;
            let mut kept: Vec<i64> = Vec::new();
            for number in 0_i64.. {
                if is_done.load(Ordering::Relaxed) && number > 20 {
                    break;
                }
                let id = writer * 1_000_000 + number * 10;
                let mut transaction = connection.begin().await?;
                let insert = "insert into posts values ($1, 'one'), ($1 + 1, 'two')";
                sqlx::query(insert).bind(id).execute(&mut *transaction).await?;
                transaction.execute("savepoint s").await?;
                sqlx::query("insert into posts values ($1 + 2, 'three')")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
                transaction.execute("rollback to s").await?;
                sqlx::query("update posts set note = 'four' where id = $1")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
                if number % 3 == 2 {
                    transaction.rollback().await?;
                } else {
                    transaction.commit().await?;
                    kept.extend([id, id, id + 1]);
                }
            }
            anyhow::Ok(kept)
        }));
    }
    let small = options(|options| (options.batch_size, options.sleep) = (50, Duration::from_millis(1)));
    let purged = host.timeline.purge(&ten_days(), &small).await?;
    is_done.store(true, Ordering::Relaxed);
    let mut expected: Vec<i64> = Vec::new();
    for writer in writers {
        expected.extend(writer.await??);
    }
    expected.sort_unstable();
    assert_eq!((purged.deleted_changes, purged.deleted_transactions), (8_100, 3_000));
    let kept: Vec<i64> = sqlx::query_scalar(
        "select (c.table_pk ->> 'id')::bigint from audit_changes c join audit_transactions t on t.id = c.transaction_id order by 1",
    )
    .fetch_all(&mut host.connection)
    .await?;
    assert_eq!(kept, expected);
    assert_eq!(host.count("audit_changes").await?, i64::try_from(expected.len())?);
    let empty =
        "audit_transactions t where not exists (select from audit_changes c where c.transaction_id = t.id)";
    assert_eq!(host.count(empty).await?, 0);
    assert_eq!(json!(purged.tables), json!({"public.posts": 8_100}));
    Ok(())
}
