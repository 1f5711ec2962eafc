//! Every peer carries every row: those of before it was attached and those of after.

use std::time::Duration;

use anyhow::Context as _;
use sandbox::{
    audit::{self, AuditRow},
    fixture::{self, TestDatabase},
    verdict::Verdict,
    wait,
};
use sqlx::{Connection as _, PgConnection};
use threadline::StorageSchema;
use tokio_util::sync::CancellationToken;

use super::Peer;

/// In the queue before the peer works.
const BEFORE: usize = 250;

/// Inserted while it works, each in a transaction of its own.
const AFTER: usize = 50;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn graphile_worker_carries_every_row() -> anyhow::Result<()> {
    carries_every_row(Peer::GraphileWorker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn awa_carries_every_row() -> anyhow::Result<()> {
    carries_every_row(Peer::Awa).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pgmq_carries_every_row() -> anyhow::Result<()> {
    carries_every_row(Peer::Pgmq).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fenced_reader_carries_every_row() -> anyhow::Result<()> {
    carries_every_row(Peer::Fenced).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_skip_locked_workers_carry_every_row() -> anyhow::Result<()> {
    carries_every_row(Peer::SkipLocked).await
}

async fn carries_every_row(peer: Peer) -> anyhow::Result<()> {
    let source = fixture::source_database().await?;
    let timeline = fixture::timeline_database().await?;
    let mut application = source.connect().await?;
    insert(&mut application, BEFORE).await?;
    peer.prepare(&source.url).await?;
    assert_eq!(peer.enqueue_all(&source.url).await?, u64::try_from(BEFORE)?);
    peer.attach(&source.url).await?;

    let stop = CancellationToken::new();
    let worker = {
        let (source, timeline, stop) = (source.url.clone(), timeline.url.clone(), stop.clone());
        tokio::spawn(async move { peer.work(&source, &timeline, stop).await })
    };
    arrived(&timeline, BEFORE).await?;
    for _ in 0..AFTER {
        insert(&mut application, 1).await?;
    }
    arrived(&timeline, BEFORE + AFTER).await?;
    stop.cancel();
    worker.await.context("the worker panicked")??;
    application.close().await?;

    let (table, schema) = (fixture::audit_events(), StorageSchema::default());
    let verdict = Verdict::compute(&source.url, &table, &timeline.url, &schema).await?;
    assert!(verdict.holds() && verdict.committed == BEFORE + AFTER, "{}: {verdict}", peer.name());
    // Two rows a job at most, and what a job queue keeps about itself.
    assert!(peer.dead_tuples(&source.url).await? <= 1_000, "{}", peer.name());
    Ok(())
}

async fn insert(application: &mut PgConnection, rows: usize) -> anyhow::Result<()> {
    let rows: Vec<AuditRow> = (0..rows).map(|_| AuditRow::sample("auth.login.success")).collect();
    audit::insert(application, &fixture::audit_events(), &rows).await
}

async fn arrived(timeline: &TestDatabase, rows: usize) -> anyhow::Result<()> {
    let mut connection = timeline.connect().await?;
    let expected = i64::try_from(rows)?;
    wait::until_some(&format!("{rows} rows in the timeline"), DEADLINE, async || {
        let count: i64 =
            sqlx::query_scalar("select count(*) from audit_actions").fetch_one(&mut connection).await?;
        Ok((count >= expected).then_some(()))
    })
    .await?;
    Ok(connection.close().await?)
}
