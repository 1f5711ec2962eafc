//! The two status commands: whatever can be known is shown, whoever is away, and the exit status says whether that was all.

use end_to_end::{DEADLINE, OwnedServer, Pipeline, samples};
use sandbox::{
    audit::AuditRow,
    fixture,
    nats::Nats,
    postgres::Postgres,
    wait,
    work_dir::{WorkDir, free_port},
};
use serde_json::Value;

const BOTH: [&str; 2] = ["publisher", "consumer"];

/// Whether it succeeded, what it said to people, and the same for programs, which must be in step.
fn status(pipeline: &Pipeline, binary: &str) -> anyhow::Result<(bool, String, Value)> {
    let (done, said) = pipeline.command(binary, &["status"])?;
    let (also, json) = pipeline.ask(binary, &["status"])?;
    assert_eq!(done, also, "{said}");
    Ok((done, said, json))
}

#[tokio::test]
async fn status_shows_where_everything_stands() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    for binary in BOTH {
        let (done, said, json) = status(&pipeline, binary)?;
        assert!(done && said.contains("is not there: `publisher run` creates it"), "{said}");
        assert_eq!(json["broker"]["state"], "no_stream");
    }
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    pipeline.arrive(&[row.id]).await?;
    let json = wait::until_some("the position to be closed", DEADLINE, async || {
        let (done, json) = pipeline.ask("publisher", &["status"])?;
        anyhow::ensure!(done, "{json}");
        let settled = json["broker"]["forwarders"][0]["settled_up_to"] == 1;
        Ok((json["log"]["unread"] == 0 && settled).then_some(json))
    })
    .await?;
    assert_eq!(json["capture"], "attached");
    assert_eq!(json["broker"]["messages"], 1);
    assert!(json["log"]["leader"].is_string());
    assert_eq!(json["readers"].as_array().unwrap().len(), 1, "{json}");
    let (done, said, _) = status(&pipeline, "publisher")?;
    assert!(done && said.contains("capture   attached"), "{said}");
    for binary in BOTH {
        let (done, said, _) = status(&pipeline, binary)?;
        assert!(done && said.contains("forward-timeline: settled up to 1, 0 pending"), "{said}");
        assert!(said.contains(": 1 messages (1 to 1), "), "{said}");
    }
    Ok(())
}

/// First what the databases know, then the broker's error, in its words and once.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_broker_away_or_without_jetstream_the_rest_is_shown_and_the_status_is_one()
-> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_own_nats().await?;
    let _leader = pipeline.publisher()?;
    let _standby = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    pipeline.own_nats.as_mut().unwrap().server.kill()?;
    let work_dir = WorkDir::create()?;
    let plain = Nats::start_without_jetstream(&work_dir)?;
    let (rows, _) = samples(4);
    pipeline.commit(&rows).await?;
    for (url, words) in [
        (None, "cannot connect to NATS at "),
        (Some(plain.url().to_owned()), "has no JetStream for this client"),
    ] {
        if let Some(url) = url {
            pipeline.nats_url = url;
        }
        for binary in BOTH {
            let (done, said, json) = status(&pipeline, binary)?;
            assert!(!done, "{said}");
            assert!(said.contains("\nbroker    ") || said.starts_with("broker    "), "{said}");
            assert_eq!(said.matches(words).count(), 1, "{said}");
            assert!(said.contains("\nerror: the broker could not be asked"), "{said}");
            assert_eq!(json["broker"]["state"], "failed");
            assert!(json["broker"]["error"].as_str().unwrap().contains(words), "{json}");
        }
        let (_, said, json) = status(&pipeline, "publisher")?;
        assert!(said.contains("capture   attached\nlog       4 unread"), "{said}");
        assert!(said.contains("\nleader    ") && !said.contains("leader    none"), "{said}");
        assert_eq!(json["log"]["unread"], 4);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_dispatch_sync_the_forwarders_own_readers_are_shown_and_no_broker_is_missed() -> anyhow::Result<()>
{
    let mut pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"sync\"",
    )
    .await?;
    // Not only without a broker, but also with one that is away and that nobody needs.
    let away = format!("nats://127.0.0.1:{}", free_port()?);
    pipeline.nats_url = String::new();
    let (rows, ids) = samples(7);
    pipeline.commit(&rows).await?;
    for (url, words) in [
        (String::new(), "none is configured, and none is needed"),
        (away, "no forwarder goes through it; cannot connect"),
    ] {
        pipeline.nats_url = url;
        for binary in BOTH {
            let (done, said, json) = status(&pipeline, binary)?;
            assert!(done && said.contains(words), "{said}");
            assert_eq!(json["readers"][0]["unread"], 7, "{json}");
        }
        let (_, said, _) = status(&pipeline, "publisher")?;
        assert!(said.contains("log       7 unread") && said.contains("leader    none"), "{said}");
    }
    pipeline.nats_url = String::new();
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let json = wait::until_some("the reader to have handed them over", DEADLINE, async || {
        let (done, json) = pipeline.ask("publisher", &["status"])?;
        anyhow::ensure!(done, "{json}");
        Ok((json["log"]["unread"] == 0).then_some(json))
    })
    .await?;
    assert_eq!(json["readers"][0]["reader"], "forward-timeline", "{json}");
    assert!(json["log"]["leader"].is_string(), "{json}");
    let (done, said, _) = status(&pipeline, "consumer")?;
    assert!(done && said.contains("log       forward-timeline: 0 unread, read by "), "{said}");
    assert!(!said.contains("leader    none"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_that_needs_a_broker_which_nobody_has_configured_is_told_of() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"async\"",
    )
    .await?;
    pipeline.nats_url = String::new();
    for binary in BOTH {
        let (done, said, _) = status(&pipeline, binary)?;
        assert!(
            !done && said.contains("a forwarder has dispatch \"async\": set broker.url or NATS_URL"),
            "{said}"
        );
    }
    Ok(())
}

/// Whoever looks at a standby, during a fail-over for example, is shown what it knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_the_broker_away_shows_what_it_knows() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let primary = Postgres::start(&work_dir, false)?;
    let standby_home = WorkDir::create()?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&primary, "source").await?;
    let (rows, _) = samples(2);
    pipeline.commit(&rows).await?;
    let standby = OwnedServer { server: primary.standby(&standby_home, "standby")?, work_dir: standby_home };
    primary.await_replay(&standby.server).await?;
    let url = standby.server.url("source");
    pipeline.source.url = url;
    pipeline.nats_url = format!("nats://127.0.0.1:{}", free_port()?);
    for binary in BOTH {
        let (done, said, json) = status(&pipeline, binary)?;
        assert!(!done && said.contains("broker    cannot connect to NATS"), "{said}");
        assert_eq!(json["broker"]["state"], "failed");
    }
    let (_, said, _) = status(&pipeline, "publisher")?;
    assert!(said.starts_with("capture   attached\nlog       2 unread"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_database_away_the_rest_is_shown_and_the_status_is_one() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    {
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        pipeline.arrive(&ids).await?;
        pipeline.settled("timeline").await?;
    }
    for binary in BOTH {
        let (done, said, json) = status(&pipeline, binary)?;
        assert!(done && said.contains("timeline  timeline: answers"), "{said}");
        assert_eq!((&json["source"]["state"], &json["timelines"][0]["state"]), (&"ok".into(), &"ok".into()));
    }
    let away = format!("postgres://app:hunter2@127.0.0.1:{}/prod", free_port()?);

    let timeline = std::mem::replace(&mut pipeline.timeline.url, away.clone());
    for binary in BOTH {
        let (done, said, json) = status(&pipeline, binary)?;
        assert!(!done && said.contains("timeline  timeline: database prod at 127.0.0.1:"), "{said}");
        assert!(
            said.contains("\nerror: the timeline could not be asked") && !said.contains("hunter2"),
            "{said}"
        );
        assert!(said.contains("forward-timeline: settled up to 3"), "{said}");
        assert_eq!(
            (&json["source"]["state"], &json["timelines"][0]["state"]),
            (&"ok".into(), &"failed".into())
        );
    }
    let (_, said, _) = status(&pipeline, "publisher")?;
    assert!(said.contains("capture   attached"), "{said}");

    pipeline.source.url = away;
    for binary in BOTH {
        let (done, said, json) = status(&pipeline, binary)?;
        assert!(!done && said.contains("source    cannot connect to the source database"), "{said}");
        assert!(said.contains("error: the source database and the timeline could not be asked"), "{said}");
        assert!(said.contains("forward-timeline: settled up to 3") && !said.contains("hunter2"), "{said}");
        assert_eq!((&json["source"]["state"], &json["broker"]["state"]), (&"failed".into(), &"ok".into()));
    }
    pipeline.timeline.url = timeline;
    let (done, said, _) = status(&pipeline, "consumer")?;
    assert!(!done && said.contains("error: the source database could not be asked"), "{said}");
    Ok(())
}
