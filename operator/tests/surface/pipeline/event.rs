//! The way of one event.

use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use super::{AuditRow, Console, audit, audit_events, dead, is_refused, source};

#[tokio::test]
async fn an_event_is_shown_at_every_station_of_its_way() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_decider").await?;
    console.as_staff("everything+pipeline");
    let row = AuditRow::sample("test.row");
    let path = format!("/events/{}", row.id);
    let mut writer = source(&console).connect().await?;
    writer.execute("begin").await?;
    audit::insert(&mut writer, &audit_events(), std::slice::from_ref(&row)).await?;
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut writer).await?;
    let way = console.json(&path).await?;
    assert!(way["diagnosis"].as_str().unwrap().contains(&format!("process {pid}")), "{way}");
    assert!(console.page(&path).await?.contains("Transactions that write"), "a transaction may hold it");

    writer.execute("commit").await?;
    writer.close().await?;
    let way = console.json(&path).await?;
    assert!(way["diagnosis"].as_str().unwrap().contains("is the publisher running?"), "{way}");
    assert_eq!(
        (&way["row"]["action"], &way["timelines"][0]["state"]),
        (&"test.row".into(), &"absent".into())
    );
    assert_eq!(way["row"]["occurred_at"], common::time_arg::to_rfc3339(row.occurred_at));
    assert_eq!(way["entries"].as_array().unwrap().len(), 1);

    // As another system's action next to it, and then as what it should be.
    for (id, correlation, state) in [
        (
            Uuid::new_v4(),
            Some(row.id.to_string()),
            "absent, but the action of another system has its correlation id",
        ),
        (row.id, None, "there"),
    ] {
        sqlx::query(
            "insert into audit_actions (id, name, actor_ref, status, correlation_id)
             values ($1, 'test.row', '{\"type\":\"anonymous\"}', 'ok', $2)",
        )
        .bind(id)
        .bind(correlation)
        .execute(&mut console.database.connect().await?)
        .await?;
        assert_eq!(console.json(&path).await?["timelines"][0]["state"], state);
    }
    assert_eq!(console.json(&path).await?["diagnosis"], "it has arrived");
    let html = console.page(&path).await?;
    assert!(html.contains(&format!("../actions/{}", row.id)) && html.contains("consumer explain"), "{html}");

    // Where its id leads.
    let nothing = Uuid::new_v4();
    assert!(console.page(&format!("/search?q={nothing}")).await?.contains(&format!("./events/{nothing}")));

    let failed = dead(source(&console), "test.refused", "refused").await?;
    let way = console.json(&format!("/events/{failed}")).await?;
    assert!(way["diagnosis"].as_str().unwrap().contains("state dead (schema_mismatch)"), "{way}");
    let way = console.json(&format!("/events/{}", Uuid::new_v4())).await?;
    assert!(way["diagnosis"].as_str().unwrap().starts_with("no such row is committed"), "{way}");
    is_refused(&console, "/events/7", StatusCode::NOT_FOUND, "not_found").await
}

#[tokio::test]
async fn a_role_that_may_not_read_the_log_is_told_which_one_may() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    let id = dead(source(&console), "test.refused", "refused").await?;
    is_refused(&console, &format!("/events/{id}"), StatusCode::SERVICE_UNAVAILABLE, "source_rights").await?;
    let (_, html) = console.answer(&format!("/events/{id}")).await?;
    assert!(html.contains("audit_decider") && html.contains("deploy/postgres/source.sql"), "{html}");
    // Of the audit row it sees what it may.
    let found = console.json(&format!("/pipeline/failure?event={id}")).await?;
    assert_eq!(found["audit_row"], serde_json::json!({"id": id, "action": "test.refused"}));
    Ok(())
}

#[tokio::test]
async fn a_log_that_takes_too_long_hides_nothing_else_of_an_event() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_decider").await?;
    console.as_staff("everything+pipeline");
    let id = dead(source(&console), "test.refused", "refused").await?;
    // Whoever looks through the log waits for longer than a statement may take.
    let mut owner = source(&console).connect().await?;
    owner.execute("begin; lock table outbox.entries in access exclusive mode").await?;
    let way = console.json(&format!("/events/{id}")).await?;
    assert!(way["diagnosis"].as_str().unwrap().contains("consumer explain"), "{way}");
    assert_eq!((way["failures"].as_array().unwrap().len(), way.get("entries")), (1, None), "{way}");
    let html = console.page(&format!("/events/{id}")).await?;
    assert!(html.contains("too long to be looked through") && html.contains("schema_mismatch"), "{html}");
    owner.execute("rollback").await?;
    assert_eq!(console.json(&format!("/events/{id}")).await?["entries"].as_array().unwrap().len(), 1);
    Ok(())
}
