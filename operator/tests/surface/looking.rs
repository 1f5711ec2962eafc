//! That somebody has looked is recorded, and that somebody may is said.

use std::time::Duration;

use reqwest::StatusCode;
use sandbox::heard::Heard;
use sqlx::Executor as _;

use super::Console;

#[tokio::test]
async fn who_has_looked_is_recorded_now_and_then_without_what_they_looked_for() -> anyhow::Result<()> {
    let mut console =
        Console::built("", |operator| operator.record_views(Duration::from_secs(3_600))).await?;
    console.as_staff("everything");
    for path in
        ["/timeline?table=posts&text=marker", "/timeline?table=users", "/help", "/", "/timeline?tabel=x"]
    {
        console.answer(path).await?;
    }
    console.as_staff("MINE");
    console.page("/timeline").await?;
    console.page("/actor?actor=user:u1").await?;
    let viewed: Vec<(String, String)> = sqlx::query_as(
        "select actor_ref ->> 'id', comment from audit_actions where name = 'audit.viewed' order by inserted_at",
    )
    .fetch_all(&mut console.connection)
    .await?;
    let viewed: Vec<(String, serde_json::Value)> =
        viewed.into_iter().map(|(actor, comment)| (actor, serde_json::from_str(&comment).unwrap())).collect();
    let places: Vec<(&str, &str)> = viewed
        .iter()
        .map(|(actor, comment)| (actor.as_str(), comment["surface"].as_str().unwrap()))
        .collect();
    assert_eq!(places, [("everything", "timeline"), ("MINE", "timeline"), ("MINE", "actor")]);
    assert_eq!(viewed[0].1["filter_blake3"].as_str().unwrap().len(), 64);
    assert!(!viewed.iter().any(|(_, comment)| comment.to_string().contains("marker")));
    Ok(())
}

#[tokio::test]
async fn a_page_is_shown_also_where_looking_cannot_be_recorded() -> anyhow::Result<()> {
    let mut console =
        Console::built("", |operator| operator.record_views(Duration::from_secs(3_600))).await?;
    console.connection.execute("alter table audit_actions add check (name <> 'audit.viewed')").await?;
    assert_eq!(console.answer("/timeline").await?.0, StatusCode::OK);
    // It is tried again at the next page.
    console.connection.execute("alter table audit_actions drop constraint audit_actions_name_check").await?;
    console.page("/timeline").await?;
    let viewed: i64 = sqlx::query_scalar("select count(*) from audit_actions where name = 'audit.viewed'")
        .fetch_one(&mut console.connection)
        .await?;
    assert_eq!(viewed, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_decided_of_a_request_is_said_and_nothing_of_who_asked() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let (heard, _listening) = Heard::of("threadline.operator_surface");
    for staff in ["everything", "MINE+coverage", "panic"] {
        console.as_staff(staff);
        console.answer("/coverage").await?;
        console.answer("/timeline?format=json").await?;
    }
    let said = heard.taken();
    let results = ["denied", "granted", "denied", "granted", "error", "error"];
    assert_eq!(
        said,
        results.map(|result| format!("threadline.operator_surface.authorize result=\"{result}\""))
    );
    Ok(())
}
