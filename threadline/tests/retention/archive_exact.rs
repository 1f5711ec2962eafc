//! An archive has what no driver holds, and what nobody writes but by hand, as it is stored.

use serde_json::{Value, json};
use sqlx::Executor as _;
use threadline::retention::Keep;

use super::{Host, archive::entries, host, ten_days};

/// Each with a captured transaction and an action of the same time, which nothing is linked to.
const TIMES: [&str; 3] = ["-infinity", "4713-01-01 00:00:00+00 BC", "0001-01-01 00:00:00+00"];

/// Arrays of names as somebody may write them, and as JSON.
const NAMES: [(&str, &str); 3] = [
    ("{NULL,title}", r#"[null,"title"]"#),
    ("{{a,NULL},{c,d}}", r#"[["a",null],["c","d"]]"#),
    ("{a}", r#"["a"]"#),
];

async fn odd() -> anyhow::Result<Host> {
    let mut host = host().await?;
    for (at, (names, _)) in TIMES.iter().zip(NAMES) {
        sqlx::query(
            "with t as (insert into audit_transactions (txid, occurred_at) select count(*), $1::text::timestamptz from audit_transactions returning *),
                  empty as (insert into audit_transactions (txid, occurred_at) select 10 + count(*), $1::text::timestamptz from audit_transactions),
                  a as (insert into audit_actions (name, actor_ref, status, inserted_at) values ('odd', '{}', 'ok', $1::text::timestamptz))
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at, changed_fields, json_nulls)
             select t.id, 'public', 'posts', '{}', 'update', t.occurred_at, $2::text[], $2::text[] from t",
        )
        .bind(at)
        .bind(names)
        .execute(&mut host.connection)
        .await?;
    }
    Ok(host)
}

#[tokio::test]
async fn times_that_no_driver_holds_and_odd_arrays_are_archived_as_they_are_stored() -> anyhow::Result<()> {
    let mut host = odd().await?;
    let policy = ten_days().actions(Keep::days(10)?);
    let purged = host.timeline.purge(&policy, &host.archiving(100)?).await?;
    assert_eq!((purged.deleted_changes, purged.deleted_transactions, purged.deleted_actions), (3, 6, 3));
    let entries = entries(&host.archives().await?)?;
    let of = |kind: &str, member: &str| {
        let of_kind = entries.iter().filter(|entry| entry["kind"] == kind);
        let mut values: Vec<String> =
            of_kind.map(|entry| entry[member].as_str().unwrap().to_owned()).collect();
        values.sort();
        values
    };
    for (kind, member) in [
        ("change", "captured_at_stored"),
        ("transaction", "occurred_at_stored"),
        ("action", "inserted_at_stored"),
    ] {
        let mut expected = TIMES;
        expected.sort_unstable();
        assert_eq!(of(kind, member), expected, "{kind}");
    }
    for (at, (_, names)) in TIMES.iter().zip(NAMES) {
        let change = entries.iter().find(|entry| entry["captured_at_stored"] == **at).unwrap();
        assert_eq!(change["transaction"]["occurred_at_stored"], **at);
        let names: Value = serde_json::from_str(names)?;
        assert_eq!((&change["changed_fields"], &change["json_nulls"]), (&names, &names));
        assert_eq!(change["captured_at"], json!("0001-01-01T00:00:00.000000Z"));
    }
    Ok(())
}

#[tokio::test]
async fn another_time_that_no_driver_holds_is_another_row() -> anyhow::Result<()> {
    let mut host = odd().await?;
    let held =
        host.hold("before insert on threadline_archives for each row when (new.what = 'changes')").await?;
    let (timeline, with) = (host.timeline.clone(), host.archiving(100)?);
    let purging = tokio::spawn(async move { timeline.purge(&ten_days(), &with).await });
    host.until_held().await?;
    let changed = "update audit_changes set captured_at = '0044-03-15 12:00Z BC' where captured_at = '-infinity';
         update audit_changes set changed_fields = '{{a},{NULL},{c},{d}}' where changed_fields = '{{a,NULL},{c,d}}'";
    host.connection.execute(changed).await?;
    drop(held);
    let purged = purging.await??;
    assert_eq!((purged.changed, purged.deleted_changes), (2, 1));
    Ok(())
}
