//! A timeline with constraints and triggers of the host's own, and actions that come a second time.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::loss::publish;

/// Delivers some, and then the same again together with more.
async fn again_with_more(pipeline: &Pipeline, ids: &[Uuid]) -> anyhow::Result<()> {
    for id in ids {
        publish(pipeline, *id, None).await?;
    }
    let (more, new) = samples(20);
    pipeline.commit(&more).await?;
    pipeline.arrive(&new).await?;
    pipeline.settled("timeline").await
}

async fn twice_without_a_failure(host: &'static str) -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    sqlx::raw_sql(host).execute(&mut pipeline.timeline.connect().await?).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    again_with_more(&pipeline, &ids).await?;
    pipeline.charges_nobody().await?;
    assert_eq!(pipeline.projected().await?, 40, "{host}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferrable_constraint_of_the_host_fails_nothing_that_is_redelivered() -> anyhow::Result<()> {
    for host in [
        "alter table audit_actions add constraint host unique (correlation_id) deferrable initially deferred",
        "alter table audit_actions add constraint host unique (id) deferrable",
        "alter table audit_actions add constraint host
             exclude using btree (correlation_id with =) deferrable initially deferred",
    ] {
        twice_without_a_failure(host).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_timeline_has_is_delivered_though_a_trigger_fails_for_it_a_second_time() -> anyhow::Result<()>
{
    for host in [
        "create table seen (id uuid primary key);
         grant insert on seen to public;
         create function see() returns trigger language plpgsql as $$
         begin insert into seen values (new.id); return new; end $$;
         create trigger see before insert on audit_actions for each row execute function see()",
        "create function see() returns trigger language plpgsql security definer as $$
         begin
             if exists (select from audit_actions where id = new.id) then raise 'there already'; end if;
             return new;
         end $$;
         create trigger see before insert on audit_actions for each row execute function see()",
    ] {
        twice_without_a_failure(host).await?;
    }
    Ok(())
}

async fn dead_letters(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
    wait::until_some(&format!("{count} dead letters"), DEADLINE, async || {
        let failures = pipeline.failures().await?;
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead >= count).then_some(failures))
    })
    .await
}

fn with_request(request: &str) -> AuditRow {
    AuditRow { metadata: json!({ "request_id": request }), ..AuditRow::sample("test.row") }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_constraint_keeps_out_is_no_id_conflict_and_its_dead_letter_names_the_constraint()
-> anyhow::Result<()> {
    for host in [
        "create unique index host_request on audit_actions (request_id)",
        "alter table audit_actions add constraint host_request exclude using btree (request_id with =)",
    ] {
        let pipeline = Pipeline::new().await?;
        sqlx::raw_sql(host).execute(&mut pipeline.timeline.connect().await?).await?;
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        let (mut rows, ids) = samples(20);
        rows.extend([with_request("r-1"), with_request("r-1")]);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
        dead_letters(&pipeline, 1).await?;
        // The same beside what is there already.
        publish(&pipeline, ids[0], None).await?;
        pipeline.settled("timeline").await?;
        pipeline.commit(&[with_request("r-1")]).await?;
        for dead_letter in dead_letters(&pipeline, 2).await? {
            assert_eq!(dead_letter["reason"], "schema_mismatch", "{host}: {dead_letter}");
            let error = dead_letter["error"].as_str().unwrap_or_default();
            assert!(error.contains("host_request"), "{host}: {error}");
        }
        assert_eq!(pipeline.projected().await?, 21, "{host}");
    }
    Ok(())
}
