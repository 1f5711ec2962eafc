//! Events that are in the timeline under ids of another system: another forwarder, such as Sigra's own, has brought them in, with
//! the event's id as the correlation id.
//!
//! A correlation id alone proves nothing: a host may record actions of its own next to an event. So what counts is what was
//! written before an operator declared so, once; and everything where a unique index over the correlation id lets no second action in.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{ActionTable, StorageSchema};

/// Which of another system's actions under an event's correlation id count as that event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Adoption {
    /// None.
    #[default]
    None,
    /// Those that were written before this time.
    Before(OffsetDateTime),
    /// All.
    All,
}

impl Adoption {
    /// What the timeline remembers for a forwarder. A timeline that has no table for it yet remembers nothing; one that the role
    /// may not read may remember something.
    ///
    /// # Errors
    /// When the server is away, or the role may not read what is remembered.
    pub async fn of(
        connection: &mut PgConnection,
        schema: &StorageSchema,
        forwarder: &str,
    ) -> Result<Self, sqlx::Error> {
        let (is_kept_out, remembers): (bool, bool) = sqlx::query_as(
            "select exists (
                        select from pg_class c join pg_index i on i.indrelid = c.oid
                        where c.relnamespace = n.oid and c.relname = 'audit_actions'
                          and i.indisunique and i.indisvalid
                          and (i.indpred is null
                               or pg_catalog.pg_get_expr(i.indpred, i.indrelid) = '(correlation_id IS NOT NULL)')
                          and (select pg_catalog.array_agg(a.attname::text) from pg_attribute a
                               where a.attrelid = i.indexrelid and a.attnum <= i.indnkeyatts)
                              operator(pg_catalog.=) '{correlation_id}'::text[]),
                    exists (
                        select from pg_class c
                        where c.relnamespace = n.oid and c.relname = 'audit_adoptions')
             from (select 1) one left join pg_namespace n on n.nspname = $1",
        )
        .bind(schema.as_str())
        .fetch_one(&mut *connection)
        .await?;
        if is_kept_out {
            return Ok(Self::All);
        }
        if !remembers {
            return Ok(Self::None);
        }
        let statement = format!(
            "select pg_catalog.max(until) from {} where forwarder = $1",
            schema.table("audit_adoptions")
        );
        let until: Option<OffsetDateTime> =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(forwarder).fetch_one(connection).await?;
        Ok(until.map_or(Self::None, Self::Before))
    }

    /// Declares for a forwarder that what others had written before `until` counts, from now on and for everybody who asks.
    ///
    /// # Errors
    /// When the server is away, the timeline has no table for it, or the role may not write to it.
    pub async fn declare(
        connection: &mut PgConnection,
        schema: &StorageSchema,
        forwarder: &str,
        until: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        let statement = format!(
            "insert into {} (forwarder, until) values ($1, $2) on conflict do nothing",
            schema.table("audit_adoptions")
        );
        sqlx::query(AssertSqlSafe(statement)).bind(forwarder).bind(until).execute(connection).await?;
        Ok(())
    }

    /// Those of `events` that are there in this way.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn find(
        self,
        connection: &mut PgConnection,
        table: &ActionTable,
        events: &[Uuid],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let (condition, until) = match self {
            Self::None => return Ok(HashSet::new()),
            Self::Before(until) => ("and a.inserted_at < $2", Some(until)),
            // Without the time a role need not be allowed to see it.
            Self::All => ("and $2::timestamptz is null", None),
        };
        let statement = format!(
            "select distinct e.id from pg_catalog.unnest($1::uuid[]) e (id)
             join {table} a on a.correlation_id = e.id::text and a.correlation_id <> a.id::text {condition}"
        );
        let found: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(statement))
            .bind(events)
            .bind(until)
            .fetch_all(connection)
            .await?;
        Ok(found.into_iter().collect())
    }
}
