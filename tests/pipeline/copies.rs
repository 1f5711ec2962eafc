//! A file-level copy of the source, which has the same system identifier, beside the source and on its stream.

use std::time::Duration;

use end_to_end::{DEADLINE, OwnedServer, Pipeline, samples};
use sandbox::{
    fixture::{self, TestDatabase},
    postgres::Postgres,
    wait,
    work_dir::{WorkDir, free_port},
};
use uuid::Uuid;

use crate::{loss::publish, operations::get};

/// A source in a cluster of its own, which can be copied.
async fn source() -> anyhow::Result<(OwnedServer<Postgres>, Pipeline)> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start(&work_dir, false)?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&server, "app").await?;
    Ok((OwnedServer { server, work_dir }, pipeline))
}

/// The same settings over a copy of the source, with a timeline of its own.
async fn copy_of(
    primary: &OwnedServer<Postgres>,
    pipeline: &Pipeline,
) -> anyhow::Result<(Postgres, Pipeline)> {
    let server = primary.server.copy(&primary.work_dir, "copy")?;
    let mut copy = Pipeline::sharing(pipeline, "")?;
    copy.source = TestDatabase { url: server.url("app") };
    copy.timeline = fixture::timeline_database().await?;
    Ok((server, copy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_source_settles_nothing_of_what_the_source_has_committed_since() -> anyhow::Result<()> {
    let (primary, pipeline) = source().await?;
    let _publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (rows, before) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&before).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    let (_server, copy) = copy_of(&primary, &pipeline).await?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(40).await?;

    let port = free_port()?;
    let foreign = copy.consumer_with(&["--set", &format!("consumer.listen=127.0.0.1:{port}")])?;
    wait::until("the copy's consumer to notice", DEADLINE, || {
        let log = foreign.log();
        log.contains("which neither the audit table nor the log has ever held")
            && log.contains("another source.name")
    })?;
    let (status, body) = wait::until_some("an answer", DEADLINE, async || Ok(get(port, "/readyz"))).await?;
    assert!(status == 503 && body.contains("it is another source's"), "{status} {body}");
    let floor = pipeline.durable("timeline").await?.cached_info().ack_floor.stream_sequence;
    assert_eq!(floor, 1, "nothing of the source's was settled");

    // It keeps nothing from whoever it belongs to.
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive_within(&ids, Duration::from_secs(10)).await?;
    for pipeline in [&pipeline, &copy] {
        pipeline.charges_nobody().await?;
    }
    assert_eq!(copy.projected().await?, 0, "and nothing of it is in the copy's timeline");
    Ok(())
}

/// The other way round it is the source itself, which came back without its last rows: a person says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_its_last_rows_continues_once_somebody_says_so() -> anyhow::Result<()> {
    let (primary, pipeline) = source().await?;
    let mut publisher = pipeline.publisher()?;
    let (rows, kept) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    let (_server, copy) = copy_of(&primary, &pipeline).await?;
    let (rows, lost) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(40).await?;
    publisher.terminate(DEADLINE)?;
    let mut consumer = copy.consumer()?;
    wait::until("the consumer to hold", DEADLINE, || consumer.log().contains("it is another source's"))?;
    consumer.terminate(DEADLINE)?;
    let _consumer = copy.consumer_with(&["--set", "consumer.unknown_events=dead_letter"])?;
    let _publisher = copy.publisher()?;
    copy.arrive(&kept).await?;
    copy.settled("timeline").await?;
    let failures = copy.failures().await?;
    assert_eq!(failures.len(), 20, "{failures:?}");
    let refs: Vec<Uuid> =
        failures.iter().map(|failure| failure["ref"].as_str().unwrap().parse().unwrap()).collect();
    assert!(lost.iter().all(|id| refs.contains(id)), "{failures:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_beside_which_somebody_else_publishes_says_so() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher()?;
    let said = || publisher.log().matches("another process publishes on").count();
    let (rows, known) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.references(1).await?;
    for turn in 1..=5 {
        let (rows, _) = samples(3);
        pipeline.commit(&rows).await?;
        pipeline.references(1 + 3 * turn).await?;
    }
    assert_eq!(said(), 0, "nobody but the leader has published");
    let foreign = publish(&pipeline, known[0], None).await?;
    let (rows, _) = samples(1);
    pipeline.commit(&rows).await?;
    wait::until("the leader to say so", DEADLINE, || said() == 1)?;
    assert!(publisher.log().contains(&format!("\"sequence\":{}", foreign.sequence)), "{}", publisher.log());
    // A leader that begins behind somebody else's message has nothing to say of it.
    assert_eq!(pipeline.generation().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_a_name_shares_its_stream_with_no_copy() -> anyhow::Result<()> {
    let (primary, pipeline) = source().await?;
    // Without a name first, as it was before there were any.
    let mut publisher = pipeline.publisher()?;
    let (rows, mut ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    publisher.terminate(DEADLINE)?;
    let named = ["--set", "source.name=production"];
    let (done, said) = pipeline.command("publisher", &[&["run"], &named[..]].concat())?;
    assert!(!done && said.contains("or under a new source.name, run `publisher rebase`"), "{said}");
    let (done, said) = pipeline.command("publisher", &[&["rebase"], &named[..]].concat())?;
    assert!(done, "{said}");
    let _publisher = pipeline.publisher_with(&named)?;
    let _consumer = pipeline.consumer_with(&named)?;
    let (_server, copy) = copy_of(&primary, &pipeline).await?;
    for name in [None, Some("source.name=staging")] {
        for binary in ["publisher", "consumer"] {
            let name = name.map_or_else(Vec::new, |name| vec!["--set", name]);
            let (done, said) = copy.command(binary, &[&["run"], &name[..]].concat())?;
            assert!(!done && said.contains("as production; this one is"), "{said}");
        }
    }
    let (rows, mut some) = samples(20);
    pipeline.commit(&rows).await?;
    ids.append(&mut some);
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await?;
    Ok(())
}
