//! What the triggers of a table are: a name and a function do not say that each inserted row is captured.

use std::fmt;

use sqlx::{FromRow, postgres::types::Oid};

use super::Cause;
use crate::{identifier::TableName, session::Session};

/// What is not the trigger that `outbox.attach` makes, and has its name or calls its function; or the same once more.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct OtherTrigger {
    /// Its name.
    pub name: String,
    /// Its table, which may be a partition.
    pub table: String,
    /// What it does otherwise.
    pub differs: String,
    /// It would be right if it were the only one.
    pub repeats: bool,
}

impl fmt::Display for OtherTrigger {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, table, differs, .. } = self;
        write!(to, "the trigger {name} on {table} is not the one that attach made: {differs}")
    }
}

/// The triggers of a table and its partitions that have the name or call the function. Of the bits of tgtype: 1 is for each row,
/// 2 before, 4 insert, 8 delete, 16 update, 32 truncate, 64 instead of.
macro_rules! with_triggers {
    ($rest:literal) => {
        concat!(
            "with leaf as (
                 -- An ordinary table is not in its own partition tree.
                 select relid as oid from pg_partition_tree($1) union select $1),
             looked as (
                 select t.tgrelid, t.tgname, t.tgparentid, t.tgenabled, f.captures,
                        concat_ws(', ',
                            case when not f.captures then format('it calls %s', t.tgfoid::regprocedure) end,
                            case when t.tgtype & 1 = 0 then 'it is for each statement' end,
                            case when t.tgtype & 2 <> 0 then 'it comes before the row' end,
                            case when t.tgtype & 4 = 0 then 'it is not for insert' end,
                            case when t.tgtype & 56 <> 0 then
                                format('it is for %s', concat_ws(' and ', case when t.tgtype & 8 <> 0 then 'delete' end,
                                       case when t.tgtype & 16 <> 0 then 'update' end, case when t.tgtype & 32 <> 0 then 'truncate' end)) end,
                            case when t.tgattr::text <> '' then 'it is for some columns only' end,
                            case when t.tgqual is not null then 'it has a condition (WHEN)' end,
                            case when t.tgnargs <> 0 then 'it has arguments' end) as differs
                 from leaf join pg_trigger t on t.tgrelid = leaf.oid
                 cross join lateral (select coalesce(t.tgfoid = to_regprocedure('outbox.capture()'), false) as captures) f
                 where f.captures or t.tgname = 'outbox_capture'),
             -- Of several that are right, attach keeps one; each more makes another entry of a row.
             ranked as (
                 select t.*, t.differs = '' as is_right, first_value(t.tgname) over kept as kept
                 from looked t
                 window kept as (partition by t.tgrelid, t.differs = ''
                                 order by t.tgparentid = 0, t.tgname <> 'outbox_capture', t.tgname)),
             found as (
                 select t.tgrelid, t.tgname, t.tgparentid, t.tgenabled, t.captures, t.is_right and t.tgname <> t.kept as repeats,
                        case when t.is_right and t.tgname <> t.kept then format('it captures each row once more, beside %s', t.kept)
                             else t.differs end as differs
                 from ranked t),
             other as (
                 -- One that only has the name does no harm next to one that captures.
                 select * from found t
                 where t.differs <> ''
                   and (t.captures or not exists (select from found r where r.tgrelid = t.tgrelid and r.differs = '')))
             ",
            $rest
        )
    };
}

/// What of the triggers on a table and its partitions lets rows go by.
///
/// # Errors
/// When the server is away.
pub(super) async fn faults(connection: &mut Session, table: Oid) -> Result<Vec<Cause>, sqlx::Error> {
    let mut causes: Vec<Cause> =
        other(connection, table).await?.into_iter().map(Cause::OtherTrigger).collect();
    let uncovered: i64 = sqlx::query_scalar(with_triggers!(
        "select count(*) from leaf
         -- Always: an ordinary trigger, as `enable trigger all` leaves it, misses what replication applies.
         where not exists (select from found t where t.tgrelid = leaf.oid and t.differs = '' and t.tgenabled = 'A')
           and not exists (select from other t where t.tgrelid = leaf.oid)"
    ))
    .bind(table)
    .fetch_one(connection)
    .await?;
    if uncovered > 0 {
        causes.push(Cause::Uncovered(uncovered));
    }
    Ok(causes)
}

/// Those that `outbox.attach` replaces.
///
/// # Errors
/// When the server is away, or there is no such table.
pub async fn replaced(connection: &mut Session, table: &TableName) -> Result<Vec<OtherTrigger>, sqlx::Error> {
    let oid = sqlx::query_scalar("select $1::text::regclass::oid").bind(table.quoted());
    let oid = oid.fetch_one(&mut *connection).await?;
    other(connection, oid).await
}

/// Those of partitions that came with their parent's are not named.
async fn other(connection: &mut Session, table: Oid) -> Result<Vec<OtherTrigger>, sqlx::Error> {
    sqlx::query_as(with_triggers!(
        "select t.tgname::text as name, format('%s.%s', n.nspname, c.relname) as \"table\", t.differs, t.repeats
         from other t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
         where t.tgparentid = 0
         order by t.tgrelid <> $1, 2, 1 limit 5"
    ))
    .bind(table)
    .fetch_all(connection)
    .await
}
