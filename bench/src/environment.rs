//! Private servers, and the databases and streams that each sample gets of its own.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{self, stream::Stream};
use common::reference::Body;
use sandbox::{Options, Sandbox, fixture, process::Process, wait};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::StorageSchema;
use uuid::Uuid;

use crate::{build::Build, rows};

/// The stream of the default settings.
pub(crate) const STREAM: &str = "SIGRA_AUDIT";

/// The durable of the default forwarder.
const DURABLE: &str = "forward-timeline";

/// How long a drain may take before the sample is given up.
const DRAIN_DEADLINE: Duration = Duration::from_secs(900);

/// How often the broker is asked whether a drain is over. Costs it nothing to speak of.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Servers that all samples share, one after the other.
pub(crate) struct Environment {
    /// PostgreSQL and NATS, flushing to disk.
    pub(crate) sandbox: Sandbox,
    context: jetstream::Context,
    count: std::cell::Cell<u32>,
}

/// Databases of one sample.
#[derive(Debug, Clone)]
pub(crate) struct Databases {
    /// Where audit rows are written.
    pub(crate) source: String,
    /// Where actions arrive.
    pub(crate) timeline: String,
}

impl Environment {
    /// Starts the servers; `statements` makes PostgreSQL count what each statement takes, which costs a little.
    pub(crate) async fn set_up(statements: bool) -> anyhow::Result<Self> {
        let postgres = if statements {
            "shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.track_planning = on"
        } else {
            ""
        };
        let sandbox = Sandbox::start(&Options { durable: true, postgres, ..Options::default() })?;
        let settings = "[publisher]\nlisten = \"127.0.0.1:0\"\n[consumer]\nlisten = \"127.0.0.1:0\"\n";
        std::fs::write(sandbox.work_dir.path().join("audit.toml"), settings)?;
        fixture::source_database_on(&sandbox.postgres, "empty_source").await?;
        fixture::timeline_database_on(&sandbox.postgres, "empty_timeline").await?;
        let context = jetstream::new(async_nats::connect(sandbox.nats.url()).await?);
        Ok(Self { sandbox, context, count: std::cell::Cell::new(0) })
    }

    /// Fills a database that others are copied from: rows that were captured and never relayed.
    pub(crate) async fn seed(&self, build: &Build, name: &str, count: u64) -> anyhow::Result<()> {
        let empty = build.template("empty_source");
        let source = self.sandbox.postgres.create_database(&build.template(name), Some(&empty)).await?;
        rows::fill(&source, count).await?;
        let mut connection = PgConnection::connect(&source).await?;
        // What a table that lives has had; autovacuum would come in the middle of a sample.
        connection.execute("vacuum (freeze, analyze)").await?;
        connection.close().await?;
        Ok(())
    }

    /// A copy of a source database.
    pub(crate) async fn source_like(&self, template: &str) -> anyhow::Result<String> {
        self.copy(template, "source").await
    }

    /// An empty timeline.
    pub(crate) async fn timeline(&self, build: &Build) -> anyhow::Result<String> {
        self.copy(&build.template("empty_timeline"), "timeline").await
    }

    /// Both.
    pub(crate) async fn databases(&self, build: &Build, template: &str) -> anyhow::Result<Databases> {
        let source = self.source_like(&build.template(template)).await?;
        Ok(Databases { source, timeline: self.timeline(build).await? })
    }

    async fn copy(&self, template: &str, kind: &str) -> anyhow::Result<String> {
        let number = self.count.replace(self.count.get() + 1);
        let name = format!("{kind}_{number}");
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
        // Copied as files and not through the log: a gigabyte of it would be flushed during the sample.
        let create = format!("create database {name} template {template} strategy file_copy");
        connection.execute(AssertSqlSafe(create)).await.context("create database")?;
        connection.execute("checkpoint").await?;
        connection.close().await?;
        Ok(self.sandbox.postgres.url(&name))
    }

    /// Removes the databases of a sample.
    pub(crate) async fn drop(&self, urls: &[&str]) -> anyhow::Result<()> {
        for url in urls {
            let name = url.rsplit('/').next().unwrap_or_default();
            self.sandbox.postgres.drop_database(name).await?;
        }
        Ok(())
    }

    /// What statements have taken since the last call, the longest first; nothing unless they are counted.
    pub(crate) async fn statements(&self) -> anyhow::Result<Vec<String>> {
        let mut connection = PgConnection::connect(&self.sandbox.postgres.url("postgres")).await?;
        let counted: bool = sqlx::query_scalar(
            "select current_setting('shared_preload_libraries') like '%pg_stat_statements%'",
        )
        .fetch_one(&mut connection)
        .await?;
        if !counted {
            return Ok(Vec::new());
        }
        connection.execute("create extension if not exists pg_stat_statements").await?;
        let longest = sqlx::query_scalar(
            "select format('%s ms, and %s of planning, in %s calls, %s rows: %s',
                           round(total_exec_time), round(total_plan_time), calls, rows,
                           left(regexp_replace(query, '\\s+', ' ', 'g'), 100))
             from pg_stat_statements order by total_exec_time + total_plan_time desc limit 12",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.execute("select pg_stat_statements_reset()").await?;
        connection.close().await?;
        Ok(longest)
    }

    /// Where processes find everything.
    pub(crate) fn environment<'a>(&'a self, databases: &'a Databases) -> [(&'static str, &'a str); 3] {
        [
            ("SOURCE_DATABASE_URL", &databases.source),
            ("THREADLINE_DATABASE_URL", &databases.timeline),
            ("NATS_URL", self.sandbox.nats.url()),
        ]
    }

    /// Starts `binary run` with the default settings.
    pub(crate) fn start(
        &self,
        build: &Build,
        name: &str,
        binary: &str,
        databases: &Databases,
    ) -> anyhow::Result<Process> {
        let program = build.program(binary);
        Process::start(&self.sandbox.work_dir, name, &program, &["run"], &self.environment(databases))
    }

    /// Starts the broker again: what it held of earlier samples in memory is gone, and its peak is that of the next one.
    pub(crate) async fn restart_broker(&mut self) -> anyhow::Result<()> {
        self.sandbox.nats.restart()?;
        self.context = jetstream::new(async_nats::connect(self.sandbox.nats.url()).await?);
        Ok(())
    }

    /// Removes a stream, if it is there.
    pub(crate) async fn delete_stream(&self, name: &str) {
        let _ = self.context.delete_stream(name).await;
    }

    /// Removes the durable, so that the next consumer begins at the start of the stream.
    pub(crate) async fn delete_durable(&self) -> anyhow::Result<()> {
        self.context.get_stream(STREAM).await?.delete_consumer(DURABLE).await?;
        Ok(())
    }

    /// The publisher's stream, once it is there.
    pub(crate) async fn stream(&self) -> anyhow::Result<Stream> {
        wait::until_some("the publisher to make its stream", DRAIN_DEADLINE, async || {
            Ok(self.context.get_stream(STREAM).await.ok())
        })
        .await
    }

    /// Waits until the relay has handed over everything; returns in how many seconds.
    pub(crate) async fn published(&self, databases: &Databases) -> anyhow::Result<f64> {
        let last = LastEntry::of(&databases.source).await?;
        let stream = self.stream().await?;
        drained("the relay to drain the log", async || {
            let messages = stream.get_info().await?.state.last_sequence;
            Ok(Drained { count: messages, is_all: last.is_in(&stream, messages).await? })
        })
        .await
    }

    /// Waits until everything that the log holds has been settled; returns in how many seconds.
    pub(crate) async fn settled(&self, databases: &Databases) -> anyhow::Result<f64> {
        let last = LastEntry::of(&databases.source).await?;
        let stream = self.stream().await?;
        drained("the consumers to drain the stream", async || {
            let settled =
                stream.consumer_info(DURABLE).await.map_or(0, |info| info.ack_floor.stream_sequence);
            Ok(Drained { count: settled, is_all: last.is_in(&stream, settled).await? })
        })
        .await
    }

    /// Waits until the timeline has so many rows, all there are; returns in how many seconds.
    pub(crate) async fn arrived(&self, databases: &Databases, rows: u64) -> anyhow::Result<f64> {
        let mut source = PgConnection::connect(&databases.source).await?;
        let last: Uuid = sqlx::query_scalar(
            "select id from public.audit_events order by inserted_at desc, id desc limit 1",
        )
        .fetch_one(&mut source)
        .await?;
        source.close().await?;
        let mut timeline = PgConnection::connect(&databases.timeline).await?;
        // All rows are counted only once the last is there: counting them each time would slow what is measured.
        let seconds = drained("a peer to drain its queue", async || {
            let count: i64 = sqlx::query_scalar(
                "select case when exists (select from audit_actions where id = $1)
                             then (select count(*) from audit_actions)
                             else (select count(*) from (select from audit_actions limit 1) any_row) end",
            )
            .bind(last)
            .fetch_one(&mut timeline)
            .await?;
            let count = count.cast_unsigned();
            Ok(Drained { count, is_all: count >= rows })
        })
        .await?;
        timeline.close().await?;
        Ok(seconds)
    }

    /// Waits until the relay has begun.
    pub(crate) async fn publishing(&self) -> anyhow::Result<()> {
        let stream = self.stream().await?;
        wait::until_some("the relay to begin", DRAIN_DEADLINE, async || {
            Ok((stream.get_info().await?.state.last_sequence > 0).then_some(()))
        })
        .await
    }
}

/// The event of the log's last entry: what a message names that is the last one of a drain.
struct LastEntry(Uuid);

impl LastEntry {
    async fn of(source: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(source).await?;
        let last = "select audit_event_id from outbox.entries order by xid desc, seq desc limit 1";
        let event = sqlx::query_scalar(last).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(Self(event))
    }

    /// Whether the message at this sequence names it, alone or in a pack.
    async fn is_in(&self, stream: &Stream, sequence: u64) -> anyhow::Result<bool> {
        if sequence == 0 {
            return Ok(false);
        }
        let message = stream.get_raw_message(sequence).await?;
        Ok(Body::read(&message.payload)?.events().any(|event| event == self.0))
    }
}

/// How far a drain has come.
struct Drained {
    count: u64,
    is_all: bool,
}

/// Counts from the first look at which something had moved: how long a process takes to come up is another matter. What
/// had moved by then is added in proportion.
async fn drained(what: &str, mut look: impl AsyncFnMut() -> anyhow::Result<Drained>) -> anyhow::Result<f64> {
    let called = Instant::now();
    let mut begun: Option<(Instant, u64)> = None;
    loop {
        let Drained { count, is_all } = look().await?;
        match begun {
            None if count > 0 => begun = Some((Instant::now(), count)),
            Some((at, before)) if is_all => {
                #[expect(clippy::cast_precision_loss, reason = "fewer rows than 2^52")]
                let share = (count - before.min(count - 1)) as f64 / count as f64;
                return Ok(at.elapsed().as_secs_f64() / share);
            }
            _ => {}
        }
        ensure!(called.elapsed() < DRAIN_DEADLINE, "waited {DRAIN_DEADLINE:?} in vain for {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Adds Threadline's tables to a source database, for what is measured within one.
pub(crate) async fn add_timeline(url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    threadline::install(&mut connection, &StorageSchema::default()).await?;
    connection.close().await?;
    Ok(())
}
