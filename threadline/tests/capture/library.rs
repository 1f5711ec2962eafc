//! The same workload that the Elixir library was given, and the rows that it wrote.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{capture, host, server_version};

const TABLES: &str = include_str!("tables.sql");
const WORKLOAD: &str = include_str!("workload.sql");
/// Number of the transaction, its actor, and the columns of the library.
const ROWS: &str = include_str!("library_rows.tsv");

/// Where ours differ on purpose: part of a row of the library's, what ours has instead (nothing: no row), and why.
const DIFFERENCES: [(&str, Option<&str>, &str); 7] = [
    ("3\t\\N\tpublic\tusers", None, "an update that changes nothing is no change"),
    ("4\t\\N\tpublic\tusers", None, "nor is one of excluded columns"),
    ("5\t\\N\tpublic\tusers", None, "nor is one of columns that do not count"),
    (
        "\tevents_p_jan\t",
        Some("\tevents_p\t"),
        "a change of a partition is filed under the table that it belongs to",
    ),
    (
        "\tevents_p_feb\t",
        Some("\tevents_p\t"),
        "a change of a partition is filed under the table that it belongs to",
    ),
    ("\t\"text\"\t", Some("\t\\N\t"), "an actor that is no object is none"),
    // Nothing of the library's: two rows more.
    ("", None, "a malformed actor does not abort the write, and a table that is emptied is recorded"),
];

/// Part of a merge, and a statement that does the same before PostgreSQL 15.
const MERGES: [(&str, &str); 2] = [
    (
        "USING (VALUES (8,50),(9,1))",
        "insert into counters values (8, 50, 'merged'), (9, 1, 'merged') on conflict (id) do update set n = excluded.n",
    ),
    ("USING (VALUES (9))", "delete from counters where id = 9"),
];

/// What ours write beyond the library, in the order of the workload, by what the row before it is about.
const ADDED: [&str; 2] = [
    "\\N\tpublic\tcounters\t{\"id\": \"7\"}\tupdate\t{\"n\": 3, \"id\": 7, \"note\": \"x\"}\t{note}\t\\N",
    "\\N\tpublic\tcounters\t{}\ttruncate\t\\N\t\\N\t\\N",
];

#[tokio::test]
async fn the_elixir_librarys_workload_gives_its_rows() -> anyhow::Result<()> {
    let (database, mut connection) = host(TABLES).await?;
    let was = |is: bool| json!({"store_changed_from": is});
    capture(
        &mut connection,
        &[
            (
                "users",
                json!({"exclude": ["password_hash"], "mask": ["email"], "mask_placeholder": "***", "except": ["updated_at"]}),
            ),
            ("line_items", was(false)),
            ("counters", was(false)),
            ("MixedCase", was(false)),
            ("billing.invoices", was(true)),
            ("events_p", was(false)),
            ("legacy_log", json!({"primary_key": ["code", "at"], "store_changed_from": false})),
            (
                "a_table_name_that_is_longer_than_thirty_six_bytes",
                json!({"mask": ["v"], "store_changed_from": false}),
            ),
            ("mood_keyed", was(false)),
            ("types_all", was(true)),
        ],
    )
    .await?;
    // Only a superuser writes as a replica.
    let mut connection = database.superuser().await?;
    let has_merge = server_version(&mut connection).await? >= 150_000;
    let instead = |step: &'static str| {
        MERGES.iter().find(|(merge, _)| step.contains(merge)).map(|(_, instead)| *instead)
    };
    for step in WORKLOAD.split("\n--\n") {
        let step = if has_merge { step } else { instead(step).unwrap_or(step) };
        if let Some(rows) = step.strip_prefix("copy counters from stdin\n") {
            let mut copy = connection.copy_in_raw("copy counters from stdin").await?;
            copy.send(format!("{rows}\n").into_bytes()).await?;
            copy.finish().await?;
        } else if step.starts_with("BEGIN") || step.starts_with("DO") {
            connection.execute(AssertSqlSafe(step.to_owned())).await?;
        } else {
            // As psql sends them: each in a transaction of its own.
            for statement in step.trim().trim_end_matches(';').split("; ") {
                connection.execute(AssertSqlSafe(statement.to_owned())).await?;
            }
        }
    }
    let ours: Vec<(i64, String)> = sqlx::query_as(
        "select dense_rank() over (order by t.txid),
                concat_ws(e'\\t', coalesce(t.actor_ref::text, '\\N'), c.table_schema, c.table_name, c.table_pk, c.op,
                          coalesce(c.data_after::text, '\\N'), coalesce(c.changed_fields::text, '\\N'),
                          coalesce(c.changed_from::text, '\\N'))
         from audit_changes c join audit_transactions t on t.id = c.transaction_id order by c.position",
    )
    .fetch_all(&mut connection)
    .await?;
    let theirs = ROWS.lines().filter_map(|line| {
        let mut line = line.to_owned();
        for (of_theirs, of_ours, _why) in DIFFERENCES.iter().filter(|(theirs, ..)| !theirs.is_empty()) {
            if line.contains(of_theirs) && (of_ours.is_some() || line.starts_with(of_theirs)) {
                line = line.replace(of_theirs, (*of_ours)?);
            }
        }
        let (transaction, rest) = line.split_once('\t')?;
        Some((transaction.parse::<i64>().ok()?, rest.to_owned()))
    });
    let theirs: Vec<(i64, String)> = theirs.collect();
    let extra: Vec<&String> =
        ours.iter().map(|(_, row)| row).filter(|row| ADDED.contains(&row.as_str())).collect();
    assert_eq!(extra, ADDED);
    let ours: Vec<(i64, String)> =
        ours.into_iter().filter(|(_, row)| !ADDED.contains(&row.as_str())).collect();
    let rows = |all: &[(i64, String)]| -> Vec<String> { all.iter().map(|(_, row)| row.clone()).collect() };
    for (ours, theirs) in rows(&ours).iter().zip(rows(&theirs)) {
        assert_eq!(*ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    // Rows of one transaction there are rows of one transaction here.
    let together =
        |all: &[(i64, String)]| -> Vec<bool> { all.windows(2).map(|pair| pair[0].0 == pair[1].0).collect() };
    assert_eq!(together(&ours), together(&theirs));
    Ok(())
}
