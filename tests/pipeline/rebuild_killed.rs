//! A rebuild that dies, and the one that goes on with what it has left.

use end_to_end::{DEADLINE, Pipeline, samples};
use sqlx::{Executor as _, PgConnection};

/// Lets a rebuild die at that place, and its claim end as if a minute had passed.
async fn die_at(pipeline: &Pipeline, place: &str) -> anyhow::Result<()> {
    let armed = format!("FAILPOINTS={place}=1*off->return");
    let mut dying = pipeline.spawn_behind(&["env", &armed], "consumer", &["rebuild"])?;
    let ended = dying.wait(DEADLINE)?;
    assert_eq!(ended.code(), None, "it was killed: {}", dying.log());
    let claim = "delete from outbox.leases where name = 'rebuild-timeline'";
    pipeline.source.connect().await?.execute(claim).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_while_it_indexes_goes_on() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    timeline.execute("create index host_idx on audit_actions (lower(verb)) where verb is not null").await?;
    let indexes = async |timeline: &mut PgConnection| -> anyhow::Result<Vec<String>> {
        let found = sqlx::query_scalar(
            "select indexdef from pg_indexes where tablename = 'audit_actions' order by indexname",
        );
        Ok(found.fetch_all(timeline).await?)
    };
    let before = indexes(&mut timeline).await?;
    die_at(&pipeline, "rebuild.indexed").await?;
    // Meanwhile.
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let mut going_on = pipeline.spawn("consumer", &["rebuild"])?;
    let ended = going_on.wait(DEADLINE)?;
    let said = going_on.log();
    assert!(ended.success() && said.contains("the new table is in place"), "{said}");
    assert!(!said.contains("filled the new table"), "it was filled before: {said}");
    let built = said.lines().filter(|line| line.contains("built index")).count();
    assert_eq!(built, before.len() - 3, "but for the primary key and the two that were built: {said}");
    assert_eq!(indexes(&mut timeline).await?, before);
    assert_eq!(pipeline.projected().await?, 25);
    let (done, answer) = pipeline.ask("consumer", &["reconcile"])?;
    assert!(done && answer["differing"] == 0, "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_killed_while_it_fills_goes_on_behind_the_last_row() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(2_500);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    die_at(&pipeline, "rebuild.written").await?;
    let (done, said) = pipeline.command("consumer", &["rebuild"])?;
    assert!(done && said.contains("500 actions written; the new table is in place"), "{said}");
    assert_eq!(pipeline.projected().await?, 2_500);
    let (done, answer) = pipeline.ask("consumer", &["reconcile"])?;
    assert!(done && answer["differing"] == 0, "{answer}");
    Ok(())
}
