//! Private PostgreSQL and NATS servers from installed binaries, real processes of the pipeline, and a workload.
//!
//! The servers can be broken as a fault suite needs it: stopped, killed, disconnected or slowed down by a
//! [`proxy`], failed over to a [standby](postgres::Postgres::standby), robbed of
//! [messages](nats::Nats::lose_messages_since), or run as a [cluster](nats::NatsCluster); processes are
//! [started](process::Process::start_with) under another clock.
//!
//! Used by the tests and the demo; never in production. A [`Sandbox`] lives in a folder of its own, on
//! free ports of the loopback interface, and takes everything with it when it ends, however it ends.

pub mod audit;
pub mod chromedriver;
pub mod demo;
pub mod fixture;
pub mod golden;
pub mod heard;
mod history;
pub mod load;
pub mod nats;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rights;
mod tour;
pub mod verdict;
pub mod wait;
pub mod work_dir;
pub mod workload;

use anyhow::Context as _;

use crate::{nats::Nats, postgres::Postgres, work_dir::WorkDir};

/// How to start a sandbox.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Flush to disk, as production does. Off it survives a killed server all the same, not a power cut.
    pub durable: bool,
    /// Use the servers that `SOURCE_DATABASE_URL`, `THREADLINE_DATABASE_URL` and `NATS_URL` name, where set.
    pub honour_urls: bool,
    /// Lines of its own in `postgresql.conf`, such as `max_connections = 20`.
    pub postgres: &'static str,
    /// A configuration of its own for nats-server. Without one everybody may do everything.
    pub nats: nats::Configuration,
}

/// A PostgreSQL and a NATS server, private unless given.
#[derive(Debug)]
pub struct Sandbox {
    // In the order in which they must stop; the folder goes last.
    /// NATS with JetStream.
    pub nats: Nats,
    /// PostgreSQL for both databases, source and timeline.
    pub postgres: Postgres,
    /// The server of the timeline's database, when another one was given.
    pub timeline: Option<Postgres>,
    /// The folder.
    pub work_dir: WorkDir,
}

impl Sandbox {
    /// Starts what is not given. Blocks for a second or two.
    ///
    /// # Errors
    /// When a server's binary is missing (the message names the package) or does not start (it names the log).
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let work_dir = WorkDir::create()?;
        let given = |name: &str| options.honour_urls.then(|| std::env::var(name).ok()).flatten();
        let postgres = match given("SOURCE_DATABASE_URL") {
            Some(url) => Postgres::given(&url).context("SOURCE_DATABASE_URL")?,
            None => Postgres::start_with(&work_dir, options.durable, options.postgres)?,
        };
        let timeline = given("THREADLINE_DATABASE_URL")
            .map(|url| Postgres::given(&url).context("THREADLINE_DATABASE_URL"));
        let nats = match given("NATS_URL") {
            Some(url) => Nats::given(&url),
            None => Nats::start_with(&work_dir, &options.nats)?,
        };
        Ok(Self { nats, postgres, timeline: timeline.transpose()?, work_dir })
    }

    /// The server of the timeline's database.
    #[must_use]
    pub fn timeline(&self) -> &Postgres {
        self.timeline.as_ref().unwrap_or(&self.postgres)
    }
}
