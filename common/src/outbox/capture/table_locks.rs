//! Who keeps `attach` and `detach` from the lock that they need.

use crate::{identifier::TableName, session::Session};

/// Most transactions that are named.
const NAMED: i64 = 3;

/// The sessions whose lock on the table or a partition of it conflicts with making or dropping the trigger: each described,
/// the longest first. Of other roles' sessions the server shows less to a role that lacks `pg_read_all_stats`.
///
/// # Errors
/// When the server is away.
pub async fn holders(connection: &mut Session, table: &TableName) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select case when l.pid is null then format('the prepared transaction %L', p.gid)
                     else concat_ws(', ', format('process %s', l.pid), nullif(format('%s', nullif(a.application_name, '')), ''),
                                    'user ' || a.usename, a.state,
                                    'in a transaction since ' || to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))
                end
         from (select distinct pid, case when pid is null then virtualtransaction end as prepared from pg_locks
               where locktype = 'relation' and granted and pid is distinct from pg_backend_pid()
                 and database = (select oid from pg_database where datname = current_database())
                 and mode not in ('AccessShareLock', 'RowShareLock')
                 and relation in (select to_regclass($1)::oid union select relid from pg_partition_tree(to_regclass($1)))) l
         left join pg_stat_activity a on a.pid = l.pid
         left join pg_prepared_xacts p on l.prepared = '-1/' || p.transaction::text
         order by coalesce(a.xact_start, p.prepared) limit $2",
    )
    .bind(table.quoted())
    .bind(NAMED)
    .fetch_all(connection)
    .await
}
