//! Random histories, compared with what the words mean.

use std::{cell::RefCell, collections::BTreeSet};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;
use sqlx::Executor as _;
use threadline::{
    evidence::{HistoryFilter, Records, Subject},
    query::Instant,
};
use time::{Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::Recorded;

/// A record: subject, reference, second, id.
type Row = (usize, u8, i64, u8);

/// References that are equal as documents, however they are written: `1` and `1.0`, members in another order.
fn reference(n: u8) -> String {
    match n {
        0 => r#"{"n": 1, "m": [1, null]}"#.to_owned(),
        1 => r#"{"m": [1.0, null], "n": 1.0}"#.to_owned(),
        2 => r#"{"n": 1}"#.to_owned(),
        n => json!({"n": n.to_string()}).to_string(),
    }
}

/// Which reference it is: the first two are one.
fn identity(n: u8) -> u8 {
    n.max(1)
}

fn second(n: i64) -> OffsetDateTime {
    datetime!(2026-05-15 12:00:00 UTC) + Duration::seconds(n)
}

fn id(row: &Row) -> Uuid {
    Uuid::from_u128(u128::from(row.3) + 1)
}

/// The newest first.
fn ordered<'r>(rows: impl Iterator<Item = &'r Row>) -> Vec<&'r Row> {
    let mut rows: Vec<&Row> = rows.collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.2, id(row))));
    rows
}

fn latest<'r>(rows: impl Iterator<Item = &'r Row>) -> Vec<Uuid> {
    let mut seen = BTreeSet::new();
    let first = |row: &&&Row| seen.insert((row.0, identity(row.1)));
    ordered(rows).iter().filter(first).map(|row| id(row)).collect()
}

fn ids(records: &Records) -> Vec<Uuid> {
    records.records.iter().map(|record| record.id).collect()
}

async fn store(recorded: &mut Recorded, rows: &[Row]) -> anyhow::Result<()> {
    recorded.connection.execute("truncate threadline_evidence_records").await?;
    for row in rows {
        sqlx::query(
            "insert into threadline_evidence_records (id, subject, subject_ref, summary_status, recorded_at) values ($1, $2, $3::jsonb, 'ok', $4)",
        )
        .bind(id(row))
        .bind(Subject::ALL[row.0].as_str())
        .bind(reference(row.1))
        .bind(second(row.2))
        .execute(&mut recorded.connection)
        .await?;
    }
    Ok(())
}

#[test]
fn lists_are_what_a_model_says_for_any_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let recorded = RefCell::new(runtime.block_on(Recorded::nothing()).unwrap());
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let row = (0..3_usize, 0..5_u8, 0..6_i64);
    let rows = prop::collection::vec(row, 0..25).prop_map(|rows| -> Vec<Row> {
        // Ids in no order of time.
        let numbered = rows.into_iter().zip(0_u8..);
        numbered.map(|((subject, reference, at), n)| (subject, reference, at, n.reverse_bits())).collect()
    });
    let window = (prop::option::of(0..6_i64), prop::option::of(0..6_i64));
    let filter =
        (prop::option::of(0..3_usize), prop::option::of(0..5_u8), window, prop::option::of(1..8_u32));
    runner
        .run(&(rows, filter), |(rows, (subject, subject_ref, (from, to), limit))| {
            let mut recorded = recorded.borrow_mut();
            runtime.block_on(async {
                store(&mut recorded, &rows).await.unwrap();
                let evidence = recorded.evidence();
                prop_assert_eq!(ids(&evidence.list_overview(None).await.unwrap()), latest(rows.iter()));
                for (n, subject) in Subject::ALL.into_iter().enumerate() {
                    let of_subject = || rows.iter().filter(|row| row.0 == n);
                    let found = evidence.list_latest_subject_refs(subject, None).await.unwrap();
                    prop_assert_eq!(ids(&found), latest(of_subject()));
                    for named in 0..5 {
                        let expected = latest(of_subject().filter(|row| identity(row.1) == identity(named)));
                        let document = reference(named).parse().unwrap();
                        let found = evidence.get_latest_subject_ref(subject, document).await.unwrap();
                        prop_assert_eq!(found.map(|record| record.id), expected.first().copied());
                    }
                }
                let is_asked = |row: &&Row| {
                    subject.is_none_or(|subject| row.0 == subject)
                        && subject_ref.is_none_or(|asked| identity(row.1) == identity(asked))
                        && from.is_none_or(|from| row.2 >= from)
                        && to.is_none_or(|to| row.2 <= to)
                };
                let mut expected: Vec<Uuid> =
                    ordered(rows.iter().filter(is_asked)).into_iter().map(id).collect();
                let has_more = limit.is_some_and(|limit| expected.len() > limit as usize);
                expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
                let filter = HistoryFilter {
                    subject: subject.map(|n| Subject::ALL[n]),
                    subject_ref: subject_ref.map(|n| reference(n).parse().unwrap()),
                    from: from.map(|n| Instant::new(second(n))),
                    to: to.map(|n| Instant::new(second(n))),
                    limit,
                };
                let found = evidence.list_history(&filter).await.unwrap();
                prop_assert_eq!((ids(&found), found.has_more), (expected, has_more));
                Ok(())
            })
        })
        .unwrap();
}
