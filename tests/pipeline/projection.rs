//! What arrives, and how it looks.

use end_to_end::{Pipeline, action};
use sandbox::{
    audit::{self, AuditRow},
    fixture::audit_events,
    golden,
};
use serde_json::{Value, json};
use sqlx::Executor as _;
use time::macros::datetime;

async fn project_golden(profile: &str) -> anyhow::Result<(Pipeline, Vec<AuditRow>)> {
    let settings =
        format!("[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\nprofile = \"{profile}\"");
    let pipeline = Pipeline::with_settings(&settings).await?;
    let mut connection = pipeline.source.connect().await?;
    audit::insert_organizations(&mut connection, &audit_events(), &golden::ORGANIZATIONS).await?;
    let rows = golden::rows();
    pipeline.commit(&rows).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    Ok((pipeline, rows))
}

async fn statuses(pipeline: &Pipeline) -> anyhow::Result<Value> {
    let mut connection = pipeline.timeline.connect().await?;
    let counts =
        "select jsonb_object_agg(status, n) from (select status, count(*) n from audit_actions group by 1) s";
    Ok(sqlx::query_scalar(counts).fetch_one(&mut connection).await?)
}

#[tokio::test]
async fn the_golden_fixture_projects_to_36_ok_and_7_error_with_every_field() -> anyhow::Result<()> {
    let (pipeline, rows) = project_golden("correct").await?;
    assert_eq!(statuses(&pipeline).await?, json!({"ok": 36, "error": 7}));
    let mut connection = pipeline.timeline.connect().await?;
    // The session's zone must not matter to what is stored; UTC makes it comparable here.
    connection.execute("set time zone 'UTC'").await?;
    for row in rows {
        let (category, verb) = row.action.split_once('.').unwrap();
        assert_eq!(
            action(&mut connection, row.id).await?,
            json!({
                "id": row.id,
                "name": row.action,
                "actor_ref": {"type": "user", "id": row.actor_id},
                "status": if row.outcome == "success" { "ok" } else { "error" },
                "verb": verb,
                "category": category,
                "reason": null,
                "comment": null,
                "correlation_id": row.id.to_string(),
                "request_id": null,
                "job_id": null,
                "erased": null,
                "inserted_at": row.occurred_at.format(&time::format_description::well_known::Rfc3339)?
                    .replace('Z', "+00:00"),
            })
        );
    }
    Ok(())
}

#[tokio::test]
async fn under_compat_the_golden_fixture_projects_as_sigra_itself_would() -> anyhow::Result<()> {
    let (pipeline, _) = project_golden("compat").await?;
    assert_eq!(statuses(&pipeline).await?, json!({"ok": 37, "error": 6}));
    let mut connection = pipeline.timeline.connect().await?;
    let kept: i64 = sqlx::query_scalar(
        "select count(*) from audit_actions
         where verb is not null or category is not null or reason is not null
            or inserted_at < now() - interval '1 hour'",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(kept, 0, "Sigra's forwarder drops the details and the time");
    Ok(())
}

#[tokio::test]
async fn the_time_is_kept_to_the_microsecond_whatever_the_sessions_time_zone() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let mut application = pipeline.source.connect().await?;
    let mut ids = Vec::new();
    for zone in ["UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Kiritimati"] {
        application.execute(sqlx::AssertSqlSafe(format!("set time zone '{zone}'"))).await?;
        let row =
            AuditRow { occurred_at: datetime!(2026-03-29 01:30:00.123457 UTC), ..AuditRow::sample("a.b") };
        audit::insert(&mut application, &audit_events(), std::slice::from_ref(&row)).await?;
        ids.push(row.id);
    }
    pipeline.arrive(&ids).await?;
    let mut connection = pipeline.timeline.connect().await?;
    let times: Vec<String> =
        sqlx::query_scalar("select distinct (inserted_at at time zone 'UTC')::text from audit_actions")
            .fetch_all(&mut connection)
            .await?;
    assert_eq!(times, ["2026-03-29 01:30:00.123457"]);
    Ok(())
}

#[tokio::test]
async fn anything_a_column_can_hold_arrives() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let sample = || AuditRow::sample("a.b");
    let rows = vec![
        AuditRow { actor_id: None, ..sample() },
        AuditRow { action: "ä".repeat(255), ..sample() },
        AuditRow { action: "no_dot".into(), outcome: "perhaps".into(), ..sample() },
        AuditRow { user_agent: Some("語".repeat(512)), ip_address: Some("::1".into()), ..sample() },
        AuditRow { metadata: json!({"reason": "x".repeat(8_192)}), ..sample() },
        AuditRow { metadata: json!({"blob": "y".repeat(3_000_000), "reason": "big"}), ..sample() },
        AuditRow { metadata: json!([1, 2, 3]), ..sample() },
        AuditRow { metadata: json!("text"), ..sample() },
        AuditRow { metadata: json!({"reason": {"nested": true}, "request_id": "r-1"}), ..sample() },
        AuditRow { actor_type: "service_account".into(), ..sample() },
    ];
    for row in &rows {
        pipeline.commit(std::slice::from_ref(row)).await?;
    }
    let mut application = pipeline.source.connect().await?;
    let edge: uuid::Uuid = sqlx::query_scalar(
        "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
         values (gen_random_uuid(), 'infinity', 'a.b', 'success', '-infinity') returning id",
    )
    .fetch_one(&mut application)
    .await?;
    let mut ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    ids.push(edge);
    pipeline.arrive(&ids).await?;
    let mut connection = pipeline.timeline.connect().await?;
    let fields = |value: Value| (value["reason"].clone(), value["request_id"].clone());
    assert_eq!(action(&mut connection, ids[0]).await?["actor_ref"], json!({"type": "anonymous"}));
    assert_eq!(action(&mut connection, ids[2]).await?["status"], "error");
    assert_eq!(fields(action(&mut connection, ids[5]).await?), (json!("big"), Value::Null));
    assert_eq!(fields(action(&mut connection, ids[8]).await?), (Value::Null, json!("r-1")));
    assert_eq!(action(&mut connection, ids[9]).await?["actor_ref"]["type"], "service_account");
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test]
async fn a_source_of_another_shape_is_carried_too() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[source]\ntable = \"Auth Data.audit-events\"").await?;
    let mut application = pipeline.source.connect().await?;
    application
        .execute(
            r#"select outbox.detach();
               create schema "Auth Data";
               create table "Auth Data"."audit-events" (
                   id uuid primary key, occurred_at timestamptz not null, action text, outcome text,
                   actor_id text, metadata jsonb);
               grant usage on schema "Auth Data" to audit_publisher, audit_consumer;
               grant select (id, occurred_at, action, outcome, actor_id, metadata) on "Auth Data"."audit-events"
                   to audit_consumer"#,
        )
        .await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done, "{said}");
    let id: uuid::Uuid = sqlx::query_scalar(
        r#"insert into "Auth Data"."audit-events"
           values (gen_random_uuid(), '2026-01-01 12:00:00+05', 'a.b', 'success', '', '{}') returning id"#,
    )
    .fetch_one(&mut application)
    .await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&[id]).await?;
    let mut connection = pipeline.timeline.connect().await?;
    connection.execute("set time zone 'UTC'").await?;
    let action = action(&mut connection, id).await?;
    assert_eq!(action["inserted_at"], "2026-01-01T07:00:00+00:00");
    assert_eq!(action["actor_ref"], json!({"type": "anonymous"}), "an empty actor is nobody");
    Ok(())
}

#[tokio::test]
async fn the_verdict_sees_what_is_missing_twice_and_foreign() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let rows: Vec<_> = (0..4).map(|_| AuditRow::sample("test.row")).collect();
    pipeline.commit(&rows).await?;
    let mut connection = pipeline.timeline.connect().await?;
    // The first is missing, the second is there twice, a stranger is there once, the others are as they should be.
    let stranger = uuid::Uuid::new_v4();
    for id in [rows[1].id, rows[1].id, rows[2].id, rows[3].id, stranger] {
        sqlx::query(
            "insert into audit_actions (name, actor_ref, status, correlation_id) values ('a.b', '{}', 'ok', $1)",
        )
        .bind(id.to_string())
        .execute(&mut connection)
        .await?;
    }
    let verdict = pipeline.verdict().await?;
    assert_eq!((verdict.missing, verdict.twice, verdict.foreign), (1, 1, 1));
    assert!(!verdict.holds());
    assert!(verdict.to_string().starts_with("FAIL: committed 4, projected 5"), "{verdict}");
    Ok(())
}
