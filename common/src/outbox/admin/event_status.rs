//! What the source database knows of one event: its row, its entries, how far each reader is with them, and which
//! transactions may hold it back. One documented function per statement.

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use crate::{
    fault::{Fault, classify},
    identifier::TableName,
    outbox::{capture::columns, reader::rounds::STREAM_READER},
    session::Session,
};

/// Everything there is.
#[derive(Debug, Clone, Serialize)]
pub struct EventStatus {
    /// The audit row; `None` when none is committed.
    pub row: Option<Row>,
    /// Its entries in the log, oldest first.
    pub entries: Vec<EntryStatus>,
    /// All readers of the log.
    pub readers: Vec<String>,
    /// Those that a process reads for now.
    pub leaders: Vec<String>,
    /// Transactions that write, oldest first: a row that is not committed may be in one of them.
    pub blockers: Vec<Blocker>,
}

/// The audit row, without anything personal.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Row {
    /// Its name.
    pub action: Option<String>,
    /// When it happened, as stored.
    pub occurred_at: Option<String>,
    /// When it was inserted, as stored.
    pub inserted_at: Option<String>,
}

/// One entry.
#[derive(Debug, Clone, Serialize)]
pub struct EntryStatus {
    /// The transaction that wrote it.
    pub xid: String,
    /// Its number.
    pub seq: i64,
    /// For whom; `None` for every forwarder.
    pub forwarder: Option<String>,
    /// How far each reader is with it.
    pub readers: Vec<ReaderStatus>,
}

/// One reader and one entry.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct ReaderStatus {
    /// Which reader.
    pub reader: String,
    /// How far.
    #[sqlx(try_from = "String")]
    pub state: ReadState,
    /// The entry's messages have higher sequences than this: the stream's highest one before the entry was published.
    pub above_sequence: Option<i64>,
    /// And none above this: the stream's highest one once the entry was acknowledged.
    pub up_to_sequence: Option<i64>,
}

/// How far a reader is with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadState {
    /// Handed over and acknowledged.
    HandedOver,
    /// In the round that is being read.
    InProgress,
    /// Not checked yet.
    Unread,
}

impl ReadState {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::HandedOver => "handed over and acknowledged",
            Self::InProgress => "in the round that is being read",
            Self::Unread => "not read yet",
        }
    }
}

impl TryFrom<String> for ReadState {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "handed_over" => Ok(Self::HandedOver),
            "in_progress" => Ok(Self::InProgress),
            "unread" => Ok(Self::Unread),
            _ => Err(format!("{text:?} is no state of a reader")),
        }
    }
}

/// A transaction that writes and has not ended.
#[derive(Debug, Clone, Serialize, FromRow)]
pub struct Blocker {
    /// The server process; 0 for a prepared transaction.
    pub pid: i32,
    /// Its transaction id.
    pub xid: Option<String>,
    /// For how long it has been open, in seconds.
    pub seconds: f64,
    /// What it does, such as `idle in transaction`.
    pub state: String,
    /// What the program calls itself.
    pub application: String,
}

impl EventStatus {
    /// Between which sequences the event's messages lie; an open end for those that are on their way.
    #[must_use]
    pub fn stream_ranges(&self) -> Vec<(u64, Option<u64>)> {
        let of_stream = |entry: &EntryStatus| {
            let status = entry.readers.iter().find(|status| status.reader == STREAM_READER)?;
            let from = status.above_sequence.unwrap_or(0).unsigned_abs() + 1;
            (status.state != ReadState::Unread).then(|| (from, status.up_to_sequence.map(i64::unsigned_abs)))
        };
        self.entries.iter().filter_map(of_stream).collect()
    }

    /// The name of a reader, if a process reads for it now.
    #[must_use]
    pub fn leader(&self, reader: &str) -> Option<&str> {
        self.leaders.iter().find(|leader| *leader == reader).map(String::as_str)
    }
}

/// Reads all of it.
///
/// # Errors
/// When the server is away.
pub async fn of(
    connection: &mut Session,
    table: &TableName,
    event: Uuid,
) -> Result<EventStatus, sqlx::Error> {
    let row = row(connection, table, event).await?;
    let found: Vec<(String, i64, Option<String>)> = sqlx::query_as(
        "select e.xid::text, e.seq, e.forwarder from outbox.entries e
         where e.audit_event_id = $1 order by e.xid, e.seq limit 100",
    )
    .bind(event)
    .fetch_all(&mut *connection)
    .await?;
    let mut entries = Vec::with_capacity(found.len());
    for (xid, seq, forwarder) in found {
        let readers = reader_statuses(connection, &xid).await?;
        entries.push(EntryStatus { xid, seq, forwarder, readers });
    }
    let readers = sqlx::query_scalar("select distinct reader from outbox.rounds order by reader")
        .fetch_all(&mut *connection)
        .await?;
    let leaders = sqlx::query_scalar("select name from outbox.leases where expires_at > clock_timestamp()")
        .fetch_all(&mut *connection)
        .await?;
    Ok(EventStatus { row, entries, readers, leaders, blockers: blockers(connection).await? })
}

async fn row(connection: &mut Session, table: &TableName, event: Uuid) -> Result<Option<Row>, sqlx::Error> {
    let has = columns::readable(connection, table).await?;
    let types = columns::of(connection, table).await?;
    // Not the whole row: what is not needed may be a gigabyte as text.
    let parts = ["action", "occurred_at", "inserted_at"].map(|name| {
        let is_there = has.iter().any(|column| column == name);
        let value = if is_there {
            format!("left({} #>> '{{}}', 1000)", columns::shown_time(&types, "e", name))
        } else {
            "null::text".to_owned()
        };
        format!("{value} as {name}")
    });
    let statement = format!("select {} from {} e where e.id = $1", parts.join(", "), table.quoted());
    let mut attempt = connection.begin().await?;
    match sqlx::query_as(AssertSqlSafe(statement)).bind(event).fetch_optional(&mut *attempt).await {
        Ok(row) => {
            attempt.commit().await?;
            Ok(row)
        }
        // It is there, and cannot be read.
        Err(error) if matches!(classify(&error), Fault::Event | Fault::Statement) => {
            attempt.rollback().await?;
            let action = Some(format!("(the row cannot be read: {})", errors::database(&error)));
            Ok(Some(Row { action, occurred_at: None, inserted_at: None }))
        }
        Err(error) => Err(error),
    }
}

/// How far each reader is with the entries of a transaction. Its messages lie above the mark of the last row whose round did
/// not include it, and not above that of the first row before which it had been handed over.
async fn reader_statuses(connection: &mut Session, xid: &str) -> Result<Vec<ReaderStatus>, sqlx::Error> {
    sqlx::query_as(
        "select h.reader,
                case when pg_visible_in_snapshot($1::text::xid8, h.s) then 'handed_over'
                     when pg_visible_in_snapshot($1::text::xid8, h.t) then 'in_progress'
                     else 'unread' end as state,
                (select b.stream_seq from outbox.rounds b
                 where b.reader = h.reader and b.stream_seq is not null
                   and b.generation = h.generation and not pg_visible_in_snapshot($1::text::xid8, b.t)
                 order by b.n desc limit 1) as above_sequence,
                (select b.stream_seq from outbox.rounds b
                 where b.reader = h.reader and b.stream_seq is not null
                   and b.generation = h.generation and pg_visible_in_snapshot($1::text::xid8, b.s)
                 order by b.n limit 1) as up_to_sequence
         from (select distinct on (r.reader) r.reader, r.s, r.t, r.generation
               from outbox.rounds r order by r.reader, r.n desc) h
         order by h.reader",
    )
    .bind(xid)
    .fetch_all(connection)
    .await
}

/// How many open transactions are shown.
pub const BLOCKERS_MAX: i64 = 20;

/// Transactions of this database that have written and not ended, oldest first. Those of other roles are seen with
/// `pg_read_all_stats` only.
///
/// # Errors
/// What the database says.
pub async fn blockers(connection: &mut Session) -> Result<Vec<Blocker>, sqlx::Error> {
    sqlx::query_as(
        "select a.pid, a.backend_xid::text as xid,
                coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::float8 as seconds,
                coalesce(a.state, 'hidden') as state, coalesce(a.application_name, '') as application
         from pg_stat_activity a
         where a.datname = current_database() and a.backend_xid is not null and a.pid <> pg_backend_pid()
         union all
         select 0, p.transaction::text, extract(epoch from clock_timestamp() - p.prepared)::float8,
                'prepared transaction ' || p.gid, p.owner::text
         from pg_prepared_xacts p where p.database = current_database()
         order by seconds desc limit $1",
    )
    .bind(BLOCKERS_MAX)
    .fetch_all(connection)
    .await
}
