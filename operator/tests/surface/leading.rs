//! Where what is typed leads, and what a page says where there is nothing.

use reqwest::{StatusCode, header};
use sqlx::Executor as _;

use super::{Console, rows::INVESTIGATION};

const ROW: &str = "/row?table=public.customers&key=7";

/// Actions that ids of every shape tie together.
const TIED: &str = "
insert into audit_actions (name, actor_ref, status, correlation_id, job_id)
select 'tied', '{\"type\": \"user\", \"id\": \"Jo Do\"}', 'ok', id, 'j-3'
from unnest(array['4bf92f3577b34da6a3ce929d0e0e4736', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'b1ffcd00-9c0b-4ef8-bb6d-6bb9bd380a22',
                  'a b', 'it''s x', 'x:y', 'job:j-9']) id;
insert into audit_actions (name, actor_ref, status) values ('ran', '{\"type\": \"job\", \"id\": \"nightly\"}', 'ok');";

/// An action and an actor of one name, and actions that begin alike.
const NAMED_ALIKE: &str = "
insert into audit_actions (name, actor_ref, status)
values ('ada', '{\"type\": \"user\", \"id\": \"ada\"}', 'ok'), ('orders.paid', '{\"type\": \"user\", \"id\": \"ada\"}', 'ok');";

impl Console {
    /// Where the search field leads, and with which query.
    async fn led(&self, typed: &str) -> anyhow::Result<(String, Vec<(String, String)>)> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", typed).finish();
        let response = self.get(&format!("/search?{query}")).await?;
        anyhow::ensure!(response.status() == StatusCode::SEE_OTHER, "{typed}: {}", response.text().await?);
        let location = response.headers()[header::LOCATION].to_str()?;
        let (path, query) = location.split_once('?').unwrap_or((location, ""));
        Ok((path.to_owned(), url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

#[tokio::test]
async fn the_newest_page_offers_nothing_newer_and_an_empty_newer_one_says_that_there_is_none_yet()
-> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    for path in ["/timeline?size=50", ROW, "/correlation?correlation=c-2", "/actor?actor=admin:a1"] {
        let html = console.page(path).await?;
        assert!(!html.contains(">Newer<") && !html.contains(">Newest<"), "{path}: {html}");
        let newer = console.json(path).await?["newer"].as_str().unwrap().to_owned();
        let html = console.page(&format!("{path}&newer={newer}")).await?;
        assert!(html.contains("Nothing newer yet") && html.contains("Look at the newest"), "{path}: {html}");
        for untrue in
            ["Nothing is recorded", "It never was", "Nothing is tied together", "changed no captured"]
        {
            assert!(!html.contains(untrue), "{path}: {html}");
        }
    }
    let older = console.json("/timeline?size=2").await?["older"].as_str().unwrap().to_owned();
    let html = console.page(&format!("/timeline?size=2&older={older}")).await?;
    assert!(html.contains(">Newer<") && html.contains(">Newest<"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_correlation_id_of_any_shape_is_found_as_it_was_typed() -> anyhow::Result<()> {
    let console = Console::after(TIED).await?;
    for (typed, id) in [
        ("4bf92f3577b34da6a3ce929d0e0e4736", None),
        ("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", None),
        ("B1FFCD00-9C0B-4EF8-BB6D-6BB9BD380A22", Some("b1ffcd00-9c0b-4ef8-bb6d-6bb9bd380a22")),
        ("a b", None),
        ("it's x", None),
        ("x:y", None),
    ] {
        let id = id.unwrap_or(typed);
        let led = console.led(typed).await?;
        assert_eq!(led, ("./correlation".to_owned(), vec![("correlation".to_owned(), id.to_owned())]));
    }
    let html = console.page("/search?q=4BF92F3577B34DA6A3CE929D0E0E4737").await?;
    assert!(
        html.contains("Nothing has this id") && html.contains("4BF92F3577B34DA6A3CE929D0E0E4737"),
        "{html}"
    );
    // Where it reads as a filter, the timeline that has nothing of it leads on.
    assert_eq!(
        console.led("job:j-9").await?,
        ("./timeline".to_owned(), vec![("job".to_owned(), "j-9".to_owned())])
    );
    let html = console.page("/timeline?job=j-9").await?;
    assert!(html.contains("./correlation?correlation=job%3Aj-9\""), "{html}");
    assert!(console.page("/correlation?correlation=job%3Aj-9").await?.contains("tied"));
    // What ties nothing together is what it looks like.
    assert_eq!(console.led("customers:y").await?.0, "./row");
    assert_eq!(console.led("nothing:y").await?.0, "./row");
    let (status, html) = console.answer("/search?q=table:posts%20a").await?;
    assert!(status == StatusCode::BAD_REQUEST && html.contains("filter_without_value"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_word_that_is_typed_leads_to_the_one_thing_that_it_names_or_to_a_choice() -> anyhow::Result<()> {
    let mut console = Console::after(TIED).await?;
    console.connection.execute(NAMED_ALIKE).await?;
    for (typed, path, key, value) in [
        ("tied", "./timeline", "action", "tied"),
        ("orders", "./timeline", "action", "orders.*"),
        ("nightly", "./actor", "actor", "job:nightly"),
        ("Jo Do", "./actor", "actor", "user:Jo Do"),
    ] {
        let led = console.led(typed).await?;
        assert_eq!(led, (path.to_owned(), vec![(key.to_owned(), value.to_owned())]), "{typed}");
    }
    let html = console.page("/search?q=ada").await?;
    for way in ["./timeline?action=ada\"", "./actor?actor=user%3Aada\"", "./timeline?text=ada\""] {
        assert!(html.contains(way), "{way}: {html}");
    }
    assert_eq!(
        console.json("/search?q=ada").await?["found"],
        serde_json::json!(["action:ada", "actor:user:ada"])
    );
    let html = console.page("/search?q=b%20a").await?;
    assert!(html.contains("./timeline?text=b%20a\"") && html.contains("is called"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_job_that_is_typed_is_an_actor_where_it_was_one_and_a_filter_otherwise() -> anyhow::Result<()> {
    let console = Console::after(TIED).await?;
    for (typed, path, key, value) in [
        ("job:j-3", "./timeline", "job", "j-3"),
        ("job:nightly", "./actor", "actor", "job:nightly"),
        ("user:Jo Do", "./actor", "actor", "user:Jo Do"),
        ("admin:a/1 \"x\"", "./actor", "actor", "admin:a/1 \"x\""),
    ] {
        let led = console.led(typed).await?;
        assert_eq!(led, (path.to_owned(), vec![(key.to_owned(), value.to_owned())]));
    }
    Ok(())
}

#[tokio::test]
async fn a_row_outside_the_window_is_not_said_never_to_have_been() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page(&format!("{ROW}&last=1h")).await?;
    assert!(
        html.contains("Nothing happened to it in this window") && html.contains("Look at all times"),
        "{html}"
    );
    assert!(!html.contains("It never was"), "{html}");
    Ok(())
}

#[tokio::test]
async fn a_word_of_a_filter_that_a_page_does_not_use_is_refused() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    for (path, used) in [
        (format!("{ROW}&op=update"), "table, key, last, from, to"),
        (format!("{ROW}&actor=admin:a1"), "table, key, last, from, to"),
        ("/actor?actor=admin:a1&table=customers".to_owned(), "actor, last, from, to"),
    ] {
        let (status, html) = console.answer(&path).await?;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {html}");
        assert!(html.contains("<code>filter_unused</code>") && html.contains(used), "{path}: {html}");
    }
    Ok(())
}

#[tokio::test]
async fn commands_of_a_row_are_of_its_time_and_its_key() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    let html = console.page(&format!("{ROW}&at=2026-03-01T10:30:00Z")).await?;
    assert!(html.contains("threadline blame --at '2026-03-01T10:30:00"), "{html}");
    let html = console.page(ROW).await?;
    assert!(html.contains("threadline blame 'public.customers' '7'"), "{html}");
    let html = console.page("/row?table=public.customers&key=-7").await?;
    assert!(html.contains("threadline history -- 'public.customers' '-7'"), "{html}");
    // What is masked in documents is told among what is hidden.
    console
        .connection
        .execute(
            "update threadline_capture_policies set policy = policy || '{\"paths\": [\"settings.token\"]}'",
        )
        .await?;
    let html = console.page(ROW).await?;
    assert!(html.contains("in documents: ") && html.contains("settings.token"), "{html}");
    assert_eq!(console.json(ROW).await?["policy"]["paths"], serde_json::json!([["settings", "token"]]));
    Ok(())
}

#[tokio::test]
async fn what_is_said_of_nobody_of_failures_and_of_nothing_is_true() -> anyhow::Result<()> {
    let console = Console::after(INVESTIGATION).await?;
    let html = console.page("/").await?;
    assert!(html.contains("timeline?kind=recorded&amp;status=error&amp;last=7d"), "{html}");
    let html = console.page("/actor?actor=anonymous").await?;
    assert!(html.contains("nobody known") && !html.contains("everybody"), "{html}");
    let console = Console::after(TIED).await?;
    let html = console.page("/actor?actor=job:nightly").await?;
    assert!(html.contains("or its changes were purged"), "{html}");
    Ok(())
}
