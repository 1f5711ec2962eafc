//! What pages show.

use reqwest::{StatusCode, header};

use super::Console;

const SAMPLE: &str = include_str!("../../../threadline/tests/query/sample.sql");

#[tokio::test]
async fn a_page_as_json_is_what_the_command_answers() -> anyhow::Result<()> {
    let console = Console::after(SAMPLE).await?;
    let page = console.json("/timeline?table=public.posts&op=update&size=5").await?;
    assert_eq!(page["entries"].as_array().unwrap().len(), 5);
    let older = page["older"].as_str().unwrap();
    let next = console.json(&format!("/timeline?table=public.posts&op=update&size=5&older={older}")).await?;
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(ids(&next).iter().all(|id| !ids(&page).contains(id)));
    let back = console
        .json(&format!(
            "/timeline?table=public.posts&op=update&size=5&newer={}",
            next["newer"].as_str().unwrap()
        ))
        .await?;
    assert_eq!(ids(&back), ids(&page));
    Ok(())
}

#[tokio::test]
async fn what_is_typed_becomes_a_link_that_says_it() -> anyhow::Result<()> {
    let console = Console::after(SAMPLE).await?;
    for (typed, link) in [
        ("table:posts op:update", "./timeline?table=posts&op=update"),
        ("posts:7", "./row?table=posts&key=7"),
        ("user:u1", "./actor?actor=user%3Au1"),
        ("b0000000-0000-4000-8000-000000000002", "./transactions/b0000000-0000-4000-8000-000000000002"),
        ("e0000000-0000-4000-8000-000000000003", "./actions/e0000000-0000-4000-8000-000000000003"),
        ("c3", "./correlation?correlation=c3"),
        ("", "./"),
    ] {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", typed).finish();
        let response = console.get(&format!("/search?{query}")).await?;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{typed}");
        assert_eq!(response.headers()[header::LOCATION], link, "{typed}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_answered_says_the_term_and_what_to_do() -> anyhow::Result<()> {
    let console = Console::after(SAMPLE).await?;
    for (path, status, term) in [
        ("/timeline?tabel=posts", 400, "unknown_filter"),
        ("/timeline?op=updated", 400, "filter_value"),
        ("/timeline?older=x", 400, "invalid_cursor"),
        ("/timeline?size=0", 400, "page_size"),
        ("/timeline?size=many", 400, "page_size"),
        ("/timeline?before=1", 400, "filter_combination"),
        ("/row?table=posts", 400, "row_incomplete"),
        ("/row?table=nothing&key=1", 400, "table_unknown"),
        ("/actor", 400, "actor_missing"),
        ("/correlation", 400, "correlation_missing"),
        ("/transactions/0c3d", 404, "not_found"),
        ("/transactions/00000000-0000-4000-8000-000000000000", 404, "not_found"),
        ("/actions/00000000-0000-4000-8000-000000000000", 404, "not_found"),
        ("/nowhere", 404, "not_found"),
    ] {
        let (found, html) = console.answer(path).await?;
        assert_eq!(found, StatusCode::from_u16(status)?, "{path}: {html}");
        assert!(html.contains(&format!("<code>{term}</code>")), "{path}: {html}");
        let separator = if path.contains('?') { '&' } else { '?' };
        let (found, document) = console.answer(&format!("{path}{separator}format=json")).await?;
        assert_eq!(found, StatusCode::from_u16(status)?, "{path}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&document)?["error"]["term"], term, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_database_without_a_timeline_says_how_to_install_one() -> anyhow::Result<()> {
    let console = Console::after("drop table audit_changes cascade").await?;
    let (status, html) = console.answer("/timeline").await?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(html.contains("schema_outdated") && html.contains("threadline install"), "{html}");
    Ok(())
}
