//! Evidence: windows that were sealed, and what happens to them later.

use end_to_end::Pipeline;
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use threadline::{
    StorageSchema, Timeline,
    retention::{Keep, Policy, PurgeOptions},
};
use time::{Duration, OffsetDateTime};

/// From RFC 8410, section 10.3, with its public half.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

/// From RFC 8032, section 7.1, test 1.
const OTHER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

const DAY: Duration = Duration::DAY;

/// Midnight, so many days ago.
fn midnight(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc().replace_time(time::Time::MIDNIGHT) - DAY * i32::try_from(days).unwrap()
}

fn written(time: OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339).unwrap()
}

/// Ten rows of each of the three days before yesterday, delivered.
async fn three_days(pipeline: &Pipeline) -> anyhow::Result<Vec<AuditRow>> {
    let rows: Vec<AuditRow> = (0..30)
        .map(|number| {
            let at = midnight(4 - number / 10) + Duration::minutes(number);
            AuditRow { occurred_at: at, inserted_at: at, ..AuditRow::sample("test.row") }
        })
        .collect();
    pipeline.commit(&rows).await?;
    pipeline.arrive(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    pipeline.settled("timeline").await?;
    Ok(rows)
}

async fn seal(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<Value> {
    let arguments: Vec<&str> = ["reconcile", "--seal"].iter().chain(arguments).copied().collect();
    // The leader stores how far everything is settled at its next look.
    wait::until_some("the window to be settled", end_to_end::DEADLINE, async || {
        let (done, said) = pipeline.command("consumer", &arguments)?;
        let later = said.contains("nothing is known to be delivered") || said.contains("may still come");
        anyhow::ensure!(done || later, "{said}");
        Ok(done.then_some(()))
    })
    .await?;
    let (_, receipts) = pipeline.ask("consumer", &["receipts", "list"])?;
    Ok(receipts.as_array().and_then(|receipts| receipts.last()).cloned().unwrap_or_default())
}

fn states(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<(bool, Vec<String>, String)> {
    let arguments: Vec<&str> = ["receipts", "verify"].iter().chain(arguments).copied().collect();
    let (done, answer) = pipeline.ask("consumer", &arguments)?;
    let windows = answer["windows"].as_array().cloned().unwrap_or_default();
    let states =
        windows.iter().map(|window| window["state"].as_str().unwrap_or_default().to_owned()).collect();
    Ok((done, states, answer["faults"].to_string()))
}

async fn signed() -> anyhow::Result<Pipeline> {
    let pipeline = Pipeline::new().await?;
    let key = pipeline.path("key.pem");
    std::fs::write(&key, KEY)?;
    pipeline.configure(&format!("[consumer.reconcile]\nreceipt_key_file = \"{}\"", key.display()))?;
    Ok(pipeline)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_one_removed_and_one_inserted_row_are_each_detected() -> anyhow::Result<()> {
    let pipeline = signed().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let rows = three_days(&pipeline).await?;
    let first =
        seal(&pipeline, &["--since", &written(midnight(4)), "--until", &written(midnight(3))]).await?;
    assert_eq!((&first["n"], &first["actions"], &first["key"]), (&1.into(), &10.into(), &PUBLIC.into()));
    let second = seal(&pipeline, &["--until", &written(midnight(2))]).await?;
    let third = seal(&pipeline, &["--until", &written(midnight(1))]).await?;
    assert_eq!((&second["previous"], &third["previous"]), (&first["hash"], &second["hash"]));
    let kept = third["hash"].as_str().unwrap_or_default().to_owned();
    let pinned = ["--key", PUBLIC, "--anchor", kept.as_str()];
    let (holds, found, faults) = states(&pipeline, &pinned)?;
    assert!(holds, "{found:?} {faults}");
    assert_eq!(found, ["intact", "intact", "intact"]);
    for (key, compared) in [(&[][..], false), (&pinned[..2], true)] {
        let (_, answer) = pipeline.ask("consumer", &[&["receipts", "verify"], key].concat())?;
        assert_eq!(answer["signatures_are_compared"], compared);
    }
    // With another key, the chain is not gone on with unless that is meant.
    let other = pipeline.path("other.pem");
    std::fs::write(&other, OTHER)?;
    let other = format!("consumer.reconcile.receipt_key_file={}", other.display());
    let (done, said) = pipeline.command("consumer", &["reconcile", "--seal", "--set", &other])?;
    assert!(!done && said.contains("receipt_key_changed: receipt 3 is signed with "), "{said}");

    let mut timeline = pipeline.timeline.connect().await?;
    let inserted = format!(
        "insert into audit_actions (id, name, actor_ref, status, correlation_id, inserted_at)
         select id, 'slipped.in', '{{\"type\":\"anonymous\"}}', 'ok', id::text, '{}' from gen_random_uuid() id",
        written(midnight(3) + Duration::HOUR)
    );
    for (tampering, state) in [
        (format!("update audit_actions set status = 'error' where id = '{}'", rows[3].id), 0),
        (format!("delete from audit_actions where id = '{}'", rows[25].id), 2),
        (inserted, 1),
    ] {
        timeline.execute("begin; create temp table kept as select * from audit_actions; commit").await?;
        timeline.execute(AssertSqlSafe(tampering.clone())).await?;
        let (holds, found, _) = states(&pipeline, &pinned)?;
        assert!(!holds, "{tampering}");
        for (window, found) in found.iter().enumerate() {
            let expected = if window == state { "timeline_changed" } else { "intact" };
            assert_eq!(found, expected, "{tampering}");
        }
        timeline
            .execute("begin; delete from audit_actions; insert into audit_actions select * from kept; drop table kept; commit")
            .await?;
    }
    assert!(states(&pipeline, &pinned)?.0, "as it was");

    // Somebody who changes both sides is found as well, and so is one who changes the receipts.
    let source = format!("update audit_events set outcome = 'failure' where id = '{}'", rows[3].id);
    pipeline.source.connect().await?.execute(AssertSqlSafe(source)).await?;
    let both = format!("update audit_actions set status = 'error' where id = '{}'", rows[3].id);
    timeline.execute(AssertSqlSafe(both)).await?;
    let (holds, found, _) = states(&pipeline, &pinned)?;
    assert!(!holds && found[0] == "changed", "{found:?}");
    timeline.execute("update audit_receipts set actions = 11 where n = 1").await?;
    let (_, _, faults) = states(&pipeline, &pinned)?;
    assert!(faults.contains("its hash is not that of its content"), "{faults}");
    timeline.execute("delete from audit_receipts where n = 3").await?;
    let (_, _, faults) = states(&pipeline, &pinned)?;
    assert!(faults.contains("was cut or written again"), "{faults}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_retention_has_removed_keeps_its_receipt() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    three_days(&pipeline).await?;
    seal(&pipeline, &["--since", &written(midnight(4)), "--until", &written(midnight(3))]).await?;
    seal(&pipeline, &["--until", &written(midnight(2))]).await?;
    let (done, said) = pipeline.command("consumer", &["reconcile", "--seal", "--since", "3days"])?;
    assert!(!done && said.contains("already covers"), "{said}");
    let (done, said) = pipeline
        .command("consumer", &["reconcile", "--seal", "--until", &written(OffsetDateTime::now_utc())])?;
    assert!(!done && said.contains("may still come"), "{said}");

    let before = written(midnight(3));
    let purge = format!("delete from audit_events where occurred_at < '{before}'");
    pipeline.source.connect().await?.execute(AssertSqlSafe(purge)).await?;
    assert_eq!(states(&pipeline, &[])?.1, ["intact", "intact"], "the timeline still has it");
    let purge = format!("delete from audit_actions where inserted_at < '{before}'");
    pipeline.timeline.connect().await?.execute(AssertSqlSafe(purge)).await?;
    let (holds, found, faults) = states(&pipeline, &[])?;
    assert!(holds, "{faults}");
    assert_eq!(found, ["purged", "intact"]);
    Ok(())
}

/// What a purge keeps of a window, because a captured transaction is linked to it, is no sign that retention has not come to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_a_purge_has_come_to_is_purged_and_not_changed() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let rows = three_days(&pipeline).await?;
    seal(&pipeline, &["--since", &written(midnight(4)), "--until", &written(midnight(3))]).await?;
    seal(&pipeline, &["--until", &written(midnight(2))]).await?;
    let link = format!("insert into audit_transactions (txid, action_id) values (7, '{}')", rows[3].id);
    pipeline.timeline.connect().await?.execute(AssertSqlSafe(link)).await?;
    let timeline =
        Timeline::new(sqlx::PgPool::connect(&pipeline.timeline.url).await?, StorageSchema::default());
    let policy = Policy::new(Keep::days(1)?)?.actions(Keep::days(1)?);
    for (cutoff, gone, states_then) in [
        (midnight(4) + Duration::minutes(5), 4, ["partly_purged", "intact"]),
        (midnight(3), 5, ["purged", "intact"]),
        (midnight(3) + Duration::minutes(15), 5, ["purged", "partly_purged"]),
    ] {
        let mut options = PurgeOptions::default();
        options.cutoff = Some(cutoff);
        let purged = timeline.purge(&policy, &options).await?;
        assert_eq!((purged.deleted_actions, purged.kept_actions), (gone, 1), "{cutoff}");
        let (holds, found, faults) = states(&pipeline, &[])?;
        assert!(holds, "{cutoff}: {found:?} {faults}");
        assert_eq!(found, states_then, "{cutoff}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_with_a_difference_is_not_sealed() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let rows = three_days(&pipeline).await?;
    let spoil = format!("delete from audit_actions where id = '{}'", rows[0].id);
    pipeline.timeline.connect().await?.execute(AssertSqlSafe(spoil)).await?;
    let error = seal(&pipeline, &["--until", &written(midnight(1))]).await.expect_err("a difference");
    assert!(error.to_string().contains("missing    1") && error.to_string().contains("NOT EQUAL"), "{error}");
    let (_, receipts) = pipeline.ask("consumer", &["receipts", "list"])?;
    assert_eq!(receipts, Value::Array(Vec::new()));
    Ok(())
}

/// What changes for a good reason is sealed again, also with a time that was given as `1h`.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_has_grown_is_told_apart_and_may_be_sealed_again() -> anyhow::Result<()> {
    let pipeline = signed().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let rows = three_days(&pipeline).await?;
    let (since, until) = (written(midnight(4)), written(midnight(3)));
    seal(&pipeline, &["--since", &since, "--until", &until]).await?;
    seal(&pipeline, &["--until", "1h"]).await?;
    assert_eq!(states(&pipeline, &["--key", PUBLIC])?.1, ["intact", "intact"]);

    let late = AuditRow { occurred_at: rows[5].occurred_at, ..AuditRow::sample("test.late") };
    pipeline.commit(std::slice::from_ref(&late)).await?;
    pipeline.arrive(&[late.id]).await?;
    pipeline.settled("timeline").await?;
    let (holds, found, _) = states(&pipeline, &["--key", PUBLIC])?;
    assert!(holds, "{found:?}");
    assert_eq!(found, ["grown", "intact"]);
    let (done, said) = pipeline
        .command("consumer", &["reconcile", "--seal", "--since", &since, "--until", &written(midnight(2))])?;
    assert!(!done && said.contains("only that very window"), "{said}");
    let again = seal(&pipeline, &["--since", &since, "--until", &until]).await?;
    assert_eq!((&again["n"], &again["actions"]), (&3.into(), &11.into()));
    let (holds, found, faults) = states(&pipeline, &["--key", PUBLIC])?;
    assert!(holds, "{faults}");
    assert_eq!(found, ["superseded", "intact", "intact"]);

    // Retention takes the oldest first. A window in the middle that is empty has not met it.
    let mut timeline = pipeline.timeline.connect().await?;
    let part = format!(
        "delete from audit_actions where inserted_at < '{}'",
        written(midnight(4) + Duration::minutes(3))
    );
    timeline.execute(AssertSqlSafe(part)).await?;
    let (holds, found, _) = states(&pipeline, &[])?;
    assert!(holds && found[2] == "partly_purged", "{found:?}");
    let middle = format!("delete from audit_actions where inserted_at >= '{until}'");
    timeline.execute(AssertSqlSafe(middle)).await?;
    let (holds, found, _) = states(&pipeline, &[])?;
    assert!(!holds && found[1] == "timeline_changed", "{found:?}");
    Ok(())
}

/// An application may write down today what happened years ago.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_window_begins_with_the_oldest_event_and_what_lies_outside_is_counted() -> anyhow::Result<()>
{
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let now = OffsetDateTime::now_utc();
    let imported: Vec<AuditRow> = (0..20)
        .map(|number| AuditRow {
            occurred_at: midnight(400 - number),
            inserted_at: now,
            ..AuditRow::sample("test.imported")
        })
        .collect();
    pipeline.commit(&imported).await?;
    pipeline.arrive(&imported.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    pipeline.settled("timeline").await?;
    let first = seal(&pipeline, &["--until", &written(midnight(390))]).await?;
    assert_eq!((&first["actions"], &first["since"]), (&10.into(), &written(midnight(400)).into()));
    let second = seal(&pipeline, &["--until", &written(midnight(1))]).await?;
    assert_eq!(&second["actions"], 10);

    let old = AuditRow { occurred_at: midnight(500), ..AuditRow::sample("test.older") };
    pipeline.commit(std::slice::from_ref(&old)).await?;
    pipeline.arrive(&[old.id]).await?;
    pipeline.settled("timeline").await?;
    let (done, said) = pipeline.command("consumer", &["receipts", "verify"])?;
    assert!(done && said.contains("1 action(s) lie before the first window"), "{said}");
    let (since, until) = (written(midnight(501)), written(midnight(450)));
    let third = seal(&pipeline, &["--since", &since, "--until", &until]).await?;
    assert_eq!((&third["n"], &third["actions"]), (&3.into(), &1.into()), "before the others, by itself");
    let (_, answer) = pipeline.ask("consumer", &["receipts", "verify"])?;
    assert_eq!(answer["outside"], serde_json::json!({"before": 0, "between": 0, "behind": 0}));
    for row in [&imported[3], &imported[17], &old] {
        let spoil = format!("update audit_actions set status = 'error' where id = '{}'", row.id);
        pipeline.timeline.connect().await?.execute(AssertSqlSafe(spoil)).await?;
        let (holds, found, _) = states(&pipeline, &[])?;
        assert!(!holds && found.contains(&"timeline_changed".to_owned()), "{found:?}");
        let fix = format!("update audit_actions set status = 'ok' where id = '{}'", row.id);
        pipeline.timeline.connect().await?.execute(AssertSqlSafe(fix)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_to_seal_is_no_failure_and_no_window_ends_before_it_begins() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let settled = |arguments: &[&str]| -> anyhow::Result<(bool, String)> {
        let arguments: Vec<&str> = ["reconcile", "--seal"].iter().chain(arguments).copied().collect();
        pipeline.command("consumer", &arguments)
    };
    let future =
        AuditRow { occurred_at: OffsetDateTime::now_utc() + DAY, ..AuditRow::sample("test.tomorrow") };
    pipeline.commit(std::slice::from_ref(&future)).await?;
    pipeline.arrive(&[future.id]).await?;
    pipeline.settled("timeline").await?;
    let before = written(midnight(1));
    wait::until_some("an answer", end_to_end::DEADLINE, async || {
        let (done, said) = settled(&["--until", &before])?;
        anyhow::ensure!(done || said.contains("nothing is known to be delivered"), "{said}");
        Ok(said.contains("nothing new to seal: nothing happened before").then_some(()))
    })
    .await?;
    three_days(&pipeline).await?;
    let receipt = seal(&pipeline, &["--until", &before]).await?;
    assert_eq!(&receipt["until"], &before);
    for until in [before.clone(), written(midnight(2)), written(midnight(9))] {
        let (done, said) = settled(&["--until", &until])?;
        assert!(done && said.contains("nothing new to seal: receipts reach up to"), "{until}: {said}");
        let (done, answer) = pipeline.ask("consumer", &["reconcile", "--seal", "--until", &until])?;
        assert!(done && answer["sealed"] == false, "{answer}");
    }
    let (done, said) = settled(&["--since", &written(midnight(8)), "--until", &written(midnight(9))])?;
    assert!(!done && said.contains("before it begins"), "{said}");
    let (_, receipts) = pipeline.ask("consumer", &["receipts", "list"])?;
    let windows = receipts.as_array().unwrap();
    assert_eq!(windows.len(), 1, "{receipts}");
    assert!(windows.iter().all(|one| one["since"].as_str() < one["until"].as_str()), "{receipts}");
    Ok(())
}

/// An ordinary row is inserted a little later than it happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_rows_that_were_inserted_later_than_they_happened_may_grow() -> anyhow::Result<()> {
    let pipeline = signed().await?;
    let _publisher = pipeline.publisher_with(&["--set", "relay.maintenance_interval=200ms"])?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let row = |hours: i64| {
        let at = midnight(2) + Duration::hours(hours);
        AuditRow { occurred_at: at, inserted_at: at + Duration::SECOND, ..AuditRow::sample("test.row") }
    };
    let rows = [row(1), row(5)];
    pipeline.commit(&rows).await?;
    pipeline.arrive(&rows.each_ref().map(|row| row.id)).await?;
    pipeline.settled("timeline").await?;
    seal(&pipeline, &["--since", &written(midnight(2)), "--until", &written(midnight(1))]).await?;
    let late = [row(3)];
    pipeline.commit(&late).await?;
    pipeline.arrive(&[late[0].id]).await?;
    pipeline.settled("timeline").await?;
    let (done, states, faults) = states(&pipeline, &[])?;
    assert!(done && states == ["grown"], "{states:?} {faults}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_may_not_be_read_are_not_said_to_be_missing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut superuser = pipeline.timeline.superuser().await?;
    superuser.execute("revoke select on audit_receipts from audit_reconciler").await?;
    for arguments in [&["receipts", "list"][..], &["receipts", "verify"], &["reconcile", "--seal"]] {
        let (done, said) = pipeline.command("consumer", arguments)?;
        assert!(!done && said.contains("deploy/postgres/timeline.sql"), "{arguments:?}: {said}");
        assert!(!said.contains("threadline install"), "{arguments:?}: {said}");
    }
    superuser.execute("drop table audit_receipts").await?;
    for arguments in [&["receipts", "list"][..], &["receipts", "verify"], &["reconcile", "--seal"]] {
        let (done, said) = pipeline.command("consumer", arguments)?;
        assert!(!done && said.contains("threadline install --schema public"), "{arguments:?}: {said}");
    }
    Ok(())
}
