//! What a user would pick instead: published queues, and the two short ways to read an outbox table without a broker.
//!
//! All of them carry the same references over the same [`crate::forward`].

mod awa;
mod fenced;
mod graphile;
mod pgmq;
mod skip_locked;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;
use futures::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::forward::Route;

/// Most references that a batch holds, as many as the pipeline's own.
const BATCH: i32 = 1_000;

/// Pairs of connections, to the source and to the timeline, that the handlers of a job queue share. Nearly all of a job is
/// waiting for commits, which a server flushes together.
const CONNECTIONS: usize = 32;

/// Tasks that take batches from a queue: while one waits for its commits the other works.
const WORKERS: usize = 2;

/// The bounds of the pause of a reader that found nothing; it doubles from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Peer {
    /// One job per row, in a table whose rows are updated and deleted.
    GraphileWorker,
    /// One job per row, in partitions that are appended to and truncated.
    Awa,
    /// Messages that are read and deleted many at a time, in a table whose rows are updated and deleted.
    Pgmq,
    /// Our own reader of a log table, below the oldest transaction that still runs.
    Fenced,
    /// Our own workers on a queue table, `for update skip locked`.
    SkipLocked,
}

impl Peer {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::GraphileWorker, Self::Awa, Self::Pgmq, Self::Fenced, Self::SkipLocked];

    /// The published ones.
    pub(crate) const QUEUES: [Self; 3] = [Self::GraphileWorker, Self::Awa, Self::Pgmq];

    /// Its name and version.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GraphileWorker => "graphile_worker 0.14.1",
            Self::Awa => "awa 0.6.9",
            Self::Pgmq => "pgmq 0.33.0",
            Self::Fenced => "fenced reader",
            Self::SkipLocked => "skip locked",
        }
    }

    /// How the command line calls it.
    pub(crate) fn word(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it forwards several rows with one statement.
    pub(crate) fn batches(self) -> bool {
        matches!(self, Self::Pgmq | Self::Fenced | Self::SkipLocked)
    }

    /// What it does not guarantee, or costs, beside the pipeline.
    pub(crate) fn lacks(self) -> &'static str {
        match self {
            Self::GraphileWorker => graphile::LACKS,
            Self::Awa => awa::LACKS,
            Self::Pgmq => pgmq::LACKS,
            Self::Fenced => fenced::LACKS,
            Self::SkipLocked => skip_locked::LACKS,
        }
    }

    /// Makes its tables in the source database.
    pub(crate) async fn prepare(self, source_url: &str) -> anyhow::Result<()> {
        match self {
            Self::GraphileWorker => Box::pin(graphile::prepare(source_url)).await,
            Self::Awa => Box::pin(awa::prepare(source_url)).await,
            Self::Pgmq => Box::pin(pgmq::prepare(source_url)).await,
            Self::Fenced => execute(source_url, fenced::TABLES).await.map(drop),
            Self::SkipLocked => execute(source_url, skip_locked::TABLES).await.map(drop),
        }
        .with_context(|| format!("the tables of {}: may the role create them?", self.name()))
    }

    /// One job for every audit row there is, the fastest way it has. Returns how many.
    pub(crate) async fn enqueue_all(self, source_url: &str) -> anyhow::Result<u64> {
        match self {
            Self::GraphileWorker => Box::pin(graphile::enqueue_all(source_url)).await,
            Self::Awa => Box::pin(awa::enqueue_all(source_url)).await,
            Self::Pgmq => execute(source_url, pgmq::FILL).await,
            Self::Fenced => execute(source_url, fenced::FILL).await,
            Self::SkipLocked => execute(source_url, skip_locked::FILL).await,
        }
        .with_context(|| format!("filling the queue of {}: prepare it first", self.name()))
    }

    /// From now on a row's job is written in the row's own transaction.
    pub(crate) async fn attach(self, source_url: &str) -> anyhow::Result<()> {
        let enqueue = match self {
            Self::GraphileWorker => graphile::ENQUEUE,
            Self::Awa => awa::ENQUEUE,
            Self::Pgmq => pgmq::ENQUEUE,
            Self::Fenced => fenced::ENQUEUE,
            Self::SkipLocked => skip_locked::ENQUEUE,
        };
        let statements = format!(
            "create or replace function bench_enqueue() returns trigger language plpgsql as $body$
             begin
                 {enqueue};
                 return null;
             end $body$;
             create or replace trigger bench_enqueue after insert on public.audit_events
                 for each row execute function bench_enqueue()"
        );
        execute(source_url, &statements)
            .await
            .map(drop)
            .with_context(|| format!("the trigger of {}: prepare it first", self.name()))
    }

    /// Works until stopped.
    pub(crate) async fn work(
        self,
        source_url: &str,
        timeline_url: &str,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let route = Route::new(source_url, timeline_url)?;
        match self {
            Self::GraphileWorker => Box::pin(graphile::work(source_url, route, stop)).await,
            Self::Awa => Box::pin(awa::work(source_url, route, stop)).await,
            Self::Pgmq => Box::pin(pgmq::work(source_url, route, stop)).await,
            Self::Fenced => Box::pin(fenced::work(source_url, route, stop)).await,
            Self::SkipLocked => Box::pin(skip_locked::work(source_url, route, stop)).await,
        }
        .with_context(|| format!("{} stopped working", self.name()))
    }

    /// Dead rows in its tables now: what vacuum, and readers that tidy a page as they pass, have left of those it made.
    pub(crate) async fn dead_tuples(self, source_url: &str) -> anyhow::Result<u64> {
        let tables = match self {
            Self::GraphileWorker => "relnamespace = 'graphile_worker'::regnamespace",
            Self::Awa => "relnamespace = 'awa'::regnamespace",
            Self::Pgmq => "relnamespace = 'pgmq'::regnamespace",
            Self::Fenced | Self::SkipLocked => {
                "relnamespace = 'public'::regnamespace and relname ~ '^bench_'"
            }
        };
        let mut connection = connect(source_url).await?;
        connection
            .execute("create extension if not exists pgstattuple")
            .await
            .context("extension pgstattuple: install the server's contrib modules")?;
        let statement = format!(
            "select coalesce(sum((pgstattuple(oid::regclass)).dead_tuple_count), 0)::bigint
             from pg_class where relkind = 'r' and {tables}"
        );
        let dead: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut connection)
            .await
            .with_context(|| format!("counting the dead tuples of {}: prepare it first", self.name()))?;
        connection.close().await?;
        Ok(dead.unsigned_abs())
    }
}

async fn connect(source_url: &str) -> anyhow::Result<PgConnection> {
    PgConnection::connect(source_url).await.context("the source database of a peer: is the server up?")
}

/// Runs statements in one transaction; returns how many rows they wrote.
async fn execute(source_url: &str, statements: &str) -> anyhow::Result<u64> {
    let mut connection = connect(source_url).await?;
    let written = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await?.rows_affected();
    connection.close().await?;
    Ok(written)
}

/// Waits for all workers; the end of one, for whatever reason, is the end of all.
async fn together(
    workers: Vec<JoinHandle<anyhow::Result<()>>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let watched = workers.into_iter().map(async |worker| {
        let ended = worker.await.context("a worker panicked").flatten();
        stop.cancel();
        ended
    });
    join_all(watched).await.into_iter().collect()
}

/// The ids of all audit rows.
async fn audit_ids(source_url: &str) -> anyhow::Result<Vec<Uuid>> {
    let mut connection = connect(source_url).await?;
    let ids = sqlx::query_scalar("select id from public.audit_events order by inserted_at, id")
        .fetch_all(&mut connection)
        .await
        .context("reading audit_events")?;
    connection.close().await?;
    Ok(ids)
}

/// Waits a little longer after every round that found nothing, or for the end.
#[derive(Debug)]
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSES.0)
    }

    /// After a round that took so many rows.
    async fn after(&mut self, taken: usize, stop: &CancellationToken) {
        if taken > 0 {
            self.0 = PAUSES.0;
            return;
        }
        let _ = tokio::time::timeout(self.0, stop.cancelled()).await;
        self.0 = (self.0 * 2).min(PAUSES.1);
    }
}
