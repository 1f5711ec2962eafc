//! Who did it, and what it belongs to: as hosts say it.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    check::{Outcome, checks},
    facts::Facts,
    remedy::Remedy,
};

checks! {
    "actors.known" known, "Of the newest 1,000 captured transactions at most 5 % have no actor.";
    "actors.shape" shape, "Every actor of the newest 1,000 captured transactions is one: a type, and an id.";
    "actors.context" context, "What hosts say of their transactions could be read.";
    "actors.correlation" correlation, "At most half of the newest 1,000 actions have no correlation id.";
}

/// Rows that are looked at.
const SAMPLE: i64 = 1_000;

/// Fewer rows say nothing of how a host works.
const FEW: i64 = 20;

/// Migrations, imports and repairs are nobody's request, and rare; more than one transaction in twenty is a path of the application that
/// never says who acts.
const ANONYMOUS_PERCENT: i64 = 5;

/// Background jobs may have nothing to correlate with; where most actions have none, requests hand on no id.
const UNCORRELATED_PERCENT: i64 = 50;

/// Of a sample, more than so many percent.
fn exceeds(part: i64, of: i64, percent: i64) -> bool {
    of >= FEW && part * 100 > of * percent
}

async fn counted(connection: &mut PgConnection, statement: String) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(statement)).persistent(false).bind(SAMPLE).fetch_one(connection).await
}

async fn known(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let transactions = facts.table("audit_transactions");
    let newest = format!("from {transactions} order by occurred_at desc, id desc limit");
    let without = "coalesce(t.actor_ref, 'null') = 'null'";
    let statement =
        format!("select count(*), count(*) filter (where {without}) from (select actor_ref {newest} $1) t");
    let (seen, unknown) = counted(connection, statement).await?;
    let words = format!("{unknown} of the newest {seen} transactions have no actor");
    if seen == 0 {
        return Ok(Outcome::not_applicable("nothing was captured yet"));
    }
    if !exceeds(unknown, seen, ANONYMOUS_PERCENT) {
        return Ok(Outcome::ok(words));
    }
    let show = format!(
        "select t.source, count(*) from (select source, actor_ref {newest} {SAMPLE}) t where {without} group by 1 order by 2 desc"
    );
    Ok(Outcome::attention(words).remedy([
        Remedy::sql(show),
        Remedy::advice(
            "say who acts at the beginning of each transaction: threadline_begin in SQL, Timeline::transaction in Rust; strict = true in \
             a section of [capture.tables] refuses changes without an actor",
        ),
    ]))
}

async fn shape(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let newest =
        format!("from {} order by occurred_at desc, id desc limit", facts.table("audit_transactions"));
    let is_none = "t.actor_ref <> 'null' and not coalesce(
        case when jsonb_typeof(t.actor_ref) = 'object' then t.actor_ref ->> 'type' = 'anonymous'
            or t.actor_ref ->> 'type' = any ('{user,admin,service_account,job,system}')
               and jsonb_typeof(t.actor_ref -> 'id') = 'string' and t.actor_ref ->> 'id' <> '' end, false)";
    let statement =
        format!("select count(*), count(*) filter (where {is_none}) from (select actor_ref {newest} $1) t");
    let (seen, odd) = counted(connection, statement).await?;
    if seen == 0 {
        return Ok(Outcome::not_applicable("nothing was captured yet"));
    }
    let words = format!("{odd} of the newest {seen} transactions have an actor that is none");
    if odd == 0 {
        return Ok(Outcome::ok(words));
    }
    let show = format!(
        "select t.occurred_at, t.source, t.actor_ref from (select * {newest} {SAMPLE}) t where {is_none} order by 1 desc limit 20"
    );
    Ok(Outcome::attention(words).remedy([
        Remedy::sql(show),
        Remedy::advice(
            "whoever writes threadline.actor_ref gives {\"type\": …, \"id\": …}; the Elixir library fails on exports of anything else",
        ),
    ]))
}

async fn context(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("actors.context"))
}

async fn correlation(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    if !facts.has("audit_actions") {
        return Ok(Outcome::not_applicable("there is no table of actions"));
    }
    let newest = format!("from {} order by inserted_at desc, id desc limit", facts.table("audit_actions"));
    let statement = format!(
        "select count(*), count(*) filter (where a.correlation_id is null) from (select correlation_id {newest} $1) a"
    );
    let (seen, without) = counted(connection, statement).await?;
    if seen == 0 {
        return Ok(Outcome::not_applicable("no action was recorded yet"));
    }
    let words = format!("{without} of the newest {seen} actions have no correlation id");
    if !exceeds(without, seen, UNCORRELATED_PERCENT) {
        return Ok(Outcome::ok(words));
    }
    let show = format!(
        "select a.name, count(*) from (select name, correlation_id {newest} {SAMPLE}) a where a.correlation_id is null group by 1 order by 2 desc limit 20"
    );
    Ok(Outcome::attention(words).remedy([
        Remedy::sql(show),
        Remedy::advice("hand the correlation id of a request on: Action::correlation_id, or the context of its transaction"),
    ]))
}
