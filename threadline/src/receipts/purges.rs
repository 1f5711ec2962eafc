//! What retention has deleted, by its own word. A row that is gone says nothing of its time or its table, so a run counts where it can have deleted
//! it: the row is older than a cutoff of the run, and the run ended behind the row's receipt. And of all rows that are gone no more were
//! purged than runs say that they have deleted.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use sqlx::{PgConnection, Row as _};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{columns::Kind, error::ReceiptError, leaf::Leaf, receipt::Receipt, store::RECEIPTS};
use crate::{
    StorageSchema,
    query::{Statement, clamped_time},
};

const RUNS: &str = "threadline_retention_runs";

/// How much later than its time a row's id may be made: a statement that writes many rows has one time for all of them.
const ID_SLACK: Duration = Duration::hours(1);

/// What runs have deleted, by the kinds of rows.
#[derive(Debug, Default)]
pub(super) struct Purges([OfKind; Kind::ALL.len()]);

/// Of one kind.
#[derive(Debug, Default)]
struct OfKind {
    /// The earliest cutoff first.
    deleted: Vec<Deleted>,
    /// Rows that are gone, at the place of the first of `deleted` that they may be of.
    gone: BTreeMap<usize, u64>,
}

/// What a run has deleted up to one cutoff.
#[derive(Debug)]
struct Deleted {
    cutoff: OffsetDateTime,
    run: Uuid,
    /// When the run ended; none of one that is running.
    ended: Option<OffsetDateTime>,
    rows: u64,
}

/// The receipt that a row is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The row was committed behind it.
    pub(super) since: Option<OffsetDateTime>,
    /// The row was still there.
    pub(super) until: OffsetDateTime,
}

impl Bounds {
    pub(super) fn of(receipt: &Receipt) -> Self {
        Self { since: receipt.since, until: receipt.until }
    }
}

/// What a run says of itself.
#[derive(Debug)]
struct Run {
    id: Uuid,
    ended: Option<OffsetDateTime>,
    windows: Windows,
    /// Changes, by tables; none of a run that counts them together alone.
    tables: Option<BTreeMap<String, u64>>,
    /// In the order of kinds.
    rows: [u64; Kind::ALL.len()],
}

/// What a run says of its cutoffs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Windows {
    default: Option<String>,
    tables: Map<String, Value>,
    actions: Option<String>,
}

impl Windows {
    fn default_cutoff(&self) -> Option<OffsetDateTime> {
        self.default.as_deref().and_then(time)
    }

    fn of(&self, table: &str) -> Option<OffsetDateTime> {
        self.tables.get(table).map_or_else(|| self.default_cutoff(), |own| own.as_str().and_then(time))
    }
}

fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

impl Purges {
    /// Those of runs that say their cutoffs and what they have deleted; none where runs do not say them. A run that ended before the first
    /// receipt has deleted nothing of what is in one.
    pub(super) async fn read(
        connection: &mut PgConnection,
        schema: &StorageSchema,
    ) -> Result<Self, ReceiptError> {
        // The Elixir library's table has not all of these columns.
        let runs = Statement::new(format!(
            "select r.id, {}, (r.j -> 'windows')::text, (r.j -> 'deleted_tables')::text, (r.j ->> 'deleted_transactions')::int8,
                 (r.j ->> 'deleted_changes')::int8, (r.j ->> 'deleted_actions')::int8
             from (select r.id, r.completed_at, to_jsonb(r) as j from {} r) r
             where coalesce(r.completed_at, 'infinity') >= (select min(x.until) from {} x)",
            clamped_time("r.completed_at"),
            schema.table(RUNS),
            schema.table(RECEIPTS)
        ));
        let mut purges = Self::default();
        let mut rows = runs.query().fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (windows, tables): (Option<&str>, Option<&str>) = (row.try_get(2)?, row.try_get(3)?);
            let count = |index: usize| -> Result<u64, sqlx::Error> {
                Ok(row
                    .try_get::<Option<i64>, _>(index)?
                    .and_then(|count| count.try_into().ok())
                    .unwrap_or_default())
            };
            purges.add(Run {
                id: row.try_get(0)?,
                ended: row.try_get(1)?,
                windows: windows.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
                tables: tables.and_then(|text| serde_json::from_str(text).ok()),
                rows: [count(4)?, count(5)?, count(6)?],
            });
        }
        purges.sort();
        Ok(purges)
    }

    fn sort(&mut self) {
        for of_kind in &mut self.0 {
            of_kind.deleted.sort_unstable_by_key(|deleted| (deleted.cutoff, deleted.run));
        }
    }

    fn add(&mut self, run: Run) {
        let Run { id, ended, windows, tables, rows: [transactions, changes, actions] } = run;
        let mut of_changes: BTreeMap<OffsetDateTime, u64> = BTreeMap::new();
        // Of all tables together the latest cutoff counts.
        let latest = || {
            windows.tables.keys().filter_map(|table| windows.of(table)).chain(windows.default_cutoff()).max()
        };
        match tables {
            Some(tables) => {
                for (table, rows) in tables {
                    if let Some(cutoff) = windows.of(&table) {
                        *of_changes.entry(cutoff).or_default() += rows;
                    }
                }
            }
            None => of_changes.extend(latest().map(|cutoff| (cutoff, changes))),
        }
        // A transaction goes with its last change, or as one that had none.
        let of_transactions = of_changes.keys().copied().chain(windows.default_cutoff()).max();
        let of_actions = windows.actions.as_deref().and_then(time);
        let [by_transactions, by_changes, by_actions] = &mut self.0;
        let deleted = |(cutoff, rows)| Deleted { cutoff, run: id, ended, rows };
        by_transactions.deleted.extend(of_transactions.map(|cutoff| deleted((cutoff, transactions))));
        by_changes.deleted.extend(of_changes.into_iter().map(deleted));
        by_actions.deleted.extend(of_actions.map(|cutoff| deleted((cutoff, actions))));
        for of_kind in &mut self.0 {
            of_kind.deleted.retain(|deleted| deleted.rows > 0);
        }
    }

    /// The first run that may have purged the row of a leaf.
    pub(super) fn run_of(&self, leaf: &Leaf, bounds: Bounds) -> Option<Uuid> {
        let of_kind = &self.0[leaf.kind.place()];
        Some(of_kind.deleted[of_kind.first_of(leaf.id, bounds)?].run)
    }

    /// Counts a row that is gone; whether a run may have purged it.
    pub(super) fn count(&mut self, leaf: &Leaf, bounds: Bounds) -> bool {
        let of_kind = &mut self.0[leaf.kind.place()];
        let first = of_kind.first_of(leaf.id, bounds);
        if let Some(first) = first {
            *of_kind.gone.entry(first).or_default() += 1;
        }
        first.is_some()
    }

    /// How many of the counted rows which run has purged, and how many of which kind none has.
    pub(super) fn sums(&mut self) -> (BTreeMap<Uuid, u64>, Vec<(Kind, u64)>) {
        let mut purged = BTreeMap::new();
        let left =
            Kind::ALL.into_iter().zip(&mut self.0).map(|(kind, of_kind)| (kind, of_kind.share(&mut purged)));
        let left = left.filter(|(_, rows)| *rows > 0).collect();
        (purged, left)
    }
}

impl OfKind {
    /// An id of version 7 says when it was made; of another one only the receipt is known.
    fn first_of(&self, id: Uuid, Bounds { since, until }: Bounds) -> Option<usize> {
        let made = id.get_timestamp().and_then(|made| {
            let (seconds, nanoseconds) = made.to_unix();
            let made = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
            Some(made + Duration::nanoseconds(nanoseconds.into()) - ID_SLACK)
        });
        let made = made.filter(|_| id.get_version_num() == 7).or(since);
        let older = made.map_or(0, |made| self.deleted.partition_point(|deleted| deleted.cutoff <= made));
        let may_have = |deleted: &Deleted| deleted.ended.is_none_or(|ended| ended >= until);
        self.deleted[older..].iter().position(may_have).map(|at| older + at)
    }

    /// Shares the rows that are gone among the runs, those with the fewest of these first, which are the youngest. How many are left.
    fn share(&mut self, purged: &mut BTreeMap<Uuid, u64>) -> u64 {
        let mut left = 0;
        // The one with the earliest cutoff is at the end.
        let mut open: Vec<Deleted> = Vec::new();
        while let Some(deleted) = self.deleted.pop() {
            open.push(deleted);
            let mut gone = self.gone.remove(&self.deleted.len()).unwrap_or_default();
            while let Some(deleted) = open.last_mut().filter(|_| gone > 0) {
                let taken = gone.min(deleted.rows);
                *purged.entry(deleted.run).or_default() += taken;
                gone -= taken;
                deleted.rows -= taken;
                if deleted.rows == 0 {
                    open.pop();
                }
            }
            left += gone;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::{NoContext, Timestamp};

    use super::*;

    const FIRST: Uuid = Uuid::from_u128(1);
    const SECOND: Uuid = Uuid::from_u128(2);

    /// Two runs. The first one counts changes together, the second one by their tables.
    fn purges() -> Purges {
        let mut purges = Purges::default();
        for (id, ended, windows, tables, rows) in [
            (
                SECOND,
                datetime!(2026-04-01 00:00 UTC),
                r#"{"default": "2026-03-01T00:00:00Z", "actions": "2026-01-15T00:00:00Z", "tables": {"a.c": null, "a.d": "2026-03-15T00:00:00Z"}}"#,
                Some([("a.b", 2), ("a.c", 7), ("a.d", 1)]),
                [1, 10, 1],
            ),
            (
                FIRST,
                datetime!(2026-03-01 00:00 UTC),
                r#"{"default": "2026-01-01T00:00:00.000000Z", "tables": {"a.b": "2026-02-01T00:00:00Z", "a.c": null}, "actions": null}"#,
                None,
                [0, 3, 9],
            ),
        ] {
            let tables =
                tables.map(|tables| tables.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect());
            let windows = serde_json::from_str(windows).expect("windows");
            purges.add(Run { id, ended: Some(ended), windows, tables, rows });
        }
        purges.sort();
        purges
    }

    fn leaf(kind: Kind, id: Uuid) -> Leaf {
        Leaf { kind, id, hash: [0; 32] }
    }

    const UNTIL: OffsetDateTime = datetime!(2026-02-20 00:00 UTC);

    #[test]
    fn a_row_is_purged_by_the_first_run_whose_cutoff_is_behind_it() {
        let purges = purges();
        let known =
            |kind, since| purges.run_of(&leaf(kind, Uuid::from_u128(7)), Bounds { since, until: UNTIL });
        assert_eq!(known(Kind::Change, None), Some(FIRST));
        assert_eq!(known(Kind::Change, Some(datetime!(2026-01-20 00:00 UTC))), Some(FIRST));
        assert_eq!(known(Kind::Transaction, None), Some(SECOND), "the first one has deleted none");
        assert_eq!(known(Kind::Change, Some(datetime!(2026-02-01 00:00 UTC))), Some(SECOND));
        assert_eq!(known(Kind::Change, Some(datetime!(2026-03-15 00:00 UTC))), None);
        assert_eq!(known(Kind::Action, Some(datetime!(2026-01-10 00:00 UTC))), Some(SECOND));
        assert_eq!(known(Kind::Action, Some(datetime!(2026-01-20 00:00 UTC))), None);
        // An id that says its time counts more than the receipt that it is in.
        let made = |at: OffsetDateTime, since| {
            let id = Uuid::new_v7(Timestamp::from_unix(NoContext, at.unix_timestamp().unsigned_abs(), 0));
            purges.run_of(&leaf(Kind::Change, id), Bounds { since, until: UNTIL })
        };
        assert_eq!(made(datetime!(2026-03-15 02:00 UTC), None), None);
        assert_eq!(made(datetime!(2026-01-01 00:00 UTC), Some(datetime!(2026-04-01 00:00 UTC))), Some(FIRST));
    }

    #[test]
    fn a_run_that_ended_before_the_receipt_has_purged_nothing_of_it() {
        let run =
            |until| purges().run_of(&leaf(Kind::Change, Uuid::from_u128(7)), Bounds { since: None, until });
        assert_eq!(run(datetime!(2026-03-01 00:00 UTC)), Some(FIRST));
        assert_eq!(run(datetime!(2026-03-01 00:00:00.000001 UTC)), Some(SECOND));
        assert_eq!(run(datetime!(2026-04-01 00:00:00.000001 UTC)), None);
    }

    #[test]
    fn no_more_rows_were_purged_than_runs_have_deleted() {
        let count = |rows: &[(Kind, Option<OffsetDateTime>)]| {
            let mut purges = purges();
            for (kind, since) in rows {
                let is_counted =
                    purges.count(&leaf(*kind, Uuid::from_u128(7)), Bounds { since: *since, until: UNTIL });
                assert!(is_counted, "{kind} {since:?}");
            }
            let (of_runs, left) = purges.sums();
            (of_runs.into_iter().collect::<Vec<_>>(), left)
        };
        let (old, young) = (None, Some(datetime!(2026-03-10 00:00 UTC)));
        assert_eq!(count(&[]), (vec![], vec![]));
        // What is kept for ever and was deleted nevertheless counts for nothing: 3, 2 and 1.
        assert_eq!(count(&[(Kind::Change, old); 6]), (vec![(FIRST, 3), (SECOND, 3)], vec![]));
        assert_eq!(
            count(&[(Kind::Change, old); 8]),
            (vec![(FIRST, 3), (SECOND, 3)], vec![(Kind::Change, 2)])
        );
        // Of one table alone something younger goes, and the run says that it was one row.
        assert_eq!(count(&[(Kind::Change, young); 2]), (vec![(SECOND, 1)], vec![(Kind::Change, 1)]));
        assert_eq!(
            count(&[
                (Kind::Change, old),
                (Kind::Action, old),
                (Kind::Action, old),
                (Kind::Transaction, young)
            ]),
            (vec![(FIRST, 1), (SECOND, 2)], vec![(Kind::Action, 1)])
        );
    }
}
