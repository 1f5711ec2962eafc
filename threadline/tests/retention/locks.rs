//! A purge waits for nobody for long.

use std::time::Duration;

use sqlx::{Connection as _, Executor as _};

use threadline::retention::Archive;

use super::{DAY, counts, host, options, ten_days, term};

#[tokio::test]
async fn a_table_that_is_locked_for_too_long_is_named() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    for table in ["audit_changes", "audit_transactions", "threadline_leases"] {
        let mut holder = host.database.connect().await?;
        let mut holding = holder.begin().await?;
        holding.execute(sqlx::AssertSqlSafe(format!("lock table {table} in exclusive mode"))).await?;
        let impatient = options(|options| options.locked_limit = Duration::from_secs(1));
        let error = host.timeline.purge(&ten_days(), &impatient).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("{table} was locked")), "{error}");
        assert_eq!(term(Err::<(), _>(error)), Some("locked"));
        holding.rollback().await?;
    }
    let runs: Vec<(String, String)> = sqlx::query_as(
        "select status, split_part(error_message, ' ', 2) from threadline_retention_runs order by started_at",
    )
    // The third one has not begun.
    .fetch_all(&mut host.connection)
    .await?;
    let failed = |table: &str| ("failed".to_owned(), table.to_owned());
    assert_eq!(runs, [failed("audit_changes"), failed("audit_transactions")]);
    assert_eq!(counts(&host.purge(&ten_days()).await?), (1, 1, 0, 1));
    Ok(())
}

#[tokio::test]
async fn a_lock_that_goes_away_again_only_delays() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let mut holder = host.database.connect().await?;
    holder.execute("begin; lock table audit_changes in exclusive mode").await?;
    let timeline = host.timeline.clone();
    let purging = tokio::spawn(async move {
        timeline
            .purge(&ten_days(), &options(|options| options.lock_timeout = Duration::from_millis(50)))
            .await
    });
    sandbox::wait::until_some("the batch to have been given up", Duration::from_secs(30), async || {
        let rolled_back = "select 1 from threadline_retention_runs where status = 'running'
             and clock_timestamp() > started_at + interval '600 milliseconds'";
        Ok(sqlx::query_scalar::<_, i32>(rolled_back).fetch_optional(&mut host.connection).await?)
    })
    .await?;
    holder.execute("commit").await?;
    assert_eq!(counts(&purging.await??), (1, 1, 0, 1));
    Ok(())
}

/// What somebody has locked is left for the next run, and nobody waits.
#[tokio::test]
async fn rows_that_somebody_has_locked_are_left() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[
        (1, "public.posts", 20 * DAY),
        (2, "public.posts", 19 * DAY),
        (3, "public.posts", 18 * DAY),
    ])
    .await?;
    let mut holder = host.database.connect().await?;
    let mut holding = holder.begin().await?;
    holding
        .execute(
            "select from audit_changes c join audit_transactions t on t.id = c.transaction_id where t.txid = 2 for update of c;
             select from audit_transactions where txid = 3 for key share",
        )
        .await?;
    let one = options(|options| options.batch_size = 1);
    let purged = host.timeline.purge(&ten_days(), &one).await?;
    assert_eq!(counts(&purged), (2, 1, 0, 2));
    holding.rollback().await?;
    assert_eq!(counts(&host.purge(&ten_days()).await?), (1, 2, 0, 2));
    Ok(())
}

/// What a statement may take is the same for every run: a batch that took longer would end each of them.
#[tokio::test]
async fn a_batch_that_takes_too_long_is_made_smaller() -> anyhow::Result<()> {
    const SLOW: &str = "create function slow() returns trigger language plpgsql as $$ begin
             if (select count(*) from gone) > 3 then raise exception 'slow' using errcode = 'query_canceled'; end if;
             return null;
         end $$;
         create trigger slow after delete on audit_changes referencing old table as gone for each statement execute function slow()";
    for with_archive in [false, true] {
        let mut host = host().await?;
        let changes: Vec<_> = (1..=20).map(|n| (n, "posts", 20 * DAY)).collect();
        host.record(&changes).await?;
        host.connection.execute(SLOW).await?;
        let archive = with_archive.then(|| host.archives_in().map(Archive::new)).transpose()?;
        let options = options(|options| (options.batch_size, options.archive) = (16, archive));
        let purged = host.timeline.purge(&ten_days(), &options).await?;
        // Of sixteen, of eight and of four rows it took too long.
        assert_eq!(counts(&purged), (20, 20, 0, 10));
        assert!(host.left().await?.is_empty());
    }
    Ok(())
}
