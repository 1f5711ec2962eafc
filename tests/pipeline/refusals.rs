//! A timeline that fails for some events only, in every way that a host can make it.

use std::collections::BTreeMap;

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

/// What a host's trigger does to actions of these names; the error codes are none that are about an event by themselves.
const HOST_RULES: &str = "
    create table tenants (name text);
    alter table tenants enable row level security;
    create policy known on tenants for insert with check (name = 'known');
    grant insert on tenants to public;
    create table ledger (name text);
    create view small as select name from ledger where length(name) < 3 with check option;
    grant insert on small to public;
    create index on audit_actions (reason);
    create function host_rule() returns trigger language plpgsql set row_security = on as $$
    begin
        case new.name
            when 'test.raised' then raise exception 'no such tenant';
            when 'test.own_code' then raise exception 'of the host' using errcode = 'AU001';
            when 'test.policy' then insert into tenants values (new.name);
            when 'test.grant' then insert into ledger values (new.name);
            when 'test.option' then insert into small values (new.name);
            when 'test.table' then execute 'insert into tenant_7 values (1)';
            when 'test.rows' then new.reason := (select 'a' from generate_series(1, 2));
            when 'test.feature' then raise exception 'not yet' using errcode = '0A000';
            when 'test.library' then raise exception 'it says no' using errcode = '38001';
            when 'test.internal' then raise exception 'unexpected' using errcode = 'XX000';
            else null;
        end case;
        return new;
    end $$;
    create trigger host_rule before insert on audit_actions for each row execute function host_rule()";

const NAMES: [&str; 10] =
    ["raised", "own_code", "policy", "grant", "option", "table", "rows", "feature", "library", "internal"];

async fn host_rules(pipeline: &Pipeline) -> anyhow::Result<()> {
    sqlx::raw_sql(HOST_RULES).execute(&mut pipeline.timeline.connect().await?).await?;
    Ok(())
}

fn row(action: &str) -> AuditRow {
    AuditRow::sample(action)
}

/// No index row may be so large, and it does not compress.
fn too_large_for_an_index() -> AuditRow {
    let reason: String = (0..200).map(|_| Uuid::new_v4().simple().to_string()).collect();
    AuditRow { metadata: serde_json::json!({ "reason": reason }), ..row("test.index") }
}

fn states(failures: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut states = BTreeMap::new();
    for failure in failures {
        let [state, reason] =
            ["state", "reason"].map(|name| failure[name].as_str().unwrap_or("-").to_owned());
        *states.entry((state, reason)).or_default() += 1;
    }
    states
}

async fn dead(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
    wait::until_some(&format!("{count} dead letters"), DEADLINE, async || {
        let failures = pipeline.failures().await?;
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead == count).then_some(failures))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_timeline_fails_for_is_a_dead_letter_whatever_the_error_and_the_rest_arrives()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    host_rules(&pipeline).await?;
    let mut rows: Vec<AuditRow> =
        NAMES.iter().flat_map(|name| (0..4).map(move |_| row(&format!("test.{name}")))).collect();
    rows.extend((0..4).map(|_| too_large_for_an_index()));
    let bad = rows.len();
    let (fine, ids) = samples(200);
    rows.extend(fine);
    rows.sort_by_key(|row| row.id);
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    // All at once in the stream are one batch.
    pipeline.references(rows.len()).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = dead(&pipeline, bad).await?;
    assert_eq!(states(&failures), BTreeMap::from([(("dead".to_owned(), "schema_mismatch".to_owned()), bad)]));
    assert!(failures.iter().all(|failure| failure["attempts"] == 1));
    for words in ["no such tenant", "row-level security", "index row", "tenant_7", "permission denied"] {
        let said = |failure: &Value| failure["error"].as_str().unwrap_or_default().contains(words);
        assert_eq!(failures.iter().filter(|failure| said(failure)).count(), 4, "{words}");
    }
    Ok(())
}

/// As many as there are workers, each alone in its batch: none of them shows whether the timeline takes anything.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_fail_one_by_one_are_put_off_uncharged_until_the_timeline_takes_another()
-> anyhow::Result<()> {
    let pipeline =
        Pipeline::with_settings("backoff = { profile = \"exponential\", first = \"1s\", max = \"2s\" }")
            .await?;
    host_rules(&pipeline).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    for (put_off, name) in ["raised", "policy", "table", "internal"].into_iter().enumerate() {
        pipeline.commit(&[row(&format!("test.{name}"))]).await?;
        let failures = wait::until_some("it to be put off", DEADLINE, async || {
            let failures = pipeline.failures().await?;
            Ok((failures.len() > put_off).then_some(failures))
        })
        .await?;
        let charged = |failure: &&Value| failure["state"] != "retrying" || failure["attempts"] != 0;
        assert_eq!(failures.iter().find(charged), None);
    }
    let (fine, ids) = samples(20);
    pipeline.commit(&fine).await?;
    pipeline.arrive(&ids).await?;
    // What the timeline took is the proof.
    wait::until_some("them to be dead letters", DEADLINE, async || {
        pipeline.commit(&[row("test.fine")]).await?;
        let failures = pipeline.failures().await?;
        Ok(failures.iter().all(|failure| failure["state"] == "dead").then_some(()))
    })
    .await?;
    assert_eq!(pipeline.failures().await?.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_fails_for_every_event_is_an_outage_and_charges_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut host = pipeline.timeline.connect().await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let mut ids = Vec::new();
    for (broken, fixed) in [
        (
            "create function closed() returns trigger language plpgsql as $$ begin raise exception 'closed'; end $$;
             create trigger closed before insert on audit_actions for each row execute function closed()",
            "drop trigger closed on audit_actions",
        ),
        (
            "create trigger closed before insert on audit_actions for each statement execute function closed()",
            "drop trigger closed on audit_actions",
        ),
        ("alter table audit_actions rename to elsewhere", "alter table elsewhere rename to audit_actions"),
        (
            "alter table audit_actions rename column verb to word",
            "alter table audit_actions rename column word to verb",
        ),
        ("revoke insert on audit_actions from audit_projector", "grant insert on audit_actions to audit_projector"),
        ("alter table audit_actions enable row level security", "alter table audit_actions disable row level security"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(broken)).execute(&mut host).await?;
        let waits = consumer.log().matches("waiting for timeline database").count();
        let (rows, more) = samples(120);
        pipeline.commit(&rows).await?;
        wait::until("the consumer to wait for the timeline", DEADLINE, || {
            consumer.log().matches("waiting for timeline database").count() >= waits + 3
        })?;
        for failure in pipeline.failures().await? {
            assert_eq!((&failure["state"], &failure["attempts"]), (&"retrying".into(), &0.into()), "{broken}");
        }
        host.execute(sqlx::AssertSqlSafe(fixed)).await?;
        ids.extend(more);
        pipeline.arrive(&ids).await?;
    }
    wait::until_some("no failure to be left", DEADLINE, async || {
        Ok(pipeline.failures().await?.is_empty().then_some(()))
    })
    .await
}
