//! A timeline that acknowledges actions and does not keep them.

use std::time::Duration;

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;

use crate::loss::publish;

async fn dead_letters(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
    wait::until_some(&format!("{count} dead letters"), DEADLINE, async || {
        let failures = pipeline.failures().await?;
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead >= count).then_some(failures))
    })
    .await
}

fn all_not_written(failures: &[Value]) -> bool {
    failures.iter().all(|failure| failure["reason"] == "not_written" && failure["state"] == "dead")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_or_a_rule_lets_vanish_is_a_dead_letter_at_once_and_the_rest_arrives()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let host = "create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
                create trigger skip before insert on audit_actions for each row
                    when (new.name = 'test.skipped') execute function skip();
                create rule ignore as on insert to audit_actions where new.name = 'test.ignored' do instead nothing";
    sqlx::raw_sql(host).execute(&mut pipeline.timeline.connect().await?).await?;
    let vanishing = |names: [&str; 2]| names.map(|name| AuditRow::sample(&format!("test.{name}")));
    let (mut rows, ids) = samples(50);
    rows.extend(vanishing(["skipped", "ignored"]));
    rows.sort_by_key(|row| row.id);
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    pipeline.references(rows.len()).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = dead_letters(&pipeline, 2).await?;
    assert!(failures.len() == 2 && all_not_written(&failures), "{failures:?}");
    assert!(failures[0]["error"].as_str().unwrap_or_default().contains("the timeline took the action"));

    // The same in company of what is there already: a rule allows no `on conflict`.
    for id in &ids[..5] {
        publish(&pipeline, *id, None).await?;
    }
    pipeline.settled("timeline").await?;
    let (mut rows, ids) = samples(20);
    rows.extend(vanishing(["skipped", "ignored"]));
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let failures = dead_letters(&pipeline, 4).await?;
    assert!(failures.len() == 4 && all_not_written(&failures), "{failures:?}");
    assert_eq!(pipeline.projected().await?, 70);
    Ok(())
}

/// Where nobody would find it, it is not kept: it would be delivered once more, and once more.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_trigger_gives_another_id_is_kept_nowhere_and_arrives_once_the_trigger_is_gone()
-> anyhow::Result<()> {
    let rename = "create function rename() returns trigger language plpgsql as $$
                  begin new.id := gen_random_uuid(); return new; end $$;";
    let move_on = "create function move_on() returns trigger language plpgsql security definer as $$
                   begin update audit_actions set id = gen_random_uuid() where id = new.id; return null; end $$;";
    for (host, all) in [
        ("create trigger host before insert on audit_actions for each row execute function rename()", true),
        (
            "create trigger host before insert on audit_actions for each row
                 when (new.name = 'test.moved') execute function rename()",
            false,
        ),
        (
            "create trigger host after insert on audit_actions for each row
                 when (new.name = 'test.moved') execute function move_on()",
            false,
        ),
        (
            "create constraint trigger host after insert on audit_actions deferrable initially deferred for each row
                 when (new.name = 'test.moved') execute function move_on()",
            false,
        ),
    ] {
        let pipeline = Pipeline::with_settings("[consumer.reconcile]\nevery = \"300ms\"").await?;
        let mut timeline = pipeline.timeline.superuser().await?;
        timeline.execute(sqlx::AssertSqlSafe(format!("{rename} {move_on} {host}"))).await?;
        let (mut rows, ids) = samples(if all { 0 } else { 10 });
        let moved = [AuditRow::sample("test.moved"), AuditRow::sample("test.moved")];
        rows.extend(moved.clone());
        pipeline.commit(&rows).await?;
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        pipeline.arrive(&ids).await?;
        let failures = dead_letters(&pipeline, 2).await?;
        assert!(failures.len() == 2 && all_not_written(&failures), "{host}: {failures:?}");
        // Neither a repetition nor a comparison writes it.
        for row in &moved {
            publish(&pipeline, row.id, None).await?;
        }
        compared(&pipeline).await?;
        assert_eq!(pipeline.projected().await?, i64::try_from(ids.len())?, "{host}");
        let entries = "select count(*) from outbox.entries";
        let entries: i64 = sqlx::query_scalar(entries).fetch_one(&mut pipeline.source.connect().await?).await?;
        assert_eq!(entries, i64::try_from(rows.len())?, "{host}");

        timeline.execute("drop trigger host on audit_actions").await?;
        redrive(&pipeline)?;
        pipeline.arrive(&moved.map(|row| row.id)).await?;
        compared(&pipeline).await?;
        assert_eq!(pipeline.projected().await?, i64::try_from(rows.len())?, "{host}");
    }
    Ok(())
}

fn redrive(pipeline: &Pipeline) -> anyhow::Result<()> {
    let (done, said) = pipeline.ask("consumer", &["failures", "redrive", "--reason-code", "not_written"])?;
    assert!(done, "{said}");
    Ok(())
}

/// Waits until everything is settled, and has been compared.
async fn compared(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.settled("timeline").await?;
    let mut source = pipeline.source.connect().await?;
    wait::until_some("a comparison", DEADLINE, async || {
        let compared = "select exists (select from outbox.reconciled r
                                       where not exists (select from outbox.entries e
                                                         where not pg_visible_in_snapshot(e.xid, r.s)))";
        let compared: bool = sqlx::query_scalar(compared).fetch_one(&mut source).await?;
        Ok(compared.then_some(()))
    })
    .await
}

/// The statement that a session has prepared under a rule is nothing, also when the rule has gone.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_or_a_trigger_let_vanish_arrives_in_the_same_sessions_once_that_is_gone()
-> anyhow::Result<()> {
    for (host, gone) in [
        (
            "create rule host as on insert to audit_actions do instead nothing",
            "drop rule host on audit_actions",
        ),
        (
            "create rule host as on insert to audit_actions where new.name = 'test.row' do instead nothing",
            "drop rule host on audit_actions",
        ),
        (
            "create function skip() returns trigger language plpgsql as $$ begin return null; end $$;
             create trigger host before insert on audit_actions for each row execute function skip()",
            "drop trigger host on audit_actions",
        ),
    ] {
        let pipeline = Pipeline::new().await?;
        let mut timeline = pipeline.timeline.superuser().await?;
        timeline.execute(host).await?;
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer_with(&["--set", "consumer.workers=1"])?;
        let (rows, ids) = samples(5);
        pipeline.commit(&rows).await?;
        let failures = dead_letters(&pipeline, 5).await?;
        assert!(all_not_written(&failures), "{host}: {failures:?}");
        timeline.execute(gone).await?;
        let (rows, more) = samples(5);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&more).await?;
        redrive(&pipeline)?;
        pipeline.arrive(&ids).await?;
        pipeline.charges_nobody().await?;
    }
    Ok(())
}

/// Acknowledged as written, and gone a moment later: only a comparison sees that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_however_often_it_is_delivered_becomes_a_dead_letter_that_names_the_timeline()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[consumer.reconcile]\nevery = \"300ms\"").await?;
    let mut timeline = pipeline.timeline.superuser().await?;
    let job = tokio::spawn(async move {
        while timeline.execute("delete from audit_actions where name = 'test.removed'").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let (mut rows, ids) = samples(10);
    rows.push(AuditRow::sample("test.removed"));
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = dead_letters(&pipeline, 1).await?;
    job.abort();
    assert!(failures.len() == 1 && all_not_written(&failures), "{failures:?}");
    assert_eq!(failures[0]["ref"], rows[10].id.to_string());
    wait::until("the log to name the timeline", DEADLINE, || {
        consumer.log().contains("the timeline does not keep what it acknowledges")
    })?;
    let entries = "select count(*) from outbox.entries where audit_event_id = $1";
    let entries: i64 = sqlx::query_scalar(entries)
        .bind(rows[10].id)
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
    assert_eq!(entries, 4, "delivered once, and three times more");
    Ok(())
}
