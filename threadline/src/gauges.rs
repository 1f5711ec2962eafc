//! The state of a timeline as figures, for Prometheus. Each is bounded in rows and in time, as the checks of [`doctor`] are: nothing
//! is counted but the newest rows of small tables, times are read from the ends of indexes, numbers of rows are vacuum's estimates.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    StorageSchema,
    coverage::{Expectations, Severity},
    doctor::{self, CHECK_TIME, State, bounded},
    install::owned_tables,
    schema_status::MIGRATIONS,
    telemetry::{
        Tables,
        names::{self, Metric},
    },
};

/// Rows of a table of runs or jobs that are looked at, the newest.
const ROWS_MAX: i64 = 1_000;

/// A value of one figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which figure, of [`names::STATE`].
    pub name: &'static str,
    /// Its labels, with their values: words of this program, and names of the timeline's own tables.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: f64,
}

/// What was read of a timeline. What could not be read, or is not there, is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauges {
    /// The values, those of one figure one after another.
    pub samples: Vec<Sample>,
}

/// Reads all figures, with everything that [`doctor::run`] looks at.
///
/// # Errors
/// When the connection is lost. What the server refuses, or has no time for, is left out.
pub async fn read(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    expectations: &Expectations,
) -> Result<Gauges, sqlx::Error> {
    let mut gauges = Gauges { samples: Vec::new() };
    let (report, coverage) = doctor::with_coverage(connection, storage, expectations).await?;
    if let Some(coverage) = coverage {
        let Tables { covered, uncovered, expected_uncovered } = coverage.tables();
        for (state, tables) in names::TABLE_STATES.into_iter().zip([covered, uncovered, expected_uncovered]) {
            gauges.add(names::TABLES, &[("state", state)], number(tables));
        }
        for severity in [Severity::Error, Severity::Warning] {
            let found = coverage.findings().filter(|finding| finding.severity == severity).count();
            gauges.add(names::FINDINGS, &[("severity", severity.as_str())], number(found));
        }
    }
    for item in &report.items {
        for state in State::ALL {
            let is = if item.state == state { 1.0 } else { 0.0 };
            gauges.add(names::CHECK_STANDS, &[("check", item.id), ("state", state.as_str())], is);
        }
    }
    gauges.ends_of_changes(connection, storage).await?;
    gauges.sizes(connection, storage).await?;
    gauges.runs_and_receipts(connection, storage).await?;
    gauges.jobs(connection, storage).await?;
    let version = format!("select max(version)::float8 from {}", storage.table(MIGRATIONS));
    gauges.add_one(names::SCHEMA_VERSION, one(connection, version).await?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauges.add(names::COLLECTED, &[], now.as_secs_f64());
    Ok(gauges)
}

impl Gauges {
    /// Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Metric { name, help, .. } in names::STATE {
            let mut samples = self.samples.iter().filter(|sample| sample.name == *name).peekable();
            if samples.peek().is_none() {
                continue;
            }
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
            for Sample { labels, value, .. } in samples {
                let labels: Vec<String> =
                    labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }

    fn add(&mut self, name: &'static str, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        self.samples.push(Sample { name, labels, value });
    }

    fn add_one(&mut self, name: &'static str, value: Option<f64>) {
        if let Some(value) = value {
            self.add(name, &[], value);
        }
    }

    async fn ends_of_changes(
        &mut self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        for (name, order) in [(names::NEWEST_CHANGE, "desc"), (names::OLDEST_CHANGE, "asc")] {
            let statement = format!(
                "select extract(epoch from captured_at)::float8 from {}
                 where captured_at > '-infinity' and captured_at < 'infinity' order by captured_at {order} limit 1",
                storage.table("audit_changes")
            );
            self.add_one(name, one(connection, statement).await?);
        }
        Ok(())
    }

    async fn sizes(
        &mut self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        // Less than nothing: vacuum has never been there. A size waits for whoever has locked a table, an estimate does not.
        let figures = [
            (names::ROWS_ESTIMATE, "nullif(c.reltuples, -1)"),
            (names::TABLE_BYTES, "pg_total_relation_size(c.oid)"),
        ];
        for (name, figure) in figures {
            let statement = format!(
                "select o.relname::text, sum({figure})::float8
                 from pg_catalog.pg_class o join pg_catalog.pg_namespace n on n.oid = o.relnamespace
                 left join lateral pg_partition_tree(o.oid) p on p.isleaf
                 join pg_catalog.pg_class c on c.oid = coalesce(p.relid, o.oid::regclass)
                 where n.nspname = $1 and o.relname = any ($2) and o.relkind in ('r', 'p') group by 1 order by 1"
            );
            let read = bounded(connection, CHECK_TIME, async |connection| {
                let query = sqlx::query_as(AssertSqlSafe(statement)).persistent(false);
                query.bind(storage.as_str()).bind(owned_tables()).fetch_all(connection).await
            });
            let read: Vec<(String, Option<f64>)> = read.await?.unwrap_or_default();
            for (table, value) in &read {
                if let Some(value) = value {
                    self.add(name, &[("table", table)], *value);
                }
            }
        }
        Ok(())
    }

    async fn runs_and_receipts(
        &mut self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        let runs = storage.table("threadline_retention_runs");
        let of_runs = |what: &str| {
            format!(
                "select {what} from (select status, completed_at from {runs} order by inserted_at desc limit {ROWS_MAX}) r"
            )
        };
        let completed = "(max(extract(epoch from completed_at)) filter (where status = 'completed' and isfinite(completed_at)))::float8";
        let completed = one(connection, of_runs(completed)).await?;
        self.add_one(names::RETENTION_COMPLETED, completed);
        let open = one(connection, of_runs("count(*) filter (where status = 'running')::float8")).await?;
        self.add_one(names::RETENTION_OPEN, open);
        let receipts = storage.table("threadline_receipts");
        let sealed =
            format!("select extract(epoch from until)::float8 from {receipts} order by n desc limit 1");
        self.add_one(names::SEALED_UNTIL, one(connection, sealed).await?);
        Ok(())
    }

    async fn jobs(
        &mut self,
        connection: &mut PgConnection,
        storage: &StorageSchema,
    ) -> Result<(), sqlx::Error> {
        let statement = format!(
            "select array(select status from {} order by inserted_at desc limit {ROWS_MAX})",
            storage.table("threadline_export_jobs")
        );
        let statuses = bounded(connection, CHECK_TIME, async |connection| {
            sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).fetch_one(connection).await
        });
        let statuses: Result<Vec<String>, String> = statuses.await?;
        let Ok(statuses) = statuses else { return Ok(()) };
        // A status that nobody knows is a text of somebody's.
        let [known @ .., other] = names::JOB_STATUSES;
        let is = |status: &str| statuses.iter().filter(|one| *one == status).count();
        for status in known {
            self.add(names::EXPORT_JOBS, &[("status", status)], number(is(status)));
        }
        let others = statuses.len() - known.into_iter().map(is).sum::<usize>();
        self.add(names::EXPORT_JOBS, &[("status", other)], number(others));
        Ok(())
    }
}

/// The number that a statement answers with; none where there is no row, and where it may not be asked or takes too long.
async fn one(connection: &mut PgConnection, statement: String) -> Result<Option<f64>, sqlx::Error> {
    let asked = bounded(connection, CHECK_TIME, async |connection| {
        sqlx::query_scalar(AssertSqlSafe(statement)).persistent(false).fetch_optional(connection).await
    });
    let asked: Result<Option<Option<f64>>, String> = asked.await?;
    Ok(asked.ok().flatten().flatten())
}

#[expect(clippy::cast_precision_loss, reason = "numbers of tables, findings and jobs")]
fn number(count: usize) -> f64 {
    count as f64
}

/// As the value of a label stands in quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_help_type_and_values_in_the_order_of_the_page_and_escapes_labels() {
        let mut gauges = Gauges { samples: Vec::new() };
        gauges.add(names::SCHEMA_VERSION, &[], 29.0);
        gauges.add(names::TABLE_BYTES, &[("table", "a\"b\\c\nd")], 1.5e12);
        gauges.add(names::NEWEST_CHANGE, &[], 1_790_000_000.25);
        let lines: Vec<String> =
            gauges.text().lines().filter(|line| !line.starts_with("# HELP")).map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "# TYPE threadline_newest_change_timestamp_seconds gauge",
                "threadline_newest_change_timestamp_seconds 1790000000.25",
                "# TYPE threadline_table_bytes gauge",
                r#"threadline_table_bytes{table="a\"b\\c\nd"} 1500000000000"#,
                "# TYPE threadline_schema_version gauge",
                "threadline_schema_version 29",
            ]
        );
    }
}
