//! How a test of one's own gets real servers: a private PostgreSQL with the audit table, its outbox and the timeline, and a private
//! NATS. Nothing needs to be running, and nothing stays behind, however the test ends.
//!
//! ```sh
//! make servers
//! cargo run --package sandbox --example test_with_sandbox
//! ```

#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Duration;

use sandbox::{
    audit::{self, AuditRow},
    fixture::{self, audit_events},
    wait,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Started once for all tests of a process; each test has a database of its own.
    let source = fixture::source_database().await?;
    println!("source {}, broker {}", source.url, fixture::shared().nats.url());

    let row = AuditRow::sample("example.row");
    let mut connection = source.connect().await?;
    audit::insert(&mut connection, &audit_events(), std::slice::from_ref(&row)).await?;

    // Wait for a condition with a deadline, never for time to pass.
    let captured: i64 = wait::until_some("the row to be captured", Duration::from_secs(10), async || {
        let count = sqlx::query_scalar("select count(*) from outbox.entries where audit_event_id = $1")
            .bind(row.id)
            .fetch_one(&mut connection)
            .await?;
        Ok((count > 0).then_some(count))
    })
    .await?;
    println!("captured {captured} row");
    Ok(())
}
