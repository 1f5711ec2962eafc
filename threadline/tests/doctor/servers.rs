//! What is the whole server's: roles, autovacuum, slots, event triggers; and chains of receipts.

use std::time::Duration;

use sandbox::{postgres::Postgres, wait, work_dir::WorkDir};
use sqlx::Executor as _;
use threadline::{
    Receipt, StorageSchema,
    receipt::{SealedWindow, append},
};
use time::macros::datetime;

use super::Host;

async fn follow(host: &mut Host, id: &str) -> anyhow::Result<()> {
    let report = host.doctor()?;
    for step in report.item(id)["remedy"].as_array().unwrap() {
        host.follow(step).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_acts_as_the_owner_is_found_and_a_revoke_ends_it() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start(&work_dir, false)?;
    let mut host = Host::alone(&server).await?;
    host.run("create role \"The app\" login; grant owner to \"The app\"").await?;
    let report = host.doctor()?;
    assert_eq!(report.state("capture.owner"), "attention", "{}", report.0);
    assert!(report.item("capture.owner")["seen"].as_str().unwrap().contains("\"The app\""));
    follow(&mut host, "capture.owner").await?;
    assert_eq!(host.doctor()?.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn a_server_without_autovacuum_fails_and_dead_rows_need_attention() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server = Postgres::start_with(&work_dir, false, "autovacuum = off")?;
    let mut host = Host::alone(&server).await?;
    assert_eq!(host.doctor()?.wrong(), [("observability.vacuum".to_owned(), "failed".to_owned())]);
    // Nothing vacuums meanwhile: the next round of autovacuum is a long time off.
    host.run("alter system set autovacuum_naptime = '1d'").await?;
    follow(&mut host, "observability.vacuum").await?;
    wait::until_some("autovacuum to be on", Duration::from_secs(30), async || {
        Ok((host.doctor()?.state("observability.vacuum") == "ok").then_some(()))
    })
    .await?;
    host.connection
        .execute(
            "insert into audit_actions (name, actor_ref, status, correlation_id)
             select 'a.b', '{\"type\": \"anonymous\"}', 'ok', 'c1' from generate_series(1, 20000);
             delete from audit_actions where ctid > '(10,0)'",
        )
        .await?;
    wait::until_some("the statistics of dead rows", Duration::from_secs(30), async || {
        Ok((host.doctor()?.state("observability.vacuum") == "attention").then_some(()))
    })
    .await?;
    follow(&mut host, "observability.vacuum").await?;
    wait::until_some("the statistics of the vacuum", Duration::from_secs(30), async || {
        Ok((host.doctor()?.wrong().is_empty()).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_slot_that_holds_too_much_of_the_log_is_found_and_dropped() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let server =
        Postgres::start_with(&work_dir, false, "max_slot_wal_keep_size = '1MB'\nmin_wal_size = '32MB'")?;
    let mut host = Host::alone(&server).await?;
    host.run("select pg_create_physical_replication_slot('gone', true)").await?;
    assert_eq!(host.doctor()?.state("observability.slots"), "ok");
    for _ in 0..4 {
        host.run("create table filler as select 1; drop table filler; select pg_switch_wal()").await?;
    }
    host.run("checkpoint").await?;
    let report = host.doctor()?;
    assert_eq!(report.state("observability.slots"), "attention", "{}", report.item("observability.slots"));
    follow(&mut host, "observability.slots").await?;
    assert_eq!(host.doctor()?.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn event_triggers_are_listed() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    assert_eq!(host.doctor()?.item("observability.event_triggers")["seen"], "none");
    host.run(
        "create function theirs() returns event_trigger language plpgsql as 'begin end';
         create event trigger \"Their own\" on ddl_command_end execute function theirs()",
    )
    .await?;
    let report = host.doctor()?;
    assert_eq!(report.item("observability.event_triggers")["seen"], "\"Their own\" (ddl_command_end)");
    assert_eq!(report.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn a_receipt_that_somebody_has_changed_fails() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    let mut last: Option<Receipt> = None;
    for day in 0..3 {
        let since = datetime!(2026-05-01 00:00 UTC) + time::Duration::days(day);
        let window = SealedWindow {
            forwarder: "timeline".to_owned(),
            source: "1/app/public.audit_events".to_owned(),
            since,
            until: since + time::Duration::days(1),
            actions: day,
            dead_letters: 0,
            first_at: Some(since),
            digest: format!("{day:064}"),
        };
        let receipt = Receipt::seal(window, last.as_ref(), since + time::Duration::days(2), None);
        append(&mut host.connection, &StorageSchema::default(), &receipt).await?;
        last = Some(receipt);
    }
    let report = host.doctor()?;
    assert_eq!(report.item("observability.receipts")["seen"], "3 receipts of 1 forwarders");
    host.connection.execute("update audit_receipts set actions = 7 where n = 2").await?;
    let report = host.doctor()?;
    assert_eq!(report.state("observability.receipts"), "failed");
    assert!(
        report.item("observability.receipts")["seen"]
            .as_str()
            .unwrap()
            .contains("audit_receipts of timeline: receipt 2: it was changed")
    );
    host.connection.execute("update audit_receipts set actions = 1 where n = 2").await?;
    assert_eq!(host.doctor()?.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn a_receipt_over_the_timeline_that_somebody_has_changed_or_removed_fails() -> anyhow::Result<()> {
    const CHECK: &str = "observability.receipts";
    let mut host = Host::healthy().await?;
    for _ in 0..4 {
        assert_eq!(host.threadline(&["receipts", "seal"])?.status, Some(0));
    }
    let report = host.doctor()?;
    assert_eq!(
        (report.wrong(), &report.item(CHECK)["seen"]),
        (vec![], &"4 receipts over the timeline".into())
    );
    host.connection.execute("create temp table kept as select * from threadline_receipts").await?;
    for (change, seen) in [
        ("update threadline_receipts set changes = 7 where n = 2", "receipt 2: it was changed"),
        ("update threadline_receipts set previous = hash where n = 3", "receipt 3: the chain is broken"),
        ("delete from threadline_receipts where n = 2", "receipt 3: receipts before it are missing"),
        ("delete from threadline_receipts where n = 1", "receipt 2: receipts before it are missing"),
        ("delete from threadline_receipts", "there are leaves, and no receipt for them"),
    ] {
        host.connection.execute(change).await?;
        let report = host.doctor()?;
        assert_eq!(report.wrong(), [(CHECK.to_owned(), "failed".to_owned())], "{change}");
        let item = report.item(CHECK);
        let said = item["seen"].as_str().unwrap();
        assert!(said.contains("threadline_receipts: ") && said.contains(seen), "{change}: {said}");
        assert_eq!(item["remedy"][0]["text"], "threadline receipts verify");
        let verified = host.threadline(&["receipts", "verify"])?;
        assert_eq!(verified.status, Some(1), "{change}: {}", verified.out);
        assert!(verified.out.contains(seen) && verified.out.contains("DOES NOT HOLD"), "{}", verified.out);
        host.connection
            .execute("delete from threadline_receipts; insert into threadline_receipts select * from kept")
            .await?;
    }
    assert_eq!(host.doctor()?.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn what_takes_too_long_is_unknown_and_the_rest_goes_on() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    host.connection.execute("begin; lock table audit_actions in access exclusive mode").await?;
    let report = host.doctor()?;
    // What is printed of the table's constraints needs a lock, too.
    let unknown = ["capture.schema", "actors.correlation"].map(|id| (id.to_owned(), "unknown".to_owned()));
    assert_eq!(report.wrong(), unknown, "{}", report.0);
    assert_eq!(report.item("actors.correlation")["seen"], "it took longer than 3 s");
    host.connection.execute("rollback").await?;
    assert_eq!(host.doctor()?.wrong(), []);
    Ok(())
}

#[tokio::test]
async fn what_the_role_may_not_see_is_unknown_and_the_rest_goes_on() -> anyhow::Result<()> {
    let host = Host::healthy().await?;
    let url = sandbox::rights::as_role(&host.database.url, "audit_reader");
    let ended = host.threadline_as(&url, &["doctor", "--json"])?;
    let report = super::Report(serde_json::from_str(&ended.out)?);
    let wrong = report.wrong();
    let expected = ["export.jobs", "export.files", "observability.receipts"];
    let unknown: Vec<&str> =
        wrong.iter().filter(|(_, state)| state == "unknown").map(|(id, _)| id.as_str()).collect();
    assert_eq!(unknown, expected, "{}", report.0);
    assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
    assert_eq!(ended.status, Some(0));
    assert!(report.item("export.jobs")["seen"].as_str().unwrap().starts_with("the role may not look: "));
    Ok(())
}

/// A hundred thousand rows of each kind: what is asked about them is read from indexes.
#[tokio::test]
async fn no_check_reads_a_whole_table_of_what_is_recorded() -> anyhow::Result<()> {
    let mut host = Host::healthy().await?;
    host.connection
        .execute(
            "insert into audit_transactions (id, txid, occurred_at, actor_ref)
             select gen_random_uuid(), -n, now() - n * interval '1 second', '{\"type\": \"system\", \"id\": \"s\"}'
             from generate_series(1, 100000) n;
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'users', jsonb_build_object('id', (-txid)::text), 'delete', occurred_at
             from audit_transactions where txid < 0;
             insert into audit_actions (name, actor_ref, status, correlation_id, inserted_at)
             select 'a.b', '{\"type\": \"anonymous\"}', 'ok', 'c', now() - n * interval '1 second' from generate_series(1, 100000) n",
        )
        .await?;
    host.run("vacuum (analyze) audit_transactions, audit_changes, audit_actions").await?;
    let scans = async |host: &mut Host| -> anyhow::Result<Vec<(String, i64, i64)>> {
        Ok(sqlx::query_as(
            "select relname::text, seq_scan, idx_scan from pg_stat_user_tables
             where relname in ('audit_transactions', 'audit_changes', 'audit_actions') order by 1",
        )
        .fetch_all(&mut host.connection)
        .await?)
    };
    let before = scans(&mut host).await?;
    assert_eq!(host.doctor()?.wrong(), []);
    // A session hands over both numbers of a table together, at its end.
    let after =
        wait::until_some("the statistics of the doctor's session", Duration::from_secs(30), async || {
            let after = scans(&mut host).await?;
            Ok(before.iter().zip(&after).all(|(before, after)| after.2 > before.2).then_some(after))
        })
        .await?;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.1, before.1, "{} was read as a whole", before.0);
    }
    Ok(())
}
