//! What retention has deleted, by its own word: a row that is gone and older than a purge's cutoff was purged.

use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{columns::Kind, error::ReceiptError};
use crate::{StorageSchema, query::Statement};

const RUNS: &str = "threadline_retention_runs";

/// Runs that are read, the newest ones.
const RUNS_MAX: i64 = 100_000;

/// How much later than its time a row's id may be made: a statement that writes many rows has one time for all of them.
const ID_SLACK: Duration = Duration::hours(1);

/// Purges, the earliest cutoff first.
#[derive(Debug, Default)]
pub(super) struct Purges {
    of_changes: Vec<(OffsetDateTime, Uuid)>,
    of_actions: Vec<(OffsetDateTime, Uuid)>,
}

/// What a run says of its cutoffs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Windows {
    default: Option<String>,
    tables: Map<String, Value>,
    actions: Option<String>,
}

impl Purges {
    /// Those of runs that say their cutoffs, and have deleted something or were completed; none where runs do not say them.
    pub(super) async fn read(
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<Self, ReceiptError> {
        let mut column =
            Statement::new("select exists (select from pg_attribute where attrelid = to_regclass(");
        column.bind(schema.table(RUNS)).push(") and attname = 'windows' and not attisdropped)");
        if !column.query().fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
            return Ok(Self::default());
        }
        let mut runs = Statement::new(format!("select r.id, r.windows::text from {} r", schema.table(RUNS)));
        runs.push(
            " where r.windows is not null and (r.status = 'completed' or r.deleted_count > 0
                   or (to_jsonb(r) ->> 'deleted_actions')::int8 > 0) order by r.inserted_at desc limit ",
        );
        runs.bind(RUNS_MAX);
        let mut purges = Self::default();
        for row in runs.fetch_all(connection).await? {
            let (run, windows): (Uuid, String) = (row.try_get(0)?, row.try_get(1)?);
            purges.add(run, &serde_json::from_str(&windows).unwrap_or_default());
        }
        purges.of_changes.sort_unstable();
        purges.of_actions.sort_unstable();
        Ok(purges)
    }

    /// The table of a change that is gone is not known: the latest of all cutoffs counts.
    fn add(&mut self, run: Uuid, windows: &Windows) {
        let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
        let tables = windows.tables.values().filter_map(Value::as_str);
        let changes = windows.default.as_deref().into_iter().chain(tables).filter_map(time).max();
        self.of_changes.extend(changes.map(|cutoff| (cutoff, run)));
        self.of_actions.extend(windows.actions.as_deref().and_then(time).map(|cutoff| (cutoff, run)));
    }

    /// The run that may have purged a row, which was committed behind `since`. An id of version 7 says when it was made; of another one
    /// only that is known.
    pub(super) fn run_of(&self, kind: Kind, id: Uuid, since: Option<OffsetDateTime>) -> Option<Uuid> {
        let made = id.get_timestamp().and_then(|made| {
            let (seconds, nanoseconds) = made.to_unix();
            let made = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
            Some(made + Duration::nanoseconds(nanoseconds.into()) - ID_SLACK)
        });
        let made = made.filter(|_| id.get_version_num() == 7).or(since);
        let purges = if kind == Kind::Action { &self.of_actions } else { &self.of_changes };
        purges.iter().find(|(cutoff, _)| made.is_none_or(|made| made < *cutoff)).map(|(_, run)| *run)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::{NoContext, Timestamp};

    use super::*;

    #[test]
    fn a_row_is_purged_by_the_first_run_whose_cutoff_is_behind_it() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut purges = Purges::default();
        for (run, windows) in [
            (
                first,
                r#"{"default": "2026-01-01T00:00:00.000000Z", "tables": {"a.b": "2026-02-01T00:00:00Z", "a.c": null}, "actions": null}"#,
            ),
            (
                second,
                r#"{"default": "2026-03-01T00:00:00Z", "actions": "2026-01-15T00:00:00Z", "tables": {}}"#,
            ),
        ] {
            purges.add(run, &serde_json::from_str(windows).expect("windows"));
        }
        let known = |kind, since| purges.run_of(kind, Uuid::from_u128(7), since);
        assert_eq!(known(Kind::Change, None), Some(first));
        assert_eq!(known(Kind::Change, Some(datetime!(2026-01-20 00:00 UTC))), Some(first));
        assert_eq!(known(Kind::Transaction, Some(datetime!(2026-02-01 00:00 UTC))), Some(second));
        assert_eq!(known(Kind::Change, Some(datetime!(2026-03-01 00:00 UTC))), None);
        assert_eq!(known(Kind::Action, Some(datetime!(2026-01-10 00:00 UTC))), Some(second));
        assert_eq!(known(Kind::Action, Some(datetime!(2026-01-20 00:00 UTC))), None);
        // An id that says its time counts more than the receipt that it is in.
        let made = |at: OffsetDateTime| {
            Uuid::new_v7(Timestamp::from_unix(NoContext, at.unix_timestamp().unsigned_abs(), 0))
        };
        assert_eq!(purges.run_of(Kind::Change, made(datetime!(2026-03-01 02:00 UTC)), None), None);
        let late = Some(datetime!(2026-04-01 00:00 UTC));
        assert_eq!(purges.run_of(Kind::Change, made(datetime!(2026-01-01 00:00 UTC)), late), Some(first));
    }
}
