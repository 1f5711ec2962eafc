//! A request for messages is sized by those of the last one. Behind single references it brings packs, which hold many times what was
//! expected; and a message may be larger than what any request may bring.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use end_to_end::{DEADLINE, Pipeline, samples};

/// References in each of the packs.
const SIZE: usize = 12;

/// Requests are for so many messages of one reference.
const BATCH: [&str; 4] = ["--set", "consumer.batch_rows=10", "--set", "consumer.ack_wait=6s"];

/// A stream of one single reference and ten packs behind it; nobody has read any of it.
async fn stream_of_packs_behind_one(pipeline: &Pipeline) -> anyhow::Result<()> {
    let mut sent = 0;
    for (pack, rows) in [("never", 1), ("auto", 10 * SIZE)] {
        let (pack, size) = (format!("publisher.pack={pack}"), format!("publisher.pack_rows={SIZE}"));
        let mut publisher = pipeline.publisher_with(&["--set", &pack, "--set", &size])?;
        pipeline.commit(&samples(rows).0).await?;
        sent += rows;
        pipeline.references(sent).await?;
        publisher.terminate(DEADLINE)?;
    }
    assert_eq!(pipeline.stream().await?.cached_info().state.messages, 11);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_wait_behind_short_batches_for_longer_than_ack_wait_are_delivered_once()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    stream_of_packs_behind_one(&pipeline).await?;
    // One request brings all packs, and the last of them waits for ten seconds.
    let slow = ["env", "FAILPOINTS=worker.pulled=sleep(1000)"];
    let arguments = [&BATCH[..], &["--set", "consumer.workers=1"]].concat();
    let _consumer = pipeline.start_behind(&slow, "consumer", &arguments)?;
    pipeline.settled("timeline").await?;
    assert_eq!(pipeline.projected().await?, 1 + 10 * i64::try_from(SIZE)?);
    let delivered = pipeline.durable("timeline").await?.get_info().await?.delivered;
    assert_eq!((delivered.stream_sequence, delivered.consumer_sequence), (11, 11), "none of them came again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_packs_behind_single_references_keeps_its_rate() -> anyhow::Result<()> {
    const RATE: usize = 20;
    let pipeline = Pipeline::new().await?;
    stream_of_packs_behind_one(&pipeline).await?;
    let rate = RATE.to_string();
    let replay = ["replay", "--forwarder", "timeline", "--from-start", "--rate", &rate];
    let begun = Instant::now();
    let (done, answer) = pipeline.ask("consumer", &[&replay[..], &BATCH].concat())?;
    assert!(done && answer["messages"] == 11 && answer["references"] == 1 + 10 * SIZE, "{answer}");
    assert_eq!(answer["settled"], 1 + 10 * SIZE, "{answer}");
    // Each pack costs whole turns, of ten references; the last one is taken when its turn has come.
    let least = Duration::from_secs(9) * u32::try_from(SIZE.div_ceil(10) * 10 / RATE)?;
    assert!(begun.elapsed() >= least, "{:?} for what should take {least:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_larger_than_any_request_may_bring_holds_nothing_up() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let publisher = pipeline.publisher()?;
    let (rows, before) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.references(3).await?;
    // Somebody else's, from a time when the broker took larger ones.
    let context = pipeline.context().await?;
    context.publish(format!("{}.events", pipeline.name), vec![b'x'; 64 << 10].into()).await?.await?;
    let (rows, behind) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.references(7).await?;
    drop(publisher);
    let nats = pipeline.own_nats.as_mut().unwrap();
    nats.server.stop()?;
    let mut configuration = fs::File::options().append(true).open(nats.work_dir.path().join("nats.conf"))?;
    writeln!(configuration, "\nmax_payload: {}", 16 << 10)?;
    nats.server.restart()?;
    let consumer = pipeline.consumer()?;
    pipeline.arrive(&before).await?;
    pipeline.arrive(&behind).await?;
    pipeline.settled("timeline").await?;
    assert!(!consumer.log().contains("the request for messages ended"), "{}", consumer.log());
    Ok(())
}
