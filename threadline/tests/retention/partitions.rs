//! Changes by months, of which a purge drops the whole.

use std::time::Duration;

use sandbox::{
    fixture::{shared, timeline_database_as},
    rights::as_role,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgPool};
use threadline::{
    Layout, StorageSchema, Timeline,
    retention::{Archive, Keep, Policy, PurgeOptions, verify},
};
use uuid::Uuid;

use super::{DAY, Host, counts, options, table, ten_days, term};

/// A host whose changes are stored by months, with tables for the last six months too.
async fn host() -> anyhow::Result<Host> {
    let name = format!("months_{}", Uuid::new_v4().simple());
    let database = timeline_database_as(&shared().postgres, &name, Layout::Monthly).await?;
    let mut connection = database.connect().await?;
    connection
        .execute(
            "do $$
             declare first timestamptz;
             begin
                 set local timezone = 'UTC';
                 for n in 1..6 loop
                     first := date_trunc('month', now()) - make_interval(months => n);
                     execute format('create table %I partition of audit_changes for values from (%L) to (%L)',
                                    'audit_changes_' || to_char(first, 'YYYY_MM'), first, first + interval '1 month');
                 end loop;
             end
             $$",
        )
        .await?;
    let timeline = Timeline::new(PgPool::connect(&database.url).await?, StorageSchema::default());
    Ok(Host { database, connection, timeline })
}

/// The tables of months that ended so many months ago or earlier, the oldest first.
async fn months(host: &mut Host, ago: i32) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'audit_changes'::regclass
           and c.relname < 'audit_changes_' || to_char(date_trunc('month', now() at time zone 'UTC') - make_interval(months => $1), 'YYYY_MM')
         order by 1",
    )
    .bind(ago - 1)
    .fetch_all(&mut host.connection)
    .await?)
}

/// What is older than the last two months and this one.
async fn old(host: &mut Host, change: impl FnOnce(&mut PurgeOptions)) -> anyhow::Result<PurgeOptions> {
    let cutoff =
        "select (date_trunc('month', now() at time zone 'UTC') - interval '2 months') at time zone 'UTC'";
    let cutoff = sqlx::query_scalar(cutoff).fetch_one(&mut host.connection).await?;
    let mut options = options(change);
    options.cutoff = Some(cutoff);
    Ok(options)
}

#[tokio::test]
async fn a_month_of_which_everything_is_to_go_is_dropped_as_a_whole() -> anyhow::Result<()> {
    let mut host = host().await?;
    // In the fourth and the third month before this one, and now.
    host.record(&[(1, "posts", 124 * DAY), (1, "users", 124 * DAY), (2, "posts", 95 * DAY), (3, "posts", 0)])
        .await?;
    let due = months(&mut host, 3).await?;
    let options = old(&mut host, |_| ()).await?;
    let dry = old(&mut host, |options| options.dry_run = true).await?;
    let dry = host.timeline.purge(&ten_days(), &dry).await?;
    let purged = host.timeline.purge(&ten_days(), &options).await?;
    assert_eq!(purged.dropped_partitions, due);
    assert_eq!(dry.dropped_partitions, due);
    assert_eq!((dry.deleted_changes, dry.deleted_transactions, &dry.tables), (3, 2, &purged.tables));
    assert_eq!((purged.deleted_changes, purged.deleted_transactions), (3, 2));
    assert_eq!(months(&mut host, 3).await?, [""; 0]);
    assert_eq!(host.left().await?, [(3, vec!["public.posts".to_owned()])]);
    let run: (String, i64, i64, String) = sqlx::query_as(
        "select status, deleted_changes, deleted_transactions, deleted_tables::text from threadline_retention_runs",
    )
    .fetch_one(&mut host.connection)
    .await?;
    assert_eq!(run, ("completed".to_owned(), 3, 2, "{\"public.posts\": 2, \"public.users\": 1}".to_owned()));
    // There is nothing left to drop.
    assert_eq!(counts(&host.timeline.purge(&ten_days(), &options).await?), (0, 0, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_month_with_changes_of_a_table_that_is_kept_longer_stays_and_loses_the_others() -> anyhow::Result<()>
{
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY), (2, "invoices", 124 * DAY), (3, "posts", 95 * DAY)]).await?;
    let month: String = sqlx::query_scalar(
        "select tableoid::regclass::text from audit_changes where table_name = 'invoices'",
    )
    .fetch_one(&mut host.connection)
    .await?;
    let policy = ten_days().table(table("invoices"), Keep::Forever);
    let options = old(&mut host, |_| ()).await?;
    let mut dropped = months(&mut host, 3).await?;
    dropped.retain(|one| *one != month);
    let dry = old(&mut host, |options| options.dry_run = true).await?;
    let dry = host.timeline.purge(&policy, &dry).await?;
    let purged = host.timeline.purge(&policy, &options).await?;
    assert_eq!((&purged.dropped_partitions, &dry.dropped_partitions), (&dropped, &dropped));
    assert_eq!((purged.deleted_changes, dry.deleted_changes), (2, 2));
    assert_eq!(host.left().await?, [(2, vec!["public.invoices".to_owned()])]);
    Ok(())
}

/// What is archived is read from the archive and deleted row by row; the month that is empty then goes.
#[tokio::test]
async fn with_an_archive_a_month_goes_when_everything_in_it_is_archived() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY), (2, "users", 95 * DAY), (3, "posts", 0)]).await?;
    let due = months(&mut host, 3).await?;
    let archive = Archive::new(host.archives_in()?);
    let options = old(&mut host, |options| options.archive = Some(archive)).await?;
    let purged = host.timeline.purge(&ten_days(), &options).await?;
    assert_eq!((purged.deleted_changes, purged.dropped_partitions), (2, due));
    let archives = host.archives().await?;
    assert_eq!(archives.iter().map(|one| one.rows).sum::<i64>(), 2);
    for archive in &archives {
        verify(archive).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    }
    Ok(())
}

/// A row that came into a month behind the snapshot of its archive is not in it.
#[tokio::test]
async fn a_month_that_is_not_empty_is_not_dropped_for_an_archive() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY)]).await?;
    let month: String = sqlx::query_scalar("select tableoid::regclass::text from audit_changes")
        .fetch_one(&mut host.connection)
        .await?;
    let drop = "select threadline_drop_partition($1, now(), '{}', '{}', '{}', $2)";
    for (is_empty, expected) in [(true, Value::Null), (false, serde_json::json!({"public.posts": 1}))] {
        let held: Option<Value> =
            sqlx::query_scalar(drop).bind(&month).bind(is_empty).fetch_one(&mut host.connection).await?;
        assert_eq!(held.unwrap_or_default(), expected);
    }
    let late = "select threadline_drop_partition($1, now() - interval '300 days', '{}', '{}', '{}', false)";
    let [next] = &months(&mut host, 1).await?[..1] else { anyhow::bail!("no month") };
    let held: Option<Value> = sqlx::query_scalar(late).bind(next).fetch_one(&mut host.connection).await?;
    assert_eq!(held, None, "it ends behind the cutoff");
    for none in ["audit_changes_default", "audit_actions", "users"] {
        let error = sqlx::query(drop).bind(none).bind(false).execute(&mut host.connection).await.unwrap_err();
        assert_eq!(
            error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(),
            Some("42P01"),
            "{none}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_month_that_somebody_reads_is_dropped_when_they_have_ended() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY)]).await?;
    let due = months(&mut host, 3).await?;
    let mut reader = host.database.connect().await?;
    let mut reading = reader.begin().await?;
    reading.execute("select count(*) from audit_changes").await?;
    let options = old(&mut host, |_| ()).await?;
    let impatient = old(&mut host, |options| options.locked_limit = Duration::from_secs(1)).await?;
    assert_eq!(term(host.timeline.purge(&ten_days(), &impatient).await), Some("locked"));
    assert_eq!(months(&mut host, 3).await?, due);
    // Whoever writes goes on: the lock was given up.
    host.record(&[(2, "posts", 0)]).await?;
    reading.rollback().await?;
    assert_eq!(host.timeline.purge(&ten_days(), &options).await?.dropped_partitions, due);
    Ok(())
}

/// Two old months, each with a change, and a change of a year ago, which is in no month.
async fn two_months_and_a_year(host: &mut Host) -> anyhow::Result<Vec<String>> {
    host.record(&[(1, "posts", 124 * DAY), (2, "posts", 95 * DAY), (3, "posts", 400 * DAY), (4, "posts", 0)])
        .await?;
    let held = "select c.tableoid::regclass::text from audit_changes c join audit_transactions t on t.id = c.transaction_id
         where t.txid in (1, 2) order by t.txid";
    Ok(sqlx::query_scalar(held).fetch_all(&mut host.connection).await?)
}

/// How the last run ended, and why.
async fn last_run(host: &mut Host) -> anyhow::Result<(String, String, i64)> {
    let last = "select status, coalesce(error_message, ''), deleted_changes from threadline_retention_runs order by started_at desc limit 1";
    Ok(sqlx::query_as(last).fetch_one(&mut host.connection).await?)
}

#[tokio::test]
async fn a_month_that_somebody_reads_for_long_is_left_and_everything_else_goes() -> anyhow::Result<()> {
    let mut host = host().await?;
    let held = two_months_and_a_year(&mut host).await?;
    let mut others = months(&mut host, 3).await?;
    others.retain(|month| *month != held[0]);
    let mut reader = host.database.connect().await?;
    let mut reading = reader.begin().await?;
    reading.execute(AssertSqlSafe(format!("select count(*) from {}", held[0]))).await?;
    let impatient = old(&mut host, |options| options.locked_limit = Duration::from_secs(1)).await?;
    let error = host.timeline.purge(&ten_days(), &impatient).await.unwrap_err();
    assert!(error.to_string().ends_with(&format!("what was left: to drop {}", held[0])), "{error}");
    assert_eq!(term(Err::<(), _>(error)), Some("locked"));
    assert_eq!(months(&mut host, 3).await?, [held[0].clone()], "{others:?} are gone");
    let posts = || vec!["public.posts".to_owned()];
    assert_eq!(host.left().await?, [(1, posts()), (4, posts())]);
    let (status, why, deleted) = last_run(&mut host).await?;
    assert_eq!((status.as_str(), deleted), ("failed", 2));
    assert!(why.starts_with("locked: ") && why.ends_with(&format!("to drop {}", held[0])), "{why}");
    assert_eq!(host.count("threadline_leases").await?, 0);
    reading.rollback().await?;
    let purged = host.timeline.purge(&ten_days(), &impatient).await?;
    assert_eq!(purged.dropped_partitions, [held[0].clone()]);
    assert_eq!(host.left().await?, [(4, posts())]);
    Ok(())
}

/// Whoever reads all changes holds every month, and the others' writes go on.
#[tokio::test]
async fn beside_a_long_reader_of_all_changes_what_is_in_no_month_is_deleted_and_writers_go_on()
-> anyhow::Result<()> {
    let mut host = host().await?;
    two_months_and_a_year(&mut host).await?;
    let due = months(&mut host, 3).await?;
    let mut reader = host.database.connect().await?;
    let mut reading = reader.begin().await?;
    reading.execute("select count(*) from audit_changes").await?;
    let impatient = old(&mut host, |options| options.locked_limit = Duration::from_secs(2)).await?;
    let timeline = host.timeline.clone();
    let purging = tokio::spawn(async move { timeline.purge(&ten_days(), &impatient).await });
    let mut number = 10;
    while !purging.is_finished() {
        host.record(&[(number, "posts", 0)]).await?;
        number += 1;
    }
    let error = purging.await?.unwrap_err();
    for month in &due {
        assert!(error.to_string().contains(&format!("to drop {month}")), "{error}");
    }
    assert_eq!(term(Err::<(), _>(error)), Some("locked"));
    // Each waits for one attempt, and not until the last one.
    assert!(number > 13, "{number}");
    assert_eq!(months(&mut host, 3).await?, due);
    assert_eq!(host.count("audit_changes where captured_at < now() - interval '1 year'").await?, 0);
    assert_eq!(host.count("audit_changes where captured_at < now() - interval '1 month'").await?, 2);
    reading.rollback().await?;
    let again = old(&mut host, |_| ()).await?;
    let purged = host.timeline.purge(&ten_days(), &again).await?;
    assert_eq!((purged.dropped_partitions, purged.deleted_changes), (due, 2));
    Ok(())
}

/// The month that is to come is attached beside the table that holds what is in no month.
#[tokio::test]
async fn a_month_that_cannot_be_made_beside_a_reader_keeps_nothing_from_being_deleted() -> anyhow::Result<()>
{
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY), (3, "posts", 400 * DAY)]).await?;
    let due = months(&mut host, 3).await?;
    let next = "select 'audit_changes_' || to_char(date_trunc('month', now() at time zone 'UTC') + interval '3 months', 'YYYY_MM')";
    let next: String = sqlx::query_scalar(next).fetch_one(&mut host.connection).await?;
    host.connection.execute(AssertSqlSafe(format!("drop table {next}"))).await?;
    let mut reader = host.database.connect().await?;
    let mut reading = reader.begin().await?;
    reading.execute("select count(*) from audit_changes_default").await?;
    let impatient = old(&mut host, |options| options.locked_limit = Duration::from_secs(1)).await?;
    let error = host.timeline.purge(&ten_days(), &impatient).await.unwrap_err();
    // Neither can a month be taken out meanwhile.
    let left = format!("to make the months to come, to drop {}", due.join(", to drop "));
    assert!(error.to_string().ends_with(&left), "{error}");
    assert_eq!(last_run(&mut host).await?.2, 1);
    assert_eq!(host.count("audit_changes_default").await?, 0);
    reading.rollback().await?;
    assert_eq!(host.timeline.purge(&ten_days(), &impatient).await?.dropped_partitions, due);
    assert_eq!(host.count(&format!("pg_class where relname = '{next}'")).await?, 1);
    Ok(())
}

#[tokio::test]
async fn installing_and_purging_make_the_months_to_come() -> anyhow::Result<()> {
    let mut host = host().await?;
    let ahead = "select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'audit_changes'::regclass and c.relname ~ '_\\d{4}_\\d{2}$'
           and c.relname > 'audit_changes_' || to_char(now() at time zone 'UTC', 'YYYY_MM')";
    let remove = "do $$ declare one text; begin
         for one in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
                    where i.inhparent = 'audit_changes'::regclass and c.relname ~ '_\\d{4}_\\d{2}$'
                      and c.relname > 'audit_changes_' || to_char(now() at time zone 'UTC', 'YYYY_MM')
         loop execute format('drop table %I', one); end loop; end $$";
    assert_eq!(sqlx::query_scalar::<_, i64>(ahead).fetch_one(&mut host.connection).await?, 3);
    host.connection.execute(remove).await?;
    host.purge(&ten_days()).await?;
    assert_eq!(sqlx::query_scalar::<_, i64>(ahead).fetch_one(&mut host.connection).await?, 3);
    host.connection.execute(remove).await?;
    let installed = host.timeline.install().await?;
    assert_eq!((installed.partitions.len(), installed.lacking, installed.added), (3, vec![], vec![]));
    assert_eq!(host.timeline.install_as(Layout::Monthly).await?.partitions, [""; 0]);
    Ok(())
}

/// Nothing that is captured is refused because a month is missing.
#[tokio::test]
async fn a_change_of_a_month_without_a_table_is_kept_and_purged_row_by_row() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "posts", 400 * DAY), (2, "posts", 0)]).await?;
    let of: String =
        sqlx::query_scalar("select tableoid::regclass::text from audit_changes order by captured_at limit 1")
            .fetch_one(&mut host.connection)
            .await?;
    assert_eq!(of, "audit_changes_default");
    let purged = host.purge(&Policy::new(Keep::days(300)?)?).await?;
    assert_eq!((counts(&purged), purged.dropped_partitions), ((1, 1, 0, 1), vec![]));
    Ok(())
}

#[tokio::test]
async fn a_timeline_that_is_there_gets_no_partitions() -> anyhow::Result<()> {
    let name = format!("months_{}", Uuid::new_v4().simple());
    let database = timeline_database_as(&shared().postgres, &name, Layout::AsItIs).await?;
    let timeline = Timeline::new(PgPool::connect(&database.url).await?, StorageSchema::default());
    let error = timeline.install_as(Layout::Monthly).await.unwrap_err().to_string();
    assert!(error.contains("not_fresh"), "{error}");
    let kind: String =
        sqlx::query_scalar("select relkind::text from pg_class where relname = 'audit_changes'")
            .fetch_one(timeline.pool())
            .await?;
    assert_eq!(kind, "r");
    Ok(())
}

#[tokio::test]
async fn the_role_that_purges_may_drop_months_and_nobody_else() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "posts", 124 * DAY)]).await?;
    let due = months(&mut host, 3).await?;
    for role in ["audit_reader", "audit_exporter", "audit_sealer", "audit_projector"] {
        let mut connection = sqlx::PgConnection::connect(&as_role(&host.database.url, role)).await?;
        for call in [
            "threadline_prepare_partitions(3)",
            "threadline_drop_partition('x', now(), '{}', '{}', '{}', false)",
        ] {
            let statement = AssertSqlSafe(format!("select {call}"));
            let error = connection.execute(statement).await.unwrap_err();
            let code =
                error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
            assert_eq!(code.as_deref(), Some("42501"), "{role} {call}");
        }
    }
    let pool = PgPool::connect(&as_role(&host.database.url, "audit_maintainer")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    let purged = timeline.purge(&ten_days(), &old(&mut host, |_| ()).await?).await?;
    assert_eq!((purged.deleted_changes, purged.deleted_transactions, purged.dropped_partitions), (1, 1, due));
    Ok(())
}
