//! Which changes go.

use threadline::retention::{Keep, PurgeOptions};
use time::OffsetDateTime;

use super::{DAY, counts, host, options, table, ten_days, term};

#[tokio::test]
async fn what_is_older_than_its_window_goes_in_batches_and_a_second_run_finds_nothing() -> anyhow::Result<()>
{
    let mut host = host().await?;
    let old: Vec<(i64, &str, i64)> =
        (0..23).map(|number| (number, "public.posts", 11 * DAY + number)).collect();
    host.record(&old).await?;
    host.record(&[(100, "public.posts", 9 * DAY)]).await?;
    let five = options(|options| (options.batch_size, options.sleep) = (5, std::time::Duration::ZERO));
    let mut seen = Vec::new();
    let progress = |purged: &threadline::retention::Purged| seen.push(purged.deleted_changes);
    let purged = host.timeline.purge_until(&ten_days(), &five, std::future::pending(), progress).await?;
    assert_eq!((counts(&purged), purged.is_complete), ((23, 23, 0, 5), true));
    assert_eq!(seen, [5, 10, 15, 20, 23]);
    assert_eq!(purged.tables.into_iter().collect::<Vec<_>>(), [("public.posts".to_owned(), 23)]);
    assert_eq!(host.left().await?, [(100, vec!["public.posts".to_owned()])]);
    assert_eq!(counts(&host.purge(&ten_days()).await?), (0, 0, 0, 0));
    Ok(())
}

/// Strictly before; and times that no driver holds.
#[tokio::test]
async fn a_change_goes_when_it_is_strictly_older_than_the_cutoff() -> anyhow::Result<()> {
    let mut host = host().await?;
    let cutoff = (OffsetDateTime::now_utc() - time::Duration::days(20)).replace_nanosecond(0)?;
    for (number, time) in [
        (1_i64, "$1::timestamptz"),
        (2, "$1::timestamptz - interval '1 microsecond'"),
        (3, "$1::timestamptz + interval '1 microsecond'"),
        (4, "'-infinity'"),
        (5, "'infinity'"),
        (6, "'0044-03-15 BC'"),
        (7, "'294276-01-01'"),
    ] {
        let statement = format!(
            "with t as (insert into audit_transactions (txid, occurred_at) values ({number}, ({time})::timestamptz) returning id)
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'posts', '{{}}', 'delete', ({time})::timestamptz from t where $1::timestamptz is not null"
        );
        let statement = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(cutoff);
        statement.execute(&mut host.connection).await?;
    }
    // One at a time: the place between two batches holds such times too.
    let at = options(|options| (options.cutoff, options.batch_size) = (Some(cutoff), 1));
    let purged = host.timeline.purge(&ten_days(), &at).await?;
    assert_eq!(counts(&purged), (3, 3, 0, 3));
    let left: Vec<i64> = host.left().await?.into_iter().map(|(number, _)| number).collect();
    assert_eq!(left, [1, 3, 5, 7]);
    Ok(())
}

#[tokio::test]
async fn each_table_has_its_window_shorter_longer_or_for_ever() -> anyhow::Result<()> {
    let mut host = host().await?;
    let tables = ["public.posts", "public.sessions", "billing.invoices", "other.sessions", "billing.notes"];
    let ages = [3, 8, 15, 40];
    for (tx, age) in (1_i64..).zip(ages) {
        for name in tables {
            host.record(&[(tx, name, age * DAY)]).await?;
        }
    }
    let policy = ten_days()
        .table(table("public.sessions"), Keep::days(5)?)
        .table(table("billing.invoices"), Keep::Forever)
        .table(table("billing.notes"), Keep::days(20)?);
    let purged = host.purge(&policy).await?;
    let left = host.left().await?;
    let of = |tx: usize| left[tx].1.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        of(0),
        ["billing.invoices", "billing.notes", "other.sessions", "public.posts", "public.sessions"]
    );
    assert_eq!(of(1), ["billing.invoices", "billing.notes", "other.sessions", "public.posts"]);
    assert_eq!(of(2), ["billing.invoices", "billing.notes"]);
    assert_eq!(of(3), ["billing.invoices"]);
    let by_table: Vec<(&str, u64)> =
        purged.tables.iter().map(|(table, count)| (table.as_str(), *count)).collect();
    assert_eq!(
        by_table,
        [("billing.notes", 1), ("other.sessions", 2), ("public.posts", 2), ("public.sessions", 3)]
    );
    assert_eq!(purged.deleted_transactions, 0);
    // Without a table that is kept longer, changes are visited in the order of their times.
    let shorter = ten_days().table(table("public.sessions"), Keep::days(5)?);
    assert_eq!(counts(&host.purge(&shorter).await?).0, 3);
    assert_eq!(host.left().await?.len(), 2);
    Ok(())
}

/// Of a partitioned table a change names the table, and so does its window.
#[tokio::test]
async fn the_window_of_a_partitioned_table_is_that_of_its_name() -> anyhow::Result<()> {
    use sqlx::Executor as _;
    let mut host = host().await?;
    host.connection
        .execute(
            "create table visits (id int, day date, primary key (id, day)) partition by range (day);
             create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01')",
        )
        .await?;
    let (visits, policy) = (table("visits"), threadline::capture::Policy::default());
    let plan =
        threadline::capture::plan(&mut host.connection, host.timeline.schema(), &[(visits, policy)]).await?;
    let migration = threadline::capture::Migration::new(&plan, 1, threadline::capture::Capture::is_rerun);
    host.connection.execute(sqlx::AssertSqlSafe(format!("begin; {}; commit", migration.up))).await?;
    host.connection.execute("insert into visits values (1, '2026-05-15')").await?;
    host.connection.execute("update audit_changes set captured_at = captured_at - interval '7 days'").await?;
    let of_leaf = ten_days().table(table("visits_2026"), Keep::days(1)?);
    let error = host.purge(&of_leaf).await.unwrap_err();
    assert!(error.to_string().contains("name public.visits in [retention.tables] instead"), "{error}");
    assert_eq!(term(Err::<(), _>(error)), Some("table_unknown"));
    let of_table = ten_days().table(table("visits"), Keep::days(1)?);
    assert_eq!(counts(&host.purge(&of_table).await?), (1, 1, 0, 1));
    Ok(())
}

#[tokio::test]
async fn options_that_cannot_be_used_are_refused_before_anything_is_done() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let refused = host.timeline.purge(&ten_days(), &options(|options| options.batch_size = 10_001)).await;
    assert_eq!(term(refused), Some("option_invalid"));
    assert_eq!(host.count("threadline_retention_runs").await?, 0);
    assert_eq!(host.count("threadline_leases").await?, 0);
    let largest = options(|options| options.batch_size = 10_000);
    assert_eq!(counts(&host.timeline.purge(&ten_days(), &largest).await?).0, 1);
    assert_eq!(PurgeOptions::default(), options(|_| ()));
    Ok(())
}
