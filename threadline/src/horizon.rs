//! The retention horizon: from which time on a timeline is whole. An empty answer about what was before is no evidence that nothing happened.

use std::fmt;

use serde::Serialize;
use sqlx::{PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    StorageSchema,
    capture::HostTable,
    query::{Filter, Kind, ReadError, Reader, Statement, clamped_time, serialize, time_text},
};

/// The table of archives.
pub(crate) const ARCHIVES: &str = "threadline_archives";

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
    /// Of which of the tables that were asked for it has deleted changes; none where it does not say, of actions, and for whoever does not
    /// see everything.
    #[serde(skip)]
    pub tables: Option<Vec<String>>,
    /// Where what was deleted is; none where nothing of it was archived, or this role may not see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<ArchivedBefore>,
}

/// Where what was deleted was archived before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArchivedBefore {
    /// The folder of the latest run that has archived something of this kind, as a URL.
    pub location: String,
    /// That run.
    pub run: Uuid,
    /// Runs that have archived something of this kind, this one included; each has a folder beside the others.
    pub runs: i64,
    /// Whether no run has deleted something of this kind without an archive.
    pub is_whole: bool,
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
        let Self { cutoff, latest_of_a_table, run, at, archived, .. } = self;
        let Some(cutoff) = cutoff else {
            write!(f, "purged by run {run} on {}; its cutoff is not known", seconds(*at))?;
            return archived.as_ref().map_or(Ok(()), |archived| write!(f, "; in part {archived}"));
        };
        write!(f, "older than {}", seconds(*cutoff))?;
        if let Some(latest) = latest_of_a_table {
            write!(f, ", of some tables {}", seconds(*latest))?;
        }
        match archived {
            None => write!(f, ": purged by run {run}"),
            Some(archived) if archived.is_whole => write!(f, ": {archived}"),
            Some(archived) => write!(f, ": purged by run {run}, in part {archived}"),
        }
    }
}

impl fmt::Display for ArchivedBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "archived in {}", self.location)?;
        match self.runs {
            ..=1 => Ok(()),
            runs => write!(f, ", and before by {} in folders beside it", earlier(runs - 1)),
        }
    }
}

fn earlier(runs: i64) -> String {
    if runs == 1 { "another run".to_owned() } else { format!("{runs} other runs") }
}

/// For people.
fn seconds(time: OffsetDateTime) -> String {
    let mut text = time_text(time.replace_nanosecond(0).unwrap_or(time));
    text.truncate("2026-01-01T00:00:00".len());
    text + "Z"
}

/// A time as [`Windows`](crate::retention::Windows) writes it: as texts such times have the order of times.
const IS_TIME: &str = "~ '^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$'";

/// What an answer to this filter may lack because it was purged; nothing where all that was purged is older than its window.
///
/// # Errors
/// What the database says.
pub async fn purged(reader: &Reader, filter: &Filter) -> Result<Option<Horizon>, ReadError> {
    let table = match &filter.table {
        // Where it is not clear which table is meant, it is one of all.
        Some(table) => reader.host_table(table).await.ok(),
        None => None,
    };
    let of = match (&table, filter.kind) {
        (Some(table), _) => Purgeable::Table(table),
        (None, Some(Kind::Action | Kind::Event | Kind::Recorded)) => Purgeable::Actions,
        (None, _) => Purgeable::Changes,
    };
    let (from, _) = filter.window.ends(OffsetDateTime::now_utc());
    Ok(horizon(reader, of).await?.filter(|horizon| horizon.cuts(from)))
}

/// The latest cutoff of a run that has deleted something of what is asked about, whether it came to its end or not; none where nothing of it
/// was purged, or where this role may not see runs. Of an older run, which does not count by tables, every table may have lost something. A
/// run of the Elixir library's does not say its cutoff: it counts where none of ours has come after it.
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
    let archived = if is_readable(&mut connection, reader.schema()).await? {
        archived(reader, of).fetch_optional(&mut connection).await?
    } else {
        None
    };
    let archived = archived.map(|row| {
        Ok::<_, sqlx::Error>(ArchivedBefore {
            run: row.try_get(0)?,
            location: row.try_get(1)?,
            runs: row.try_get(2)?,
            is_whole: row.try_get(3)?,
        })
    });
    Ok(Some(Horizon {
        cutoff: time(0)?,
        latest_of_a_table: time(1)?,
        run: row.try_get(2)?,
        at: row.try_get(3)?,
        tables: row.try_get::<Option<_>, _>(4)?.filter(|_| reader.scope().is_everything()),
        archived: archived.transpose()?,
    }))
}

/// The statement for the latest archive of a kind, and whether there is one of everything of this kind that was deleted.
fn archived(reader: &Reader, of: Purgeable<'_>) -> Statement {
    let (what, deleted) = match of {
        Purgeable::Table(_) | Purgeable::Changes => ("changes", "r.deleted_count"),
        Purgeable::Actions => ("actions", "r.deleted_actions"),
    };
    let archives = reader.schema().table(ARCHIVES);
    let mut statement = Statement::new(format!(
        "select a.run, regexp_replace(a.location, '/[^/]*$', ''), count(*) over (partition by true),
             not exists (select from {} r where {deleted} > 0 and not exists (select from {archives} x where x.run = r.id))
         from (select distinct on (a.run) a.* from {archives} a where a.what = ",
        reader.schema().table("threadline_retention_runs")
    ));
    statement.bind(what);
    if let Purgeable::Table(table) = of {
        statement.push(" and (a.table_name is null or a.table_schema = ").bind(&table.schema);
        statement.push(" and a.table_name = ").bind(&table.name).push(")");
    }
    statement.push(" order by a.run, a.archived_at desc) a order by a.archived_at desc limit 1");
    statement
}

fn statement(reader: &Reader, of: Purgeable<'_>) -> Statement {
    let mut statement = Statement::new(format!(
        "with runs as (
             select r.id, {} as at, r.holder is null as is_library, r.windows,
                    case jsonb_typeof(r.deleted_tables) when 'object' then
                        array(select d.key from jsonb_each_text(r.deleted_tables) d where d.value <> '0' order by d.key) end as tables
             from {} r
             where ",
        clamped_time("coalesce(r.completed_at, r.started_at, r.inserted_at)"),
        reader.schema().table("threadline_retention_runs")
    ));
    // The library's column of changes is empty, and it deletes no actions.
    statement.push(match of {
        Purgeable::Table(_) | Purgeable::Changes => "coalesce(r.deleted_changes, r.deleted_count) > 0",
        Purgeable::Actions => "r.deleted_actions > 0",
    });
    statement.push("),\n of_these as (select r.* from runs r");
    if let Purgeable::Table(table) = of {
        statement.push(" where r.tables is null or ").bind(table.to_string()).push(" = any (r.tables)");
    }
    statement.push(
        "),
         known as (
             select r.id, r.at, w.cutoff, r.windows, r.tables from of_these r cross join lateral (select ",
    );
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
              where t.value {IS_TIME} and (k.tables is null or t.key = any (k.tables)) and t.value collate \"C\" > k.cutoff collate \"C\" order by t.value collate \"C\" desc limit 1)"
        ));
    } else {
        statement.push("null::text");
    }
    statement.push(", k.id, k.at, ");
    match of {
        Purgeable::Table(table) => {
            let table = table.to_string();
            statement.push("case when k.tables is not null then array[").bind(table).push("] end");
        }
        Purgeable::Changes => {
            statement.push("k.tables");
        }
        Purgeable::Actions => {
            statement.push("null::text[]");
        }
    }
    statement.push(" from known k");
    if of != Purgeable::Actions {
        statement.push(
            " where not exists (select from of_these r where r.is_library and r.at > k.at)
              union all (select null, null, r.id, r.at, null from of_these r where r.is_library
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

/// Whether there is a table of archives in this version, and the role may read it. To ask fails in no transaction.
pub(crate) async fn is_readable(
    connection: &mut PgConnection,
    storage: &StorageSchema,
) -> Result<bool, sqlx::Error> {
    let mut statement = Statement::new("select coalesce(has_table_privilege(to_regclass(");
    statement.bind(storage.table(ARCHIVES)).push("), 'select'), false)");
    statement.query().fetch_one(connection).await?.try_get(0)
}
