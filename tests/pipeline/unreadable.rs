//! Audit rows that the source cannot hand over, or not as a whole.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, wait};
use serde_json::Value;
use sqlx::Executor as _;
use uuid::Uuid;

/// More than a gigabyte as text, and a few thousand bytes on disk.
const GIGABYTE: &str = "update audit_events
    set metadata = metadata || (select jsonb_build_object('n', jsonb_agg('1e131071'::jsonb))
                                from generate_series(1, 9000))
    where action = 'test.vast'";

/// A type of the host's own, whose cast to text fails for some values.
const FAILING_CAST: &str = "
    create type label as (name text);
    create function say(label) returns text language plpgsql immutable as $$
    begin
        if $1.name = 'broken' then raise exception 'no words for it'; end if;
        return $1.name;
    end $$;
    create cast (label as text) with function say(label);
    alter table audit_events alter actor_type drop default;
    alter table audit_events alter actor_type type label using row(actor_type)::label;
    update audit_events set actor_type = row('broken')::label where action = 'test.broken'";

async fn dead_letters(pipeline: &Pipeline, count: usize) -> anyhow::Result<Vec<Value>> {
    wait::until_some(&format!("{count} dead letters"), DEADLINE, async || {
        let failures = pipeline.failures().await?;
        let dead = failures.iter().filter(|failure| failure["state"] == "dead").count();
        Ok((dead >= count).then_some(failures))
    })
    .await
}

fn of_action(rows: &[AuditRow], action: &str) -> Vec<Uuid> {
    rows.iter().filter(|row| row.action == action).map(|row| row.id).collect()
}

/// What the timeline needs of such a row is two strings.
#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_metadata_is_more_than_a_gigabyte_as_text_arrive_and_can_be_looked_at()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (mut rows, _) = samples(200);
    let metadata = serde_json::json!({ "reason": "as it was", "request_id": 7 });
    rows.extend((0..2).map(|_| AuditRow { metadata: metadata.clone(), ..AuditRow::sample("test.vast") }));
    pipeline.commit(&rows).await?;
    pipeline.source.connect().await?.execute(GIGABYTE).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await?;
    let action = end_to_end::action(&mut pipeline.timeline.connect().await?, ids[200]).await?;
    assert_eq!((&action["reason"], &action["request_id"]), (&"as it was".into(), &Value::Null));
    pipeline.settled("timeline").await?;
    let (is_equal, said) = pipeline.ask("consumer", &["reconcile"])?;
    assert!(is_equal, "{said}");
    let (_, said) = pipeline.ask("consumer", &["explain", &ids[200].to_string()])?;
    assert_eq!(said["diagnosis"], "it has arrived");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_cannot_be_read_are_dead_letters_by_themselves_and_every_tool_copes_with_them()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (mut rows, ids) = samples(200);
    rows.extend((0..4).map(|_| AuditRow::sample("test.broken")));
    rows.sort_by_key(|row| row.id);
    pipeline.commit(&rows).await?;
    sqlx::raw_sql(FAILING_CAST).execute(&mut pipeline.source.connect().await?).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let failures = dead_letters(&pipeline, 4).await?;
    let broken = of_action(&rows, "test.broken");
    assert_eq!(failures.len(), 4, "{failures:?}");
    for failure in &failures {
        assert_eq!((&failure["reason"], &failure["attempts"]), (&"audit_event_unreadable".into(), &1.into()));
        assert!(failure["error"].as_str().unwrap_or_default().contains("no words for it"), "{failure}");
        let id = failure["ref"].as_str().unwrap_or_default();
        assert!(broken.iter().any(|broken| broken.to_string() == id) && consumer.log().contains(id));
    }

    let id = broken[0].to_string();
    let (_, said) = pipeline.ask("consumer", &["failures", "list"])?;
    assert_eq!(said.as_array().map(Vec::len), Some(4), "{said}");
    let (is_shown, said) = pipeline.ask("consumer", &["failures", "show", &id, "--unmask"])?;
    assert!(is_shown, "{said}");
    assert_eq!(said["audit_row"]["action"], "test.broken");
    assert!(
        said["audit_row"]["actor_type"].as_str().unwrap_or_default().contains("cannot be read"),
        "{said}"
    );
    let (is_explained, said) = pipeline.ask("consumer", &["explain", &id])?;
    assert!(
        is_explained && said["diagnosis"].as_str().unwrap_or_default().contains("audit_event_unreadable")
    );

    // One that has become unreadable since it was delivered is no difference, and no repair makes another of it.
    let late = "update audit_events set actor_type = row('broken')::label where id = $1";
    sqlx::query(late).bind(ids[0]).execute(&mut pipeline.source.connect().await?).await?;
    pipeline.settled("timeline").await?;
    let (_, said) = pipeline.ask("consumer", &["reconcile"])?;
    assert_eq!(
        (&said["matched"], &said["missing"], &said["extra"]),
        (&200.into(), &0.into(), &0.into()),
        "{said}"
    );
    let (is_rebuilt, said) = pipeline.command("consumer", &["rebuild"])?;
    assert!(is_rebuilt, "{said}");
    assert_eq!(pipeline.projected().await?, 200);
    Ok(())
}

/// Whatever type the column has: a string at the top level of an object, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_timeline_takes_of_the_metadata_is_the_same_for_every_type_of_column() -> anyhow::Result<()>
{
    let common = [
        (r#"{"reason": "as it was", "n": 1e400}"#, Some("as it was")),
        (r#"{"n": "reason"}"#, None),
        (r#"{"reason": 7}"#, None),
        (r#"{"reason": null}"#, None),
        (r#"{"a": {"reason": "deep"}}"#, None),
        (r#"["reason"]"#, None),
        (r#""reason""#, None),
        ("{}", None),
    ];
    // No `jsonb` holds these; no text of the timeline holds what two of them ask for.
    let unstorable = [
        (r#"{"reason": "beside a NUL", "n": "\u0000"}"#, Some("beside a NUL")),
        (r#"{"reason": "with a NUL: \u0000", "request_id": "\u0000"}"#, None),
        (r#"{"reason": "half a pair: \ud83d", "request_id": "\ude00"}"#, None),
    ];
    let escaped = (r#"{"\u0072eason": "whole \ud83d\ude00"}"#, Some("whole \u{1f600}"));
    let no_json = [("no reason", None)];
    for (kind, more) in [("jsonb", &[][..]), ("json", &unstorable), ("text", &unstorable), ("text", &no_json)]
    {
        let pipeline = Pipeline::new().await?;
        let mut owner = pipeline.source.connect().await?;
        let retype =
            format!("alter table audit_events alter metadata drop default, alter metadata type {kind}");
        owner.execute(sqlx::AssertSqlSafe(retype)).await?;
        let mut expected = Vec::new();
        for (metadata, reason) in common.iter().chain([&escaped]).chain(more).copied() {
            let row = format!(
                "insert into audit_events (id, occurred_at, inserted_at, action, outcome, actor_type, metadata)
                 values (gen_random_uuid(), now(), now(), 'test.row', 'success', 'user', $1::text::{kind})
                 returning id"
            );
            let id: Uuid =
                sqlx::query_scalar(sqlx::AssertSqlSafe(row)).bind(metadata).fetch_one(&mut owner).await?;
            expected.push((id, metadata, reason));
        }
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        pipeline.arrive(&expected.iter().map(|(id, ..)| *id).collect::<Vec<_>>()).await?;
        let mut timeline = pipeline.timeline.connect().await?;
        for (id, metadata, reason) in expected {
            let action = end_to_end::action(&mut timeline, id).await?;
            assert_eq!(action["reason"].as_str(), reason, "{kind}: {metadata}");
        }
    }
    Ok(())
}

/// A table of the host's own that a cast reads.
const LOOKUP: &str = "
    create table names (key text primary key, name text);
    insert into names values ('user', 'user');
    create type label as (name text);
    create function say(label) returns text language plpgsql stable as $$
    begin
        return (select name from public.names where key = $1.name);
    end $$;
    create cast (label as text) with function say(label);
    grant select on names to audit_consumer;
    alter table audit_events alter actor_type drop default;
    alter table audit_events alter actor_type type label using row(actor_type)::label;
    alter table audit_events alter actor_type set default row('user')::label";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_which_no_row_can_be_read_is_an_outage_and_charges_nobody() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.source.connect().await?;
    owner.execute(LOOKUP).await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let insert = "insert into audit_events (id, occurred_at, inserted_at, action, outcome)
                  select gen_random_uuid(), now(), now(), 'test.row', 'success' from generate_series(1, 5) returning id";
    let mut ids: Vec<Uuid> = sqlx::query_scalar(insert).fetch_all(&mut owner).await?;
    pipeline.arrive(&ids).await?;
    owner.execute("alter table names rename to names_moved").await?;
    for _ in 0..3 {
        let said = consumer.log().matches("waiting for the source database").count();
        ids.extend(sqlx::query_scalar::<_, Uuid>(insert).fetch_all(&mut owner).await?);
        wait::until("the source to be waited for", DEADLINE, || {
            consumer.log().matches("waiting for the source database").count() > said
        })?;
    }
    assert_eq!(pipeline.failures().await?.len(), 0, "of a table that cannot be read no row is at fault");
    owner.execute("alter table names_moved rename to names").await?;
    pipeline.arrive(&ids).await?;
    pipeline.charges_nobody().await
}

/// Every row is unreadable for two statements, once `failing` is set to begin.
const FAILS_TWICE: &str = "
    create sequence failing start 3;
    create type label as (name text);
    create function say(label) returns text language plpgsql volatile as $$
    begin
        if nextval('public.failing') <= 2 then
            raise undefined_table;
        end if;
        return $1.name;
    end $$;
    create cast (label as text) with function say(label);
    grant usage on sequence failing to audit_consumer;
    alter table audit_events alter actor_type drop default;
    alter table audit_events alter actor_type type label using row(actor_type)::label;
    alter table audit_events alter actor_type set default row('user')::label";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_failed_before_its_table_was_repaired_is_no_dead_letter() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.source.connect().await?;
    owner.execute(FAILS_TWICE).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let insert = "insert into audit_events (id, occurred_at, inserted_at, action, outcome)
                  values (gen_random_uuid(), now(), now(), 'test.row', 'success') returning id";
    let mut ids: Vec<Uuid> = vec![sqlx::query_scalar(insert).fetch_one(&mut owner).await?];
    pipeline.arrive(&ids).await?;
    owner.execute("select setval('failing', 1, false)").await?;
    ids.push(sqlx::query_scalar(insert).fetch_one(&mut owner).await?);
    pipeline.arrive(&ids).await?;
    let calls: i64 = sqlx::query_scalar("select last_value from failing").fetch_one(&mut owner).await?;
    assert!(calls > 2, "the row was read again after it had failed");
    assert_eq!(pipeline.failures().await?.len(), 0);
    pipeline.charges_nobody().await
}
