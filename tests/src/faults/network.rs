//! The network between each process and each server.

use std::time::Duration;

use sandbox::proxy::{Flow, Proxy};

use super::{
    Scenario,
    harness::{FaultHarness, ServersUnderTest},
};

/// How much work the application gets done while a fault lasts.
const MEANWHILE: u64 = 100;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "network",
        what: "each of the five links in turn: connections reset, delayed, silent for a while, cut in the middle of a \
               message, forgotten for ever, refused",
        servers_under_test: ServersUnderTest::Shared,
        environment: &[],
        faults: 60,
        brief: 6,
        inject: |harness, turn| Box::pin(disturb(harness, turn)),
    }]
}

async fn disturb(harness: &mut FaultHarness, turn: usize) -> anyhow::Result<()> {
    let links = &harness.links;
    // The kinds change faster than the links, and both with every turn: six turns show each kind and each link.
    let link: &Proxy = [
        &links.publisher_source,
        &links.publisher_broker,
        &links.consumer_source,
        &links.consumer_timeline,
        &links.consumer_broker,
    ][(turn + turn / 6) % 5];
    match turn % 6 {
        0 => link.cut(),
        1 => {
            link.set(Flow::Delay(Duration::from_millis(100)));
            harness.while_writing(MEANWHILE).await?;
        }
        2 => {
            link.set(Flow::HoldBoth);
            harness.while_writing(MEANWHILE).await?;
        }
        3 => link.cut_after(1_000 + 977 * turn as u64),
        4 => link.abandon(),
        _ => {
            link.set(Flow::Refuse);
            harness.while_writing(MEANWHILE).await?;
        }
    }
    link.set(Flow::Open);
    Ok(())
}
