//! Servers that are there and do not do what they are asked.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream;
use sandbox::{audit, audit::AuditRow, fixture::audit_events, nats::delete_stream, wait};
use sqlx::Executor as _;

use super::{
    Scenario,
    harness::{FaultHarness, RECOVERY_MAX, ServersUnderTest},
};
use crate::{exhaustion, samples};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "no connection left",
            what: "every connection of PostgreSQL is taken and the pipeline's own are ended; given back later",
            servers_under_test: ServersUnderTest::Postgres("max_connections = 40"),
            environment: &[],
            faults: 5,
            brief: 1,
            inject: |harness, _| Box::pin(exhaust(harness)),
        },
        Scenario {
            name: "timeline locked",
            what: "a lock on the timeline for longer than every statement may take",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 5,
            brief: 1,
            inject: |harness, _| Box::pin(lock(harness)),
        },
        Scenario {
            name: "deadlock",
            what: "another session inserts actions in the opposite order",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 10,
            brief: 1,
            inject: |harness, _| Box::pin(deadlock(harness)),
        },
        Scenario {
            name: "stream full",
            what: "no consumer until max_bytes is reached; the publisher is pushed back, then everything drains",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[("AUDIT__BROKER__MAX_BYTES", "1048576")],
            faults: 3,
            brief: 1,
            inject: |harness, _| Box::pin(fill(harness)),
        },
        Scenario {
            name: "transaction held open",
            what: "a transaction with rows stays open while thousands of others commit (two minutes, once, in the long form)",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 4,
            brief: 1,
            inject: |harness, turn| Box::pin(hold(harness, turn)),
        },
        Scenario {
            name: "repeated after the duplicate window",
            what: "the publisher dies before its position advances and comes back when the broker has forgotten the ids",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[("AUDIT__BROKER__DUPLICATE_WINDOW", "1s")],
            faults: 8,
            brief: 1,
            inject: |harness, _| Box::pin(repeat(harness)),
        },
        Scenario {
            name: "stream deleted or purged, durable deleted",
            what: "by an administrator's hand, under running processes",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 12,
            brief: 3,
            inject: |harness, turn| Box::pin(meddle(harness, turn)),
        },
    ]
}

async fn exhaust(harness: &mut FaultHarness) -> anyhow::Result<()> {
    let url = sandbox::rights::as_superuser(&harness.pipeline.timeline.url);
    let taken = exhaustion::exhaust(&url, RECOVERY_MAX).await?;
    says(harness, "that no connection is left", exhaustion::refusals).await?;
    drop(taken);
    Ok(())
}

/// Until a process says something once more. Which one depends on what was under way.
async fn says(harness: &FaultHarness, what: &str, count: fn(&str) -> usize) -> anyhow::Result<()> {
    let count = || -> usize {
        let services = harness.publishers.iter().chain(&harness.consumers);
        services.map(|service| count(&service.process.log())).sum()
    };
    let before = count();
    wait::until_some(&format!("a process to say {what}"), RECOVERY_MAX, async || {
        Ok((count() > before).then_some(()))
    })
    .await
}

async fn lock(harness: &mut FaultHarness) -> anyhow::Result<()> {
    let mut holder = harness.pipeline.timeline.connect().await?;
    holder.execute("begin; lock table audit_actions in exclusive mode").await?;
    says(harness, "that it waits", |log| log.matches("waiting for timeline database").count()).await?;
    holder.execute("rollback").await?;
    Ok(())
}

/// Holds the later id first, then asks for the earlier one: with the pipeline's batch, which goes the other way, that is
/// a deadlock, and either may be its victim.
async fn deadlock(harness: &mut FaultHarness) -> anyhow::Result<()> {
    let (rows, mut ids) = samples(2);
    ids.sort();
    let mut other = harness.pipeline.timeline.connect().await?;
    let insert =
        "insert into audit_actions (id, name, actor_ref, status) values ($1, 'test.other', '{}', 'ok')";
    other.execute("begin").await?;
    sqlx::query(insert).bind(ids[1]).execute(&mut other).await?;
    harness.pipeline.commit(&rows).await?;
    let mut looker = harness.pipeline.timeline.connect().await?;
    wait::until_some("the pipeline to wait for this session", RECOVERY_MAX, async || {
        let blocked: bool = sqlx::query_scalar(
            "select exists (select from pg_stat_activity
                            where application_name = 'audit-consumer-timeline' and cardinality(pg_blocking_pids(pid)) > 0)",
        )
        .fetch_one(&mut looker)
        .await?;
        Ok(blocked.then_some(()))
    })
    .await?;
    // Fails when this session is the victim.
    let _ = sqlx::query(insert).bind(ids[0]).execute(&mut other).await;
    other.execute("rollback").await?;
    harness.pipeline.arrive(&ids).await
}

async fn fill(harness: &mut FaultHarness) -> anyhow::Result<()> {
    for consumer in &mut harness.consumers {
        consumer.process.kill()?;
        harness.kills += 1;
    }
    let stream = harness.pipeline.stream().await?;
    let is_full = async || -> anyhow::Result<bool> {
        let said = harness
            .publishers
            .iter()
            .any(|publisher| publisher.process.log().contains("maximum bytes exceeded"));
        let info = stream.get_info().await?;
        let left = info.config.max_bytes.unsigned_abs().saturating_sub(info.state.bytes);
        Ok(left < 1_000 || said)
    };
    while !is_full().await? {
        let (rows, _) = samples(1_000);
        harness.pipeline.commit(&rows).await?;
    }
    harness.while_writing(100).await?;
    for consumer in &mut harness.consumers {
        consumer.restart(&[], None)?;
    }
    Ok(())
}

async fn hold(harness: &mut FaultHarness, turn: usize) -> anyhow::Result<()> {
    let mut holder = harness.pipeline.source.connect().await?;
    holder.execute("begin").await?;
    let (rows, ids) = samples(5);
    audit::insert(&mut holder, &audit_events(), &rows).await?;
    let begun = Instant::now();
    let least = if harness.long && turn == 0 { Duration::from_secs(120) } else { Duration::from_secs(2) };
    while begun.elapsed() < least {
        harness.while_writing(50).await?;
        harness.recover().await?;
    }
    holder.execute("commit").await?;
    harness.pipeline.arrive(&ids).await
}

async fn repeat(harness: &mut FaultHarness) -> anyhow::Result<()> {
    harness.publishers.truncate(1);
    let publisher = &mut harness.publishers[0];
    publisher.process.kill()?;
    publisher.restart(&[], Some("relay.page_acknowledged=3*off->return"))?;
    harness.kills += 2;
    wait::until_some("the publisher to die", RECOVERY_MAX, async || {
        Ok(publisher.process.has_ended()?.then_some(()))
    })
    .await?;
    let window = harness.pipeline.stream().await?.cached_info().config.duplicate_window;
    let died = Instant::now();
    while died.elapsed() < window + Duration::from_millis(500) {
        harness.while_writing(20).await?;
    }
    harness.publishers[0].restart(&[], None)
}

async fn meddle(harness: &mut FaultHarness, turn: usize) -> anyhow::Result<()> {
    let name = harness.pipeline.name.clone();
    let stream = harness.pipeline.stream().await?;
    match turn % 3 {
        0 => {
            let client = async_nats::connect(&harness.pipeline.nats_url).await?;
            delete_stream(&jetstream::new(client), &name).await?;
        }
        1 => {
            stream.purge().await.context("purge the stream")?;
        }
        _ => {
            common::broker::remove_durable(&stream, "forward-timeline").await?;
        }
    }
    // So that it is found while it continues, and not only by the next row.
    let row = AuditRow::sample("fault.after");
    harness.pipeline.commit(std::slice::from_ref(&row)).await?;
    harness.pipeline.arrive_within(&[row.id], RECOVERY_MAX).await
}
