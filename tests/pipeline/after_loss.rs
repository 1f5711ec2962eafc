//! After a broker's loss everything goes on by itself: once, without false alarms, whatever has become of the rows since.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{nats::delete_stream, wait};
use serde_json::Value;

/// Looks often.
const BUSY_MAINTENANCE: [&str; 2] = ["--set", "publisher.maintenance=200ms"];

/// Waits until the leader has looked at the stream so often from now on.
async fn maintained(pipeline: &Pipeline, times: u32) -> anyhow::Result<()> {
    // It stores how far everything is settled in every round.
    let looked = "select at from outbox.settled where reader = 'jetstream'";
    let mut source = pipeline.source.connect().await?;
    for _ in 0..times {
        let before: Option<time::OffsetDateTime> =
            sqlx::query_scalar(looked).fetch_optional(&mut source).await?;
        wait::until_some("a round of maintenance", DEADLINE, async || {
            let now = sqlx::query_scalar(looked).fetch_optional(&mut source).await?;
            Ok((now > before).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_filled_once_and_nobody_is_blamed_for_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(85);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    delete_stream(&pipeline.context().await?, &pipeline.name).await?;
    wait::until_some("the log to be published again", DEADLINE, async || {
        Ok((pipeline.generation().await? == Some(1)).then_some(()))
    })
    .await?;
    pipeline.messages(85).await?;
    pipeline.settled("timeline").await?;
    maintained(&pipeline, 3).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 85, "filled once");
    assert_eq!(pipeline.generation().await?, Some(1));
    let log = publisher.log();
    assert!(!log.contains("somebody purged the stream"), "nobody did: {log}");
    assert!(!log.contains("source database answers again"), "it was never away: {log}");
    assert_eq!(pipeline.failures().await?, Vec::<Value>::new());
    Ok(())
}

/// A stream that was purged says where it begins, too: with what it will be given next.
#[tokio::test(flavor = "multi_thread")]
async fn a_purged_stream_is_filled_once() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    pipeline.stream().await?.purge().await?;
    pipeline.messages(40).await?;
    pipeline.settled("timeline").await?;
    maintained(&pipeline, 3).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 40, "filled once");
    assert_eq!(publisher.log().matches("somebody purged the stream").count(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_smaller_under_a_publisher_is_told_and_publishing_goes_on() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let context = pipeline.context().await?;
    let mut config = pipeline.stream().await?.cached_info().config.clone();
    config.max_bytes = 1 << 20;
    config.duplicate_window = std::time::Duration::from_secs(1);
    context.update_stream(config).await?;
    wait::until("the leader to notice", DEADLINE, || {
        let log = publisher.log();
        log.contains("the stream is smaller than the settings; publishing goes on")
            && log.contains("max_bytes is 1048576, must be at least 67108864")
    })?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    // A leader that begins with it, and a consumer.
    assert!(!publisher.has_ended()?);
    publisher.terminate(DEADLINE)?;
    let mut publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _second = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(!publisher.has_ended()? && publisher.log().contains("stream-smaller"), "{}", publisher.log());
    let (_, found) = pipeline.ask("publisher", &["doctor"])?;
    assert!(found.to_string().contains("stream-smaller"), "{found}");
    assert_eq!(pipeline.generation().await?, Some(0), "nothing was lost");
    Ok(())
}
