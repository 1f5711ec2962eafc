//! Leadership: one row on the database's clock, renewed by its holder, who measures the rest on a monotonic clock.
//!
//! The lease only avoids work done twice. Correctness rests on the fence of [`super::rounds`] and on idempotent
//! delivery, so two leaders for a moment are harmless. No advisory lock: a lease works through any pooler.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{database::Database, session::Session, time_arg::to_rfc3339};

/// The process that holds this lease now, described; `None` when none does.
///
/// # Errors
/// When the server is away.
pub async fn holder(connection: &mut Session, name: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("select holder from outbox.leases where name = $1 and expires_at > clock_timestamp()")
        .bind(name)
        .fetch_optional(connection)
        .await
}

/// This process for people, and a part that no other claim has: `consumer (process 7 on web-1, since …) 0193…`.
fn claim() -> String {
    let program = crate::process::program();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "an unknown host",
        host => host,
    };
    let (process, since) = (std::process::id(), to_rfc3339(whole_second(OffsetDateTime::now_utc())));
    format!("{program} (process {process} on {host}, since {since}) {}", Uuid::now_v7())
}

fn whole_second(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

/// A named lease and this process's claim on it.
#[derive(Debug)]
pub struct Lease {
    name: String,
    holder: String,
    length: Duration,
}

impl Lease {
    /// A claim under a fresh identity.
    #[must_use]
    pub fn new(name: impl Into<String>, length: Duration) -> Self {
        Self { name: name.into(), holder: claim(), length }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes or renews the lease; returns until when it surely holds, or `None` when another process has it.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn acquire(&self, connection: &mut Session) -> Result<Option<Instant>, sqlx::Error> {
        // Measured before the statement: the server's lease is at least as long as what we count on.
        let asked = Instant::now();
        let taken = sqlx::query(
            "insert into outbox.leases as l (name, holder, expires_at)
             values ($1, $2, clock_timestamp() + $3 * interval '1 second')
             on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where l.holder = excluded.holder
                or l.expires_at < clock_timestamp()
                -- Further away than a lease may be: written under a clock that was wrong.
                or l.expires_at > clock_timestamp() + 2 * $3 * interval '1 second'",
        )
        .bind(&self.name)
        .bind(&self.holder)
        .bind(self.length.as_secs_f64())
        .execute(connection)
        .await?
        .rows_affected();
        Ok((taken > 0).then(|| asked + self.length))
    }

    /// Gives the lease back, so that a standby need not wait for its end.
    ///
    /// # Errors
    /// When the server is away; the lease then ends by itself.
    pub async fn release(&self, connection: &mut Session) -> Result<(), sqlx::Error> {
        sqlx::query("delete from outbox.leases where name = $1 and holder = $2")
            .bind(&self.name)
            .bind(&self.holder)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Renews until `done`, on a connection of its own so that long work elsewhere cannot starve it. Returns when
    /// the lease is lost, or given back after `done`.
    pub async fn keep(&self, database: &Database, mut until: Instant, done: &CancellationToken) {
        let mut connection = None;
        let mut why = "this process was held up".to_owned();
        loop {
            let wait = (self.length / 3).min(until.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = done.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                tracing::warn!(lease = %self.name, why, "the lease ended before it could be renewed");
                return;
            }
            match tokio::time::timeout(rest, self.renew(database, &mut connection)).await {
                Ok(Ok(Some(renewed))) => until = renewed,
                Ok(Ok(None)) => {
                    tracing::warn!(lease = %self.name, "another process took the lease");
                    return;
                }
                Ok(Err(error)) => {
                    let error = errors::database(&error);
                    tracing::warn!(lease = %self.name, error, "could not renew the lease; trying again");
                    why = error;
                    connection = None;
                    tokio::time::sleep(Duration::from_millis(100).min(rest)).await;
                }
                Err(_) => {
                    "the server does not answer, or all connections of a pooler in between are taken: raise its \
                     default_pool_size"
                        .clone_into(&mut why);
                    connection = None;
                }
            }
        }
        if connection.is_none() {
            connection = database.connect().await.ok();
        }
        if let Some(mut connection) = connection
            && let Err(error) = self.release(&mut connection).await
        {
            let error = errors::database(&error);
            tracing::warn!(lease = %self.name, error, "could not give the lease back; it ends by itself");
        }
    }

    async fn renew(
        &self,
        database: &Database,
        connection: &mut Option<Session>,
    ) -> Result<Option<Instant>, sqlx::Error> {
        if connection.is_none() {
            *connection = Some(database.connect().await?);
        }
        self.acquire(connection.as_mut().expect("connected above")).await
    }
}
