//! Saved views, and the first page, which shows them.

use reqwest::{Response, StatusCode, header};
use sqlx::Executor as _;
use uuid::Uuid;

use super::{Console, rows::INVESTIGATION};

impl Console {
    /// Sends a form of a page of this surface.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Response> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = self.client.post(format!("{}{path}", self.url)).header(header::ORIGIN, &self.url);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        Ok(request.header(header::COOKIE, format!("staff={}", self.staff)).body(form).send().await?)
    }

    /// Saves a view; the path that leads on.
    async fn saved(&self, id: Uuid, name: &str, filter: &str) -> anyhow::Result<String> {
        let response =
            self.send("/saved/save", &[("id", &id.to_string()), ("name", name), ("filter", filter)]).await?;
        let status = response.status();
        anyhow::ensure!(status == StatusCode::SEE_OTHER, "{status}: {}", response.text().await?);
        let location = response.headers()[header::LOCATION].to_str()?.to_owned();
        Ok(location.trim_start_matches("..").to_owned())
    }

    async fn names(&self) -> anyhow::Result<Vec<String>> {
        let document = self.json("/saved").await?;
        Ok(document["views"]
            .as_array()
            .unwrap()
            .iter()
            .map(|view| view["name"].as_str().unwrap().to_owned())
            .collect())
    }
}

async fn count(console: &mut Console, statement: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(statement).fetch_one(&mut console.connection).await?)
}

const ACTS: &str = "select count(*) from audit_actions where name like 'audit.view%'";

#[tokio::test]
async fn a_view_is_saved_renamed_and_deleted_and_each_act_is_recorded() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    console.as_staff("everything+views");
    let html = console.page("/timeline?table=posts&last=24h").await?;
    let field = |name: &str| {
        let rest = html.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().replace("&amp;", "&")
    };
    let id: Uuid = field("id").parse()?;
    assert_eq!(field("filter"), "table=posts&last=1d");
    let done = console.saved(id, " Posts of today ", &field("filter")).await?;
    let html = console.page(&done).await?;
    assert!(html.contains("Posts of today") && html.contains("timeline?table=posts&amp;last=1d"), "{html}");
    // The link to what stands for it leads there.
    let action = done.split("done=").nth(1).unwrap();
    let recorded = console.json(&format!("/actions/{action}")).await?;
    assert_eq!(
        (recorded["name"].as_str(), recorded["actor_ref"]["id"].as_str()),
        (Some("audit.view_saved"), Some("everything"))
    );
    assert_eq!(recorded["comment"], format!("{{\"view\":\"{id}\"}}"));
    // The same form sent again saves nothing more.
    assert_eq!(console.saved(id, "Posts of today", "table=posts&last=1d").await?, "/saved");
    assert_eq!(count(&mut console, ACTS).await?, 1);

    let named = [("id", id.to_string()), ("name", "Recent".to_owned())];
    let fields: Vec<(&str, &str)> = named.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(console.send("/saved/rename", &fields).await?.status(), StatusCode::SEE_OTHER);
    assert_eq!(console.names().await?, ["Recent"]);
    assert!(
        console.page("/").await?.contains(">Recent<")
            || console.page("/").await?.contains("<bdi>Recent</bdi>")
    );
    assert_eq!(console.send("/saved/remove", &fields).await?.status(), StatusCode::SEE_OTHER);
    assert_eq!(console.names().await?, Vec::<String>::new());
    let again = console.send("/saved/remove", &fields).await?;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    let html = again.text().await?;
    assert!(html.contains("no such view of yours") && !html.contains("retention"), "{html}");
    assert_eq!(count(&mut console, ACTS).await?, 3);
    Ok(())
}

#[tokio::test]
async fn a_view_belongs_to_whoever_saved_it() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    let id = Uuid::new_v4();
    console.as_staff("t1+views").saved(id, "Mine alone", "op=delete").await?;
    console.as_staff("t2+views");
    assert_eq!(console.names().await?, Vec::<String>::new());
    assert!(!console.page("/").await?.contains("Mine alone"));
    let fields = [("id", id.to_string()), ("name", "Taken".to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for path in ["/saved/rename", "/saved/remove"] {
        assert_eq!(console.send(path, &fields).await?.status(), StatusCode::NOT_FOUND, "{path}");
    }
    // An id that is another's is no way to write over it.
    let response =
        console.send("/saved/save", &[("id", &id.to_string()), ("name", "x"), ("filter", "")]).await?;
    assert!(response.text().await?.contains("<code>form_used</code>"));
    assert_eq!(console.as_staff("t1+views").names().await?, ["Mine alone"]);
    assert_eq!(count(&mut console, ACTS).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_view_that_cannot_be_saved_says_why_and_leaves_nothing() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    console.as_staff("everything+views").saved(Uuid::new_v4(), "One", "op=delete").await?;
    let (id, long) = (Uuid::new_v4().to_string(), "n".repeat(101));
    let filter = format!("text={}", "t".repeat(20_000));
    for (fields, term) in [
        ([("id", id.as_str()), ("name", ""), ("filter", "")], "name_invalid"),
        ([("id", id.as_str()), ("name", long.as_str()), ("filter", "")], "name_invalid"),
        ([("id", id.as_str()), ("name", "a\u{202e}b"), ("filter", "")], "name_invalid"),
        ([("id", id.as_str()), ("name", "One"), ("filter", "")], "name_taken"),
        ([("id", id.as_str()), ("name", "Two"), ("filter", "tabel=posts")], "unknown_filter"),
        ([("id", id.as_str()), ("name", "Two"), ("filter", filter.as_str())], "filter_too_long"),
        ([("id", "7"), ("name", "Two"), ("filter", "")], "form_incomplete"),
    ] {
        let response = console.send("/saved/save", &fields).await?;
        let (status, html) = (response.status(), response.text().await?);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{term}");
        assert!(html.contains(&format!("<code>{term}</code>")), "{term}: {html}");
    }
    let fill = "insert into threadline_saved_views (name, actor_ref, filters)
                select 'view ' || n, '{\"type\": \"admin\", \"id\": \"everything\"}', '{}' from generate_series(1, 99) n";
    console.connection.execute(fill).await?;
    let response = console.send("/saved/save", &[("id", &id), ("name", "Two"), ("filter", "")]).await?;
    assert!(response.text().await?.contains("<code>too_many_views</code>"));
    assert_eq!(console.names().await?.len(), 100);
    assert_eq!(count(&mut console, ACTS).await?, 1);
    Ok(())
}

#[tokio::test]
async fn views_that_are_saved_at_the_same_time_stay_within_the_limit() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+views");
    let fill = "insert into threadline_saved_views (name, actor_ref, filters)
                select 'view ' || n, '{\"type\": \"admin\", \"id\": \"everything\"}', '{}' from generate_series(1, 98) n";
    console.connection.execute(fill).await?;
    let names = ["a", "b", "c", "d"];
    let saves = names.map(|name| console.saved(Uuid::new_v4(), name, "op=delete"));
    let done = futures::future::join_all(saves).await.iter().filter(|saved| saved.is_ok()).count();
    assert_eq!((done, console.names().await?.len()), (2, 100));
    assert_eq!(count(&mut console, ACTS).await?, 2);
    Ok(())
}

#[tokio::test]
async fn an_act_that_cannot_be_recorded_is_not_done() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+views");
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin raise 'no more actions'; end $$;
                  create trigger refuse before insert on audit_actions for each row execute function refuse()";
    console.connection.execute(refuse).await?;
    let response = console
        .send("/saved/save", &[("id", &Uuid::new_v4().to_string()), ("name", "One"), ("filter", "")])
        .await?;
    assert!(response.status().is_server_error(), "{}", response.status());
    assert_eq!(count(&mut console, "select count(*) from threadline_saved_views").await?, 0);
    Ok(())
}

#[tokio::test]
async fn views_of_the_library_can_be_opened_and_others_are_named() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    console.as_staff("everything+views");
    let views = "insert into threadline_saved_views (name, actor_ref, filters) values
        ('of the library', '{\"type\": \"admin\", \"id\": \"everything\"}', '{\"table\": \"posts\", \"actor_kind\": \"user\", \"actor_id\": \"u1\", \"from\": \"2026-03-01T10:00\"}'),
        ('of somebody', '{\"type\": \"admin\", \"id\": \"everything\"}', '{\"columns\": [1, 2]}')";
    console.connection.execute(views).await?;
    let html = console.page("/saved").await?;
    assert!(
        html.contains("timeline?table=posts&amp;actor=user%3Au1&amp;from=")
            || html.contains("timeline?table=posts&amp;actor=user:u1&amp;from="),
        "{html}"
    );
    assert!(html.contains("of somebody") && html.contains("it is no filter here"), "{html}");
    Ok(())
}

#[tokio::test]
async fn who_may_not_or_sends_from_elsewhere_changes_no_view() -> anyhow::Result<()> {
    let mut console = Console::after("").await?;
    let fields = [("id", "0c3d7c0e-1111-4000-8000-000000000001"), ("name", "One"), ("filter", "")];
    for path in ["/saved/save", "/saved/rename", "/saved/remove"] {
        let response = console.as_staff("everything").send(path, &fields).await?;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(response.text().await?.contains("<code>capability_missing</code>"), "{path}");
    }
    let elsewhere = console
        .client
        .post(format!("{}/saved/save", console.url))
        .header(header::COOKIE, "staff=everything+views")
        .header(header::ORIGIN, "https://elsewhere.example")
        .body("id=0c3d7c0e-1111-4000-8000-000000000001&name=One&filter=");
    assert_eq!(elsewhere.send().await?.status(), StatusCode::FORBIDDEN);
    assert!(!console.page("/timeline").await?.contains("Save this view"));
    assert_eq!(count(&mut console, "select count(*) from threadline_saved_views").await?, 0);
    Ok(())
}

#[tokio::test]
async fn the_first_page_says_how_the_timeline_stands_to_who_may_know() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    let facts = |document: &serde_json::Value| -> Vec<(String, bool)> {
        let facts = document["standing"].as_array().unwrap().iter();
        facts.map(|fact| (fact["name"].as_str().unwrap().to_owned(), fact["text"].is_string())).collect()
    };
    for (staff, names) in [
        ("everything", vec![]),
        ("everything+evidence", vec!["Last seal"]),
        ("everything+coverage+policies+evidence", vec!["Captured", "Last purge", "Changes", "Last seal"]),
        // What belongs to no tenant is closed to one.
        ("t1+coverage+policies+evidence", vec![]),
    ] {
        console.as_staff(staff);
        let document = console.json("/").await?;
        let found = facts(&document);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names, "{staff}");
        assert!(found.iter().all(|(_, is_known)| *is_known), "{document}");
    }
    console.as_staff("everything");
    let html = console.page("/").await?;
    assert!(html.contains("card.charged") && html.contains("Failed lately"), "{html}");
    Ok(())
}

#[tokio::test]
async fn the_first_page_is_there_whatever_is_held_or_missing() -> anyhow::Result<()> {
    let mut console = Console::after(INVESTIGATION).await?;
    console.as_staff("everything+coverage+policies+evidence+views");
    let mut other = console.database.connect().await?;
    other.execute("begin; lock table audit_actions, threadline_receipts, threadline_retention_runs, threadline_saved_views in access exclusive mode").await?;
    let html = console.page("/").await?;
    assert!(
        html.contains("They could not be read in time.") && html.contains("This could not be read in time."),
        "{html}"
    );
    let document = console.json("/").await?;
    let unknown =
        document["standing"].as_array().unwrap().iter().filter(|fact| fact["text"].is_null()).count();
    assert!(unknown >= 2 && document["failed"].is_null() && document["views"].is_null(), "{document}");
    other.execute("rollback").await?;
    console
        .connection
        .execute("drop table threadline_receipts, threadline_saved_views, audit_changes cascade")
        .await?;
    let html = console.page("/").await?;
    assert!(html.contains("The last 24 hours"), "{html}");
    Ok(())
}
