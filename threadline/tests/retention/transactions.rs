//! Which captured transactions go with their changes, and what of them is never lost.

use sqlx::{Connection as _, Executor as _};

use super::{DAY, counts, host, options, ten_days};

#[tokio::test]
async fn a_transaction_goes_with_its_last_change_and_one_without_changes_after_them() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[
        (1, "public.posts", 20 * DAY),
        (1, "public.posts", 5 * DAY),
        (2, "public.posts", 20 * DAY),
    ])
    .await?;
    host.record_empty(&[(3, 20 * DAY), (4, 5 * DAY)]).await?;
    assert_eq!(counts(&host.purge(&ten_days()).await?), (2, 2, 0, 2));
    let posts = || vec!["public.posts".to_owned()];
    assert_eq!(host.left().await?, [(1, posts()), (4, vec![])]);
    Ok(())
}

#[tokio::test]
async fn transactions_stay_where_the_policy_keeps_them() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    host.record_empty(&[(2, 20 * DAY)]).await?;
    let keeps = ten_days().delete_empty_transactions(false);
    assert_eq!(counts(&host.purge(&keeps).await?), (1, 0, 0, 1));
    assert_eq!(host.left().await?, [(1, vec![]), (2, vec![])]);
    assert_eq!(counts(&host.purge(&ten_days()).await?), (0, 2, 0, 1));
    Ok(())
}

/// Kept ones are visited too, once: the walk goes on behind them.
#[tokio::test]
async fn empty_transactions_among_many_that_are_kept_are_found_batch_by_batch() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection
        .execute(
            "insert into audit_transactions (txid, occurred_at) select n, now() - interval '20 days' + n * interval '1 second' from generate_series(1, 1000) n;
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
             select id, 'public', 'posts', '{}', 'delete' from audit_transactions where txid % 100 <> 0",
        )
        .await?;
    let small = options(|options| options.batch_size = 150);
    let purged = host.timeline.purge(&ten_days(), &small).await?;
    // Ten of a thousand, a hundred apart: the last two in one batch with others.
    assert_eq!(counts(&purged), (0, 10, 0, 7));
    assert_eq!(host.count("audit_transactions").await?, 990);
    Ok(())
}

/// A change that somebody adds to an old transaction by hand while it is deleted: there is no foreign key that would make one wait for the
/// other, and the trigger that deletes changes with their transaction must not find it.
#[tokio::test]
async fn a_change_that_is_added_while_its_transaction_goes_is_kept() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record_empty(&[(1, 20 * DAY)]).await?;
    // Holds the purge between its snapshot and the trigger that deletes changes.
    host.connection
        .execute(
            "create function wait() returns trigger language plpgsql as $$ begin
                 perform pg_advisory_xact_lock(7); return old; end $$;
             create trigger a_wait before delete on audit_transactions for each row execute function wait()",
        )
        .await?;
    host.connection.execute("select pg_advisory_lock(7)").await?;
    let patient = options(|options| options.lock_timeout = std::time::Duration::from_secs(60));
    let timeline = host.timeline.clone();
    let purging = tokio::spawn(async move { timeline.purge(&ten_days(), &patient).await });
    sandbox::wait::until_some("the purge to wait", std::time::Duration::from_secs(30), async || {
        let waits = "select pid from pg_locks where locktype = 'advisory' and not granted";
        Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut host.connection).await?)
    })
    .await?;
    host.connection
        .execute(
            "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'posts', '{}', 'delete', now() from audit_transactions;
             select pg_advisory_unlock(7)",
        )
        .await?;
    assert_eq!(counts(&purging.await??), (0, 1, 0, 1));
    assert_eq!(host.count("audit_changes").await?, 1);
    Ok(())
}

/// In a database that was restored into another cluster a trigger of the Elixir library's files changes under the row that has its number.
#[tokio::test]
async fn a_transaction_whose_number_is_running_again_is_left() -> anyhow::Result<()> {
    let mut host = host().await?;
    let mut writer = host.database.connect().await?;
    let mut running = writer.begin().await?;
    let number: i64 = sqlx::query_scalar("select txid_current()").fetch_one(&mut *running).await?;
    // As restored a second time, too.
    host.record_empty(&[(number, 20 * DAY), (number + (1 << 48), 20 * DAY), (number + 10_000, 20 * DAY)])
        .await?;
    assert_eq!(counts(&host.purge(&ten_days()).await?), (0, 1, 0, 1));
    sqlx::query(
        "insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
         select id, 'public', 'posts', '{}', 'delete' from audit_transactions where txid = $1",
    )
    .bind(number)
    .execute(&mut *running)
    .await?;
    running.commit().await?;
    assert_eq!(counts(&host.purge(&ten_days()).await?), (0, 1, 0, 1));
    assert_eq!(host.left().await?, [(number, vec!["public.posts".to_owned()])]);
    Ok(())
}
