//! What the Elixir library's purge did, step by step, and that it still does it on tables of ours.

use sqlx::Executor as _;
use threadline::retention::{Keep, Policy, PurgeOptions};
use time::OffsetDateTime;

use super::{DAY, Host, counts, host, options, term};

/// Twenty transactions with 25 changes that are young; four changes that are old, the first one of them older, each in a transaction of its
/// own; and a transaction without changes of the age of the oldest.
async fn library_host() -> anyhow::Result<Host> {
    let mut host = host().await?;
    let young: Vec<(i64, &str, i64)> =
        (0..25).map(|number| (100 + number % 20, "public.posts", DAY)).collect();
    host.record(&young).await?;
    host.record(&[
        (1, "public.posts", 60 * DAY),
        (2, "public.posts", 40 * DAY),
        (3, "public.posts", 39 * DAY),
        (4, "public.users", 38 * DAY),
    ])
    .await?;
    host.record_empty(&[(5, 60 * DAY)]).await?;
    Ok(host)
}

/// The steps, their order and the counts are those of running the library. Where ours differ:
/// - captured transactions that were empty before come after all changes, bounded as everything is: with one batch of one change the library
///   deletes them too, unbounded;
/// - batches are those that have deleted something: the library counts the last one, which finds nothing, too.
#[tokio::test]
async fn the_elixir_librarys_steps_delete_as_much_as_there() -> anyhow::Result<()> {
    let mut host = library_host().await?;
    let policy = Policy::new(Keep::days(30)?)?;
    let ago = |days: i64| OffsetDateTime::now_utc() - time::Duration::days(days);
    let dry = |cutoff: Option<OffsetDateTime>| {
        options(|options| (options.dry_run, options.cutoff) = (true, cutoff))
    };
    let purged = host.timeline.purge(&policy, &dry(None)).await?;
    assert_eq!((counts(&purged), purged.dry_run, purged.run), ((4, 5, 0, 0), true, None));
    let purged = host.timeline.purge(&policy, &dry(Some(ago(50)))).await?;
    assert_eq!(counts(&purged), (1, 2, 0, 0));
    let newer = host.timeline.purge(&policy, &options(|options| options.cutoff = Some(ago(29)))).await;
    assert_eq!(term(newer), Some("cutoff"));
    let one = options(|options| (options.batch_size, options.max_batches) = (1, 1));
    let purged = host.timeline.purge(&policy, &one).await?;
    // There: 1, 2, in one batch.
    assert_eq!((counts(&purged), purged.is_complete), ((1, 1, 0, 1), false));
    let purged = host.timeline.purge(&policy, &options(|options| options.batch_size = 2)).await?;
    // There: 3, 3, in three batches.
    assert_eq!((counts(&purged), purged.is_complete), ((3, 4, 0, 3), true));
    let purged = host.purge(&policy).await?;
    // There: nothing, in one batch.
    assert_eq!(counts(&purged), (0, 0, 0, 0));
    assert_eq!((host.count("audit_transactions").await?, host.count("audit_changes").await?), (20, 25));
    let runs: Vec<(String, Option<i32>, Option<String>)> = sqlx::query_as(
        "select status, deleted_count, error_message from threadline_retention_runs order by started_at",
    )
    .fetch_all(&mut host.connection)
    .await?;
    // There: 3, 6 and 0.
    assert_eq!(
        runs,
        [2, 7, 0].map(|count| ("completed".to_owned(), Some(count), None)),
        "a dry run and one that is refused leave none"
    );
    assert_eq!(term(host.purge(&policy.enabled(false)).await), Some("disabled"));
    Ok(())
}

/// Its loop, as statements: a run, a batch of changes, all transactions without changes, the end.
const LIBRARYS_PURGE: &str = "
    insert into threadline_retention_runs (id, status, started_at, inserted_at, updated_at)
        values ('d0000000-0000-4000-8000-000000000001', 'running', now(), now(), now());
    delete from audit_changes where id in (
        select id from audit_changes where captured_at < now() - interval '30 days' order by captured_at limit 500);
    delete from audit_transactions where id in (
        select t.id from audit_transactions t left join audit_changes c on c.transaction_id = t.id where c.id is null limit 500);
    update threadline_retention_runs set status = 'completed', deleted_count = 9, duration_ms = 12, completed_at = now(), updated_at = now()
        where id = 'd0000000-0000-4000-8000-000000000001'";

#[tokio::test]
async fn the_elixir_librarys_own_purge_works_on_our_tables_and_ours_after_it() -> anyhow::Result<()> {
    let mut host = library_host().await?;
    host.connection.execute(LIBRARYS_PURGE).await?;
    assert_eq!((host.count("audit_transactions").await?, host.count("audit_changes").await?), (20, 25));
    let purged = host.purge(&Policy::new(Keep::days(30)?)?).await?;
    assert_eq!(counts(&purged), (0, 0, 0, 0));
    let runs = threadline::retention::runs(&mut host.connection, host.timeline.schema(), 10).await?;
    let seen: Vec<_> = runs
        .iter()
        .map(|run| (run.status.as_str(), run.deleted_count, run.deleted_changes, run.holder.is_some()))
        .collect();
    assert_eq!(seen, [("completed", Some(0), Some(0), true), ("completed", Some(9), None, false)]);
    Ok(())
}

/// The library deletes each transaction without changes, however young: also one that has just been made by hand, or whose changes are not
/// captured. Ours waits until it is as old as a change that goes.
#[tokio::test]
async fn a_transaction_without_changes_is_kept_as_long_as_a_change() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record_empty(&[(1, 31 * DAY), (2, 29 * DAY), (3, 0)]).await?;
    let purged = host.timeline.purge(&Policy::new(Keep::days(30)?)?, &PurgeOptions::default()).await?;
    assert_eq!(purged.deleted_transactions, 1);
    assert_eq!(host.left().await?, [(2, vec![]), (3, vec![])]);
    Ok(())
}
