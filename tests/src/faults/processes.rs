//! Publishers and consumers that die.

use anyhow::ensure;
use sandbox::wait;

use super::{
    Scenario,
    arena::{Arena, Ground, RECOVERY_MAX, Service},
};

/// A shifted clock: the time of day, not the one that timers run on.
const FAST: [&str; 4] = ["faketime", "--exclude-monotonic", "-f", "+5m"];
const SLOW: [&str; 4] = ["faketime", "--exclude-monotonic", "-f", "-5m"];

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "publisher killed",
            what: "kill -9 of the leading or the standby publisher at a random moment",
            ground: Ground::Shared,
            environment: &[],
            faults: 20,
            brief: 2,
            inject: |arena, turn| {
                Box::pin(async move {
                    again(arena, if turn % 2 == 0 { first_publisher } else { second_publisher })
                })
            },
        },
        Scenario {
            name: "consumer killed",
            what: "kill -9 of one of two consumers at a random moment",
            ground: Ground::Shared,
            environment: &[],
            faults: 20,
            brief: 2,
            inject: |arena, turn| {
                Box::pin(
                    async move { again(arena, if turn % 2 == 0 { first_consumer } else { second_consumer }) },
                )
            },
        },
        Scenario {
            name: "publisher dies at a named place",
            what: "after commit and before the read; in the middle of a page; after publishing and before the position advances",
            ground: Ground::Shared,
            environment: &[],
            faults: 18,
            brief: 3,
            inject: |arena, turn| {
                let places = ["relay.round_stored", "publish.message_sent", "relay.page_acknowledged"];
                Box::pin(die(arena, first_publisher, |arena| &mut arena.publishers, places[turn % 3], turn))
            },
        },
        Scenario {
            name: "consumer dies at a named place",
            what: "with a batch in hand; after the projection and before the acknowledgement; in the middle of acknowledging",
            ground: Ground::Shared,
            environment: &[],
            faults: 20,
            brief: 4,
            inject: |arena, turn| {
                let places = ["lane.pulled", "dispatch.forwarded", "dispatch.recorded", "lane.acknowledged"];
                Box::pin(die(arena, first_consumer, |arena| &mut arena.consumers, places[turn % 4], turn))
            },
        },
        Scenario {
            name: "clock off by minutes",
            what: "one process runs with its clock five minutes fast or slow, is killed, and runs with the right one",
            ground: Ground::Shared,
            environment: &[],
            faults: 8,
            brief: 2,
            inject: |arena, turn| Box::pin(skew(arena, turn)),
        },
    ]
}

fn first_publisher(arena: &mut Arena) -> &mut Service {
    &mut arena.publishers[0]
}

fn second_publisher(arena: &mut Arena) -> &mut Service {
    &mut arena.publishers[1]
}

fn first_consumer(arena: &mut Arena) -> &mut Service {
    &mut arena.consumers[0]
}

fn second_consumer(arena: &mut Arena) -> &mut Service {
    &mut arena.consumers[1]
}

fn again(arena: &mut Arena, service: fn(&mut Arena) -> &mut Service) -> anyhow::Result<()> {
    arena.kill(service)?;
    service(arena).revive(&[], None)
}

/// Lets the only publisher or consumer die at a place, the sooner or later of the times that it gets there.
async fn die(
    arena: &mut Arena,
    service: fn(&mut Arena) -> &mut Service,
    all: fn(&mut Arena) -> &mut Vec<Service>,
    place: &str,
    turn: usize,
) -> anyhow::Result<()> {
    // Alone, or the other one would lead.
    all(arena).truncate(1);
    arena.kill(service)?;
    let armed = format!("{place}={}*off->return", turn * 7 % 20);
    service(arena).revive(&[], Some(&armed))?;
    arena.kills += 1;
    wait::until_some(
        &format!("it to die at {place} (built with --features common/failpoints?)"),
        RECOVERY_MAX,
        async || Ok(service(arena).process.has_ended()?.then_some(())),
    )
    .await?;
    service(arena).revive(&[], None)
}

async fn skew(arena: &mut Arena, turn: usize) -> anyhow::Result<()> {
    let service = if turn.is_multiple_of(2) { first_publisher } else { first_consumer };
    let wrapper = if (turn / 2).is_multiple_of(2) { FAST } else { SLOW };
    arena.kill(service)?;
    service(arena).revive(&wrapper, None)?;
    if turn.is_multiple_of(2) {
        // It has to lead, or its clock would not matter.
        arena.kill(second_publisher)?;
    }
    arena.recover().await?;
    ensure!(!service(arena).process.has_ended()?, "it ended under a shifted clock");
    arena.kill(service)?;
    service(arena).revive(&[], None)?;
    if turn.is_multiple_of(2) {
        second_publisher(arena).revive(&[], None)?;
    }
    Ok(())
}
