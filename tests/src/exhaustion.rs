//! A PostgreSQL server without a connection left for the pipeline.

use std::time::Duration;

use sandbox::wait;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// What a client is told then. The last connections are reserved for superusers, and that has words of its own.
const REFUSALS: [&str; 2] = ["too many clients", "connection slots are reserved"];

/// How often a log quotes such a refusal.
#[must_use]
pub fn refusals(log: &str) -> usize {
    REFUSALS.iter().map(|words| log.matches(words).count()).sum()
}

/// Takes every connection of a server and ends those of the pipeline, until it has none. They are given back when the result
/// is dropped.
///
/// # Errors
/// When the pipeline keeps one for longer than `deadline`.
pub async fn exhaust(superuser: &str, deadline: Duration) -> anyhow::Result<Vec<PgConnection>> {
    let mut watch = PgConnection::connect(superuser).await?;
    let mut taken = Vec::new();
    // It connects again as fast as it can; sooner or later all is taken before it comes back. One that is just being let in is
    // not shown yet, so that it is found the second time.
    let mut rounds_without = 0;
    wait::until_some("the pipeline to have no connection", deadline, async || {
        watch
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'audit-%'",
            )
            .await?;
        while let Ok(connection) = PgConnection::connect(superuser).await {
            taken.push(connection);
        }
        let left: i64 =
            sqlx::query_scalar("select count(*) from pg_stat_activity where application_name like 'audit-%'")
                .fetch_one(&mut watch)
                .await?;
        rounds_without = if left == 0 { rounds_without + 1 } else { 0 };
        Ok((rounds_without == 2).then_some(()))
    })
    .await?;
    taken.push(watch);
    Ok(taken)
}
