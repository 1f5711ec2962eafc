//! Columns that hold whatever somebody could write into them.

use reqwest::StatusCode;

use super::{Console, DEADLINE, links};

/// Markup, control characters, marks that turn the direction of writing, formulas and a megabyte, in every column of every table.
const HOSTILE: &str = r#"
create function pg_temp.hostile(n int) returns text language sql as $$
    select (array[
        '<script>alert(1)</script><img src=x onerror=alert(1)>', '" onmouseover="alert(1)', '''><svg/onload=alert(1)>',
        E'line\nbreak\ttab\u0007bell\u001b[2J', U&'\202Ereversed\2066\200B', '=HYPERLINK("http://x","y")', 'javascript:alert(1)',
        '../../etc?x=%00&y=1#z', '{{7*7}}${7*7}', repeat('x', 1000000)])[1 + n % 10] $$;
insert into audit_actions (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at)
select md5('a' || n)::uuid, s, jsonb_build_object('type', 'user', 'id', s), case n % 2 when 0 then 'ok' else 'error' end, h, h, h, h, left(h, 200), s, s,
       now() - n * interval '1 second'
from generate_series(0, 9) n, lateral (select pg_temp.hostile(n) as h) h, lateral (select left(h, 2000) as s) s;
insert into audit_transactions (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, meta, context, action_id)
select md5('t' || n)::uuid, n + 1, now() - n * interval '1 second', jsonb_build_object('type', 'user', 'id', s), h, left(h, 200), s, s,
       jsonb_build_object(left(h, 100), h), jsonb_build_object('tenant', h), md5('a' || n)::uuid
from generate_series(0, 9) n, lateral (select pg_temp.hostile(n) as h) h, lateral (select left(h, 2000) as s) s;
insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at)
select md5('c' || n)::uuid, md5('t' || n)::uuid, left(h, 60), left(h, 60), jsonb_build_object(left(h, 60), left(h, 200)), 'update',
       jsonb_build_object(left(h, 60), h), array[left(h, 60)], jsonb_build_object(left(h, 60), h), now() - n * interval '1 second'
from generate_series(0, 9) n, lateral (select pg_temp.hostile(n) as h) h;"#;

/// What no page holds, whatever is stored.
pub(super) const FORBIDDEN: [&str; 10] = [
    "<script>",
    "<img",
    "<svg",
    " onmouseover=\"",
    " onerror=\"",
    "href=\"javascript:",
    "\u{202e}",
    "\u{1b}",
    "\u{7}",
    "\u{200b}",
];

#[tokio::test]
async fn nothing_that_is_stored_breaks_out_of_a_page() -> anyhow::Result<()> {
    let console = Console::after(HOSTILE).await?;
    let mut paths = vec!["/timeline".to_owned(), "/timeline?group=1".to_owned(), "/".to_owned()];
    for n in 0..10 {
        for (path, kind) in [("transactions", 't'), ("incidents", 't'), ("actions", 'a')] {
            let id: uuid::Uuid = sqlx::query_scalar("select md5($1)::uuid")
                .bind(format!("{kind}{n}"))
                .fetch_one(&mut console.database.connect().await?)
                .await?;
            paths.push(format!("/{path}/{id}"));
        }
    }
    // What these pages link to is hostile too.
    let timeline = console.page("/timeline").await?;
    let is_page = |link: &String| !["assets", "preferences", "tail"].iter().any(|other| link.contains(other));
    let linked = links(&timeline).into_iter().filter(is_page);
    paths.extend(linked.filter_map(|link| link.strip_prefix('.').map(str::to_owned)));
    assert!(paths.len() > 60, "{}", paths.len());
    for path in paths {
        let begun = std::time::Instant::now();
        let response = console.get(path.split('#').next().unwrap()).await?;
        let kind = response
            .headers()
            .get(reqwest::header::CONTENT_TYPE)
            .map(|kind| kind.to_str().unwrap().to_owned());
        let (status, html) = (response.status(), response.text().await?);
        assert!(
            matches!(
                status,
                StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::URI_TOO_LONG | StatusCode::SEE_OTHER
            ),
            "{path}: {status}"
        );
        assert!(begun.elapsed() < DEADLINE / 10, "{path} took {:?}", begun.elapsed());
        // A browser takes this for what it says it is.
        if kind.as_deref() == Some("application/json") {
            serde_json::from_str::<serde_json::Value>(&html)?;
            continue;
        }
        for forbidden in FORBIDDEN {
            assert!(!html.contains(forbidden), "{path} has {forbidden:?}");
        }
        assert!(!html.contains(" style=") && !html.contains("<style"), "{path}");
        assert!(html.len() < 3_000_000, "{path}: {} bytes", html.len());
    }
    Ok(())
}
