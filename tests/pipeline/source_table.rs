//! What an application may do to its audit table: what becomes of the rows, and what is said.

use end_to_end::{DEADLINE, Pipeline, action, samples};
use sandbox::{audit::AuditRow, wait, work_dir::free_port};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use uuid::Uuid;

use crate::operations::get;

async fn ids(connection: &mut PgConnection, statement: &str) -> anyhow::Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_all(connection).await?)
}

async fn equal(pipeline: &Pipeline) -> anyhow::Result<()> {
    pipeline.settled("timeline").await?;
    let (done, said) = pipeline.ask("consumer", &["reconcile"])?;
    assert!(done, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_stop_fitting_break_capture_and_a_backfill_makes_good_what_was_missed()
-> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("").await?;
    let mut application = pipeline.source.connect().await?;
    let port = free_port()?;
    let arguments =
        ["--set", &format!("publisher.listen=127.0.0.1:{port}"), "--set", "relay.maintenance_interval=1s"];
    let publisher = pipeline.publisher_with(&arguments)?;
    let _consumer = pipeline.consumer()?;
    let (rows, before) = samples(2);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&before).await?;

    // An insert without an id, and one whose column has another name, by a session that stays open.
    application
        .execute(
            "alter table audit_events drop constraint audit_events_pkey, alter id drop not null;
             insert into audit_events (occurred_at, action, outcome, inserted_at) values (now(), 'no.id', 'success', now());
             alter table audit_events rename occurred_at to happened_at;
             insert into audit_events (id, happened_at, action, outcome, inserted_at)
             values (gen_random_uuid(), '2026-01-01', 'no.time', 'success', now())",
        )
        .await?;
    wait::until("the publisher to be unready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains("occurred_at"))
            && get(port, "/metrics").is_some_and(|(_, metrics)| {
                metrics.contains("audit_capture_attached 0")
                    && metrics.contains("audit_capture_missed_rows 1")
            })
    })?;
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    let capture = status["capture"].as_str().unwrap();
    assert!(capture.contains("occurred_at") && capture.contains("1 row(s)"), "{capture}");
    // Without its time the row is not delivered as if it had none.
    assert_eq!(pipeline.projected().await?, 2);

    application
        .execute(
            "alter table audit_events rename happened_at to occurred_at;
             update audit_events set id = gen_random_uuid() where id is null;
             alter table audit_events add primary key (id)",
        )
        .await?;
    let all = ids(&mut application, "select id from audit_events").await?;
    let (done, said) = pipeline.ask("publisher", &["backfill", "--action", "no.*"])?;
    assert!(done, "{said}");
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    assert!(
        status["capture"].as_str().unwrap().contains("1 row(s)"),
        "a part of the rows proves nothing: {status}"
    );
    let (done, said) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done, "{said}");
    pipeline.arrive(&all).await?;
    wait::until("the publisher to be ready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    })?;
    let late: Vec<String> = sqlx::query_scalar(
        "select (inserted_at at time zone 'UTC')::text from audit_actions where name = 'no.time'",
    )
    .fetch_all(&mut pipeline.timeline.connect().await?)
    .await?;
    assert_eq!(late, ["2026-01-01 00:00:00"]);
    drop(publisher);
    Ok(())
}

/// Neither the year 1 nor the year 9999: what has no time has none.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_time_stands_at_its_insert_and_otherwise_at_its_delivery() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut application = pipeline.source.connect().await?;
    application
        .execute("alter table audit_events alter occurred_at drop not null, alter inserted_at drop not null")
        .await?;
    let rows = ids(
        &mut application,
        "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
         select gen_random_uuid(), o::timestamp, 'test.row', 'success', i::timestamp
         from (values (null, '2026-03-04 05:06:07'), (null, null), ('infinity', null), ('-infinity', '-infinity'),
                      (null, 'infinity')) v (o, i) returning id",
    )
    .await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&rows).await?;
    let entered: Vec<Option<bool>> =
        sqlx::query_scalar("select isfinite(occurred_at) from outbox.entries order by xid, seq")
            .fetch_all(&mut application)
            .await?;
    // Infinity is bounded, and minus infinity itself.
    assert_eq!(entered, [None, None, Some(true), Some(false), None]);
    let mut timeline = pipeline.timeline.connect().await?;
    timeline.execute("set time zone 'UTC'").await?;
    let mut times = Vec::new();
    for id in &rows {
        times.push(action(&mut timeline, *id).await?["inserted_at"].as_str().unwrap_or_default().to_owned());
    }
    let now: String = sqlx::query_scalar("select to_char(now(), 'YYYY-MM')").fetch_one(&mut timeline).await?;
    assert!(times[1].starts_with(&now), "{times:?}");
    times.remove(1);
    assert_eq!(
        times,
        [
            "2026-03-04T05:06:07+00:00",
            "9999-12-31T23:59:59.999999+00:00",
            "0001-01-01T00:00:00+00:00",
            "9999-12-31T23:59:59.999999+00:00"
        ]
    );
    // All ways into the log, and those that compare.
    equal(&pipeline).await?;
    let (done, said) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done, "{said}");
    let strange: i64 = sqlx::query_scalar(
        "select count(*) from outbox.entries e join audit_events a on a.id = e.audit_event_id
         where (a.occurred_at is null) <> (e.occurred_at is null)",
    )
    .fetch_one(&mut application)
    .await?;
    assert_eq!(strange, 0);
    equal(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn optional_columns_of_other_types_are_carried_or_count_as_not_there_and_are_named()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut application = pipeline.source.connect().await?;
    let _publisher = pipeline.publisher()?;
    let mut timeline = pipeline.timeline.connect().await?;
    application
        .execute(
            "create domain moment as timestamptz; drop index audit_events_inserted_at_index;
             alter table audit_events alter occurred_at drop not null",
        )
        .await?;
    for (kind, value, time) in [
        ("date", "'2026-01-02'", Some("2026-01-02T00:00:00+00:00")),
        ("timestamptz(0)", "'2026-01-02 12:00+05'", Some("2026-01-02T07:00:00+00:00")),
        ("moment", "'2026-01-02 12:00+05'", Some("2026-01-02T07:00:00+00:00")),
        ("bigint", "1767312000", None),
        ("int", "7", None),
        ("text", "'2026-01-02'", None),
        ("timetz", "'12:00+05'", None),
        ("interval", "'1 day'", None),
        ("timestamptz[]", "'{2026-01-02}'", None),
        ("jsonb", "'{}'", None),
        ("tstzrange", "'[2026-01-02,2026-01-03)'", None),
    ] {
        application
            .execute(AssertSqlSafe(format!(
                "alter table audit_events drop inserted_at; alter table audit_events add inserted_at {kind};
                 grant select (inserted_at) on audit_events to audit_consumer, audit_publisher"
            )))
            .await?;
        let consumer = pipeline.consumer()?;
        let [id] = ids(
            &mut application,
            &format!(
                "insert into audit_events (id, action, outcome, inserted_at)
                 values (gen_random_uuid(), 'a.b', 'success', {value}) returning id"
            ),
        )
        .await?[..] else {
            anyhow::bail!("one row");
        };
        pipeline.arrive(&[id]).await.map_err(|error| error.context(kind))?;
        timeline.execute("set time zone 'UTC'").await?;
        let action = action(&mut timeline, id).await?;
        let (_, doctor) = pipeline.ask("consumer", &["doctor"])?;
        let named = doctor.to_string().contains(r#"column \"inserted_at\" is of type"#);
        assert_eq!(named, time.is_none(), "{kind}: {doctor}");
        if let Some(time) = time {
            assert_eq!(action["inserted_at"], time, "{kind}");
        } else {
            assert!(
                action["inserted_at"].as_str() > Some("2026-05"),
                "{kind}: the time of delivery, {action}"
            );
        }
        drop(consumer);
        application.execute("delete from audit_events").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_any_type_are_carried_as_postgresql_writes_them() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut application = pipeline.source.connect().await?;
    application
        .execute(
            "create type shape as enum ('round'); create table pair (a int, b text);
             alter table audit_events
                 drop actor_type, add actor_type shape, drop actor_id, add actor_id bytea, drop target_id, add target_id pair,
                 drop ip_address, add ip_address inet, drop user_agent, add user_agent text[],
                 drop metadata, add metadata text;
             grant select on audit_events to audit_consumer",
        )
        .await?;
    let rows = ids(
        &mut application,
        r#"insert into audit_events (id, occurred_at, action, outcome, inserted_at, actor_type, actor_id, target_id, ip_address,
                                     user_agent, metadata)
           select gen_random_uuid(), now(), 'a.b', 'success', now(), 'round', '\x00ff', row(1, 'x')::pair, '::1', '{a,"b c"}', m
           from (values ('{"reason":"r"}'), ('no json'), (null)) v (m) returning id"#,
    )
    .await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&rows).await?;
    let mut timeline = pipeline.timeline.connect().await?;
    let [first, second] = [action(&mut timeline, rows[0]).await?, action(&mut timeline, rows[1]).await?];
    assert_eq!(first["actor_ref"], json!({"type": "user", "id": r"\x00ff"}));
    assert_eq!((&first["reason"], &second["reason"]), (&json!("r"), &Value::Null));
    let (_, doctor) = pipeline.ask("consumer", &["doctor"])?;
    assert!(doctor.to_string().contains(r#"column \"metadata\" is of type text"#), "{doctor}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_renamed_and_moved_is_captured_on_and_continues_under_its_new_name()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut application = pipeline.source.connect().await?;
    let insert = async |application: &mut PgConnection, table: &str| {
        let statement = format!(
            "insert into {table} (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), now(), 'a.b', 'success', now()) returning id"
        );
        ids(application, &statement).await
    };
    let publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer()?;
    let mut all = insert(&mut application, "audit_events").await?;
    pipeline.arrive(&all).await?;
    drop((publisher, consumer));

    application
        .execute(
            "create schema app; grant usage on schema app to audit_consumer, audit_operator;
             alter table audit_events rename to happenings; alter table happenings set schema app",
        )
        .await?;
    all.extend(insert(&mut application, "app.happenings").await?);
    for command in ["run", "status"] {
        let (done, said) = pipeline.command("publisher", &[command])?;
        assert!(!done && said.contains("captures app.happenings"), "{command}: {said}");
    }
    pipeline.configure("[source]\ntable = \"app.happenings\"")?;
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    let capture = status["capture"].as_str().unwrap();
    assert!(capture.contains("public.audit_events is called app.happenings now"), "{capture}");
    for command in ["attach", "rebase"] {
        let (done, said) = pipeline.command("publisher", &[command])?;
        assert!(done, "{command}: {said}");
    }
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    assert_eq!(status["capture"], "attached");
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    all.extend(insert(&mut application, "app.happenings").await?);
    pipeline.arrive(&all).await?;
    assert_eq!(pipeline.projected().await?, 3);

    // The old name again: capture is let go wherever it is.
    application.execute("alter table app.happenings rename to elsewhere").await?;
    let (done, said) = pipeline.command("publisher", &["detach"])?;
    assert!(done && said.contains("capture of app.elsewhere is off"), "{said}");
    let entries = "select count(*) from outbox.entries";
    let before: i64 = sqlx::query_scalar(entries).fetch_one(&mut application).await?;
    insert(&mut application, "app.elsewhere").await?;
    assert_eq!(before, sqlx::query_scalar::<_, i64>(entries).fetch_one(&mut application).await?);
    Ok(())
}

/// A new table under the old name, with the rows of the old one: what "blue/green" migrations do.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_takes_the_place_of_the_captured_one_is_said_and_captured_by_attach()
-> anyhow::Result<()> {
    const SWAP: &str = "create table green (like audit_events including all);
         grant select on green to audit_consumer, audit_decider;
         insert into green select * from audit_events;
         alter table audit_events rename to blue; alter table green rename to audit_events";
    let pipeline = Pipeline::new().await?;
    let mut application = pipeline.source.connect().await?;
    let (rows, mut all) = samples(5);
    pipeline.commit(&rows).await?;
    application.execute(SWAP).await?;
    let (rows, more) = samples(5);
    pipeline.commit(&rows).await?;
    all.extend(more);
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("called public.blue now") && said.contains("publisher attach"), "{said}");
    // A row that only the old table has, and that has not been delivered.
    application
        .execute(
            "insert into blue (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), now(), 'only.blue', 'success', now())",
        )
        .await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(!done && said.contains("1 event(s)") && said.contains("Copy these rows"), "{said}");
    application.execute("insert into audit_events select * from blue where action = 'only.blue'").await?;
    for command in ["attach", "backfill"] {
        let (done, said) = pipeline.command("publisher", &[command])?;
        assert!(done, "{command}: {said}");
    }
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&all).await?;
    let triggers: Vec<String> =
        sqlx::query_scalar("select tgrelid::regclass::text from pg_trigger where tgname = 'outbox_capture'")
            .fetch_all(&mut application)
            .await?;
    assert_eq!(triggers, ["audit_events"]);
    equal(&pipeline).await?;

    // In one transaction with the swap nothing is missed in between.
    application.execute("drop table blue").await?;
    application
        .execute(AssertSqlSafe(format!("begin; {SWAP}; select outbox.attach('audit_events'); commit")))
        .await?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    pipeline.arrive(&[row.id]).await?;
    let (_, status) = pipeline.ask("publisher", &["status"])?;
    assert_eq!(status["capture"], "attached");
    Ok(())
}

/// They have the name or the function of the capture trigger, and are not it.
#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_only_resembles_the_capture_trigger_makes_a_running_publisher_unready()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut owner = pipeline.source.connect().await?;
    let port = free_port()?;
    let listen = format!("publisher.listen=127.0.0.1:{port}");
    let _publisher =
        pipeline.publisher_with(&["--set", &listen, "--set", "relay.maintenance_interval=200ms"])?;
    let ready = || get(port, "/readyz").is_some_and(|(status, _)| status == 200);
    let attached = |value: u8| {
        let gauge = format!("audit_capture_attached {value}");
        get(port, "/metrics").is_some_and(|(_, metrics)| metrics.contains(&gauge))
    };
    for (spoil, says) in [
        (
            "drop trigger outbox_capture on audit_events;
             create trigger outbox_capture after insert on audit_events for each row when (new.action <> 'secret')
                 execute function outbox.capture();
             alter table audit_events enable always trigger outbox_capture",
            "it has a condition (WHEN)",
        ),
        (
            "create trigger again after insert on audit_events for each row execute function outbox.capture()",
            "it captures each row once more, beside outbox_capture",
        ),
    ] {
        wait::until("the publisher to be ready", DEADLINE, || ready() && attached(1))?;
        owner.execute(spoil).await?;
        wait::until("the publisher to be unready", DEADLINE, || {
            get(port, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains(says)) && attached(0)
        })?;
        let (_, status) = pipeline.ask("publisher", &["status"])?;
        assert!(status["capture"].as_str().unwrap_or_default().contains(says), "{status}");
        let (_, answer) = pipeline.ask("publisher", &["doctor"])?;
        let found = answer["findings"].to_string();
        assert!(found.contains("capture-off") && found.contains(says), "{found}");
        let (done, said) = pipeline.command("publisher", &["attach"])?;
        assert!(done && said.contains(says), "{said}");
    }
    wait::until("the publisher to be ready", DEADLINE, || ready() && attached(1))
}
