//! Filling the second table. Rows are copied into it in the order of their ids: an interrupted fill goes on behind the last one.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

use super::Shadow;
use crate::{
    AuditAction,
    action::{insert_batch, is_kept_out},
    schema::ACTION_COLUMNS,
};

impl Shadow {
    /// Lets a connection that only fills commit without waiting for the disk: what a crash of the server takes is filled again. Whether
    /// everything is on the disk is settled by [`Shadow::finish_filling`], on another connection.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn begin_filling(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        connection.execute("set synchronous_commit = off").await?;
        Ok(())
    }

    /// The last id of the second table; `None` when it is empty.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn last_id(&self, connection: &mut PgConnection) -> Result<Option<Uuid>, sqlx::Error> {
        let statement = format!("select id from {} order by id desc limit 1", self.table());
        sqlx::query_scalar(AssertSqlSafe(statement)).fetch_optional(connection).await
    }

    /// Copies actions into the second table, of which none is expected to be there. Returns how many were written: one that is there, or
    /// that a rule of the host's keeps out, is not.
    ///
    /// # Errors
    /// What the database says otherwise; then nothing of the batch was written.
    pub async fn append(
        &self,
        connection: &mut PgConnection,
        actions: &[AuditAction],
    ) -> Result<u64, sqlx::Error> {
        match self.copy_in(connection, actions).await {
            Err(error) if is_kept_out(&error) => {
                Ok(insert_batch(connection, &self.table(), actions).await?.written.len() as u64)
            }
            result => result,
        }
    }

    async fn copy_in(
        &self,
        connection: &mut PgConnection,
        actions: &[AuditAction],
    ) -> Result<u64, sqlx::Error> {
        let statement = format!("copy {} ({}) from stdin", self.table(), ACTION_COLUMNS.join(", "));
        let mut copy = connection.copy_in_raw(&statement).await?;
        copy.send(lines(actions).into_bytes()).await?;
        copy.finish().await
    }
}

/// In the text format of `copy`, which every type of column reads.
fn lines(actions: &[AuditAction]) -> String {
    let mut lines = String::with_capacity(actions.len() * 256);
    for action in actions {
        push_line(&mut lines, action);
    }
    lines
}

fn push_line(lines: &mut String, action: &AuditAction) {
    let texts = [&action.verb, &action.category, &action.reason, &action.comment];
    let ids = [&action.correlation_id, &action.request_id, &action.job_id];
    // In the order of the columns.
    push(lines, &action.id.to_string());
    for value in [action.name.as_str(), &action.actor.to_json_text(), action.status.as_str()] {
        lines.push('\t');
        push(lines, value);
    }
    for value in texts.into_iter().chain(ids) {
        lines.push('\t');
        match value {
            Some(value) => push(lines, value),
            None => lines.push_str("\\N"),
        }
    }
    lines.push('\t');
    push_time(lines, action.inserted_at);
    lines.push('\n');
}

fn push(lines: &mut String, value: &str) {
    if !value.contains(['\\', '\n', '\r', '\t']) {
        return lines.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => lines.push_str("\\\\"),
            '\n' => lines.push_str("\\n"),
            '\r' => lines.push_str("\\r"),
            '\t' => lines.push_str("\\t"),
            c => lines.push(c),
        }
    }
}

/// As every setting of `datestyle` reads it.
fn push_time(lines: &mut String, at: OffsetDateTime) {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, era) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    let (month, day, hour) = (u8::from(at.month()), at.day(), at.hour());
    let (minute, second, micros) = (at.minute(), at.second(), at.microsecond());
    // Writing to a string cannot fail.
    let _ =
        write!(lines, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}+00{era}");
}
