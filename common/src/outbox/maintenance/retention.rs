//! The application deletes old audit rows by itself. How far everything has been delivered, so that it knows how far it
//! may go (`outbox.safe_before()`), and a warning when it is about to go too far. See `docs/retention.md`.

use std::time::Duration;

use metrics::gauge;

use crate::{
    outbox::reader::rounds::StreamPosition, process::telemetry::names, session::Session,
    settings::SourceSettings,
};

/// The generation of a reader's last row, 0 before its first. Read it before the floors that go to [`settle`].
///
/// # Errors
/// When the server is away.
pub async fn generation(connection: &mut Session, reader: &str) -> Result<i32, sqlx::Error> {
    let generation: Option<i32> =
        sqlx::query_scalar("select generation from outbox.rounds where reader = $1 order by n desc limit 1")
            .bind(reader)
            .fetch_optional(connection)
            .await?;
    Ok(generation.unwrap_or(0))
}

/// Stores how far every durable has settled what `reader` handed over: the newest mark at or below `floor`.
///
/// A mark that is known stays known when thinning takes its row, but not when the floor falls: a forwarder that is new,
/// or whose durable was made again, has not been given what the others have. A report about an earlier generation changes
/// nothing: before a rewind the same sequences meant other messages.
///
/// # Errors
/// When the server is away.
pub async fn settle(
    connection: &mut Session,
    reader: &str,
    generation: i32,
    floor: StreamPosition,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into outbox.settled as k (reader, generation, stream_created, stream_seq, s, ever)
         select $1, $2, $3, $4, m.s, m.s
         from (select (select r.s from outbox.rounds r
                       where r.reader = $1 and r.generation = $2 and r.stream_created = $3 and r.stream_seq <= $4
                       order by r.n desc limit 1) as s) m
         on conflict (reader) do update
         set generation = excluded.generation, stream_created = excluded.stream_created,
             stream_seq = excluded.stream_seq, at = clock_timestamp(),
             s = case when (k.generation, k.stream_created) = (excluded.generation, excluded.stream_created)
                       and k.stream_seq <= excluded.stream_seq
                      then coalesce(excluded.s, k.s) else excluded.s end,
             -- What was settled once stays settled, whatever is handed over again.
             ever = case when k.ever is null or pg_snapshot_xmax(excluded.s) >= pg_snapshot_xmax(k.ever)
                         then coalesce(excluded.s, k.ever) else k.ever end
         where k.generation <= excluded.generation",
    )
    .bind(reader)
    .bind(generation)
    .bind(floor.created)
    .bind(floor.sequence.cast_signed())
    .execute(connection)
    .await?;
    Ok(())
}

/// How many audit rows of undelivered events are older than `age`; none while no table is attached.
///
/// # Errors
/// When the server is away, or the table has no column `inserted_at`.
pub async fn undelivered_older_than(connection: &mut Session, age: Duration) -> Result<i64, sqlx::Error> {
    let older: Option<i64> = sqlx::query_scalar(
        "select older from outbox.undelivered_rows(clock_timestamp() - $1 * interval '1 second')",
    )
    .bind(age.as_secs_f64())
    .fetch_one(connection)
    .await?;
    Ok(older.unwrap_or(0))
}

/// A leader's eye on rows that the application is about to delete and that have not been delivered.
#[derive(Debug)]
pub struct AtRiskGauge {
    retention: Option<Duration>,
    margin: Duration,
}

impl AtRiskGauge {
    /// Looks at nothing unless `source.retention` is set.
    #[must_use]
    pub fn new(settings: &SourceSettings) -> Self {
        Self { retention: settings.retention, margin: settings.retention_margin }
    }

    /// Sets the gauge, and warns when it is above 0. A failure is logged and nothing else: it must not stand in the way of
    /// the rest of the upkeep.
    pub async fn update(&self, connection: &mut Session) {
        let Some(retention) = self.retention else {
            return;
        };
        match undelivered_older_than(connection, retention.saturating_sub(self.margin)).await {
            Ok(rows) => {
                set(rows);
                if rows > 0 {
                    tracing::warn!(
                        rows,
                        "rows that have not been delivered will be deleted within source.retention_margin: let the \
                         clean-up ask outbox.safe_before() (docs/retention.md), and see what holds delivery up"
                    );
                }
            }
            Err(error) => {
                let error = errors::database(&error);
                tracing::warn!(error, "could not count the undelivered rows that are about to be deleted");
            }
        }
    }
}

/// Who leads no longer sees nothing: the next leader counts.
impl Drop for AtRiskGauge {
    fn drop(&mut self) {
        if self.retention.is_some() {
            set(0);
        }
    }
}

fn set(rows: i64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    gauge!(names::RETENTION_AT_RISK).set(rows as f64);
}
