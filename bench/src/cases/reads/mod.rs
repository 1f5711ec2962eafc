//! What reads cost: pages of the timeline, questions about rows and actors, the live tail, beside what the Elixir library asks its own
//! tables for; and what columns and indexes that are there for them cost whoever writes.

pub(super) mod data;
mod library;
mod rows;
mod tail;
mod timeline;
pub(super) mod timing;
pub(super) mod writes;

use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgPoolOptions};
use threadline::{
    StorageSchema,
    query::{Reader, Scope},
};

use super::Bench;
use data::Rows;

/// What the names of its cases begin with.
pub(crate) const CASES: &str = "reads/";
/// Of the first page, behind it the filter.
pub(crate) const FIRST: &str = "reads/first page: ";
/// Of a page far behind it.
pub(crate) const DEEP: &str = "reads/deep page: ";
/// Of everything else that is asked.
pub(crate) const QUESTION: &str = "reads/question: ";
/// Of the live tail.
pub(crate) const TAIL: &str = "reads/live tail";
/// Of what writers pay.
pub(crate) const WRITES: &str = "reads/writes: ";

/// Our reads.
pub(crate) const OURS: &str = "threadline";
/// The library's.
pub(crate) const LIBRARY: &str = "library";
/// Writes without what is there for reading.
pub(crate) const BEFORE: &str = "before";
/// Writes with it.
pub(crate) const AFTER: &str = "after";

/// Whoever reads, one connection each.
struct Served {
    pool: PgPool,
    reader: Reader,
    library: PgConnection,
}

/// Everything, on a server that is warm.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    let rows = Rows::with(bench.plan.timeline);
    if repeat == 0 {
        data::prepare(bench.environment, rows).await?;
    }
    let ours = bench.environment.sandbox.postgres.url(data::OURS);
    let library = PgConnection::connect(&data::library(bench.environment)).await?;
    let (pool, reader) = reader(&ours).await?;
    let mut served = Served { pool, reader, library };
    timeline::take(bench, &mut served, rows, repeat).await?;
    rows::take(bench, &mut served, rows, repeat).await?;
    served.library.close().await?;
    // Nobody may be in what is copied.
    served.pool.close().await;
    writers(bench, repeat).await
}

/// In copies: each repeat finds the same.
async fn writers(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    let before = bench.environment.source_like(data::BEFORE).await?;
    let after = bench.environment.source_like(data::OURS).await?;
    for url in [&before, &after] {
        writes::capture(url).await?;
    }
    writes::take(bench, &before, &after, repeat).await?;
    tail::take(bench, &after, repeat).await?;
    bench.environment.drop(&[&before, &after]).await
}

/// Through one connection, which is not asked before each read whether it is there still.
async fn reader(url: &str) -> anyhow::Result<(PgPool, Reader)> {
    let pool = PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect(url).await?;
    let reader = Reader::new(pool.clone(), StorageSchema::default(), Scope::everything());
    Ok((pool, reader))
}
