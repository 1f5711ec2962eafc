//! A row that is committed while an archive is made, with a time of before, is deleted by nobody who has not archived it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    DAY,
    archive::{assert_archived, entries},
    host, ten_days,
};

/// A change that is twenty days old when it is written, with its captured transaction, an old one or its own.
const BACKDATED: &str = "
    with t as (insert into audit_transactions (txid, occurred_at)
               values (pg_current_xact_id()::text::int8, now() - interval '20 days')
               on conflict (txid) do update set source = excluded.source returning id)
    insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, data_after, captured_at)
    select coalesce($1::uuid, t.id), 'public', 'posts', jsonb_build_object('id', $2), 'insert', jsonb_build_object('id', $2, 'price', 19.90),
           now() - interval '20 days' from t returning id::text, to_jsonb(audit_changes)";

async fn backdated(
    connection: &mut PgConnection,
    transaction: Option<uuid::Uuid>,
    n: i32,
) -> anyhow::Result<(String, Value)> {
    Ok(sqlx::query_as(BACKDATED).bind(transaction).bind(n).fetch_one(connection).await?)
}

#[tokio::test]
async fn what_is_committed_between_archive_and_deletion_stays_for_the_next_run() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY), (2, "public.posts", 20 * DAY)]).await?;
    let old: uuid::Uuid = sqlx::query_scalar("select id from audit_transactions where txid = 1")
        .fetch_one(&mut host.connection)
        .await?;
    // An archive is recorded once somebody lets it.
    let held = host.hold("before insert on threadline_archives for each row").await?;
    let (mut writer, mut second) = (host.database.connect().await?, host.database.connect().await?);
    let mut writing = writer.begin().await?;
    let of_its_own = backdated(&mut writing, None, 10).await?;
    let of_an_old_one = backdated(&mut writing, Some(old), 11).await?;
    let (timeline, with) = (host.timeline.clone(), host.archiving(100)?);
    let purging = tokio::spawn(async move { timeline.purge(&ten_days(), &with).await });
    host.until_held().await?;
    writing.commit().await?;
    // And one that begins and ends there.
    let later = backdated(&mut second, None, 12).await?;
    drop(held);
    assert_eq!(purging.await??.deleted_changes, 2);
    let left = host.rows("audit_changes").await?;
    let unarchived = BTreeMap::from([of_its_own, of_an_old_one, later]);
    assert_eq!(left, unarchived);
    assert_eq!(host.count("audit_transactions").await?, 3, "with their transactions");
    assert_eq!(host.timeline.purge(&ten_days(), &host.archiving(100)?).await?.deleted_changes, 3);
    let archives = host.archives().await?;
    assert_archived(&unarchived, &entries(&archives[1..])?, "change");
    assert_eq!(entries(&archives[..1])?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn of_rows_that_are_written_while_purges_archive_none_is_lost() -> anyhow::Result<()> {
    const WRITERS: i32 = 4;
    let mut host = host().await?;
    let enough = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (mut connection, enough) = (host.database.connect().await?, enough.clone());
        writers.push(tokio::spawn(async move {
            let mut written = BTreeMap::new();
            let mut n = writer;
            // So many at most: what is left is purged at the end.
            while !enough.load(Ordering::Relaxed) && n < 2_000 {
                let mut transaction = connection.begin().await?;
                let mut rows = Vec::new();
                for _ in 0..=n % 5 {
                    rows.push(backdated(&mut transaction, None, n).await?);
                    n += WRITERS;
                }
                if n % 3 == 0 {
                    // Some are open for longer than a batch takes.
                    transaction.execute("select pg_sleep(0.02)").await?;
                }
                if n % 7 == 0 {
                    transaction.rollback().await?;
                } else {
                    transaction.commit().await?;
                    written.extend(rows);
                }
            }
            Ok::<_, anyhow::Error>(written)
        }));
    }
    let mut with = host.archiving(40)?;
    // A run that follows writers who are faster ends.
    (with.batch_size, with.max_batches, with.sleep) = (20, 10, Duration::ZERO);
    let mut while_writing = 0;
    for _ in 0..6 {
        while_writing += host.timeline.purge(&ten_days(), &with).await?.deleted_changes;
    }
    enough.store(true, Ordering::Relaxed);
    let mut written = BTreeMap::new();
    for writer in writers {
        written.extend(writer.await??);
    }
    assert!(while_writing > 0, "nothing was purged while somebody wrote");
    let left = host.count("audit_changes").await?;
    let last = host.timeline.purge(&ten_days(), &host.archiving(400)?).await?;
    assert_eq!((i64::try_from(last.deleted_changes)?, host.count("audit_changes").await?), (left, 0));
    assert_eq!(host.count("audit_transactions").await?, 0);
    let archives = host.archives().await?;
    let changes: Vec<Value> =
        entries(&archives)?.into_iter().filter(|entry| entry["kind"] == "change").collect();
    assert_archived(&written, &changes, "change");
    Ok(())
}
