//! What it costs an application that its changes of rows are recorded: in Threadline's ways, in that of the Elixir library, and in
//! that of another project, beside a table that is not captured.

mod postgresql_audit;
mod variant;

use anyhow::ensure;
use futures::future::try_join_all;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::Bench;
use crate::{meter::Meter, results::Sample};
use variant::Variant;

/// A project for `SQLAlchemy`, and which version of it.
pub(crate) const POSTGRESQL_AUDIT: &str = "PostgreSQL-Audit 0.18.0";

/// Connections that write single rows.
const WRITERS: u64 = 8;

/// Rows of one statement, where many are written at once.
const BULK: u64 = 10_000;

/// The first id of these.
const BULK_FROM: u64 = 10_000_000;

/// The database that variants are copied from.
const SEED: &str = "seed_of_changes";

/// What is done to a row.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// Of all rows with ids from $1 to $2.
    fn statement(self) -> &'static str {
        match self {
            Self::Insert => {
                "insert into accounts select g, 'user' || g || '@example.test', 'Name ' || g, 'active', g * 1.25,
                 'a note of some words about this row', clock_timestamp() from generate_series($1, $2) g"
            }
            Self::Update => {
                "update accounts set status = 'closed', amount = amount + 1 where id between $1 and $2"
            }
            Self::Delete => "delete from accounts where id between $1 and $2",
        }
    }

    async fn run(self, connection: &mut PgConnection, from: u64, to: u64) -> Result<(), sqlx::Error> {
        sqlx::query(self.statement())
            .bind(from.cast_signed())
            .bind(to.cast_signed())
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// A variant with its database.
struct Prepared {
    variant: Variant,
    url: String,
}

/// Every operation, for single rows and for many, in all variants next to each other.
pub(super) async fn take(bench: &mut Bench<'_>, repeat: u32) -> anyhow::Result<()> {
    if repeat == 0 {
        variant::seed(bench.environment, SEED, bench.plan.history).await?;
    }
    let mut all = Vec::new();
    for variant in Variant::all() {
        let url = bench.environment.source_like(SEED).await?;
        variant.set_up(&url, bench.plan.history).await?;
        all.push(Prepared { variant, url });
    }
    for operation in Operation::ALL {
        for prepared in &all {
            let sample = single(bench, prepared, operation, repeat).await?;
            bench.keep(sample).await?;
        }
    }
    for operation in Operation::ALL {
        for prepared in &all {
            let sample = bulk(bench, prepared, operation, repeat).await?;
            bench.keep(sample).await?;
        }
    }
    let urls: Vec<&str> = all.iter().map(|prepared| prepared.url.as_str()).collect();
    bench.environment.drop(&urls).await
}

/// One row a statement and transaction, by all writers.
async fn single(
    bench: &Bench<'_>,
    prepared: &Prepared,
    operation: Operation,
    repeat: u32,
) -> anyhow::Result<Sample> {
    let each = bench.plan.changes / WRITERS;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let mut connection = PgConnection::connect(&prepared.url).await?;
        // Plans and caches of the session are there before anything is measured.
        warm_up(&mut connection, BULK_FROM * 2 + number).await?;
        writers.push((connection, 1 + number * each));
    }
    let case = format!("changes/{} single", operation.name());
    measure(bench, prepared, &case, repeat, each * WRITERS, async || {
        let writing = writers.into_iter().map(|(mut connection, from)| async move {
            for id in from..from + each {
                operation.run(&mut connection, id, id).await?;
            }
            connection.close().await
        });
        try_join_all(writing).await.map(drop)
    })
    .await
}

/// One statement.
async fn bulk(
    bench: &Bench<'_>,
    prepared: &Prepared,
    operation: Operation,
    repeat: u32,
) -> anyhow::Result<Sample> {
    // A session that has done nothing yet: one that has updated single rows has a plan of PostgreSQL-Audit's that compares each old row
    // with each new one, which takes minutes.
    let mut connection = PgConnection::connect(&prepared.url).await?;
    let case = format!("changes/{} 10,000 rows", operation.name());
    measure(bench, prepared, &case, repeat, BULK, async || {
        operation.run(&mut connection, BULK_FROM, BULK_FROM + BULK - 1).await?;
        connection.close().await
    })
    .await
}

/// Each operation on a row of its own.
async fn warm_up(connection: &mut PgConnection, id: u64) -> Result<(), sqlx::Error> {
    for _ in 0..6 {
        for operation in Operation::ALL {
            operation.run(connection, id, id).await?;
        }
    }
    Ok(())
}

async fn measure(
    bench: &Bench<'_>,
    prepared: &Prepared,
    case: &str,
    repeat: u32,
    rows: u64,
    write: impl AsyncFnOnce() -> Result<(), sqlx::Error>,
) -> anyhow::Result<Sample> {
    let mut connection = PgConnection::connect(&prepared.url).await?;
    let before = prepared.variant.recorded(&mut connection).await?;
    // The first change of a page after it puts the page into the log.
    connection.execute("checkpoint").await?;
    let meter = Meter::begin(bench.environment).await?;
    write().await?;
    let mut sample = meter.end(case, prepared.variant.name(), repeat).await?;
    sample.rows = rows;
    let recorded = prepared.variant.recorded(&mut connection).await? - before;
    connection.close().await?;
    let expected = if prepared.variant.is_bare() { 0 } else { rows };
    ensure!(recorded == expected, "{case}, {}: {recorded} of {expected} changes", prepared.variant.name());
    Ok(sample)
}
