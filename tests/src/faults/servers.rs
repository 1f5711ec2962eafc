//! Servers that die.

use anyhow::Context as _;
use sandbox::postgres::Stop;

use super::{
    Scenario,
    arena::{Arena, Ground},
};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "broker killed",
            what: "kill -9 and restart of nats-server",
            ground: Ground::Nats,
            environment: &[],
            faults: 15,
            brief: 2,
            inject: |arena, _| Box::pin(async { broker(arena) }),
        },
        Scenario {
            name: "databases killed",
            what: "kill -9, immediate and fast stop of the PostgreSQL under source and timeline, and its restart",
            ground: Ground::Postgres(""),
            environment: &[],
            faults: 15,
            brief: 3,
            inject: |arena, turn| Box::pin(async move { databases(arena, turn) }),
        },
        Scenario {
            name: "cluster loses its leader",
            what: "three brokers, three replicas: kill -9 of the stream's leader; everything goes on without it; it comes back",
            ground: Ground::Cluster,
            environment: &[],
            faults: 8,
            brief: 1,
            inject: |arena, _| Box::pin(leader(arena)),
        },
    ]
}

fn broker(arena: &mut Arena) -> anyhow::Result<()> {
    let nats = &mut arena.pipeline.own_nats.as_mut().context("it has its own")?.server;
    nats.kill()?;
    arena.kills += 1;
    nats.restart()
}

fn databases(arena: &mut Arena, turn: usize) -> anyhow::Result<()> {
    let postgres = &mut arena.pipeline.own_postgres.as_mut().context("it has its own")?.server;
    postgres.stop([Stop::Kill, Stop::Immediate, Stop::Fast][turn % 3])?;
    arena.kills += 1;
    postgres.restart()
}

async fn leader(arena: &mut Arena) -> anyhow::Result<()> {
    let name = arena.pipeline.name.clone();
    let cluster = &mut arena.cluster.as_mut().context("it has one")?.server;
    let leader = cluster.leader_of(&name).await?;
    cluster.kill(leader)?;
    arena.kills += 1;
    // Two of three are enough.
    arena.recover().await?;
    arena.cluster.as_mut().context("it has one")?.server.restart(leader)
}
