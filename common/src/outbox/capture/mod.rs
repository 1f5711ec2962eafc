//! The capture trigger: attach, detach, and whether it is there.

pub mod absence;
pub mod catalog;
pub mod columns;
pub mod objects;
pub mod ownership;
pub mod table_locks;
pub mod triggers;

use std::time::Duration;

use sqlx::postgres::types::Oid;

use self::triggers::OtherTrigger;
use crate::{identifier::TableName, session::Session};

/// How often attach and detach try again for the table's lock, two seconds each.
const LOCK_ATTEMPTS: u32 = 10;

/// `lock_not_available`.
const LOCK_TIMEOUT: &str = "55P03";

/// Most rows of `outbox.missed` that are counted.
const MISSED_MAX: i64 = 10_000;

/// What the source table's capture looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capture {
    /// Every row inserted is captured.
    Attached,
    /// `outbox.attach` has not been called in this database, or the log was detached and is empty.
    Never,
    /// It was attached, and is not what it should be.
    Broken {
        /// The attached table, as it is called now.
        table: String,
        /// All that is wrong, the worst first.
        causes: Vec<Cause>,
    },
}

/// What is wrong with capture; only a person can fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The table was dropped.
    Gone,
    /// Another table has taken the name under which it was attached.
    Replaced {
        /// That name.
        name: String,
    },
    /// Something that is no table has taken the name under which it was attached, as a rename with a view behind it leaves it.
    Hidden {
        /// That name.
        name: String,
        /// What it is, with its article.
        kind: String,
    },
    /// It was renamed or moved.
    Renamed {
        /// Its name when it was attached.
        from: String,
    },
    /// A trigger of that name, or one that calls the capture function, is not the one that attach made.
    OtherTrigger(OtherTrigger),
    /// Something removed or disabled the trigger on so many tables; partitions count.
    Uncovered(i64),
    /// The function that captures runs as a role that may not do what it does: inserts fail.
    Powerless {
        /// Its owner.
        role: String,
        /// What that may not do.
        lacks: String,
    },
    /// The column `id` is missing, of another type, or not the one that was attached.
    IdColumn {
        /// The message of `outbox.attach`.
        what: String,
        /// The remedy.
        remedy: String,
    },
    /// Another column, or the table, is not what it was.
    Incompatible {
        /// The message of `outbox.attach`.
        what: String,
        /// The remedy.
        remedy: String,
    },
    /// Rows went by while the columns did not fit, and have not been entered since.
    Missed {
        /// How many, counted up to a limit.
        rows: i64,
        /// When the first did, RFC 3339.
        since: String,
        /// Why, of the last.
        why: String,
    },
}

impl Cause {
    /// What is so, in a sentence about the `table`.
    #[must_use]
    pub fn what(&self, table: &str) -> String {
        match self {
            Self::Gone => format!("the captured table {table} is gone"),
            Self::Replaced { name } => format!(
                "another table is called {name} now: what is inserted there is not captured, and the captured one is \
                 called {table}"
            ),
            Self::Hidden { name, kind } => format!(
                "the captured table is called {table} now, and {name} is {kind}: its rows are captured, but source.table must \
                 name the table itself"
            ),
            Self::Renamed { from } => format!(
                "the captured table {from} is called {table} now: its rows are captured, and are not found under \
                 the old name"
            ),
            Self::OtherTrigger(trigger) => trigger.to_string(),
            Self::Uncovered(tables) => format!(
                "the capture trigger is missing or not enabled always on {tables} table(s) of {table}: what is inserted \
                 there is not captured"
            ),
            Self::Powerless { role, lacks } => format!(
                "outbox.capture() runs with the rights of {role}, who may not {lacks}: inserts into {table} fail, or go by \
                 without being captured"
            ),
            Self::IdColumn { what, .. } | Self::Incompatible { what, .. } => {
                format!("{table} does not fit any more: {what}")
            }
            Self::Missed { rows, since, why } => {
                let more = if *rows == MISSED_MAX { " or more" } else { "" };
                format!("{rows}{more} row(s) of {table} have not been captured, the first at {since}: {why}")
            }
        }
    }

    /// The remedy.
    #[must_use]
    pub fn remedy(&self, table: &str) -> String {
        match self {
            Self::Gone => "set source.table to the table that takes its place, and run `publisher attach`".to_owned(),
            Self::Replaced { .. } => "run `publisher attach`, which captures the new one from then on, and `publisher \
                                      backfill` for what was inserted before (docs/operations.md, \"Another table in \
                                      its place\")"
                .to_owned(),
            Self::Hidden { .. } | Self::Renamed { .. } => format!(
                "set source.table = \"{table}\", run `publisher attach` and `publisher rebase`, and restart"
            ),
            Self::OtherTrigger(OtherTrigger { repeats: true, .. }) => {
                "run `publisher attach`, which removes it; what is delivered twice has no second effect in a timeline".to_owned()
            }
            Self::OtherTrigger(_) => {
                "run `publisher attach`, which replaces it, and `publisher backfill` for what was inserted meanwhile".to_owned()
            }
            Self::Uncovered(_) => "run `publisher attach`".to_owned(),
            Self::Powerless { .. } => "run `publisher attach` as a superuser, which gives what is in the schema outbox to its \
                                       owner; what was revoked from the owner is to be granted again"
                .to_owned(),
            Self::IdColumn { remedy, .. } | Self::Incompatible { remedy, .. } => remedy.clone(),
            Self::Missed { .. } => "fix the columns, and run `publisher backfill`".to_owned(),
        }
    }
}

impl Cause {
    /// Whether the table that was attached does not have its name any more.
    fn is_about_the_name(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::Hidden { .. } | Self::Renamed { .. })
    }

    /// Whether rows cannot be found by the column that was attached.
    fn is_about_the_id(&self) -> bool {
        matches!(self, Self::IdColumn { .. })
    }
}

impl Capture {
    /// The first cause of this sort, with the remedy.
    fn fault(&self, is_meant: impl Fn(&Cause) -> bool) -> Option<(String, String)> {
        let Self::Broken { table, causes } = self else { return None };
        let cause = causes.iter().find(|cause| is_meant(cause))?;
        Some((cause.what(table), cause.remedy(table)))
    }

    /// How many rows went by and have not been entered since, counted up to a limit.
    #[must_use]
    pub fn missed(&self) -> i64 {
        let Self::Broken { causes, .. } = self else { return 0 };
        let rows = |cause: &Cause| if let Cause::Missed { rows, .. } = cause { Some(*rows) } else { None };
        causes.iter().find_map(rows).unwrap_or(0)
    }

    /// Everything that is wrong, each with the remedy.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        match self {
            Self::Attached => Vec::new(),
            Self::Never => {
                let what = "nothing is captured: no table is attached";
                vec![(what.to_owned(), "run `publisher attach`".to_owned())]
            }
            Self::Broken { table, causes } => {
                causes.iter().map(|cause| (cause.what(table), cause.remedy(table))).collect()
            }
        }
    }
}

/// Starts capture on `table`.
///
/// # Errors
/// When the table is not fit (the message says why), or busy for the whole time.
pub async fn attach(connection: &mut Session, table: &TableName) -> Result<(), sqlx::Error> {
    with_lock_retries(connection, "select outbox.attach($1::text::regclass)", Some(table.quoted())).await
}

/// Stops capture wherever it is, whatever the table is called now; what is in the log is still delivered. Returns on which
/// tables there was a trigger.
///
/// # Errors
/// When the table is busy for the whole time, or belongs to another role; then nothing has changed.
pub async fn detach(connection: &mut Session) -> Result<Vec<String>, sqlx::Error> {
    let tables = sqlx::query_scalar(
        "select distinct format('%s.%s', n.nspname, c.relname)
         from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
         where t.tgfoid = to_regprocedure('outbox.capture()') and t.tgparentid = 0",
    )
    .fetch_all(&mut *connection)
    .await?;
    with_lock_retries(connection, "select outbox.detach()", None).await?;
    Ok(tables)
}

/// What to do where the table of the settings is not there.
pub const NO_TABLE_REMEDY: &str =
    "create it (docs/events.md says with which columns), or set source.table to the name that it has";

/// Whether there is such a table, or another relation that takes its place.
///
/// # Errors
/// When the server is away.
pub async fn table_exists(connection: &mut Session, table: &TableName) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select to_regclass($1) is not null").bind(table.quoted()).fetch_one(connection).await
}

/// What of the table is not as one might think, and does not keep it from being captured: what, and the remedy.
///
/// # Errors
/// When the server is away.
pub async fn warnings(
    connection: &mut Session,
    table: &TableName,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select f.what, f.remedy from outbox.faults(to_regclass($1)) f where f.severity not in ('broken', 'changed')",
    )
    .bind(table.quoted())
    .fetch_all(connection)
    .await
}

/// Waiting longer for the lock would queue the application's own statements behind us: give way and try again.
async fn with_lock_retries(
    connection: &mut Session,
    statement: &'static str,
    argument: Option<String>,
) -> Result<(), sqlx::Error> {
    let mut attempt = 1;
    loop {
        let mut query = sqlx::query(statement);
        if let Some(argument) = &argument {
            query = query.bind(argument);
        }
        match query.execute(&mut *connection).await {
            Err(error) if is_lock_timeout(&error) && attempt < LOCK_ATTEMPTS => {
                tracing::info!(attempt, of = LOCK_ATTEMPTS, "the table is busy; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
                attempt += 1;
            }
            result => return result.map(drop),
        }
    }
}

/// Whether the table was busy for the whole time.
#[must_use]
pub fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == LOCK_TIMEOUT)
}

/// The attached table, as it is called now and as it was, whether something else has that name, and what that is, where it is no
/// table.
type StateRow = (Option<Oid>, Option<String>, String, bool, Option<String>);

/// Whether the trigger is present, as attach makes it, and enabled on the attached table and each of its partitions, the columns fit, and
/// nothing was missed.
///
/// # Errors
/// When the server is away.
pub async fn state(connection: &mut Session) -> Result<Capture, sqlx::Error> {
    let row: Option<StateRow> = sqlx::query_as(
        "select a.oid,
                (select format('%s.%s', n.nspname, c.relname)
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = a.oid),
                format('%s.%s', s.table_schema, s.table_name),
                coalesce(to_regclass(format('%I.%I', s.table_schema, s.table_name)) <> a.oid, false),
                (select case c.relkind when 'v' then 'a view' when 'm' then 'a materialized view'
                                       when 'f' then 'a foreign table' else 'no table' end
                 from pg_class c
                 where c.oid = to_regclass(format('%I.%I', s.table_schema, s.table_name)) and c.relkind not in ('r', 'p'))
         from outbox.source s cross join lateral (select outbox.attached_table() as oid offset 0) a",
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some((relation, now, then, replaced, kind)) = row else {
        return Ok(Capture::Never);
    };
    let mut causes = Vec::new();
    match (&now, kind) {
        (None, _) => causes.push(Cause::Gone),
        (Some(_), Some(kind)) if replaced => causes.push(Cause::Hidden { name: then.clone(), kind }),
        (Some(_), None) if replaced => causes.push(Cause::Replaced { name: then.clone() }),
        (Some(now), _) if *now != then => causes.push(Cause::Renamed { from: then.clone() }),
        (Some(_), _) => {}
    }
    if let Some((role, lacks)) = ownership::lacking(&mut *connection).await? {
        causes.insert(0, Cause::Powerless { role, lacks });
    }
    if let (Some(_), Some(relation)) = (&now, relation) {
        causes.extend(triggers::faults(&mut *connection, relation).await?);
    }
    causes.extend(trigger_problems(&mut *connection).await?);
    causes.extend(missed(connection).await?);
    let table = now.unwrap_or(then);
    Ok(if causes.is_empty() { Capture::Attached } else { Capture::Broken { table, causes } })
}

/// What `outbox.faults` says of a table whose column `id` is missing or of another type.
const ID_MISSING: &str = "it needs a column \"id\" of type uuid, not null";

/// What of the attached table keeps its rows from being captured or read.
async fn trigger_problems(connection: &mut Session) -> Result<Vec<Cause>, sqlx::Error> {
    let found: Vec<(String, String, String)> = sqlx::query_as(
        "select f.severity, f.what, f.remedy from outbox.faults(outbox.attached_table()) f
         where f.severity in ('broken', 'changed')",
    )
    .fetch_all(connection)
    .await?;
    let cause = |(severity, what, remedy): (String, String, String)| {
        // Only another column called "id" is a change.
        if severity == "changed" || what == ID_MISSING {
            Cause::IdColumn { what, remedy }
        } else {
            Cause::Incompatible { what, remedy }
        }
    };
    Ok(found.into_iter().map(cause).collect())
}

/// What has not been captured, if anything.
async fn missed(connection: &mut Session) -> Result<Option<Cause>, sqlx::Error> {
    let (rows, since, why): (i64, Option<String>, Option<String>) = sqlx::query_as(
        r#"select count(*), to_char(min(m.at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                  (array_agg(m.cause order by m.at desc))[1]
           from (select at, cause from outbox.missed limit $1) m"#,
    )
    .bind(MISSED_MAX)
    .fetch_one(connection)
    .await?;
    Ok((rows > 0).then(|| Cause::Missed {
        rows,
        since: since.unwrap_or_default(),
        why: why.unwrap_or_default(),
    }))
}
