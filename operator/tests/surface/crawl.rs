//! One tenant follows every link, form and stream, and finds nothing of another's.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use operator::Surface;
use reqwest::{StatusCode, Url};
use sqlx::Executor as _;

use super::{Console, links};

#[path = "../../../threadline/tests/query/tenants.rs"]
#[allow(dead_code, reason = "the other suite needs all of it")]
pub(super) mod tenants;

/// Pages that are followed of each path: those of a kind have the same links.
const OF_EACH: usize = 40;

/// The paths of each surface, as a link names them.
pub(super) fn surface(path: &str) -> Option<Surface> {
    let mut parts = path.trim_start_matches('/').split('/');
    Some(match (parts.next()?, parts.next()) {
        ("", _) => Surface::Home,
        ("search", _) => Surface::Search,
        ("timeline", None) => Surface::Timeline,
        ("timeline", Some("count")) => Surface::Count,
        ("timeline", Some("tail")) => Surface::Tail,
        ("transactions", _) => Surface::Transaction,
        ("row", _) => Surface::Row,
        ("actor", _) => Surface::Actor,
        ("actions", _) => Surface::Action,
        ("correlation", _) => Surface::Correlation,
        ("incidents", _) => Surface::Incident,
        ("saved", None) => Surface::Saved,
        ("saved", Some("save")) => Surface::SaveView,
        ("saved", Some("rename")) => Surface::RenameView,
        ("saved", Some("remove")) => Surface::RemoveView,
        ("help", _) => Surface::Help,
        ("pipeline", None) => Surface::Pipeline,
        ("pipeline", Some("failures")) => Surface::Failures,
        ("pipeline", Some("failure")) => Surface::Failure,
        ("pipeline", Some("act")) => Surface::Act,
        ("pipeline", Some("redrive")) => Surface::Redrive,
        ("events", _) => Surface::Event,
        ("preferences", _) => Surface::Preferences,
        ("coverage", None) => Surface::Coverage,
        ("coverage", Some("checks")) => Surface::Checks,
        ("policy", Some("redaction")) => Surface::Redaction,
        ("policy", Some("retention")) => Surface::Retention,
        ("evidence", None) => Surface::Evidence,
        ("evidence", Some("verify")) => Surface::Verify,
        ("exports", None) => Surface::Exports,
        ("exports", Some("queue")) => Surface::QueueExport,
        ("exports", Some("cancel")) => Surface::CancelExport,
        ("exports", Some("file")) => Surface::ExportFile,
        ("exports", Some("now")) => Surface::ExportNow,
        _ => return None,
    })
}

/// What a page answers; of a stream, what it begins with.
async fn read(console: &Console, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let response = console.get(path).await?;
    let status = response.status();
    if path.starts_with("/timeline/tail") {
        let first = response.bytes_stream().next().await;
        return Ok((
            status,
            first.transpose()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default(),
        ));
    }
    Ok((status, response.text().await?))
}

/// Two tenants with everything that somebody can leave: a failed event, saved views, exports. Asked is as one of them, with every capability.
async fn two_tenants() -> anyhow::Result<(Console, uuid::Uuid)> {
    let mut console = Console::beside_a_pipeline(tenants::TENANTS, "audit_decider").await?;
    // The pipeline belongs to no tenant: nobody sees it who sees one alone.
    let failed = super::pipeline::dead(console.source.as_ref().unwrap(), "OTHERS.action", "OTHERS0").await?;
    // Each of the two has a saved view.
    let views = "insert into threadline_saved_views (name, actor_ref, filters)
                 select m || ' view', jsonb_build_object('type', 'admin', 'id', m), jsonb_build_object('text', m) from unnest(array['MINE', 'OTHERS']) m";
    console.connection.execute(views).await?;
    // Everything that a limited scope can have, and what it cannot.
    console.as_staff("OTHERS+export");
    console.queue("q=table%3Aposts&as=csv").await?;
    console.as_staff("MINE+views+pipeline+redrive+export+coverage+policies+evidence+verify");
    console.queue("q=table%3Aposts&as=ndjson").await?;
    console.work().await?;
    console.queue("q=table%3Aposts&as=json").await?;
    Ok((console, failed))
}

/// Paths of what is the other's alone.
async fn paths_of_others(console: &mut Console) -> anyhow::Result<Vec<String>> {
    let mut others = Vec::new();
    for n in 0..8 {
        let ids: (uuid::Uuid, uuid::Uuid) =
            sqlx::query_as("select md5('t' || $1)::uuid, md5('a' || $1)::uuid")
                .bind((2 * n + 1).to_string())
                .fetch_one(&mut console.connection)
                .await?;
        others.extend([
            format!("/transactions/{}", ids.0),
            format!("/incidents/{}", ids.0),
            format!("/actions/{}", ids.1),
        ]);
    }
    Ok(others)
}

#[tokio::test]
async fn a_tenant_finds_nothing_of_another_one_on_any_path() -> anyhow::Result<()> {
    let (mut console, failed) = two_tenants().await?;
    let base = Url::parse(&console.url)?;
    let mut queue: Vec<Url> = vec![base.join("/")?];
    for closed in [
        "/coverage",
        "/coverage/checks",
        "/policy/redaction",
        "/policy/retention",
        "/evidence",
        "/evidence/verify",
    ] {
        queue.push(base.join(closed)?);
    }
    // What is not linked to: everything that somebody could type, and the other's ids.
    for filter in tenants::FILTERS {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", filter).finish();
        queue.extend([base.join(&format!("/timeline?{query}"))?, base.join(&format!("/search?{query}"))?]);
    }
    let closed = [
        "/pipeline".to_owned(),
        "/pipeline/failures".to_owned(),
        format!("/pipeline/failure?event={failed}"),
        format!("/pipeline/redrive?event={failed}"),
        "/pipeline/act?id=1".to_owned(),
        format!("/events/{failed}"),
    ];
    for path in &closed {
        assert_eq!(console.answer(path).await?.0, StatusCode::FORBIDDEN, "{path}");
        queue.push(base.join(path)?);
    }
    let others = paths_of_others(&mut console).await?;
    queue.extend(others.iter().map(|path| base.join(path)).collect::<Result<Vec<_>, _>>()?);
    let (mut seen, mut visited) = (BTreeSet::new(), BTreeMap::<Surface, usize>::new());
    while let Some(target) = queue.pop() {
        let path = target[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        let Some(surface) = surface(target.path()) else {
            assert!(target.path().starts_with("/assets/"), "{path} is crawled by nobody: name its surface");
            continue;
        };
        let count = visited.entry(surface).or_default();
        if *count >= OF_EACH && !others.contains(&path) || !seen.insert(path.clone()) {
            continue;
        }
        *count += 1;
        let is_sent_to = [Surface::Preferences, Surface::Verify, Surface::QueueExport, Surface::CancelExport]
            .contains(&surface);
        if is_sent_to {
            continue;
        }
        let separator = if path.contains('?') { '&' } else { '?' };
        for path in [path.clone(), format!("{path}{separator}format=json")] {
            let response = console.get(&path).await?;
            if let Some(location) = response.headers().get(reqwest::header::LOCATION) {
                queue.push(target.join(location.to_str()?)?);
            }
            drop(response);
            let (status, text) = read(&console, &path).await?;
            assert!(!status.is_server_error(), "{path}: {status} {text}");
            // What was typed comes back, as what somebody typed.
            let typed = path.matches("OTHERS").count();
            assert!(text.matches("OTHERS").count() == 0 || typed > 0, "{path} shows another tenant: {text}");
            if typed > 0 && path.contains("format=json") {
                assert!(
                    !text.contains("\"OTHERS") && !text.contains("OTHERS0") && !text.contains("OTHERS1"),
                    "{path}: {text}"
                );
            }
            for link in links(&text) {
                queue.push(target.join(&link)?);
            }
        }
        // The links of an incident stand on no page of the list.
        if let Some(id) = path.strip_prefix("/transactions/") {
            queue.push(base.join(&format!("/incidents/{id}"))?);
        }
    }
    for surface in Surface::ALL {
        assert!(visited.contains_key(&surface), "{surface:?} is crawled by nobody");
    }
    assert!(seen.len() > 150, "{}", seen.len());
    for path in others {
        let (status, text) = console.answer(&path).await?;
        let (none, nothing) = console.answer("/transactions/00000000-0000-4000-8000-000000000000").await?;
        assert_eq!((status, none), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND), "{path}");
        let but_for_the_path = |text: &str, path: &str| text.replace(path.trim_start_matches('/'), "");
        assert_eq!(
            but_for_the_path(&text, &path),
            but_for_the_path(&nothing, "/transactions/00000000-0000-4000-8000-000000000000")
        );
    }
    Ok(())
}
