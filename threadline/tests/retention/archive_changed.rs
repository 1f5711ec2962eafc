//! A row that is changed between its archive and its deletion stays, and is archived again as it is then.

use serde_json::Value;
use sqlx::Executor as _;
use threadline::retention::Keep;

use super::{DAY, Host, archive::entries, host, ten_days};

/// Six changes, of captured transactions of their own, which have the numbers 1 to 6; two transactions without changes, two actions.
async fn some() -> anyhow::Result<Host> {
    let mut host = host().await?;
    for n in 1..=6 {
        host.record(&[(n, "public.posts", 20 * DAY)]).await?;
    }
    host.record_empty(&[(11, 20 * DAY), (12, 20 * DAY)]).await?;
    host.connection
        .execute(
            "insert into audit_actions (name, actor_ref, status, inserted_at)
                 values ('one', '{}', 'ok', now() - interval '20 days'), ('two', '{}', 'ok', now() - interval '20 days'),
                        ('linked', '{}', 'ok', now() - interval '20 days');
             update audit_transactions set action_id = (select id from audit_actions where name = 'linked') where txid = 3",
        )
        .await?;
    Ok(host)
}

/// By hand, as an erasure does it, by what a transaction says of itself later, and by who corrects an action.
const CHANGED: [(&str, &str, u64); 3] = [
    (
        "changes",
        "update audit_changes c set data_after = '{\"id\": 1, \"note\": \"another\"}' from audit_transactions t where t.id = c.transaction_id and t.txid = 1;
         update audit_transactions set meta = '{\"note\": \"another\"}' where txid = 2;
         update audit_actions set comment = 'another' where name = 'linked';
         update audit_transactions set action_id = (select id from audit_actions where name = 'one') where txid = 4;
         update audit_changes c set position = c.position from audit_transactions t where t.id = c.transaction_id and t.txid = 5",
        4,
    ),
    ("transactions", "update audit_transactions set meta = '{\"note\": \"another\"}' where txid = 11", 1),
    ("actions", "update audit_actions set comment = 'another' where name = 'one'", 1),
];

#[tokio::test]
async fn a_row_that_is_changed_behind_its_archive_is_not_deleted_before_it_is_archived_as_it_is()
-> anyhow::Result<()> {
    for (what, changed, rows) in CHANGED {
        let mut host = some().await?;
        let event = format!("before insert on threadline_archives for each row when (new.what = '{what}')");
        let held = host.hold(&event).await?;
        let (timeline, with) = (host.timeline.clone(), host.archiving(100)?);
        let policy = ten_days().actions(Keep::days(10)?);
        let purging = tokio::spawn(async move { timeline.purge(&policy, &with).await });
        host.until_held().await?;
        host.connection.execute(changed).await?;
        drop(held);
        let purged = purging.await??;
        assert_eq!(purged.changed, rows, "{what}");
        let tables = ["audit_changes", "audit_transactions", "audit_actions"];
        let mut left = Vec::new();
        for table in tables {
            left.extend(host.rows(table).await?);
        }
        let before = host.archives().await?;
        host.connection.execute("drop trigger wait on threadline_archives").await?;
        let policy = ten_days().actions(Keep::days(10)?);
        let next = host.timeline.purge(&policy, &host.archiving(100)?).await?;
        assert_eq!(next.changed, 0);
        for table in tables {
            // What a purge says of itself is younger.
            let old = host.rows(table).await?.into_values().filter(|row| row["name"] != "audit.purged");
            assert_eq!(old.collect::<Vec<_>>(), Vec::<Value>::new(), "{what}: {table}");
        }
        // Of what was deleted each last form is in an archive.
        let archives = host.archives().await?;
        let all = entries(&archives)?;
        let (first, second) = all.split_at(entries(&before)?.len());
        let says =
            |entries: &[Value]| entries.iter().filter(|entry| entry.to_string().contains("another")).count();
        assert_eq!(says(first), 0, "{what}");
        assert!(says(second) > 0, "{what}");
        assert!(left.iter().any(|(_, row)| row.to_string().contains("another")), "{what}");
    }
    Ok(())
}
