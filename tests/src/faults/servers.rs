//! Servers that die.

use anyhow::Context as _;
use sandbox::postgres::Stop;

use super::{
    Scenario,
    harness::{FaultHarness, ServersUnderTest},
};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "broker killed",
            what: "kill -9 and restart of nats-server",
            servers_under_test: ServersUnderTest::Nats,
            environment: &[],
            faults: 15,
            brief: 2,
            inject: |harness, _| Box::pin(async { broker(harness) }),
        },
        Scenario {
            name: "databases killed",
            what: "kill -9, immediate and fast stop of the PostgreSQL under source and timeline, and its restart",
            servers_under_test: ServersUnderTest::Postgres(""),
            environment: &[],
            faults: 15,
            brief: 3,
            inject: |harness, turn| Box::pin(async move { databases(harness, turn) }),
        },
        Scenario {
            name: "cluster loses its leader",
            what: "three brokers, three replicas: kill -9 of the stream's leader; everything continues without it; it comes back",
            servers_under_test: ServersUnderTest::Cluster,
            environment: &[],
            faults: 8,
            brief: 1,
            inject: |harness, _| Box::pin(leader(harness)),
        },
    ]
}

fn broker(harness: &mut FaultHarness) -> anyhow::Result<()> {
    let nats = &mut harness.pipeline.own_nats.as_mut().context("it has its own")?.server;
    nats.kill()?;
    harness.kills += 1;
    nats.restart()
}

fn databases(harness: &mut FaultHarness, turn: usize) -> anyhow::Result<()> {
    let postgres = &mut harness.pipeline.own_postgres.as_mut().context("it has its own")?.server;
    postgres.stop([Stop::Kill, Stop::Immediate, Stop::Fast][turn % 3])?;
    harness.kills += 1;
    postgres.restart()
}

async fn leader(harness: &mut FaultHarness) -> anyhow::Result<()> {
    let name = harness.pipeline.name.clone();
    let cluster = &mut harness.cluster.as_mut().context("it has one")?.server;
    let leader = cluster.leader_of(&name).await?;
    cluster.kill(leader)?;
    harness.kills += 1;
    // Two of three are enough.
    harness.recover().await?;
    harness.cluster.as_mut().context("it has one")?.server.restart(leader)
}
