//! How much of the log waits to be read: what re-drive and backfill give way to.

use sqlx::PgConnection;

/// The entries that the slowest of `readers` has not handed over yet; counting stops at `limit` for each.
///
/// # Errors
/// When the server is away.
pub async fn unread(
    connection: &mut PgConnection,
    readers: &[String],
    limit: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(max(waiting.count), 0)
         from (select distinct on (r.reader) r.s from outbox.rounds r where r.reader = any ($2)
               order by r.reader, r.n desc) head
         cross join lateral (
             select count(*) from (
                 select from outbox.entries e
                 where e.xid >= pg_snapshot_xmin(head.s) and not pg_visible_in_snapshot(e.xid, head.s)
                 limit $1) entry) waiting",
    )
    .bind(limit)
    .bind(readers)
    .fetch_one(connection)
    .await
}
