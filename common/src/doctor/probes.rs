//! What the source database says about itself: catalogs and views, one documented function per statement. None takes a
//! lock on the application's tables: a doctor must not wait for them, nor make others wait.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{identifier::TableName, session::Session};

/// The server and its database.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Server {
    pub(super) is_standby: bool,
    pub(super) now: OffsetDateTime,
    /// How the database stores text.
    pub(super) encoding: String,
    /// Whether a session of ours can only read.
    pub(super) is_read_only: bool,
}

/// The server and its database.
pub(super) async fn server(connection: &mut Session) -> Result<Server, sqlx::Error> {
    sqlx::query_as(
        "select pg_is_in_recovery() as is_standby, clock_timestamp() as now,
                current_setting('server_encoding') as encoding,
                current_setting('transaction_read_only')::boolean as is_read_only",
    )
    .fetch_one(connection)
    .await
}

/// A grant that is missing, as `grant` writes it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct MissingGrant {
    pub(super) privileges: String,
    pub(super) object: String,
    /// Of the object, unquoted.
    pub(super) schema: String,
    pub(super) role: String,
}

/// Of these relations, each with a privilege that is needed on it, those that our role lacks. Behind the privilege its columns: names
/// between commas, or `*` for all; without them any column will do. What does not exist is not lacking; another check covers that.
pub(super) async fn missing_grants(
    connection: &mut Session,
    needed: &[(&str, &str, &str)],
) -> Result<Vec<MissingGrant>, sqlx::Error> {
    let column = |pick: fn(&(&str, &str, &str)) -> String| needed.iter().map(pick).collect::<Vec<_>>();
    sqlx::query_as(
        "with needed as (
             select n.oid as namespace, n.nspname, w.relation, split_part(w.privilege, ' ', 1) as privilege,
                    split_part(w.privilege, ' ', 2) as columns, w.place
             from unnest($1::text[], $2::text[], $3::text[]) with ordinality w (schema, relation, privilege, place)
             join pg_namespace n on n.nspname = w.schema)
         select string_agg(m.privilege, ', ' order by m.place) as privileges, m.object, m.schema,
                format('%I', current_user) as role
         from (select 'usage' as privilege, format('schema %I', d.nspname) as object, d.nspname::text as schema, min(d.place) as place
               from needed d
               where not has_schema_privilege(d.namespace, 'usage')
               group by d.nspname
               union all
               -- Grants may be by column, of which some may be there.
               select d.privilege || case when d.columns <> '' and has_any_column_privilege(c.oid, d.privilege)
                                          then format(' (%s)', array_to_string(l.columns, ', ')) else '' end,
                      format('%I.%I', d.nspname, c.relname), d.nspname::text, d.place
               from needed d
               join pg_class c on c.relnamespace = d.namespace and c.relname = d.relation
               cross join lateral (
                   select array_agg(quote_ident(a.attname) order by a.attnum) as columns
                   from pg_attribute a
                   where d.columns <> '' and a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                     and (d.columns = '*' or a.attname = any (string_to_array(d.columns, ',')))
                     and not has_column_privilege(c.oid, a.attnum, d.privilege)) l
               where not case when d.privilege = 'delete' then has_table_privilege(c.oid, 'delete')
                              when d.columns <> '' then l.columns is null
                              else has_any_column_privilege(c.oid, d.privilege) end
               union all
               select 'execute', format('function %s', p.oid::regprocedure), d.nspname::text, d.place
               from needed d
               join pg_proc p on p.pronamespace = d.namespace and p.proname = d.relation
               where d.privilege = 'execute' and not has_function_privilege(p.oid, 'execute')) m
         group by m.object, m.schema
         order by min(m.place)",
    )
    .bind(column(|(schema, _, _)| (*schema).to_owned()))
    .bind(column(|(_, relation, _)| (*relation).to_owned()))
    .bind(column(|(_, _, privilege)| (*privilege).to_owned()))
    .fetch_all(connection)
    .await
}

/// The owner of the attached table and the table, where that is partitioned and the owner may not make partitions that are captured.
pub(super) async fn partition_owner(
    connection: &mut Session,
) -> Result<Option<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select format('%I', pg_get_userbyid(c.relowner)), format('%I.%I', n.nspname, c.relname)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.oid = outbox.attached_table() and c.relkind = 'p'
           and not has_function_privilege(c.relowner, to_regprocedure('outbox.capture()'), 'execute')",
    )
    .fetch_optional(connection)
    .await
}

/// Whether a policy of the table applies to our role, and who that is. `None` without such a table.
pub(super) async fn row_security(
    connection: &mut Session,
    table: &TableName,
) -> Result<Option<(bool, String)>, sqlx::Error> {
    sqlx::query_as(
        "select row_security_active(c.oid), format('%I', current_user)
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = $2",
    )
    .bind(table.schema())
    .bind(table.table())
    .fetch_optional(connection)
    .await
}

/// Which indexes a table has.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct Indexes {
    /// The columns with which a whole and valid index begins.
    pub(super) leading: Vec<String>,
    pub(super) has_inserted_at: bool,
}

/// The indexes of the table; `None` without such a table.
pub(super) async fn indexes(
    connection: &mut Session,
    table: &TableName,
) -> Result<Option<Indexes>, sqlx::Error> {
    sqlx::query_as(
        "select array(select a.attname::text
                      from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                      where i.indrelid = c.oid and i.indisvalid and i.indpred is null) as leading,
                exists (select from pg_attribute a
                        where a.attrelid = c.oid and a.attname = 'inserted_at' and not a.attisdropped) as has_inserted_at
         from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relname = $2",
    )
    .bind(table.schema())
    .bind(table.table())
    .fetch_optional(connection)
    .await
}

/// A transaction that takes long.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) seconds: f64,
    pub(super) state: Option<String>,
    pub(super) application_name: Option<String>,
}

/// Transactions of this database that began longer ago, the oldest few.
pub(super) async fn transactions(
    connection: &mut Session,
    older_than: Duration,
) -> Result<Vec<Running>, sqlx::Error> {
    sqlx::query_as(
        "select pid, extract(epoch from clock_timestamp() - xact_start)::float8 as seconds, state, application_name
         from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
           and xact_start < clock_timestamp() - $1 * interval '1 second'
         order by xact_start limit 5",
    )
    .bind(older_than.as_secs_f64())
    .fetch_all(connection)
    .await
}

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(super) struct Prepared {
    pub(super) gid: String,
    pub(super) seconds: f64,
    pub(super) owner: String,
}

/// Transactions of this database that were prepared longer ago, the oldest few.
pub(super) async fn prepared(
    connection: &mut Session,
    older_than: Duration,
) -> Result<Vec<Prepared>, sqlx::Error> {
    sqlx::query_as(
        "select gid, extract(epoch from clock_timestamp() - prepared)::float8 as seconds, owner::text as owner
         from pg_prepared_xacts
         where database = current_database() and prepared < clock_timestamp() - $1 * interval '1 second'
         order by prepared limit 5",
    )
    .bind(older_than.as_secs_f64())
    .fetch_all(connection)
    .await
}

/// Our role, if sessions of others do not show it when their transactions began.
pub(super) async fn role_without_stats(connection: &mut Session) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('%I', current_user)
         where exists (select from pg_stat_activity
                       where datname = current_database() and pid <> pg_backend_pid() and backend_type is null)",
    )
    .fetch_optional(connection)
    .await
}

/// The owner of `outbox.safe_before()`, with whose rights it runs.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(super) struct SafeBeforeOwner {
    pub(super) role: String,
    /// Whether it sees when the transactions of other roles began.
    pub(super) sees: bool,
    /// Whether it is a member of the role that lets it, inheriting or not.
    pub(super) is_member: bool,
    /// Whether a policy of the table applies to it.
    pub(super) is_under_policy: bool,
}

/// The owner of `outbox.safe_before()`; `None` without that function.
pub(super) async fn bound_owner(
    connection: &mut Session,
    table: &TableName,
) -> Result<Option<SafeBeforeOwner>, sqlx::Error> {
    sqlx::query_as(
        "select p.proowner::regrole::text as role, pg_has_role(p.proowner, 'pg_read_all_stats', 'usage') as sees,
                pg_has_role(p.proowner, 'pg_read_all_stats', 'member') as is_member,
                exists (select from pg_class c join pg_namespace t on t.oid = c.relnamespace
                        where t.nspname = $1 and c.relname = $2 and c.relrowsecurity
                          and (c.relforcerowsecurity or not pg_has_role(p.proowner, c.relowner, 'usage'))
                          and not r.rolsuper and not r.rolbypassrls) as is_under_policy
         from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_roles r on r.oid = p.proowner
         where n.nspname = 'outbox' and p.proname = 'safe_before'",
    )
    .bind(table.schema())
    .bind(table.table())
    .fetch_optional(connection)
    .await
}

/// Whether autovacuum works at all, and the tables of the outbox for which it is switched off.
pub(super) async fn autovacuum(connection: &mut Session) -> Result<(bool, Vec<String>), sqlx::Error> {
    sqlx::query_as(
        "select current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean,
                array(select c.relname::text
                      from pg_class c join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = 'outbox' and exists (
                          select from pg_options_to_table(c.reloptions) o
                          where o.option_name = 'autovacuum_enabled' and not o.option_value::boolean)
                      order by c.relname)",
    )
    .fetch_one(connection)
    .await
}

#[cfg(test)]
mod tests {
    use sandbox::fixture::source_database;
    use sqlx::Executor as _;

    use super::*;

    /// The doctor's own limit is an hour, which no test waits for.
    #[tokio::test]
    async fn transactions_that_run_and_that_are_prepared_are_seen_with_their_age() -> anyhow::Result<()> {
        let source = source_database().await?;
        let (mut held, mut watch) = (source.connect().await?, Session::from(source.connect().await?));
        assert_eq!(transactions(&mut watch, Duration::ZERO).await?, []);
        held.execute("set application_name = 'forgotten'; begin; select 1").await?;
        let [running] = &transactions(&mut watch, Duration::ZERO).await?[..] else {
            panic!("one transaction runs");
        };
        assert_eq!(running.application_name.as_deref(), Some("forgotten"));
        assert_eq!(running.state.as_deref(), Some("idle in transaction"));
        assert!((0.0..3_600.0).contains(&running.seconds), "{running:?}");
        assert_eq!(transactions(&mut watch, Duration::from_secs(3_600)).await?, []);

        let name = format!("doctor_{}", uuid::Uuid::new_v4().simple());
        held.execute(sqlx::AssertSqlSafe(format!("prepare transaction '{name}'"))).await?;
        let [Prepared { gid, seconds, .. }] = &prepared(&mut watch, Duration::ZERO).await?[..] else {
            panic!("one transaction is prepared");
        };
        assert!(*gid == name && *seconds >= 0.0, "{gid}");
        assert_eq!(prepared(&mut watch, Duration::from_secs(3_600)).await?, []);
        held.execute(sqlx::AssertSqlSafe(format!("rollback prepared '{name}'"))).await?;
        Ok(())
    }
}
