//! The retention horizon: from which time on a timeline is whole. An empty answer about what was before is no evidence that nothing happened.

use std::fmt;

use serde::Serialize;
use sqlx::Row as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    capture::HostTable,
    query::{ReadError, Reader, Statement, clamped_time, serialize, time_text},
};

/// Up to where something was purged, and by which run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Horizon {
    /// What is older is gone; unknown of a run of the Elixir library's.
    #[serde(serialize_with = "serialize::optional_time")]
    pub cutoff: Option<OffsetDateTime>,
    /// Of changes of all tables: the latest cutoff of a table with a window of its own, where that is later.
    #[serde(serialize_with = "serialize::optional_time", skip_serializing_if = "Option::is_none")]
    pub latest_of_a_table: Option<OffsetDateTime>,
    /// The run that has deleted up to there.
    pub run: Uuid,
    /// When that was.
    #[serde(serialize_with = "serialize::time")]
    pub at: OffsetDateTime,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purgeable<'a> {
    /// Changes of this table, as changes name it.
    Table(&'a HostTable),
    /// Changes of all tables.
    Changes,
    /// Actions and events.
    Actions,
}

impl Horizon {
    /// Whether an answer about what is older than this time, or about everything, may lack something.
    #[must_use]
    pub fn cuts(&self, from: Option<OffsetDateTime>) -> bool {
        let cutoff = self.latest_of_a_table.or(self.cutoff);
        from.zip(cutoff).is_none_or(|(from, cutoff)| from < cutoff)
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cutoff, latest_of_a_table, run, at } = self;
        match (cutoff, latest_of_a_table) {
            (None, _) => {
                write!(f, "purged by run {run} on {}; its cutoff is not known", seconds(*at))
            }
            (Some(cutoff), None) => write!(f, "older than {}: purged by run {run}", seconds(*cutoff)),
            (Some(cutoff), Some(latest)) => write!(
                f,
                "older than {}, of some tables {}: purged by run {run}",
                seconds(*cutoff),
                seconds(*latest)
            ),
        }
    }
}

/// For people.
fn seconds(time: OffsetDateTime) -> String {
    let mut text = time_text(time.replace_nanosecond(0).unwrap_or(time));
    text.truncate("2026-01-01T00:00:00".len());
    text + "Z"
}

/// A time as [`Windows`](super::Windows) writes it: as texts such times have the order of times.
const IS_TIME: &str = "~ '^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$'";

/// The latest cutoff of a run that came to its end, or deleted something before it failed; none where nothing was purged, or where this role
/// may not see runs. A run of the Elixir library's does not say its cutoff: it counts where none of ours has come after it.
///
/// # Errors
/// What the database says.
pub async fn horizon(reader: &Reader, of: Purgeable<'_>) -> Result<Option<Horizon>, ReadError> {
    let mut connection = reader.connection().await?;
    let row = match statement(reader, of).fetch_optional(&mut connection).await {
        Ok(row) => row,
        Err(error) if is_hidden(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(row) = row else { return Ok(None) };
    let time = |index: usize| -> Result<Option<OffsetDateTime>, sqlx::Error> {
        let text: Option<String> = row.try_get(index)?;
        let format = time::format_description::well_known::Rfc3339;
        Ok(text.and_then(|text| OffsetDateTime::parse(&text, &format).ok()))
    };
    Ok(Some(Horizon {
        cutoff: time(0)?,
        latest_of_a_table: time(1)?,
        run: row.try_get(2)?,
        at: row.try_get(3)?,
    }))
}

fn statement(reader: &Reader, of: Purgeable<'_>) -> Statement {
    let mut statement = Statement::new(format!(
        "with runs as (
             select r.id, {} as at, r.holder is null as is_library, r.windows
             from {} r
             where r.status = 'completed' and (r.holder is not null or r.deleted_count > 0) or coalesce(r.deleted_count, 0) > 0
                or coalesce(r.deleted_actions, 0) > 0),
         known as (
             select r.id, r.at, w.cutoff, r.windows from runs r cross join lateral (select ",
        clamped_time("coalesce(r.completed_at, r.started_at, r.inserted_at)"),
        reader.schema().table("threadline_retention_runs")
    ));
    match of {
        Purgeable::Table(table) => {
            let table = table.to_string();
            statement
                .push("case when r.windows -> 'tables' ? ")
                .bind(&table)
                .push(" then r.windows -> 'tables' ->> ")
                .bind(&table)
                .push(" else r.windows ->> 'default' end");
        }
        Purgeable::Changes => {
            statement.push("r.windows ->> 'default'");
        }
        Purgeable::Actions => {
            statement.push("r.windows ->> 'actions'");
        }
    }
    statement.push(&format!(
        " as cutoff) w where w.cutoff {IS_TIME} order by w.cutoff collate \"C\" desc, r.at desc limit 1)
         select k.cutoff, "
    ));
    if of == Purgeable::Changes {
        statement.push(&format!(
            "(select t.value from jsonb_each_text(case jsonb_typeof(k.windows -> 'tables') when 'object' then k.windows -> 'tables' end) t
              where t.value {IS_TIME} and t.value collate \"C\" > k.cutoff collate \"C\" order by t.value collate \"C\" desc limit 1)"
        ));
    } else {
        statement.push("null::text");
    }
    statement.push(", k.id, k.at from known k");
    // It purges no actions.
    if of != Purgeable::Actions {
        statement.push(
            " where not exists (select from runs r where r.is_library and r.at > k.at)
              union all (select null, null, r.id, r.at from runs r where r.is_library
                         and not exists (select from known k where k.at >= r.at) order by r.at desc limit 1)",
        );
    }
    statement
}

/// Whether the role may not see runs, or there are none in this version of the tables.
fn is_hidden(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("42501" | "42P01" | "42703"))
}
