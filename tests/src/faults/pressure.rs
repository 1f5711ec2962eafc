//! Servers that are there and do not do what they are asked.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream;
use sandbox::{audit, audit::AuditRow, fixture::audit_events, nats::delete_stream, wait};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    Scenario,
    arena::{Arena, Ground, RECOVERY_MAX},
};
use crate::samples;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "no connection left",
            what: "every connection of PostgreSQL is taken and the pipeline's own are ended; given back later",
            ground: Ground::Postgres("max_connections = 40"),
            environment: &[],
            faults: 5,
            brief: 1,
            inject: |arena, _| Box::pin(exhaust(arena)),
        },
        Scenario {
            name: "timeline locked",
            what: "a lock on the timeline for longer than every statement may take",
            ground: Ground::Shared,
            environment: &[],
            faults: 5,
            brief: 1,
            inject: |arena, _| Box::pin(lock(arena)),
        },
        Scenario {
            name: "deadlock",
            what: "another session inserts actions in the opposite order",
            ground: Ground::Shared,
            environment: &[],
            faults: 10,
            brief: 1,
            inject: |arena, _| Box::pin(deadlock(arena)),
        },
        Scenario {
            name: "stream full",
            what: "no consumer until max_bytes is reached; the publisher is pushed back, then everything drains",
            ground: Ground::Shared,
            environment: &[("AUDIT__BROKER__MAX_BYTES", "1048576")],
            faults: 3,
            brief: 1,
            inject: |arena, _| Box::pin(fill(arena)),
        },
        Scenario {
            name: "transaction held open",
            what: "a transaction with rows stays open while thousands of others commit (two minutes, once, in the long form)",
            ground: Ground::Shared,
            environment: &[],
            faults: 4,
            brief: 1,
            inject: |arena, turn| Box::pin(hold(arena, turn)),
        },
        Scenario {
            name: "repeated after the duplicate window",
            what: "the publisher dies before its position advances and comes back when the broker has forgotten the ids",
            ground: Ground::Shared,
            environment: &[("AUDIT__BROKER__DUPLICATE_WINDOW", "1s")],
            faults: 8,
            brief: 1,
            inject: |arena, _| Box::pin(repeat(arena)),
        },
        Scenario {
            name: "stream deleted or purged, durable deleted",
            what: "by an administrator's hand, under running processes",
            ground: Ground::Shared,
            environment: &[],
            faults: 12,
            brief: 3,
            inject: |arena, turn| Box::pin(meddle(arena, turn)),
        },
    ]
}

async fn exhaust(arena: &mut Arena) -> anyhow::Result<()> {
    let url = sandbox::rights::as_superuser(&arena.pipeline.timeline.url);
    let mut first = PgConnection::connect(&url).await?;
    let mut taken = Vec::new();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'audit-%'";
    let begin = Instant::now();
    // Taken and ended until nothing of the pipeline is left: it reconnects as fast as it can.
    loop {
        first.execute(end).await?;
        while let Ok(connection) = PgConnection::connect(&url).await {
            taken.push(connection);
        }
        let left: i64 =
            sqlx::query_scalar("select count(*) from pg_stat_activity where application_name like 'audit-%'")
                .fetch_one(&mut first)
                .await?;
        if left == 0 {
            break;
        }
        anyhow::ensure!(begin.elapsed() < RECOVERY_MAX, "the pipeline keeps {left} connection(s)");
    }
    waits(arena, "too many clients").await?;
    drop(taken);
    Ok(())
}

/// Until a process says once more that it waits for this. Which one depends on what was under way.
async fn waits(arena: &Arena, what: &str) -> anyhow::Result<()> {
    let count = || -> usize {
        let services = arena.publishers.iter().chain(&arena.consumers);
        services.map(|service| service.process.log().matches(what).count()).sum()
    };
    let before = count();
    wait::until_some(&format!("a process to say {what:?}"), RECOVERY_MAX, async || {
        Ok((count() > before).then_some(()))
    })
    .await
}

async fn lock(arena: &mut Arena) -> anyhow::Result<()> {
    let mut holder = arena.pipeline.timeline.connect().await?;
    holder.execute("begin; lock table audit_actions in exclusive mode").await?;
    waits(arena, "waiting for timeline database").await?;
    holder.execute("rollback").await?;
    Ok(())
}

/// Holds the later id first, then asks for the earlier one: with the pipeline's batch, which goes the other way, that is
/// a deadlock, and either may be its victim.
async fn deadlock(arena: &mut Arena) -> anyhow::Result<()> {
    let (rows, mut ids) = samples(2);
    ids.sort();
    let mut other = arena.pipeline.timeline.connect().await?;
    let insert =
        "insert into audit_actions (id, name, actor_ref, status) values ($1, 'test.other', '{}', 'ok')";
    other.execute("begin").await?;
    sqlx::query(insert).bind(ids[1]).execute(&mut other).await?;
    arena.pipeline.commit(&rows).await?;
    let mut looker = arena.pipeline.timeline.connect().await?;
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
    arena.pipeline.arrive(&ids).await
}

async fn fill(arena: &mut Arena) -> anyhow::Result<()> {
    for consumer in &mut arena.consumers {
        consumer.process.kill()?;
        arena.kills += 1;
    }
    let stream = arena.pipeline.stream().await?;
    let is_full = async || -> anyhow::Result<bool> {
        let said = arena
            .publishers
            .iter()
            .any(|publisher| publisher.process.log().contains("maximum bytes exceeded"));
        let info = stream.get_info().await?;
        let left = info.config.max_bytes.unsigned_abs().saturating_sub(info.state.bytes);
        Ok(left < 1_000 || said)
    };
    while !is_full().await? {
        let (rows, _) = samples(1_000);
        arena.pipeline.commit(&rows).await?;
    }
    arena.while_writing(100).await?;
    for consumer in &mut arena.consumers {
        consumer.revive(&[], None)?;
    }
    Ok(())
}

async fn hold(arena: &mut Arena, turn: usize) -> anyhow::Result<()> {
    let mut holder = arena.pipeline.source.connect().await?;
    holder.execute("begin").await?;
    let (rows, ids) = samples(5);
    audit::insert(&mut holder, &audit_events(), &rows).await?;
    let begun = Instant::now();
    let least = if arena.long && turn == 0 { Duration::from_secs(120) } else { Duration::from_secs(2) };
    while begun.elapsed() < least {
        arena.while_writing(50).await?;
        arena.recover().await?;
    }
    holder.execute("commit").await?;
    arena.pipeline.arrive(&ids).await
}

async fn repeat(arena: &mut Arena) -> anyhow::Result<()> {
    arena.publishers.truncate(1);
    let publisher = &mut arena.publishers[0];
    publisher.process.kill()?;
    publisher.revive(&[], Some("relay.page_acknowledged=3*off->return"))?;
    arena.kills += 2;
    wait::until_some("the publisher to die", RECOVERY_MAX, async || {
        Ok(publisher.process.has_ended()?.then_some(()))
    })
    .await?;
    let window = arena.pipeline.stream().await?.cached_info().config.duplicate_window;
    let died = Instant::now();
    while died.elapsed() < window + Duration::from_millis(500) {
        arena.while_writing(20).await?;
    }
    arena.publishers[0].revive(&[], None)
}

async fn meddle(arena: &mut Arena, turn: usize) -> anyhow::Result<()> {
    let name = arena.pipeline.name.clone();
    let stream = arena.pipeline.stream().await?;
    match turn % 3 {
        0 => {
            let client = async_nats::connect(&arena.pipeline.nats_url).await?;
            delete_stream(&jetstream::new(client), &name).await?;
        }
        1 => {
            stream.purge().await.context("purge the stream")?;
        }
        _ => {
            common::broker::remove_durable(&stream, "forward-timeline").await?;
        }
    }
    // So that it is found while it goes on, and not only by the next row.
    let row = AuditRow::sample("fault.after");
    arena.pipeline.commit(std::slice::from_ref(&row)).await?;
    arena.pipeline.arrive_within(&[row.id], RECOVERY_MAX).await
}
