//! What recorded rows say of the server: its clock, and its cluster.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::doctor::{check::Outcome, facts::Facts, remedy::Remedy};

/// Rows that are counted of the future, and of another cluster.
const COUNTED: i64 = 1_000;

pub(super) async fn clock(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    // A clock is set by fractions of a second all the time. The time is that of the transaction, which an index can be asked for.
    let statement = format!(
        "select count(*), coalesce(max(extract(epoch from least(c.captured_at, '9999-12-31Z') - now()))::float8, 0)
         from (select captured_at from {} where captured_at > now() + interval '5 seconds' limit $1) c",
        facts.table("audit_changes")
    );
    let (ahead, seconds): (i64, f64) = sqlx::query_as(AssertSqlSafe(statement))
        .persistent(false)
        .bind(COUNTED)
        .fetch_one(connection)
        .await?;
    if ahead == 0 {
        return Ok(Outcome::ok("none"));
    }
    let more = if ahead == COUNTED { " or more" } else { "" };
    let seen = format!("{ahead}{more} changes, of up to {seconds:.0} s ahead of the server's clock");
    let advice = "the clock was set back, or rows came from elsewhere: until that time they stand before everything that is captured; \
                  keep the clock by NTP";
    Ok(Outcome::attention(seen).remedy([Remedy::advice(advice)]))
}

pub(super) async fn cluster(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    // A number that this cluster has not given out yet; or one beside it, under which a number is filed that was given out before.
    let statement = format!(
        "select count(*) from (select from {} where txid >= pg_snapshot_xmax(pg_current_snapshot())::text::int8 limit $1) t",
        facts.table("audit_transactions")
    );
    let foreign: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
        .persistent(false)
        .bind(COUNTED)
        .fetch_one(connection)
        .await?;
    if foreign == 0 {
        return Ok(Outcome::ok("none of another one"));
    }
    let more = if foreign == COUNTED { " or more" } else { "" };
    let advice = "the database was restored from another cluster: changes are filed under their own transactions all the same, but positions \
                  of `threadline tail` from before lead nowhere; where the pipeline writes here, `publisher doctor` says whether a rebase is needed";
    Ok(Outcome::attention(format!("{foreign}{more} of another one")).remedy([Remedy::advice(advice)]))
}
