//! Commands that somebody interrupts: they say so, leave nothing locked, and the next one continues.

use anyhow::Context as _;
use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{fixture::TestDatabase, process::Process, wait};
use sqlx::{Connection as _, Executor as _};

/// Waits until a session of the pipeline's waits for a lock that the test holds.
async fn blocked(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut connection = pipeline.source.connect().await?;
    wait::until_some("the command to meet the lock", DEADLINE, async || {
        let waiting: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database()
                            and wait_event_type = 'Lock' and application_name like 'audit-%')",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok(waiting.then_some(()))
    })
    .await
}

fn interrupted(mut process: Process, by: &str, left: &str) -> anyhow::Result<()> {
    let status = if by == "SIGINT" { process.interrupt(DEADLINE)? } else { process.terminate(DEADLINE)? };
    let said = process.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted: ") && said.contains(left), "{said}");
    Ok(())
}

/// Waits until a session of the command waits for a lock of a table, in the database that the test gives.
async fn waits_for_a_lock(database: &TestDatabase) -> anyhow::Result<()> {
    wait::until_some("the command to meet the lock", DEADLINE, async || {
        let waiting: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')",
        )
        .fetch_one(&mut database.superuser().await?)
        .await?;
        Ok(waiting.then_some(()))
    })
    .await
}

/// The short ones, which change something all the same: each in one step, or in several of which each is whole.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_changes_something_says_that_it_was_interrupted_and_may_run_again()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    {
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        pipeline.arrive(&ids).await?;
        pipeline.settled("timeline").await?;
    }
    for (binary, arguments, table, by, left) in [
        ("publisher", &["attach"][..], "audit_events", "SIGINT", "completes what is missing"),
        ("publisher", &["detach"], "audit_events", "SIGTERM", "capture is on or off as a whole"),
        ("publisher", &["prune"], "outbox.rounds", "SIGINT", "entries that were removed stay removed"),
        ("publisher", &["rebase"], "outbox.rounds", "SIGTERM", "the same command does what is missing"),
        ("publisher", &["drop-reader", "old", "--reason", "why"], "outbox.leases", "SIGINT", "may run again"),
        ("publisher", &["status"], "outbox.rounds", "SIGINT", "nothing has changed"),
        ("consumer", &["status"], "outbox.failures", "SIGTERM", "nothing has changed"),
        ("consumer", &["explain", &ids[0].to_string()], "audit_events", "SIGINT", "nothing has changed"),
        ("consumer", &["reconcile", "--seal"], "outbox.rounds", "SIGINT", "no window is sealed twice"),
        (
            "consumer",
            &["replay", "--forwarder", "timeline", "--from-start"],
            "outbox.acts",
            "SIGTERM",
            "continues behind it",
        ),
        ("consumer", &["receipts", "verify"], "audit_receipts", "SIGINT", "nothing has changed"),
        ("threadline", &["install"], "threadline_migrations", "SIGTERM", "completes what is missing"),
    ] {
        let of_timeline = matches!(table, "audit_receipts" | "threadline_migrations");
        let database = if of_timeline { &pipeline.timeline } else { &pipeline.source };
        let mut locker = database.connect().await?;
        let mut lock = locker.begin().await?;
        lock.execute(sqlx::AssertSqlSafe(format!("lock table {table} in access exclusive mode"))).await?;
        let process = pipeline.spawn(binary, arguments)?;
        waits_for_a_lock(database).await.with_context(|| format!("{binary} {arguments:?}"))?;
        interrupted(process, by, left)?;
        lock.rollback().await?;
    }
    for (binary, arguments) in [
        ("publisher", &["detach"][..]),
        ("publisher", &["attach"]),
        ("publisher", &["prune"]),
        ("threadline", &["install"]),
    ] {
        let (done, said) = pipeline.command(binary, arguments)?;
        assert!(done, "{binary} {arguments:?}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_interrupted_says_what_is_left_and_the_next_one_continues_at_once()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (rows, ids) = samples(20);
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    drop(consumer);

    for (binary, arguments, table, by, left) in [
        ("consumer", &["rebuild"][..], "audit_events", "SIGINT", "the same command continues"),
        ("consumer", &["rebuild"], "audit_events", "SIGTERM", "readers see what they saw"),
        ("consumer", &["reconcile", "--repair"], "audit_events", "SIGINT", "repairs that were made stay"),
        (
            "consumer",
            &["failures", "redrive", "--all"],
            "outbox.failures",
            "SIGTERM",
            "continues with the rest",
        ),
        ("consumer", &["failures", "list"], "outbox.failures", "SIGINT", "continues with the rest"),
        ("publisher", &["backfill"], "audit_events", "SIGTERM", "what has been entered stays entered"),
    ] {
        let mut locker = pipeline.source.connect().await?;
        let mut lock = locker.begin().await?;
        lock.execute(sqlx::AssertSqlSafe(format!("lock table {table} in access exclusive mode"))).await?;
        let process = pipeline.spawn(binary, arguments)?;
        blocked(&pipeline).await?;
        interrupted(process, by, left)?;
        lock.rollback().await?;
        let leases: i64 =
            sqlx::query_scalar("select count(*) from outbox.leases where name like 'rebuild-%'")
                .fetch_one(&mut pipeline.source.connect().await?)
                .await?;
        assert_eq!(leases, 0, "{binary} {arguments:?} gave its lease back");
    }
    let (done, said) = pipeline.command("consumer", &["rebuild"])?;
    assert!(done && said.contains("the new table is in place"), "{said}");

    // In the middle of its work: what is done stays done.
    let process = pipeline.spawn("publisher", &["backfill", "--rate", "1"])?;
    wait::until_some("some rows", DEADLINE, async || {
        let passed: Option<i64> =
            sqlx::query_scalar("select max(passed) from outbox.backfills where finished_at is null")
                .fetch_one(&mut pipeline.source.connect().await?)
                .await?;
        Ok((passed > Some(0)).then_some(()))
    })
    .await?;
    interrupted(process, "SIGINT", "the same command continues behind it")?;
    let (done, answer) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done && answer["passed"] == 20, "{answer}");
    Ok(())
}
