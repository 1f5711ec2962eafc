//! A job exports what its actor may see and nothing else, whoever makes it, and whatever becomes of its row.

use std::fs;

use serde_json::Value;
use threadline::{
    export::jobs::{self, Outcome},
    query::Scope,
};
use uuid::Uuid;

use super::{
    Jobs, names,
    tenants::{TENANTS, scopes},
    work,
};

fn export(jobs: &Jobs, id: Uuid, generation: i32) -> anyhow::Result<String> {
    Ok(fs::read_to_string(jobs.path("stored").join(&names(id, generation)[0]))?)
}

#[tokio::test]
async fn a_job_of_an_actor_with_a_scope_exports_nothing_of_others() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let mut rows = 0;
    for (name, scope) in scopes() {
        let added = jobs::add(&jobs.timeline, &scope, &jobs.request("")).await;
        if name == "a condition of the host's own" {
            assert_eq!(added.unwrap_err().term(), Some("scope_not_storable"));
            continue;
        }
        let id = added?.id;
        work(&worker).await?;
        let own = export(&jobs, id, 1)?;
        assert!(!own.contains("OTHERS"), "{name}");
        rows += own.lines().count();
        let manifest: Value =
            serde_json::from_str(&fs::read_to_string(jobs.path("stored").join(&names(id, 1)[1]))?)?;
        assert_eq!(manifest["scope"], scope.describe(), "{name}");
    }
    assert!(rows > 100, "{rows}");
    assert_eq!(jobs.count("threadline_export_jobs where status <> 'completed'").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_request_that_was_edited_shows_no_more_than_its_scope() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let edits = [
        ("'{filter}', '\"text:OTHERS\"'", None),
        ("'{filter}', '\"\"'", None),
        ("'{scope}', 'null'", Some("request_invalid: ")),
        ("'{scope}', '\"all\"'", Some("request_invalid: ")),
        (
            "'{scope}', '{\"changes\": [{\"sql\": {\"condition\": \"true\", \"value\": \"\"}}], \"actions\": []}'",
            Some("request_invalid: "),
        ),
        ("'{scope,more}', '1'", Some("request_invalid: ")),
        ("'{version}', '2'", Some("request_invalid: ")),
        ("'{more}', '1'", Some("request_invalid: ")),
        ("'{storage}', '\"file:///etc\"'", Some("location_not_allowed: ")),
        ("'{storage}', to_jsonb(request ->> 'storage' || '/../../etc')", Some("request_invalid: ")),
        ("'{options,format}', '\"exe\"'", Some("request_invalid: ")),
    ];
    for (edit, refusal) in edits {
        let scope = Scope::of_context("tenant", "MINE");
        let id = jobs::add(&jobs.timeline, &scope, &jobs.request("op:update")).await?.id;
        jobs.execute(&format!(
            "update threadline_export_jobs set request = jsonb_set(request, {edit}) where id = '{id}'"
        ))
        .await?;
        let ended = work(&worker).await?;
        match (refusal, &ended[0].outcome) {
            (None, Outcome::Completed { .. }) => assert!(!export(&jobs, id, 1)?.contains("OTHERS"), "{edit}"),
            (Some(refusal), Outcome::Failed { error }) => {
                assert!(error.starts_with(refusal), "{edit}: {error}");
            }
            _ => panic!("{edit}: {ended:?}"),
        }
    }
    // Whoever cannot be read is not taken for whoever is connected.
    let id = jobs.add("").await?;
    jobs.execute(&format!("update threadline_export_jobs set actor_ref = '\"a1\"' where id = '{id}'"))
        .await?;
    let ended = work(&worker).await?;
    assert!(
        matches!(&ended[0].outcome, Outcome::Failed { error } if error.starts_with("request_invalid: ")),
        "{ended:?}"
    );
    // Nothing was stored by those that were refused, so nothing is left to delete.
    jobs.execute(
        "update threadline_export_jobs set keep_until = now() - interval '1 second' where status = 'failed'",
    )
    .await?;
    assert_eq!(worker.clean().await?.kept, 0);
    Ok(())
}

/// What lies ready in the folder is what was asked for before.
#[tokio::test]
async fn an_export_that_lies_ready_is_made_anew_when_its_job_asks_for_another_one() -> anyhow::Result<()> {
    let mut jobs = Jobs::after(TENANTS).await?;
    let worker = jobs.worker("made");
    let id = jobs.add("").await?;
    fs::rename(jobs.path("stored"), jobs.path("away"))?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::PutOff { .. }));
    let made = fs::read_to_string(jobs.path("made").join(format!("{id}.ndjson")))?;
    assert!(made.contains("OTHERS"));
    let narrower = r#"update threadline_export_jobs set request =
        jsonb_set(request, '{scope}', '{"changes": [{"context": {"key": "tenant", "value": "MINE"}}], "actions": []}')"#;
    jobs.execute(narrower).await?;
    fs::rename(jobs.path("away"), jobs.path("stored"))?;
    jobs.time_passes().await?;
    assert!(matches!(work(&worker).await?[0].outcome, Outcome::Completed { rows: 40, .. }));
    assert!(!export(&jobs, id, 2)?.contains("OTHERS"));
    Ok(())
}
