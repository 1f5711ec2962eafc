//! Several forwarders, of one kind and of different ones; and none.

use std::{collections::BTreeSet, fs};

use end_to_end::{DEADLINE, Pipeline, address, samples};
use sandbox::{
    audit::AuditRow,
    fixture::{self, audit_events},
    rights,
    verdict::Verdict,
    wait,
    work_dir::free_port,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::StorageSchema;

/// Two timelines: the pipeline's own, and one in another database and schema, with another type of actor.
async fn two_timelines(dispatch: &str) -> anyhow::Result<(Pipeline, fixture::TestDatabase, StorageSchema)> {
    let pipeline = Pipeline::new().await?;
    let other = fixture::empty_database().await?;
    let schema: StorageSchema = "archive".parse()?;
    let mut connection = other.connect().await?;
    threadline::install(&mut connection, &schema).await?;
    rights::grant_timeline(&mut connection, &schema).await?;
    connection.close().await?;
    pipeline.configure(&format!(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"{dispatch}\"\n\
         [[forwarder]]\nid = \"archive\"\nkind = \"threadline\"\ndispatch = \"{dispatch}\"\nurl = \"{}\"\n\
         schema = \"archive\"\nactor_type = \"service_account\"",
        rights::as_role(&other.url, "audit_projector")
    ))?;
    Ok((pipeline, other, schema))
}

async fn arrives_in_both(dispatch: &str) -> anyhow::Result<()> {
    let (pipeline, other, schema) = two_timelines(dispatch).await?;
    let _publisher = pipeline.publisher()?;
    let _consumers = [pipeline.consumer()?, pipeline.consumer()?];
    // A type that takes an id wins over the option; a type that nobody knows does not.
    let mut rows: Vec<_> = (0..200).map(|_| AuditRow::sample("test.row")).collect();
    for row in &mut rows {
        row.actor_type = "robot".into();
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    for part in rows.chunks(20) {
        pipeline.commit(part).await?;
    }
    pipeline.arrive(&ids).await?;
    let verdict = wait::until_some("the other one to have everything", DEADLINE, async || {
        let verdict = Verdict::compute(&pipeline.source.url, &audit_events(), &other.url, &schema).await?;
        Ok((verdict.missing == 0).then_some(verdict))
    })
    .await?;
    assert!(verdict.holds() && verdict.projected == 200, "{verdict}");
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds() && verdict.projected == 200, "{verdict}");
    let kinds = async |url: &str, table: &str| -> anyhow::Result<Vec<String>> {
        let statement = format!("select distinct actor_ref ->> 'type' from {table}");
        let mut connection = PgConnection::connect(url).await?;
        Ok(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(&mut connection).await?)
    };
    assert_eq!(kinds(&pipeline.timeline.url, "audit_actions").await?, ["user"]);
    assert_eq!(kinds(&other.url, "archive.audit_actions").await?, ["service_account"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_forwarders_of_one_kind_each_get_every_event_once_with_options_of_their_own() -> anyhow::Result<()>
{
    arrives_in_both("async").await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_forwarders_of_one_kind_read_the_log_each_for_itself() -> anyhow::Result<()> {
    arrives_in_both("sync").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_that_is_away_does_not_delay_another_forwarder() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let path = pipeline.path("taken");
    let nobody = free_port()?;
    // At boot it must be there; from then on it may go.
    let proxied = sandbox::proxy::Proxy::start(address(&pipeline.timeline.url)?).await?;
    let timeline = pipeline.timeline.url.clone();
    pipeline.timeline.url =
        timeline.replace(&address(&timeline)?.to_string(), &proxied.address().to_string());
    pipeline.configure(&format!(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n\
         [[forwarder]]\nid = \"file\"\nkind = \"faulty\"\npath = \"{}\"",
        path.display()
    ))?;
    let _publisher = pipeline.publisher()?;
    let host = pipeline.custom_consumer()?;
    let (rows, first) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&first).await?;
    proxied.aim(format!("127.0.0.1:{nobody}").parse()?);
    let (rows, second) = samples(50);
    pipeline.commit(&rows).await?;
    wait::until("the other forwarder to have them", DEADLINE, || {
        let taken = fs::read_to_string(&path).unwrap_or_default();
        second.iter().all(|id| taken.contains(&id.to_string()))
    })?;
    wait::until("the timeline to be waited for", DEADLINE, || {
        host.log().contains("waiting for timeline database")
    })?;
    proxied.aim(address(&timeline)?);
    pipeline.timeline.url = timeline;
    pipeline.arrive(&second).await?;
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_no_op_acknowledges_without_any_effect() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    pipeline.configure("[[forwarder]]\nid = \"nothing\"\nkind = \"noop\"")?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, _) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    pipeline.settled("nothing").await?;
    assert_eq!(pipeline.projected().await?, 0);
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_forwarders_there_is_nothing_to_do_and_nothing_to_warn_of() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = String::new();
    let mut consumer = pipeline.consumer_with(&["--set", "forwarder=[]"])?;
    wait::until("it to say so", DEADLINE, || consumer.log().contains("no forwarder is configured"))?;
    assert!(consumer.terminate(DEADLINE)?.success());
    assert!(!consumer.log().contains("WARN"), "{}", consumer.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_and_each_failed_attempt_is_an_event_with_its_circumstances() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let rule = "alter table audit_actions add constraint host_rule check (name <> 'test.refused')";
    sqlx::raw_sql(rule).execute(&mut pipeline.timeline.connect().await?).await?;
    let (fine, refused) = (AuditRow::sample("test.fine"), AuditRow::sample("test.refused"));
    pipeline.commit(&[fine.clone(), refused.clone()]).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer_with(&["--set", "log.filter=consumer=debug"])?;
    pipeline.arrive(&[fine.id]).await?;
    let event = |name: &str| -> Option<Value> {
        let log = consumer.log();
        let line = log.lines().find(|line| line.contains(&format!("\"event\":\"{name}\"")))?;
        serde_json::from_str(line).ok()
    };
    wait::until("both events", DEADLINE, || {
        event("sigra.audit.forward.ok").is_some() && event("sigra.audit.forward.error").is_some()
    })?;
    let ok = event("sigra.audit.forward.ok").unwrap();
    assert_eq!(ok["forwarder"], "timeline");
    assert_eq!(ok["audit_event_id"], fine.id.to_string());
    assert_eq!(ok["action"], "test.fine");
    assert_eq!(ok["attempt"], 1);
    assert!(ok["duration_ms"].is_u64(), "{ok}");
    let error = event("sigra.audit.forward.error").unwrap();
    assert_eq!(error["audit_event_id"], refused.id.to_string());
    assert_eq!(error["action"], "test.refused");
    assert_eq!([&error["kind"], &error["state"], &error["reason"]], ["error", "dead", "schema_mismatch"]);
    assert_eq!(error["attempt"], 1);
    for event in [ok, error] {
        assert_eq!(fields_of(&event), documented_fields(event["event"].as_str().unwrap()), "{event}");
    }
    Ok(())
}

/// Without those that every line of the log has.
fn fields_of(event: &Value) -> BTreeSet<&str> {
    let of_every_line = ["timestamp", "level", "target", "message", "event"];
    let fields = event.as_object().unwrap().keys().map(String::as_str);
    fields.filter(|field| !of_every_line.contains(field)).collect()
}

fn documented_fields(event: &str) -> BTreeSet<&'static str> {
    let row = include_str!("../../docs/metrics.md")
        .lines()
        .find(|line| line.starts_with(&format!("| `{event}` |")))
        .expect("a row for the event");
    row.split('|').nth(2).unwrap().split(',').map(str::trim).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_delivered_is_looked_up_in_the_timeline_that_the_forwarder_writes_to()
-> anyhow::Result<()> {
    let (pipeline, other, _) = two_timelines("async").await?;
    let mut source = pipeline.source.connect().await?;
    source.execute("alter table audit_events disable trigger outbox_capture").await?;
    let (rows, ids) = samples(3);
    pipeline.commit(&rows).await?;
    source.execute("alter table audit_events enable always trigger outbox_capture").await?;
    let mut archive = other.connect().await?;
    sqlx::query(
        "insert into archive.audit_actions (name, actor_ref, status, correlation_id)
         select 'test.row', '{\"type\":\"anonymous\"}', 'ok', id::text from unnest($1::uuid[]) id",
    )
    .bind(&ids[..2])
    .execute(&mut archive)
    .await?;
    // The role that delivers may not declare it.
    archive.execute("grant select, insert on archive.audit_adoptions to audit_projector").await?;
    for (forwarder, adopted, entered) in [("archive", 2, 1), ("timeline", 0, 3)] {
        let arguments = ["backfill", "--accept-foreign-ids", "--forwarder", forwarder];
        let (done, answer) = pipeline.ask("publisher", &arguments)?;
        assert!(
            done && answer["adopted"] == adopted && answer["entered"] == entered,
            "{forwarder}: {answer}"
        );
    }
    let declared: Vec<String> =
        sqlx::query_scalar("select forwarder from archive.audit_adoptions").fetch_all(&mut archive).await?;
    assert_eq!(declared, ["archive"], "each in its own timeline");
    Ok(())
}
