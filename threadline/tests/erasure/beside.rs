//! An erasure beside writers, purges, receipts and exports.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sandbox::wait;
use sqlx::Executor as _;
use threadline::{
    erasure::ErasureOptions,
    export::{Destination, Options, Request, export},
    retention::{Keep, Policy, PurgeOptions},
};

use super::{Host, host, person, row, with_key};

const DEADLINE: Duration = Duration::from_secs(60);

fn quickly() -> ErasureOptions {
    let mut options = ErasureOptions::because("request R-98765");
    (options.batch_size, options.sleep, options.busy_percent) = (100, Duration::ZERO, 100);
    options
}

/// A purge of what is older than ten days, one row a transaction.
async fn purge(host: &Host) -> anyhow::Result<u64> {
    let policy = Policy::new(Keep::days(10)?)?;
    let mut options = PurgeOptions::default();
    (options.batch_size, options.sleep, options.busy_percent) = (1, Duration::ZERO, 100);
    Ok(host.timeline.purge(&policy, &options).await?.deleted_changes)
}

#[tokio::test]
async fn writers_receipts_a_purge_and_an_export_go_on_and_nothing_is_left() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users values (1, 'jane-marker@x', 'marker', 0), (2, 'other@x', 'Other', 0);
         do $$ begin for n in 1..60 loop update users set logins = n where id = 1; end loop; end $$;
         -- An id of version 7 would say when it was made.
         alter table audit_transactions add column other uuid default gen_random_uuid();
         update audit_changes c set id = gen_random_uuid(), captured_at = captured_at - interval '20 days', transaction_id = t.other
         from audit_transactions t where t.id = c.transaction_id;
         update audit_transactions set id = other, occurred_at = occurred_at - interval '20 days';
         alter table audit_transactions drop column other;
         insert into posts values (10, 1, 'marker post', null)",
    )
    .await?;
    host.seal().await?;
    let ends = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..2 {
        let (mut connection, ends) = (host.database.connect().await?, ends.clone());
        writers.push(tokio::spawn(async move {
            let mut writes = 0;
            while !ends.load(Ordering::Relaxed) && writes < 1_000 {
                let statement =
                    "update users set email = 'jane-marker' || random(), logins = logins + 1 where id = 1";
                let other = "update posts set body = 'marker' || random() where id = 10";
                connection.execute(if writer == 0 { statement } else { other }).await?;
                writes += 1;
            }
            anyhow::Ok(writes)
        }));
    }
    let reads = async {
        for _ in 0..3 {
            host.seal().await?;
            let found = host.verify().await?;
            anyhow::ensure!(found.holds(), "{:?}", found.faults);
            let found = super::offline(&host.bundle().await?)?;
            anyhow::ensure!(found.holds(), "{:?}", found.faults);
            let nowhere = Destination::Stream { out: Box::new(std::io::sink()), manifest: None };
            export(&host.reader(), Request::new("table:users".parse()?, Options::default()), nowhere).await?;
        }
        anyhow::Ok(())
    };
    let erases = async {
        let mut rows = 0;
        for _ in 0..3 {
            rows += host.timeline.erase(&person("1"), &quickly()).await?.counts.total_rows();
        }
        anyhow::Ok(rows)
    };
    let ((), purged, erased) = tokio::try_join!(reads, purge(&host), erases)?;
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await?? > 0);
    }
    // A purge passes over what the erasure has locked just then, and the next one takes it.
    assert_eq!(purged + purge(&host).await?, 62);
    assert!(erased > 0);
    // Who writes has ended: now there is nothing to come.
    let erased = host.timeline.erase(&person("1"), &quickly()).await?;
    assert!(erased.is_complete, "{erased:?}");
    let again = host.timeline.erase(&person("1"), &quickly()).await?;
    assert_eq!((again.counts.total_rows(), again.passes), (0, 1));
    host.run("truncate posts; delete from users").await?;
    host.erase(&person("1")).await?;
    assert!(host.tables_with("marker").await?.is_empty());
    for found in host.both().await? {
        assert!(found.holds(), "{:?}", found.faults);
    }
    Ok(())
}

#[tokio::test]
async fn a_change_that_somebody_purges_meanwhile_is_waited_for_and_missed_by_nobody() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run(
        "insert into users values (1, 'jane-marker@x', 'marker', 0); update users set logins = 1 where id = 1;
         update users set logins = 2 where id = 1",
    )
    .await?;
    let mut other = host.database.connect().await?;
    other.execute("begin; delete from audit_changes where op = 'insert'").await?;
    let (timeline, mut ends) = (host.timeline.clone(), host.database.connect().await?);
    let erases = tokio::spawn(async move { timeline.erase(&row("users", 1), &quickly()).await });
    wait::until_some("the erasure waits for the purge", DEADLINE, async || {
        let waits =
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut ends).await?)
    })
    .await?;
    other.execute("commit").await?;
    let erased = erases.await??;
    assert_eq!((erased.counts.total_rows(), erased.is_complete), (2, true), "{erased:?}");
    assert!(host.tables_with("marker").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_began_before_and_ends_after_is_found_by_the_same_command() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.run("insert into users values (771, 'jane-marker@x', 'marker', 0)").await?;
    let mut other = host.database.connect().await?;
    other.execute("begin; update users set id = 772, email = 'jane-marker2@x' where id = 771").await?;
    let erasure = with_key(row("users", 771));
    let first = host.timeline.erase(&erasure, &quickly()).await?;
    assert_eq!((first.counts.rows["audit_changes"], first.is_complete), (1, true));
    other.execute("commit").await?;
    assert_eq!(host.tables_with("marker").await?, ["audit_changes"]);
    let second = host.timeline.erase(&erasure, &quickly()).await?;
    assert_eq!((second.counts.rows["audit_changes"], second.is_resumed), (1, false));
    for text in ["marker", "\"771\"", "\"772\""] {
        let tables = host.tables_with(text).await?;
        assert!(tables.is_empty(), "{text}: {tables:?}");
    }
    Ok(())
}
