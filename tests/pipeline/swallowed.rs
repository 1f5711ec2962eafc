//! A timeline that acknowledges actions and does not keep them.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;

use crate::loss::publish;

async fn letters(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
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
    pipeline.messages(rows.len() as u64).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = letters(&pipeline, 2).await?;
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
    let failures = letters(&pipeline, 4).await?;
    assert!(failures.len() == 4 && all_not_written(&failures), "{failures:?}");
    assert_eq!(pipeline.projected().await?, 70);
    Ok(())
}

/// Acknowledged as written, and gone in the same moment: only a comparison sees that.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_however_often_it_is_delivered_becomes_a_dead_letter_that_names_the_timeline()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[consumer.reconcile]\nevery = \"300ms\"").await?;
    let host = "create function remove() returns trigger language plpgsql security definer as $$
                begin delete from audit_actions where id = new.id; return null; end $$;
                create trigger remove after insert on audit_actions for each row
                    when (new.name = 'test.removed') execute function remove()";
    sqlx::raw_sql(host).execute(&mut pipeline.timeline.connect().await?).await?;
    let (mut rows, ids) = samples(10);
    rows.push(AuditRow::sample("test.removed"));
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = letters(&pipeline, 1).await?;
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
