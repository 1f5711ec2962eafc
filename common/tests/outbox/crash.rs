//! The server itself crashes. These tests break their server, so each has one of its own.

use sandbox::{Options, Sandbox, audit, fixture::audit_events, postgres::Stop};
use sqlx::{Connection as _, Executor as _, PgConnection};

use common::{outbox, session::Session};

use crate::reader::{committed, insert, read, read_all, sorted};

async fn prepared_source(sandbox: &Sandbox) -> anyhow::Result<String> {
    let url = sandbox.postgres.create_database("source", None).await?;
    let mut connection = Session::from(PgConnection::connect(&url).await?);
    audit::install(connection.direct()?, "public").await?;
    outbox::migrate(&mut connection).await?;
    outbox::capture::attach(&mut connection, &audit_events()).await?;
    Ok(url)
}

/// Ids of transactions that were never flushed are handed out again after a crash. A position kept in memory that had
/// seen them would skip the rows that now carry them; the stored round cannot have seen them.
#[tokio::test]
async fn reused_transaction_ids_after_a_crash_lose_nothing() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(&Options::default())?;
    let url = prepared_source(&sandbox).await?;
    let mut read_before = Vec::new();
    for attempt in 0..5 {
        let mut connection = Session::from(PgConnection::connect(&url).await?);
        insert(&mut connection, 3).await?;
        read_before.extend(read_all(&mut connection, 10).await?);
        // Aborted transactions use up ids without flushing anything.
        for _ in 0..20 {
            connection.execute("begin").await?;
            insert(&mut connection, 1).await?;
            connection.execute("rollback").await?;
        }
        // A reader that looks now and crashes with the server.
        read_before.extend(read(&mut connection, 1, attempt).await?);
        drop(connection);
        sandbox.postgres.stop(if attempt % 2 == 0 { Stop::Immediate } else { Stop::Kill })?;
        sandbox.postgres.restart()?;
        let mut connection = Session::from(PgConnection::connect(&url).await?);
        insert(&mut connection, 5).await?;
    }
    let mut connection = Session::from(PgConnection::connect(&url).await?);
    read_before.extend(read_all(&mut connection, 10).await?);
    let mut distinct = sorted(read_before);
    distinct.dedup();
    assert_eq!(distinct, committed(&mut connection).await?);
    Ok(())
}

#[tokio::test]
async fn a_transaction_prepared_before_a_crash_and_committed_after_it_is_read() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(&Options::default())?;
    let url = prepared_source(&sandbox).await?;
    let mut connection = Session::from(PgConnection::connect(&url).await?);
    connection.execute("begin").await?;
    let held = insert(&mut connection, 4).await?;
    connection.execute("prepare transaction 'held'").await?;
    let others = insert(&mut connection, 2).await?;
    assert_eq!(sorted(read_all(&mut connection, 10).await?), sorted(others));
    drop(connection);
    sandbox.postgres.stop(Stop::Kill)?;
    sandbox.postgres.restart()?;
    let mut connection = Session::from(PgConnection::connect(&url).await?);
    assert!(read_all(&mut connection, 10).await?.is_empty());
    connection.execute("commit prepared 'held'").await?;
    assert_eq!(sorted(read_all(&mut connection, 10).await?), sorted(held));
    Ok(())
}
