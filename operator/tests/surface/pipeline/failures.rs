//! What could not be delivered.

use common::failures::{self, Failure, NextStep, Reason};
use reqwest::StatusCode;
use sqlx::Executor as _;

use super::{AuditRow, Console, DEAD, RETRY, failed, is_refused, source, timeline};
use crate::{hostile::FORBIDDEN, links};

#[tokio::test]
async fn failures_are_found_by_what_they_are() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    let (refused, waiting) = (AuditRow::sample("auth.refused"), AuditRow::sample("billing.waiting"));
    failed(source(&console), std::slice::from_ref(&refused), "refused", DEAD).await?;
    failed(source(&console), std::slice::from_ref(&waiting), "later", RETRY).await?;
    let unreadable = Failure {
        reference: "stream:2026-01-01T00:00:00Z:7".to_owned(),
        audit_event_id: None,
        error: "no reference".to_owned(),
        attempts: 1,
        outcome: NextStep::Dead(Reason::MalformedReference),
        excerpt: Some(b"this is not JSON".to_vec()),
    };
    failures::record(&mut source(&console).session().await?, &timeline(), &[unreadable]).await?;
    for (query, found) in [
        ("", 3),
        ("?state=dead", 2),
        ("?state=retrying&form=1&reason=", 1),
        ("?reason=schema_mismatch", 1),
        ("?action=auth.*", 1),
        ("?forwarder=another", 0),
        ("?last=1h", 3),
        ("?until=2020-01-01", 0),
        ("?event=stream%3A2026-01-01T00%3A00%3A00Z%3A7", 1),
    ] {
        let page = console.json(&format!("/pipeline/failures{query}")).await?;
        assert_eq!(page["failures"].as_array().unwrap().len(), found, "{query}: {page}");
    }
    let html = console.page("/pipeline/failures?state=dead").await?;
    assert!(html.contains("consumer failures list --state dead"), "{html}");
    assert!(
        links(&html).contains(&format!("../pipeline/failure?forwarder=timeline&event={}", refused.id)),
        "{html}"
    );
    let html = console.page("/pipeline/failures?forwarder=another").await?;
    assert!(html.contains("No failure fits"), "{html}");
    is_refused(&console, "/pipeline/failures?stat=dead", StatusCode::BAD_REQUEST, "unknown_filter").await?;
    is_refused(&console, "/pipeline/failures?state=alive", StatusCode::BAD_REQUEST, "filter_value").await?;
    is_refused(&console, "/pipeline/failure", StatusCode::BAD_REQUEST, "event_missing").await?;
    is_refused(&console, "/pipeline/failure?event=nothing", StatusCode::NOT_FOUND, "not_found").await
}

#[tokio::test]
async fn more_failures_than_fit_are_a_click_away() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_operator").await?;
    console.as_staff("everything+pipeline");
    let rows: Vec<_> = (0..130).map(|_| AuditRow::sample("test.refused")).collect();
    failed(source(&console), &rows, "refused", DEAD).await?;
    let mut seen = std::collections::BTreeSet::new();
    let mut path = "/pipeline/failures?state=dead".to_owned();
    for _ in 0..2 {
        let page = console.json(&path).await?;
        seen.extend(
            page["failures"].as_array().unwrap().iter().map(|one| one["ref"].as_str().unwrap().to_owned()),
        );
        let html = console.page(&path).await?;
        let older = links(&html).into_iter().find(|link| link.contains("until="));
        let Some(older) = older else { break };
        path = older.trim_start_matches("..").to_owned();
    }
    assert_eq!(seen.len(), rows.len());
    Ok(())
}

#[tokio::test]
async fn a_failure_shows_what_happened_and_not_to_whom() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_decider").await?;
    console.as_staff("everything+pipeline");
    let mut row = AuditRow::sample("auth.refused");
    row.ip_address = Some("203.0.113.7".to_owned());
    row.metadata = serde_json::json!({"email": "ann@example.org"});
    failed(source(&console), std::slice::from_ref(&row), "violates check constraint \"host_rule\"", DEAD)
        .await?;
    let path = format!("/pipeline/failure?forwarder=timeline&event={}", row.id);
    let found = console.json(&path).await?;
    assert_eq!(found["failures"][0]["reason"], "schema_mismatch");
    assert_eq!(
        (&found["audit_row"]["action"], &found["audit_row"]["ip_address"]),
        (&"auth.refused".into(), &"***".into())
    );
    let html = console.page(&path).await?;
    for words in [
        "auth.refused",
        "host_rule",
        "The target refuses the data.",
        "<span class=\"masked\">masked</span>",
        &format!("../events/{}", row.id),
        &format!("consumer failures redrive --id {}", row.id),
        "consumer failures discard",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    for secret in ["203.0.113.7", "ann@example.org", &row.actor_id.unwrap().to_string()] {
        assert!(!html.contains(secret) && !found.to_string().contains(secret), "{secret}");
    }
    // Whoever may have it delivered again is led there.
    assert!(!links(&html).iter().any(|link| link.contains("redrive")), "{html}");
    console.as_staff("everything+pipeline+redrive");
    assert!(links(&console.page(&path).await?).iter().any(|link| link.starts_with("../pipeline/redrive?")));
    source(&console).connect().await?.execute("delete from audit_events").await?;
    assert!(console.page(&path).await?.contains("does not exist (any more)"));
    Ok(())
}

/// Whatever somebody could write into a row, or a target say about it.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "'><svg/onload=alert(1)>",
    "line\nbreak\ttab\u{7}bell\u{1b}[2J",
    "\u{202e}reversed\u{2066}\u{200b}",
    "javascript:alert(1)",
];

#[tokio::test]
async fn nothing_that_a_failure_holds_breaks_out_of_a_page() -> anyhow::Result<()> {
    let mut console = Console::beside_a_pipeline("", "audit_decider").await?;
    console.as_staff("everything+pipeline+redrive");
    let mut paths = vec!["/pipeline".to_owned(), "/pipeline/failures".to_owned()];
    for text in HOSTILE {
        let mut row = AuditRow::sample(text);
        row.metadata = serde_json::json!({"text": text.repeat(10_000)});
        failed(source(&console), std::slice::from_ref(&row), text, DEAD).await?;
        let mut writer = source(&console).connect().await?;
        sqlx::query("update outbox.failures set forwarder = $1, reason = $1, note = $1 where ref = $2")
            .bind(text)
            .bind(row.id.to_string())
            .execute(&mut writer)
            .await?;
        sqlx::query(
            "insert into outbox.acts (actor, kind, filter, reason) values ($1, $1, $1 || 'id ' || $2, $1)",
        )
        .bind(text)
        .bind(row.id.to_string())
        .execute(&mut writer)
        .await?;
        sqlx::query("insert into outbox.entries (audit_event_id, forwarder) values ($2::uuid, $1)")
            .bind(text)
            .bind(row.id.to_string())
            .execute(&mut writer)
            .await?;
        paths.extend([format!("/pipeline/failure?event={}", row.id), format!("/events/{}", row.id)]);
        paths.push(format!("/pipeline/redrive?event={}", row.id));
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("reason", text).finish();
        paths.extend([format!("/pipeline/failures?{query}"), format!("/pipeline/redrive?{query}")]);
    }
    paths.extend((1..=6).map(|id| format!("/pipeline/act?id={id}")));
    for path in paths {
        let html = console.page(&path).await?;
        // A field holds what was typed, as it was typed.
        let parts: Vec<&str> = html.split(" value=\"").collect();
        let fields = parts.iter().skip(1).map(|part| part.split_once('"').map_or("", |(_, rest)| rest));
        let html: String = parts.iter().take(1).copied().chain(fields).collect();
        for forbidden in FORBIDDEN {
            assert!(!html.contains(forbidden), "{path} has {forbidden:?}: {html}");
        }
        assert!(!html.contains(" style=") && html.len() < 500_000, "{path}: {} bytes", html.len());
    }
    Ok(())
}
