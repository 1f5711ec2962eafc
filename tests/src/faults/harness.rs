//! A pipeline with a proxy on every link, processes that are started again, and a writer that never stops.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use sandbox::{
    audit::AuditRow,
    fixture,
    nats::{Nats, NatsCluster},
    postgres::Postgres,
    process::Process,
    proxy::Proxy,
    rights,
    verdict::Verdict,
    wait,
    work_dir::WorkDir,
};
use sqlx::PgConnection;

use super::writer::Writer;
use crate::{OwnedServer, Pipeline, address, borrowed, roles::Role, sandbox};

/// How long a recovery may take before it counts as none.
pub(super) const RECOVERY_MAX: Duration = Duration::from_secs(120);

/// Short times, so that a fault and its end fit into seconds. What may not happen has its default: one charged attempt
/// would keep its event away for longer than a recovery may take.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("AUDIT__SOURCE__STATEMENT_TIMEOUT", "2s"),
    ("AUDIT__CONSUMER__FORWARD_TIMEOUT", "4s"),
    ("AUDIT__RELAY__MAINTENANCE_INTERVAL", "500ms"),
    ("AUDIT__PUBLISHER__REPLAY_WINDOW", "0s"),
];

/// Which servers a scenario breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServersUnderTest {
    /// None: those of the whole test binary do.
    Shared,
    /// The broker.
    Nats,
    /// The database server, with these settings.
    Postgres(&'static str),
    /// A broker of three nodes.
    Cluster,
}

/// One proxy for each link.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) publisher_source: Proxy,
    pub(super) publisher_broker: Proxy,
    pub(super) consumer_source: Proxy,
    pub(super) consumer_timeline: Proxy,
    pub(super) consumer_broker: Proxy,
}

/// A binary that is started again when it has been killed.
#[derive(Debug)]
pub(super) struct Service {
    binary: &'static str,
    environment: Vec<(&'static str, String)>,
    pub(super) process: Process,
}

impl Service {
    fn start(binary: &'static str, environment: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let process = spawn(binary, &environment, &[], None)?;
        Ok(Self { binary, environment, process })
    }

    /// Starts it again, in place of the one that has ended; with a wrapper before it, or with a fail point armed.
    pub(super) fn restart(&mut self, wrapper: &[&str], failpoint: Option<&str>) -> anyhow::Result<()> {
        self.process = spawn(self.binary, &self.environment, wrapper, failpoint)?;
        Ok(())
    }
}

fn spawn(
    binary: &str,
    environment: &[(&'static str, String)],
    wrapper: &[&str],
    failpoint: Option<&str>,
) -> anyhow::Result<Process> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{binary}-fault-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut variables = borrowed(environment);
    variables.extend(failpoint.map(|armed| ("FAILPOINTS", armed)));
    Process::start_with(&sandbox().work_dir, &name, wrapper, binary, &["run"], &variables)
}

/// Everything that a scenario may break.
pub struct FaultHarness {
    // In the order in which they must go: processes, then proxies, then servers.
    pub(super) publishers: Vec<Service>,
    pub(super) consumers: Vec<Service>,
    writer: Option<Writer>,
    pub(super) links: Links,
    pub(super) pipeline: Pipeline,
    pub(super) cluster: Option<OwnedServer<NatsCluster>>,
    /// Processes and servers that were killed.
    pub(super) kills: u32,
    /// Whether it may take minutes.
    pub(super) long: bool,
}

impl FaultHarness {
    pub(super) async fn start(
        servers_under_test: ServersUnderTest,
        environment: &[(&'static str, &'static str)],
        long: bool,
    ) -> anyhow::Result<Self> {
        let mut pipeline = Pipeline::new().await?;
        let mut environment: Vec<_> = ENVIRONMENT.iter().chain(environment).copied().collect();
        let mut cluster = None;
        match servers_under_test {
            ServersUnderTest::Shared => {}
            ServersUnderTest::Nats => {
                let work_dir = WorkDir::create()?;
                let server = Nats::start_with(&work_dir, &rights::of_broker())?;
                server.url().clone_into(&mut pipeline.nats_url);
                pipeline.own_nats = Some(OwnedServer { server, work_dir });
            }
            ServersUnderTest::Postgres(extra) => {
                let work_dir = WorkDir::create()?;
                let server = Postgres::start_with(&work_dir, false, extra)?;
                pipeline.source = fixture::source_database_on(&server, "source").await?;
                pipeline.timeline = fixture::timeline_database_on(&server, "timeline").await?;
                pipeline.own_postgres = Some(OwnedServer { server, work_dir });
            }
            ServersUnderTest::Cluster => {
                environment.push(("AUDIT__BROKER__REPLICAS", "3"));
                let work_dir = WorkDir::create()?;
                let server = NatsCluster::start_with(&work_dir, 3, &rights::of_broker()).await?;
                pipeline.nats_url = server.url();
                cluster = Some(OwnedServer { server, work_dir });
            }
        }
        let links = Links::start(&pipeline).await?;
        let own = environment.into_iter().map(|(name, value)| (name, value.to_owned()));
        let publisher: Vec<_> = links.publisher(&pipeline).into_iter().chain(own.clone()).collect();
        let consumer: Vec<_> = links.consumer(&pipeline).into_iter().chain(own).collect();
        let first = Service::start("publisher", publisher.clone())?;
        if cluster.is_some() {
            // Whoever is not answered at boot ends, for a supervisor to start it again; and a cluster of nats-server 2.9 does not answer all
            // who ask at once for a stream that is new.
            wait::until("the stream to be made", RECOVERY_MAX, || {
                let said = first.process.log();
                said.contains("the stream may hold packs") || said.contains("references travel one by one")
            })?;
        }
        let publishers = vec![first, Service::start("publisher", publisher)?];
        let consumers =
            (0..2).map(|_| Service::start("consumer", consumer.clone())).collect::<Result<_, _>>()?;
        let writer = Writer::start(pipeline.source.url.clone(), 7);
        let mut harness =
            Self { publishers, consumers, writer: Some(writer), links, pipeline, cluster, kills: 0, long };
        harness.recover().await.context("before any fault")?;
        Ok(harness)
    }

    /// Commits a row of its own and waits until it is in the timeline; returns how long that took.
    pub(super) async fn recover(&mut self) -> anyhow::Result<Duration> {
        let healed = Instant::now();
        let marker = AuditRow::sample("fault.marker");
        wait::until_some("the source to take a row", RECOVERY_MAX, async || {
            Ok(self.pipeline.commit(std::slice::from_ref(&marker)).await.ok())
        })
        .await?;
        let mut connection: Option<PgConnection> = None;
        wait::until_some("a row to arrive after the fault", RECOVERY_MAX, async || {
            // The timeline's server may have been restarted meanwhile.
            let arrived = async {
                if connection.is_none() {
                    connection = Some(self.pipeline.timeline.connect().await?);
                }
                let query = sqlx::query_scalar("select exists (select from audit_actions where id = $1)");
                anyhow::Ok(query.bind(marker.id).fetch_one(connection.as_mut().expect("connected")).await?)
            };
            if let Ok(arrived) = arrived.await {
                Ok(bool::then_some(arrived, ()))
            } else {
                connection = None;
                Ok(None)
            }
        })
        .await
        .with_context(|| self.logs())?;
        Ok(healed.elapsed())
    }

    /// Waits until the application has got so many more transactions done: the fault lasts while it works.
    pub(super) async fn while_writing(&self, transactions: u64) -> anyhow::Result<()> {
        let writer = self.writer.as_ref().context("it writes")?;
        let until = writer.done() + transactions;
        wait::until_some("the application to continue", RECOVERY_MAX, async || {
            Ok((writer.done() >= until).then_some(()))
        })
        .await
    }

    /// Kills one of the publishers or consumers; `restart` follows.
    pub(super) fn kill(&mut self, service: fn(&mut Self) -> &mut Service) -> anyhow::Result<()> {
        self.kills += 1;
        service(self).process.kill()
    }

    /// The checker: everything that is committed is there once, and nobody was charged.
    pub(super) async fn finish(&mut self) -> anyhow::Result<(Verdict, usize)> {
        self.writer = None;
        let verdict = wait::until_some("everything to arrive", RECOVERY_MAX, async || {
            let verdict = self.pipeline.verdict().await?;
            Ok((verdict.missing == 0).then_some(verdict))
        })
        .await;
        // What did not arrive is for the report to show.
        let verdict = match verdict {
            Ok(_) if self.cluster.is_some() => self.pipeline.verdict().await?,
            Ok(_) => {
                self.pipeline.settled("timeline").await?;
                self.pipeline.verdict().await?
            }
            Err(_) => self.pipeline.verdict().await?,
        };
        let mut charged = self.pipeline.failures().await?;
        // Only in hand: of a cluster it is not waited until all is settled.
        charged.retain(|failure| failure["attempts"] != 0);
        if !charged.is_empty() {
            eprintln_all(&charged);
        }
        Ok((verdict, charged.len()))
    }

    fn logs(&self) -> String {
        let services = self.publishers.iter().chain(&self.consumers);
        let tails = services.map(|service| {
            let log = service.process.log();
            let lines: Vec<&str> = log.lines().collect();
            format!("{}:\n{}", service.binary, lines[lines.len().saturating_sub(5)..].join("\n"))
        });
        tails.collect::<Vec<_>>().join("\n")
    }
}

#[expect(clippy::print_stderr, reason = "what a test found")]
fn eprintln_all(failures: &[serde_json::Value]) {
    for failure in failures.iter().take(5) {
        eprintln!("charged: {failure}");
    }
}

impl Links {
    async fn start(pipeline: &Pipeline) -> anyhow::Result<Self> {
        let source = address(&pipeline.source.url)?;
        let timeline = address(&pipeline.timeline.url)?;
        let broker = address(&pipeline.nats_url)?;
        Ok(Self {
            publisher_source: Proxy::start(source).await?,
            publisher_broker: Proxy::start(broker).await?,
            consumer_source: Proxy::start(source).await?,
            consumer_timeline: Proxy::start(timeline).await?,
            consumer_broker: Proxy::start(broker).await?,
        })
    }

    fn publisher(&self, pipeline: &Pipeline) -> Vec<(&'static str, String)> {
        let proxies = [("SOURCE_DATABASE_URL", &self.publisher_source), ("NATS_URL", &self.publisher_broker)];
        led(pipeline.environment(Role::Publisher), &proxies)
    }

    fn consumer(&self, pipeline: &Pipeline) -> Vec<(&'static str, String)> {
        let proxies = [
            ("SOURCE_DATABASE_URL", &self.consumer_source),
            ("THREADLINE_DATABASE_URL", &self.consumer_timeline),
            ("NATS_URL", &self.consumer_broker),
        ];
        led(pipeline.environment(Role::Consumer), &proxies)
    }
}

/// An environment whose URLs lead through proxies.
fn led(environment: [(&'static str, String); 4], proxies: &[(&str, &Proxy)]) -> Vec<(&'static str, String)> {
    let lead = |(name, value): (&'static str, String)| match proxies.iter().find(|(led, _)| *led == name) {
        Some((_, proxy)) => (name, through(&value, proxy)),
        None => (name, value),
    };
    environment.into_iter().map(lead).collect()
}

/// The same URL through a proxy. A cluster is reached directly: its nodes are what fails.
fn through(url: &str, proxy: &Proxy) -> String {
    match address(url) {
        Ok(server) if !url.contains(',') => url.replace(&server.to_string(), &proxy.address().to_string()),
        _ => url.to_owned(),
    }
}
