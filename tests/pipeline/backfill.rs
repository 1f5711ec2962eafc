//! Rows that were there before capture.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use sqlx::Executor as _;
use uuid::Uuid;

/// Commits rows as if capture were not there yet.
async fn commit_before_capture(pipeline: &Pipeline, rows: &[AuditRow]) -> anyhow::Result<()> {
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table audit_events disable trigger outbox_capture").await?;
    pipeline.commit(rows).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    Ok(())
}

async fn entries(pipeline: &Pipeline) -> anyhow::Result<i64> {
    let count = sqlx::query_scalar("select count(*) from outbox.entries");
    Ok(count.fetch_one(&mut pipeline.source.connect().await?).await?)
}

/// Begins a backfill and kills it after a few chunks.
async fn kill_in_the_middle(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut first = pipeline.spawn("publisher", &["backfill", "--rate", "500"])?;
    wait::until_some("a few chunks", DEADLINE, async || Ok((entries(pipeline).await? > 900).then_some(())))
        .await?;
    first.kill()?;
    // The server may still end what it was given.
    wait::until_some("its session to end", DEADLINE, async || {
        let sessions: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and application_name = 'audit-publisher-backfill'",
        )
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
        Ok((sessions == 0).then_some(()))
    })
    .await?;
    Ok(())
}

/// Conformance: CT-30.
#[tokio::test(flavor = "multi_thread")]
async fn rows_from_before_capture_arrive_once_though_filled_in_twice_beside_live_writes() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let (old, ids) = samples(2_500);
    commit_before_capture(&pipeline, &old).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let playing = pipeline.play(600, 300, 30);
    for round in 0..2 {
        let (done, answer) = pipeline.ask("publisher", &["backfill"])?;
        assert!(done, "{answer}");
        assert!(answer["entered"].as_i64() >= Some(2_500), "round {round}: {answer}");
    }
    let written = playing.await??;
    pipeline.arrive(&ids).await?;
    pipeline.arrive(&written.committed).await?;
    pipeline.settled("timeline").await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds(), "{verdict}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_killed_continues_where_it_was_and_enters_no_row_twice() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (old, _) = samples(3_000);
    commit_before_capture(&pipeline, &old).await?;
    kill_in_the_middle(&pipeline).await?;
    let before = entries(&pipeline).await?;
    assert!(before < 3_000, "it was killed in the middle");
    let (done, dry) = pipeline.ask("publisher", &["backfill", "--rate", "500", "--dry-run"])?;
    assert!(done && dry["matched"] == 3_000 - before, "the same words find what was begun: {dry}");
    let (done, answer) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done, "{answer}");
    assert_eq!((entries(&pipeline).await?, &answer["passed"]), (3_000, &3_000.into()));
    let (_, again) = pipeline.ask("publisher", &["backfill"])?;
    assert_eq!(
        (&again["entered"], entries(&pipeline).await?),
        (&3_000.into(), 6_000),
        "asked for again, all are"
    );
    Ok(())
}

/// Ids are random: what is inserted while nothing is captured may lie before the place where a backfill was interrupted long ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_continues_enters_what_came_to_lie_before_the_place_where_it_was_interrupted()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (old, mut ids) = samples(3_000);
    commit_before_capture(&pipeline, &old).await?;
    kill_in_the_middle(&pipeline).await?;
    let mut late: Vec<AuditRow> = samples(7).0;
    for (number, row) in (1..).zip(&mut late) {
        row.id = Uuid::from_u128(number);
        ids.push(row.id);
    }
    commit_before_capture(&pipeline, &late).await?;
    // Captured, and so in the log already.
    let captured = AuditRow { id: Uuid::from_u128(8), ..AuditRow::sample("auth.login") };
    ids.push(captured.id);
    pipeline.commit(&[captured]).await?;
    let (done, answer) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done && answer["left_behind"] == 7, "{answer}");
    assert_eq!(entries(&pipeline).await?, 3_008, "each row once");
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_reaches_what_its_filter_says_and_nothing_else() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let at = |action: &str, hours: i64| {
        let row = AuditRow::sample(action);
        AuditRow { occurred_at: row.occurred_at - time::Duration::hours(hours), ..row }
    };
    let rows = [at("auth.login", 50), at("auth.login", 10), at("auth.logout", 10), at("mfa.verify", 1)];
    commit_before_capture(&pipeline, &rows).await?;
    for (arguments, matched) in [
        (&[][..], 4),
        (&["--since", "20h"], 3),
        (&["--until", "20h"], 1),
        (&["--since", "20h", "--until", "5h"], 2),
        (&["--action", "auth.*"], 3),
        (&["--action", "auth.login"], 2),
        (&["--action", "auth"], 0),
    ] {
        let arguments: Vec<&str> = ["backfill", "--dry-run"].iter().chain(arguments).copied().collect();
        let (done, answer) = pipeline.ask("publisher", &arguments)?;
        assert!(done && answer["matched"] == matched, "{arguments:?}: {answer}");
    }
    assert_eq!(entries(&pipeline).await?, 0, "a dry run enters nothing");
    let (done, said) = pipeline.command("publisher", &["backfill", "--forwarder", "nobody"])?;
    assert!(!done && said.contains("no forwarder nobody is configured"), "{said}");

    // What Sigra's own forwarder has delivered under an id of its own.
    let adopted = format!(
        "insert into audit_actions (name, actor_ref, status, correlation_id)
         values ('auth.login', '{{\"type\":\"anonymous\"}}', 'ok', '{}')",
        rows[0].id
    );
    pipeline.timeline.connect().await?.execute(sqlx::AssertSqlSafe(adopted)).await?;
    let arguments = ["backfill", "--accept-foreign-ids", "--action", "auth.login", "--forwarder", "timeline"];
    let (done, answer) = pipeline.ask("publisher", &arguments)?;
    assert!(done && answer["passed"] == 2 && answer["entered"] == 1, "{answer}");
    let entered: Vec<(Uuid, Option<String>)> =
        sqlx::query_as("select audit_event_id, forwarder from outbox.entries")
            .fetch_all(&mut pipeline.source.connect().await?)
            .await?;
    assert_eq!(entered, [(rows[1].id, Some("timeline".to_owned()))]);
    let acts: Vec<(String, i64)> = sqlx::query_as("select kind, count from outbox.acts")
        .fetch_all(&mut pipeline.source.connect().await?)
        .await?;
    assert_eq!(acts, [("backfill".to_owned(), 1)]);
    Ok(())
}

/// Rows without an id cannot be walked; one that gets its id behind the walk has not been entered.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_get_their_ids_behind_a_backfill_are_still_counted_as_missed_until_the_next_one()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut source = pipeline.source.connect().await?;
    source
        .execute(
            "alter table audit_events drop constraint audit_events_pkey, alter id drop not null;
             insert into audit_events (occurred_at, action, outcome, inserted_at) values (now(), 'no.id', 'success', now())",
        )
        .await?;
    let mut slow = pipeline.spawn("publisher", &["backfill", "--rate", "2"])?;
    wait::until_some("the walk to have begun", DEADLINE, async || {
        let passed =
            sqlx::query_scalar::<_, bool>("select exists (select from outbox.backfills where passed > 0)");
        Ok(passed.fetch_one(&mut pipeline.source.connect().await?).await?.then_some(()))
    })
    .await?;
    let late: Uuid = sqlx::query_scalar(
        "update audit_events set id = '00000000-0000-4000-8000-000000000001' where id is null returning id",
    )
    .fetch_one(&mut source)
    .await?;
    assert!(slow.wait(DEADLINE)?.success(), "{}", slow.log());
    assert!(slow.log().contains("still counted"), "{}", slow.log());
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    assert!(status["capture"].as_str().is_some_and(|capture| capture.contains("1 row(s)")), "{status}");
    let (done, said) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done, "{said}");
    pipeline.arrive(&[late]).await?;
    let missed: i64 = sqlx::query_scalar("select count(*) from outbox.missed").fetch_one(&mut source).await?;
    assert_eq!(missed, 0);
    Ok(())
}
