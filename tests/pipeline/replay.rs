//! A part of the stream once more.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::wait;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// Three times ten rows, delivered; with the time between the first and the second ten.
async fn delivered(pipeline: &Pipeline) -> anyhow::Result<(Vec<Uuid>, String)> {
    let mut ids = Vec::new();
    let mut between = String::new();
    for part in 0..3 {
        let (rows, more) = samples(10);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&more).await?;
        ids.extend(more);
        if part == 0 {
            between = sqlx::query_scalar(
                "select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            )
            .fetch_one(&mut pipeline.source.connect().await?)
            .await?;
        }
    }
    pipeline.settled("timeline").await?;
    Ok((ids, between))
}

async fn forget(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.timeline.connect().await?.execute("delete from audit_actions").await?;
    Ok(())
}

async fn floor(pipeline: &Pipeline) -> anyhow::Result<(u64, u64)> {
    let info = pipeline.durable("timeline").await?.get_info().await?;
    Ok((info.ack_floor.stream_sequence, info.delivered.stream_sequence))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_where_it_is_told_and_leaves_the_live_durable_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (ids, between) = delivered(&pipeline).await?;
    let live = floor(&pipeline).await?;
    for (arguments, from, count) in [
        (&["--from-sequence", "21"][..], 20, 10),
        (&["--from-time", &between], 10, 20),
        (&["--from-start"], 0, 30),
        (&["--from-start", "--until-sequence", "10"], 0, 10),
        (&["--from-sequence", "31"], 0, 0),
    ] {
        forget(&pipeline).await?;
        let base = ["replay", "--forwarder", "timeline"];
        let rehearse: Vec<&str> = base.iter().chain(arguments).chain(&["--dry-run"]).copied().collect();
        let (done, dry) = pipeline.ask("consumer", &rehearse)?;
        assert!(done && dry["ours"] == count && dry["settled"] == 0, "{arguments:?}: {dry}");
        assert_eq!(pipeline.projected().await?, 0, "a dry run writes nothing");
        let replay: Vec<&str> = base.iter().chain(arguments).copied().collect();
        let (done, answer) = pipeline.ask("consumer", &replay)?;
        assert!(done && answer["settled"] == count, "{arguments:?}: {answer}");
        assert_eq!(pipeline.projected().await?, count, "{arguments:?}");
        let until = from + usize::try_from(count)?;
        pipeline.arrive(&ids[from..until]).await?;
    }
    assert_eq!(floor(&pipeline).await?, live);
    let (done, said) = pipeline.command("consumer", &["replay", "--forwarder", "timeline"])?;
    assert!(!done && said.contains("--from-start"), "{said}");
    let (done, said) = pipeline.command("consumer", &["replay", "--forwarder", "nobody", "--from-start"])?;
    assert!(!done && said.contains("no forwarder nobody"), "{said}");
    Ok(())
}

/// A service would hold delivery until the column is back; a command says so and ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_lacks_a_needed_column_says_so_and_continues_once_it_is_back() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (ids, _) = delivered(&pipeline).await?;
    drop((publisher, consumer));
    forget(&pipeline).await?;
    let mut source = pipeline.source.connect().await?;
    let arguments = ["replay", "--forwarder", "timeline", "--from-start"];
    let slow: Vec<&str> = arguments.iter().chain(&["--rate", "5"]).copied().collect();
    let mut process = pipeline.spawn("consumer", &slow)?;
    wait::until_some("a part of it", DEADLINE, async || Ok((pipeline.projected().await? >= 5).then_some(())))
        .await?;
    source.execute("alter table audit_events rename column action to act").await?;
    assert_eq!(process.wait(DEADLINE)?.code(), Some(1));
    let said = process.log();
    assert!(said.contains("has no column action") && said.contains("the same command continues"), "{said}");
    assert!(pipeline.projected().await? < 30, "it was interrupted in the middle");
    let (done, said) = pipeline.command("consumer", &arguments)?;
    assert!(
        !done && said.contains("has no column action") && said.contains("give it its name back"),
        "{said}"
    );
    pipeline.charges_nobody().await?;
    source.execute("alter table audit_events rename column act to action").await?;
    let (done, answer) = pipeline.ask("consumer", &arguments)?;
    assert!(done && answer["done"] == true, "{answer}");
    pipeline.arrive(&ids).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_overwriting_replay_changes_what_has_arrived() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (ids, _) = delivered(&pipeline).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    let spoil = format!("update audit_actions set name = 'spoilt' where id = '{}'", ids[7]);
    timeline.execute(AssertSqlSafe(spoil)).await?;
    let name = async || -> anyhow::Result<Value> {
        Ok(end_to_end::action(&mut pipeline.timeline.connect().await?, ids[7]).await?["name"].clone())
    };
    let arguments = ["replay", "--forwarder", "timeline", "--from-start"];
    assert_eq!(pipeline.ask("consumer", &arguments)?.1["settled"], 30);
    assert_eq!(name().await?, "spoilt");
    let over: Vec<&str> = arguments.iter().chain(&["--overwrite"]).copied().collect();
    assert_eq!(pipeline.ask("consumer", &over)?.1["settled"], 30);
    assert_eq!(name().await?, "test.row");
    assert_eq!(pipeline.projected().await?, 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_killed_continues_and_another_one_is_refused_meanwhile() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let (rows, ids) = samples(2_000);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    drop((publisher, consumer));
    forget(&pipeline).await?;
    // Long enough for what is in hand not to be delivered twice, and counted twice, on a busy machine.
    let patient = ["--set", "consumer.ack_wait=10s"];
    let arguments = ["replay", "--forwarder", "timeline", "--from-start", patient[0], patient[1]];
    let slow: Vec<&str> = arguments.iter().chain(&["--rate", "200"]).copied().collect();
    let mut first = pipeline.spawn("consumer", &slow)?;
    wait::until_some("a part of it", DEADLINE, async || {
        Ok((pipeline.projected().await? >= 400).then_some(()))
    })
    .await?;
    first.kill()?;
    let before = pipeline.projected().await?;
    assert!(before < 2_000, "it was killed in the middle");
    let (done, said) =
        pipeline.command("consumer", &["replay", "--forwarder", "timeline", "--from-sequence", "5"])?;
    assert!(!done && said.contains("another replay was interrupted") && said.contains("--restart"), "{said}");
    let (done, answer) = pipeline.ask("consumer", &arguments)?;
    assert!(done && answer["done"] == true, "{answer}");
    pipeline.arrive(&ids).await?;
    assert!(
        answer["references"].as_i64().unwrap() < 2_000,
        "it continued instead of starting over: {answer}"
    );
    let acts: Vec<String> = sqlx::query_scalar("select kind from outbox.acts")
        .fetch_all(&mut pipeline.source.connect().await?)
        .await?;
    assert_eq!(acts, ["replay", "replay"]);
    Ok(())
}
