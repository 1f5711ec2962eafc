//! What really arrived, from both databases.

use std::collections::HashMap;

use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::results::{Latency, Sample};

/// Rows with an order-free digest of their ids.
type Digest = (i64, String);

const SOURCE: &str = "select count(*), coalesce(sum(hashtextextended(id::text, 0)::numeric), 0)::text from public.audit_events";
const TIMELINE: &str = "select count(*), coalesce(sum(hashtextextended(correlation_id, 0)::numeric), 0)::text \
                        from public.audit_actions";
const OUTBOX: &str = "select count(*), coalesce(sum(hashtextextended(audit_event_id::text, 0)::numeric), 0)::text \
                      from outbox.entries";

async fn digest(url: &str, statement: &'static str) -> anyhow::Result<Digest> {
    let mut connection = PgConnection::connect(url).await?;
    let digest = sqlx::query_as(statement).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(digest)
}

/// Counts the timeline; the sample is void when it is not the source's multiset.
pub(crate) async fn verify(sample: &mut Sample, source: &str, timeline: &str) -> anyhow::Result<()> {
    let (source, timeline) = (digest(source, SOURCE).await?, digest(timeline, TIMELINE).await?);
    compare(sample, &source, &timeline, "timeline");
    Ok(())
}

/// Counts the log instead.
pub(crate) async fn verify_log(sample: &mut Sample, source: &str) -> anyhow::Result<()> {
    let (rows, log) = (digest(source, SOURCE).await?, digest(source, OUTBOX).await?);
    compare(sample, &rows, &log, "log");
    Ok(())
}

fn compare(sample: &mut Sample, source: &Digest, target: &Digest, what: &str) {
    sample.rows = target.0.cast_unsigned();
    if source != target {
        let (rows, arrived) = (source.0, target.0);
        sample.void = Some(format!("{rows} rows committed, {arrived} in the {what}, or others"));
    }
}

/// Percentiles from commit to visible in the timeline, by the server's own commit times, of rows committed after `since`.
pub(crate) async fn latency(
    source: &str,
    timeline: &str,
    since: OffsetDateTime,
) -> anyhow::Result<Option<Latency>> {
    const COMMITTED: &str = "select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
                             from public.audit_events where pg_xact_commit_timestamp(xmin) > $1";
    const ARRIVED: &str = "select id, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
                           from public.audit_actions where pg_xact_commit_timestamp(xmin) > $1";
    let arrived: HashMap<Uuid, i64> = times(timeline, ARRIVED, since).await?.into_iter().collect();
    let mut taken: Vec<i64> = times(source, COMMITTED, since)
        .await?
        .into_iter()
        .filter_map(|(id, committed)| Some(arrived.get(&id)? - committed))
        .collect();
    taken.sort_unstable();
    let at = |share: usize| -> Option<f64> {
        let microseconds = *taken.get(taken.len().checked_sub(1)? * share / 100)?;
        Some(f64::from(i32::try_from(microseconds).ok()?) / 1_000.0)
    };
    Ok(at(50).zip(at(99)).map(|(p50, p99)| Latency { p50, p99 }))
}

async fn times(
    url: &str,
    statement: &'static str,
    since: OffsetDateTime,
) -> anyhow::Result<Vec<(Uuid, i64)>> {
    let mut connection = PgConnection::connect(url).await?;
    let times = sqlx::query_as(statement).bind(since).fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(times)
}
