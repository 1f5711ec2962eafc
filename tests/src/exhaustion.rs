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
    // It connects again as fast as it can; sooner or later all is taken before it comes back. One that is just being let in has
    // its place already and is not shown yet: only where every place is accounted for has the pipeline none.
    let statement = "select count(*) filter (where application_name like 'audit-%') = 0
                        and count(*) >= current_setting('max_connections')::bigint
                     from pg_stat_activity where backend_type = 'client backend'";
    wait::until_some("the pipeline to have no connection", deadline, async || {
        watch
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'audit-%'",
            )
            .await?;
        while let Ok(connection) = PgConnection::connect(superuser).await {
            taken.push(connection);
        }
        let is_exhausted: bool = sqlx::query_scalar(statement).fetch_one(&mut watch).await?;
        Ok(is_exhausted.then_some(()))
    })
    .await?;
    taken.push(watch);
    Ok(taken)
}
