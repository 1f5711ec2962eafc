//! Servers that hang and networks that forget: nobody waits for them longer than was promised.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use end_to_end::{DEADLINE, Pipeline, address, samples};
use sandbox::proxy::{Flow, Proxy};
use uuid::Uuid;

/// How long an orderly end may take.
const STOP_MAX: Duration = Duration::from_secs(10);

/// How long a connection that the network forgot may hold anything up: five seconds, on a machine that does nothing else.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

/// One proxy for each way from a process to a server, and a pipeline for each process.
struct Links {
    direct: Pipeline,
    publishing: Pipeline,
    consuming: Pipeline,
    publisher_source: Proxy,
    publisher_broker: Proxy,
    consumer_source: Proxy,
    consumer_timeline: Proxy,
    consumer_broker: Proxy,
}

async fn behind(url: &mut String) -> anyhow::Result<Proxy> {
    let server = address(url)?;
    let proxy = Proxy::start(server).await?;
    *url = url.replace(&server.to_string(), &proxy.address().to_string());
    Ok(proxy)
}

impl Links {
    async fn new() -> anyhow::Result<Self> {
        let direct = Pipeline::new().await?;
        let mut publishing = Pipeline::sharing(&direct, "")?;
        let mut consuming = Pipeline::sharing(&direct, "")?;
        Ok(Self {
            publisher_source: behind(&mut publishing.source.url).await?,
            publisher_broker: behind(&mut publishing.nats_url).await?,
            consumer_source: behind(&mut consuming.source.url).await?,
            consumer_timeline: behind(&mut consuming.timeline.url).await?,
            consumer_broker: behind(&mut consuming.nats_url).await?,
            direct,
            publishing,
            consuming,
        })
    }

    fn all(&self) -> [(&'static str, &Proxy); 5] {
        [
            ("publisher to source", &self.publisher_source),
            ("publisher to broker", &self.publisher_broker),
            ("consumer to source", &self.consumer_source),
            ("consumer to timeline", &self.consumer_timeline),
            ("consumer to broker", &self.consumer_broker),
        ]
    }

    async fn commit(&self, count: usize) -> anyhow::Result<Vec<Uuid>> {
        let (rows, ids) = samples(count);
        self.direct.commit(&rows).await?;
        Ok(ids)
    }
}

/// With work in hand and without: a consumer or a publisher whose server hangs ends in time all the same, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_keeps_its_time_whichever_server_hangs() -> anyhow::Result<()> {
    let links = Links::new().await?;
    let mut ids = Vec::new();
    for (name, link) in links.all() {
        for busy in [true, false] {
            let publisher = links.publishing.publisher()?;
            let consumer = links.consuming.consumer()?;
            let first = links.commit(10).await?;
            links.direct.arrive(&first).await?;
            if !busy {
                links.direct.settled("timeline").await?;
            }
            link.set(Flow::HoldBoth);
            if busy {
                ids.append(&mut links.commit(300).await?);
                // So that it is in somebody's hand, wherever it stops.
                tokio::time::timeout(Duration::from_secs(1), links.direct.arrive(&ids)).await.ok();
            }
            let is_publishers = name.starts_with("publisher");
            let (mut stopped, mut other) =
                if is_publishers { (publisher, consumer) } else { (consumer, publisher) };
            stopped.terminate(STOP_MAX).with_context(|| format!("{name}, busy {busy}"))?;
            link.set(Flow::Open);
            other.terminate(DEADLINE)?;
        }
    }
    let _publisher = links.publishing.publisher()?;
    let _consumer = links.consuming.consumer()?;
    links.direct.arrive(&ids).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_network_forgot_is_noticed_within_seconds() -> anyhow::Result<()> {
    let links = Links::new().await?;
    let _publisher = links.publishing.publisher()?;
    let _consumer = links.consuming.consumer()?;
    links.direct.arrive(&links.commit(10).await?).await?;
    for (name, link) in links.all() {
        links.direct.settled("timeline").await?;
        link.abandon();
        let begun = Instant::now();
        let ids = links.commit(10).await?;
        links.direct.arrive_within(&ids, DEADLINE).await?;
        let took = begun.elapsed();
        assert!(took < RECOVERY_MAX, "{name}: {took:?}");
    }
    links.direct.charges_nobody().await?;
    Ok(())
}
