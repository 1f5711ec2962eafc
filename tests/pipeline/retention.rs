//! The application's clean-up of old rows, and a backlog.

use std::io::{Read as _, Write as _};

use end_to_end::{DEADLINE, Pipeline};
use sandbox::{audit::AuditRow, wait, work_dir::free_port};
use uuid::Uuid;

/// What `/metrics` says of a metric without labels.
fn metric(port: u16, name: &str) -> Option<f64> {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn at_risk(port: u16, rows: f64) -> anyhow::Result<()> {
    wait::until(&format!("{rows} rows at risk"), DEADLINE, || {
        metric(port, "audit_retention_at_risk_rows ").is_some_and(|at_risk| (at_risk - rows).abs() < 0.5)
    })
}

/// Rows that were inserted so many days ago.
fn old(days: i64, count: usize) -> Vec<AuditRow> {
    let row = || {
        let mut row = AuditRow::sample("test.old");
        row.inserted_at -= time::Duration::days(days);
        row
    };
    (0..count).map(|_| row()).collect()
}

/// The clean-up that `docs/retention.md` recommends; answers how many rows went.
async fn clean_up(pipeline: &Pipeline) -> anyhow::Result<u64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/retention.md");
    let text = std::fs::read_to_string(path)?;
    let statement = text.split("```sql\n").nth(2).and_then(|rest| rest.split("```").next());
    let statement = statement.expect("the second block of SQL").to_owned();
    let mut connection = pipeline.source.connect().await?;
    Ok(sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?.rows_affected())
}

/// Long past, within the margin of a day, and not yet in it.
fn rows() -> (Vec<AuditRow>, Vec<Uuid>) {
    let rows = [old(100, 20), old(89, 3), old(80, 7)].concat();
    let ids = rows.iter().map(|row| row.id).collect();
    (rows, ids)
}

const RETENTION: &str = "[source]\nretention = \"90days\"";

#[tokio::test]
async fn a_backlog_that_the_clean_up_would_reach_is_counted_and_kept_until_it_arrives() -> anyhow::Result<()>
{
    let port = free_port()?;
    let pipeline = Pipeline::with_settings(RETENTION).await?;
    let (rows, ids) = rows();
    pipeline.commit(&rows).await?;
    let listen = format!("publisher.listen=127.0.0.1:{port}");
    let often = "relay.maintenance_interval=200ms";
    let publisher = pipeline.publisher_with(&["--set", &listen, "--set", often])?;
    at_risk(port, 23.0)?;
    pipeline.references(30).await?;
    at_risk(port, 23.0)?;
    wait::until("a warning", DEADLINE, || {
        publisher.log().contains("have not been delivered will be deleted")
    })?;
    assert_eq!(clean_up(&pipeline).await?, 0, "published, and nobody has it");

    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    delivered(&pipeline, port).await
}

#[tokio::test]
async fn without_a_broker_the_consumer_itself_counts_what_the_clean_up_would_reach() -> anyhow::Result<()> {
    let port = free_port()?;
    let mut pipeline = Pipeline::with_settings(RETENTION).await?;
    pipeline.nats_url = String::new();
    let mut target = pipeline.timeline.connect().await?;
    sqlx::raw_sql("begin; lock table audit_actions").execute(&mut target).await?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let often = "relay.maintenance_interval=200ms";
    let _consumer = pipeline.consumer_with(&["--set", &listen, "--set", often])?;
    let (rows, ids) = rows();
    pipeline.commit(&rows).await?;
    at_risk(port, 23.0)?;
    assert_eq!(clean_up(&pipeline).await?, 0, "its target does not take it");

    sqlx::raw_sql("rollback").execute(&mut target).await?;
    pipeline.arrive(&ids).await?;
    delivered(&pipeline, port).await
}

/// Nothing is at risk any more, and the clean-up deletes what is old and nothing else.
async fn delivered(pipeline: &Pipeline, port: u16) -> anyhow::Result<()> {
    at_risk(port, 0.0)?;
    let mut source = pipeline.source.connect().await?;
    wait::until_some("the delivery to be known", DEADLINE, async || {
        let safe: bool = sqlx::query_scalar("select outbox.safe_before() > now() - interval '1 day'")
            .fetch_one(&mut source)
            .await?;
        Ok(safe.then_some(()))
    })
    .await?;
    assert_eq!(clean_up(pipeline).await?, 20, "those older than 90 days");
    pipeline.charges_nobody().await?;
    Ok(())
}
