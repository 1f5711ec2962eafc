//! Source against timeline, as multisets, from both databases.

use std::{collections::HashMap, fmt, time::Duration};

use common::identifier::TableName;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use threadline::StorageSchema;
use uuid::Uuid;

/// How many ids a list in a verdict shows.
const SHOWN: usize = 10;

/// The outcome.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Rows in the source.
    pub committed: usize,
    /// Rows in the timeline.
    pub projected: usize,
    /// Committed and not projected.
    pub missing: usize,
    /// Projected more than once.
    pub twice: usize,
    /// Projected and not committed.
    pub foreign: usize,
    /// Some of the ids behind the three numbers.
    pub examples: Vec<Uuid>,
    /// From commit to visible in the timeline, where both servers track commit times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// Percentiles, of rows committed while the pipeline ran.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    /// Half of all rows were faster.
    pub p50: Duration,
    /// 99 of 100 were faster.
    pub p99: Duration,
}

impl Verdict {
    /// Whether every committed row is in the timeline exactly once, and nothing else.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.missing == 0 && self.twice == 0 && self.foreign == 0
    }

    /// Reads both databases.
    ///
    /// # Errors
    /// When one of them is away.
    pub async fn compute(
        source_url: &str,
        table: &TableName,
        timeline_url: &str,
        schema: &StorageSchema,
    ) -> anyhow::Result<Self> {
        let source = read(source_url, &table.quoted(), "id::text").await?;
        let timeline = read(timeline_url, &schema.table("audit_actions"), "correlation_id").await?;
        let mut verdict = Self {
            committed: source.values().map(Vec::len).sum(),
            projected: timeline.values().map(Vec::len).sum(),
            missing: 0,
            twice: 0,
            foreign: 0,
            examples: Vec::new(),
            latency: None,
        };
        let mut latencies = Vec::new();
        for (key, commits) in &source {
            let wrong = match timeline.get(key).map_or(&[][..], Vec::as_slice) {
                [] => &mut verdict.missing,
                [arrival] => {
                    if let (Some(commit), Some(arrival)) = (commits[0], *arrival) {
                        latencies.push(arrival - commit);
                    }
                    continue;
                }
                _ => &mut verdict.twice,
            };
            *wrong += 1;
            verdict.examples.extend(key.parse::<Uuid>());
        }
        for (key, rows) in timeline.iter().filter(|(key, _)| !source.contains_key(*key)) {
            verdict.foreign += rows.len();
            verdict.examples.extend(key.parse::<Uuid>());
        }
        verdict.examples.truncate(SHOWN);
        verdict.latency = percentiles(latencies);
        Ok(verdict)
    }
}

fn percentiles(mut microseconds: Vec<i64>) -> Option<Latency> {
    microseconds.sort_unstable();
    let at = |share: usize| {
        let index = microseconds.len().checked_sub(1)? * share / 100;
        Some(Duration::from_micros(u64::try_from(*microseconds.get(index)?).unwrap_or(0)))
    };
    Some(Latency { p50: at(50)?, p99: at(99)? })
}

/// Keys with the commit times, in microseconds, of the rows that carry them.
async fn read(url: &str, table: &str, key: &str) -> anyhow::Result<HashMap<String, Vec<Option<i64>>>> {
    let mut connection = PgConnection::connect(url).await?;
    let tracked: String =
        sqlx::query_scalar("show track_commit_timestamp").fetch_one(&mut connection).await?;
    let time = match tracked.as_str() {
        "on" => "(extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint",
        _ => "null::bigint",
    };
    let statement = format!("select coalesce({key}, id::text) as key, {time} as time from {table}");
    let mut keys: HashMap<String, Vec<Option<i64>>> = HashMap::new();
    for row in sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await? {
        keys.entry(row.try_get("key")?).or_default().push(row.try_get("time")?);
    }
    connection.close().await?;
    Ok(keys)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { committed, projected, missing, twice, foreign, .. } = self;
        let word = if self.holds() { "PASS" } else { "FAIL" };
        write!(
            f,
            "{word}: committed {committed}, projected {projected}, missing {missing}, twice {twice}, foreign {foreign}"
        )?;
        if let Some(Latency { p50, p99 }) = self.latency {
            let milliseconds = |duration: Duration| duration.as_secs_f64() * 1_000.0;
            write!(
                f,
                "; commit to timeline p50 {:.1} ms, p99 {:.1} ms",
                milliseconds(p50),
                milliseconds(p99)
            )?;
        }
        if !self.examples.is_empty() {
            write!(f, "; for example {:?}", self.examples)?;
        }
        Ok(())
    }
}
