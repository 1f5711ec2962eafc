//! Publishers and consumers that die.

use anyhow::ensure;
use sandbox::wait;

use super::{
    Scenario,
    harness::{FaultHarness, RECOVERY_MAX, ServersUnderTest, Service},
};

/// A shifted clock: the time of day, not the one that timers run on.
const FAST: [&str; 4] = ["faketime", "--exclude-monotonic", "-f", "+5m"];
const SLOW: [&str; 4] = ["faketime", "--exclude-monotonic", "-f", "-5m"];

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "publisher killed",
            what: "kill -9 of the leading or the standby publisher at a random moment",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 20,
            brief: 2,
            inject: |harness, turn| {
                Box::pin(async move {
                    again(harness, if turn % 2 == 0 { first_publisher } else { second_publisher })
                })
            },
        },
        Scenario {
            name: "consumer killed",
            what: "kill -9 of one of two consumers at a random moment",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 20,
            brief: 2,
            inject: |harness, turn| {
                Box::pin(async move {
                    again(harness, if turn % 2 == 0 { first_consumer } else { second_consumer })
                })
            },
        },
        Scenario {
            name: "publisher dies at a named place",
            what: "after commit and before the read; in the middle of a page; after publishing and before the position advances",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 18,
            brief: 3,
            inject: |harness, turn| {
                let places = ["relay.round_stored", "publish.message_sent", "relay.page_acknowledged"];
                Box::pin(die(
                    harness,
                    first_publisher,
                    |harness| &mut harness.publishers,
                    places[turn % 3],
                    turn,
                ))
            },
        },
        Scenario {
            name: "consumer dies at a named place",
            what: "with a batch in hand; after the projection and before the acknowledgement; in the middle of acknowledging",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 20,
            brief: 4,
            inject: |harness, turn| {
                let places =
                    ["worker.pulled", "dispatch.forwarded", "dispatch.recorded", "worker.acknowledged"];
                Box::pin(die(
                    harness,
                    first_consumer,
                    |harness| &mut harness.consumers,
                    places[turn % 4],
                    turn,
                ))
            },
        },
        Scenario {
            name: "clock off by minutes",
            what: "one process runs with its clock five minutes fast or slow, is killed, and runs with the right one",
            servers_under_test: ServersUnderTest::Shared,
            environment: &[],
            faults: 8,
            brief: 2,
            inject: |harness, turn| Box::pin(skew(harness, turn)),
        },
    ]
}

fn first_publisher(harness: &mut FaultHarness) -> &mut Service {
    &mut harness.publishers[0]
}

fn second_publisher(harness: &mut FaultHarness) -> &mut Service {
    &mut harness.publishers[1]
}

fn first_consumer(harness: &mut FaultHarness) -> &mut Service {
    &mut harness.consumers[0]
}

fn second_consumer(harness: &mut FaultHarness) -> &mut Service {
    &mut harness.consumers[1]
}

fn again(harness: &mut FaultHarness, service: fn(&mut FaultHarness) -> &mut Service) -> anyhow::Result<()> {
    harness.kill(service)?;
    service(harness).restart(&[], None)
}

/// Lets the only publisher or consumer die at a place, the sooner or later of the times that it gets there.
async fn die(
    harness: &mut FaultHarness,
    service: fn(&mut FaultHarness) -> &mut Service,
    all: fn(&mut FaultHarness) -> &mut Vec<Service>,
    place: &str,
    turn: usize,
) -> anyhow::Result<()> {
    // Alone, or the other one would lead.
    all(harness).truncate(1);
    harness.kill(service)?;
    let armed = format!("{place}={}*off->return", turn * 7 % 20);
    service(harness).restart(&[], Some(&armed))?;
    harness.kills += 1;
    wait::until_some(
        &format!("it to die at {place} (built with --features common/failpoints?)"),
        RECOVERY_MAX,
        async || Ok(service(harness).process.has_ended()?.then_some(())),
    )
    .await?;
    service(harness).restart(&[], None)
}

async fn skew(harness: &mut FaultHarness, turn: usize) -> anyhow::Result<()> {
    let service = if turn.is_multiple_of(2) { first_publisher } else { first_consumer };
    let wrapper = if (turn / 2).is_multiple_of(2) { FAST } else { SLOW };
    harness.kill(service)?;
    service(harness).restart(&wrapper, None)?;
    if turn.is_multiple_of(2) {
        // It has to lead, or its clock would not matter.
        harness.kill(second_publisher)?;
    }
    harness.recover().await?;
    ensure!(!service(harness).process.has_ended()?, "it ended under a shifted clock");
    harness.kill(service)?;
    service(harness).restart(&[], None)?;
    if turn.is_multiple_of(2) {
        second_publisher(harness).restart(&[], None)?;
    }
    Ok(())
}
