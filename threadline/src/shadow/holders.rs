//! Who keeps a swap from the locks and snapshots that it needs, in words.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::ActionTable;

/// Most sessions that are named.
const NAMED: i64 = 3;

/// A session of `pg_stat_activity a`. Of other roles' sessions the server shows less to a role without `pg_read_all_stats`.
const SESSION: &str = "concat_ws(', ', format('process %s', a.pid), nullif(a.application_name, ''), 'user ' || a.usename, a.state,
    'in a transaction since ' || to_char(a.xact_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'))";

/// Those who hold a lock on one of these tables, the longest first.
///
/// # Errors
/// When the server is away.
pub(super) async fn of(
    connection: &mut PgConnection,
    live: &ActionTable,
    shadow: &ActionTable,
) -> Result<Vec<String>, sqlx::Error> {
    let statement = format!(
        "select case when l.pid is null then format('the prepared transaction %L', p.gid)
                     when a.pid is null then format('process %s', l.pid) else {SESSION} end
         from (select distinct pid, case when pid is null then virtualtransaction end as prepared from pg_locks
               where locktype = 'relation' and granted and pid is distinct from pg_backend_pid()
                 and database = (select oid from pg_database where datname = current_database())
                 and relation in (to_regclass($1)::oid, to_regclass($2)::oid)) l
         left join pg_stat_activity a on a.pid = l.pid
         left join pg_prepared_xacts p on l.prepared = '-1/' || p.transaction::text
         order by coalesce(a.xact_start, p.prepared) limit $3"
    );
    let found = sqlx::query_scalar(AssertSqlSafe(statement)).bind(live.to_string()).bind(shadow.to_string());
    found.bind(NAMED).fetch_all(connection).await
}

/// These sessions, as far as they are still there.
///
/// # Errors
/// When the server is away.
pub(super) async fn sessions(
    connection: &mut PgConnection,
    pids: &[i32],
) -> Result<Vec<String>, sqlx::Error> {
    let statement = format!(
        "select {SESSION} from pg_stat_activity a where a.pid = any ($1) order by a.xact_start limit $2"
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(pids).bind(NAMED).fetch_all(connection).await
}
