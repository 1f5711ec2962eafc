//! What retention has deleted is no fault, as far as retention says so.

use threadline::{
    receipts::{Trust, Verification},
    retention::{Keep, Policy, PurgeOptions},
};

use super::{Host, terms};

/// Changes of a year ago, of which the library's ids say nothing, and of now.
async fn sealed() -> anyhow::Result<Host> {
    let mut host = Host::new().await?;
    host.run(
        "alter table threadline_retention_runs add column if not exists windows jsonb;
         insert into audit_transactions (id, txid, occurred_at) values ('b0000000-0000-4000-8000-000000000001', 7, now() - interval '1 year');
         insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, captured_at)
         select gen_random_uuid(), 'b0000000-0000-4000-8000-000000000001', 'public', 't', '{}', 'insert', now() - interval '1 year'
         from generate_series(1, 3);
         insert into audit_actions (name, actor_ref, status, inserted_at) values ('a.b', '{}', 'ok', now() - interval '1 year')",
    )
    .await?;
    host.seal().await?;
    host.run("insert into t (v) values (1)").await?;
    host.seal().await?;
    Ok(host)
}

async fn purge(host: &mut Host, windows: &str) -> anyhow::Result<()> {
    let run = format!(
        "insert into threadline_retention_runs (id, status, deleted_count, deleted_changes, deleted_transactions, windows)
         values ('c0000000-0000-4000-8000-000000000001', 'completed', 4, 3, 1, {windows})"
    );
    host.run(run).await
}

const CUTOFF: &str =
    "to_char(now() at time zone 'UTC' - interval '30 days', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";

fn purged(found: &Verification) -> Vec<(String, u64)> {
    found.purged.iter().map(|(run, rows)| (run.to_string(), *rows)).collect()
}

#[tokio::test]
async fn rows_that_are_gone_and_older_than_a_purges_cutoff_were_purged() -> anyhow::Result<()> {
    let mut host = sealed().await?;
    host.run("delete from audit_transactions where txid = 7").await?;
    for found in host.both(&Trust::nothing()).await? {
        assert_eq!(terms(&found), ["row_removed"; 4], "no purge says so");
    }
    purge(&mut host, &format!("jsonb_build_object('default', {CUTOFF}, 'tables', '{{\"public.u\": null}}'::jsonb, 'actions', null)")).await?;
    let run = "c0000000-0000-4000-8000-000000000001".to_owned();
    for found in host.both(&Trust::nothing()).await? {
        assert!(found.holds(), "{found:?}");
        assert_eq!(purged(&found), [(run.clone(), 4)]);
        assert_eq!(found.compared.rows(), 3);
    }
    // Actions have a window of their own.
    host.run("delete from audit_actions").await?;
    for found in host.both(&Trust::nothing()).await? {
        assert_eq!(terms(&found), ["row_removed"]);
    }
    // The id of a change that was captured says when: it is younger than the cutoff.
    host.run("delete from audit_changes").await?;
    let found = host.verify(&Trust::nothing()).await?;
    assert_eq!(terms(&found), ["row_removed"; 2]);
    Ok(())
}

#[tokio::test]
async fn runs_that_say_no_cutoff_or_have_deleted_nothing_explain_nothing() -> anyhow::Result<()> {
    let mut host = sealed().await?;
    host.run("delete from audit_transactions where txid = 7").await?;
    for windows in
        ["null", "'\"text\"'", "'{\"default\": \"yesterday\", \"tables\": []}'", "'{\"default\": 7}'", "'{}'"]
    {
        purge(&mut host, windows).await?;
        assert_eq!(terms(&host.verify(&Trust::nothing()).await?), ["row_removed"; 4], "{windows}");
        host.run("delete from threadline_retention_runs").await?;
    }
    purge(&mut host, &format!("jsonb_build_object('default', {CUTOFF})")).await?;
    host.run("update threadline_retention_runs set status = 'failed', deleted_changes = 0, deleted_transactions = 0").await?;
    assert_eq!(terms(&host.verify(&Trust::nothing()).await?), ["row_removed"; 4]);
    Ok(())
}

/// Of `t` ten days are kept, of `u` everything.
async fn purge_really(host: &Host) -> anyhow::Result<()> {
    let policy = Policy::new(Keep::days(10)?)?.table("u".parse()?, Keep::Forever);
    host.timeline.purge(&policy, &PurgeOptions::default()).await?;
    Ok(())
}

/// Changes of a year ago, of a captured transaction each.
async fn insert_old(host: &mut Host, table: &str, rows: u32) -> anyhow::Result<()> {
    host.run(format!(
        "with t as (insert into audit_transactions (id, txid, occurred_at)
             select gen_random_uuid(), 100 + n + (select count(*) from audit_transactions), now() - interval '1 year' from generate_series(1, {rows}) n returning id)
         insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, captured_at)
         select gen_random_uuid(), t.id, 'public', '{table}', '{{}}', 'insert', now() - interval '1 year' from t"
    ))
    .await
}

#[tokio::test]
async fn a_row_of_a_table_that_is_kept_longer_was_removed_and_not_purged() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    insert_old(&mut host, "t", 3).await?;
    insert_old(&mut host, "u", 2).await?;
    host.seal().await?;
    purge_really(&host).await?;
    assert_eq!(host.count("threadline_retention_runs where deleted_tables = '{\"public.t\": 3}'").await?, 1);
    for found in host.both(&Trust::nothing()).await? {
        assert!(found.holds(), "{found:?}");
        assert_eq!(found.purged.values().sum::<u64>(), 6);
    }
    host.run("delete from audit_changes where table_name = 'u' and id = (select min(id::text)::uuid from audit_changes)").await?;
    let [online, offline] = host.both(&Trust::nothing()).await?;
    assert_eq!(terms(&online), ["row_removed"]);
    assert!(online.faults.listed[0].to_string().contains("1 of those of kind change"), "{online:?}");
    assert_eq!(online.purged.values().sum::<u64>(), 6);
    // A bundle knows no counts, and says so.
    assert_eq!((offline.holds(), offline.purged_is_counted, online.purged_is_counted), (true, false, true));
    // The next run has deleted nothing of it either.
    purge_really(&host).await?;
    assert_eq!(terms(&host.verify(&Trust::nothing()).await?), ["row_removed"]);
    Ok(())
}

#[tokio::test]
async fn what_was_purged_before_the_first_receipt_explains_nothing() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    // The policy names it.
    host.run("create table public.u (id int)").await?;
    insert_old(&mut host, "t", 5).await?;
    purge_really(&host).await?;
    insert_old(&mut host, "t", 2).await?;
    host.seal().await?;
    host.run("delete from audit_changes").await?;
    for found in host.both(&Trust::nothing()).await? {
        assert_eq!(terms(&found), ["row_removed"; 2]);
    }
    Ok(())
}

/// A run of before says how many changes it has deleted, and not of which tables.
#[tokio::test]
async fn a_run_that_counts_no_tables_explains_as_many_rows_as_it_has_deleted() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    insert_old(&mut host, "t", 3).await?;
    insert_old(&mut host, "u", 3).await?;
    host.seal().await?;
    purge_really(&host).await?;
    host.run("update threadline_retention_runs set deleted_tables = null").await?;
    assert!(host.verify(&Trust::nothing()).await?.holds());
    host.run("delete from audit_changes").await?;
    let found = host.verify(&Trust::nothing()).await?;
    assert_eq!(terms(&found), ["row_removed"]);
    assert!(found.faults.listed[0].to_string().contains("3 of those of kind change"), "{found:?}");
    Ok(())
}
