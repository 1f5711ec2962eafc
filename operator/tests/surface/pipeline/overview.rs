//! How far the pipeline has come.

use std::time::Duration;

use common::{
    outbox::{
        self,
        maintenance::retention,
        reader::{
            lease::Lease,
            rounds::{self, Append, PublishedPosition, Round, STREAM_READER, StreamPosition},
        },
        reconcile_cursor::{self, ReconcileCursor},
    },
    session::Session,
};
use reqwest::StatusCode;
use sandbox::fixture::{empty_database, source_database, timeline_database};
use sqlx::{Executor as _, postgres::PgConnectOptions};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use super::{Console, dead, is_refused, source, timeline};
use crate::{
    console::Setup,
    pipeline::{AuditRow, audit, audit_events},
};

/// Hands everything over that is committed, as a publisher whose messages end at this sequence of a stream.
async fn hand_over(session: &mut Session, created: OffsetDateTime, sequence: u64) -> anyhow::Result<Round> {
    let system = outbox::system_identifier(session).await?;
    let head = rounds::head(session, STREAM_READER, system).await?;
    let Append::Written(round) = rounds::open(session, &head, head.mark, true).await? else {
        anyhow::bail!("nothing is unread")
    };
    let mark = Some(PublishedPosition { position: StreamPosition { created, sequence }, event: None });
    let closing = Round { number: round.number + 1, from: round.to.clone(), mark, ..round.clone() };
    match rounds::append(session, &round, &closing).await? {
        Append::Written(round) => Ok(round),
        other => anyhow::bail!("another one was first: {other:?}"),
    }
}

#[tokio::test]
async fn the_pipeline_is_shown_as_far_as_its_source_knows_it() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    let mut session = source(&console).session().await?;
    dead(source(&console), "test.refused", "refused").await?;
    let created = common::time_arg::microseconds(OffsetDateTime::now_utc());
    let round = hand_over(&mut session, created, 3).await?;
    retention::settle(&mut session, STREAM_READER, round.generation, StreamPosition { created, sequence: 2 })
        .await?;
    Lease::new(STREAM_READER, Duration::from_secs(600)).acquire(&mut session).await?;
    let cursor = ReconcileCursor { compared: round.to.clone(), resume: None };
    reconcile_cursor::advance(&mut session, &timeline(), &cursor, round.system_identifier, 7, 1).await?;
    let unread = AuditRow::sample("test.unread");
    audit::insert(&mut source(&console).connect().await?, &audit_events(), &[unread]).await?;

    let state = console.json("/pipeline").await?;
    let reader = &state["readers"][0];
    assert_eq!(
        (reader["reader"].as_str(), reader["unread"].as_i64()),
        (Some(STREAM_READER), Some(1)),
        "{state}"
    );
    assert!(reader["leader"].as_str().unwrap().contains("process"), "{state}");
    assert!((0.0..60.0).contains(&reader["oldest_unread_seconds"].as_f64().unwrap()), "{state}");
    let stream = &state["streams"][0];
    assert_eq!(
        [&stream["published_up_to"], &stream["settled_up_to"], &stream["pending"]]
            .map(serde_json::Value::as_i64),
        [Some(3), Some(2), Some(1)],
        "{state}"
    );
    assert_eq!(state["capture"], serde_json::json!([]));
    assert_eq!(state["forwarders"], serde_json::json!([{"forwarder": "timeline", "is_dropped": false}]));
    assert_eq!((&state["failures"][0]["state"], &state["failures"][0]["count"]), (&"dead".into(), &1.into()));
    assert_eq!(
        (&state["reconciled"][0]["checked"], &state["reconciled"][0]["missing"]),
        (&7.into(), &1.into())
    );

    let html = console.page("/pipeline").await?;
    for words in [
        "attached",
        "1 behind the stream",
        "up to sequence 2",
        "1 were missing",
        "Lag grows",
        "docs/operations.md",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    // What is missing is said to be, in words.
    assert_eq!(html.matches("not normal").count(), 1, "{html}");
    assert!(!html.contains("<svg"), "one mark makes no line: {html}");
    Ok(())
}

#[tokio::test]
async fn the_last_hour_of_the_stream_is_drawn_from_its_marks() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    let mut session = source(&console).session().await?;
    let created = common::time_arg::microseconds(OffsetDateTime::now_utc());
    for sequence in [10, 25, 27] {
        dead(source(&console), "test.row", "refused").await?;
        hand_over(&mut session, created, sequence).await?;
        // As if the next one came a minute later.
        session.execute("update outbox.rounds set at = at - interval '1 minute'").await?;
    }
    let html = console.page("/pipeline").await?;
    assert!(html.contains("<svg class=\"chart\" role=\"img\""), "{html}");
    assert!(html.contains("at most 15 in one</title>") && html.contains("<details>"), "{html}");
    assert!(!html.contains(" style="), "{html}");
    // Nobody has looked how much of it is settled, so that nobody knows what waits.
    let state = console.json("/pipeline").await?;
    assert_eq!(
        (&state["streams"][0]["published_up_to"], &state["streams"][0]["pending"]),
        (&27.into(), &serde_json::Value::Null)
    );
    assert!(html.contains("the publisher has not looked"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_pipeline_that_never_ran_says_what_is_missing() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    source(&console)
        .connect()
        .await?
        .execute("alter table audit_events disable trigger outbox_capture")
        .await?;
    let html = console.page("/pipeline").await?;
    for words in [
        "no process reads the log",
        "it has never read",
        "No forwarder yet",
        "No event has failed",
        "the capture trigger is missing or not enabled",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert_eq!(html.matches("not normal").count(), 2, "{html}");
    assert!(console.page("/pipeline/failures").await?.contains("No event has failed"));
    Ok(())
}

#[tokio::test]
async fn a_source_that_cannot_be_read_says_so_and_the_timeline_goes_on() -> anyhow::Result<()> {
    let (lost, empty, owned) =
        (source_database().await?, empty_database().await?, timeline_database().await?);
    // Where nobody listens: the port was another's a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let away = lost.url.parse::<PgConnectOptions>()?.host("127.0.0.1").port(port);
    for (options, term, words) in [
        (away, "source_away", "No event is lost"),
        (empty.url.parse()?, "outbox_missing", "publisher attach"),
        (owned.url.parse()?, "outbox_missing", "publisher attach"),
    ] {
        let mut console = Setup::after("")
            .await?
            .built(|operator| operator.pipeline(options, audit_events()))
            .start()
            .await?;
        console.as_staff("everything+pipeline+redrive");
        for path in ["/pipeline", "/pipeline/failures", "/pipeline/act?id=1", "/pipeline/redrive?event=x"] {
            is_refused(&console, path, StatusCode::SERVICE_UNAVAILABLE, term).await?;
        }
        assert!(console.answer("/pipeline").await?.1.contains(words));
        console.page("/timeline").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_surface_without_a_source_has_no_pipeline() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+pipeline+redrive");
    assert!(!console.page("/").await?.contains("./pipeline"));
    for path in ["/pipeline", "/pipeline/failures", "/pipeline/failure?event=x", "/pipeline/act?id=1"] {
        is_refused(&console, path, StatusCode::BAD_REQUEST, "pipeline_missing").await?;
    }
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    assert!(!console.page("/").await?.contains("./pipeline"), "it is for those alone who may see it");
    is_refused(&console, "/pipeline", StatusCode::FORBIDDEN, "capability_missing").await?;
    console.as_staff("everything+pipeline");
    assert!(console.page("/").await?.contains("href=\"./pipeline\""));
    Ok(())
}
