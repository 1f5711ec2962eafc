//! The pages of the pipeline, over a real source with an outbox: what stands there is written by the functions that services use.

mod event;
mod failures;
mod overview;
mod redrive;

use std::time::Duration;

use common::{
    failures::{Failure, NextStep, Reason},
    identifier::ForwarderId,
    outbox::forwarders,
};
use reqwest::StatusCode;
use sandbox::{
    audit::{self, AuditRow},
    fixture::{TestDatabase, audit_events},
};
use uuid::Uuid;

use super::Console;

fn timeline() -> ForwarderId {
    "timeline".parse().expect("a valid constant")
}

fn source(console: &Console) -> &TestDatabase {
    console.source.as_ref().expect("beside a pipeline")
}

/// What an event leaves behind that has failed.
fn failure(id: Uuid, error: &str, outcome: NextStep) -> Failure {
    Failure {
        reference: id.to_string(),
        audit_event_id: Some(id),
        error: error.to_owned(),
        attempts: 1,
        outcome,
        excerpt: None,
    }
}

const DEAD: NextStep = NextStep::Dead(Reason::SchemaMismatch);
const RETRY: NextStep = NextStep::Retry(Duration::from_secs(600));

/// Commits rows of an action, all of which the forwarder of the timeline has failed to deliver.
async fn failed(
    source: &TestDatabase,
    rows: &[AuditRow],
    error: &str,
    outcome: NextStep,
) -> anyhow::Result<()> {
    audit::insert(&mut source.connect().await?, &audit_events(), rows).await?;
    let mut session = source.session().await?;
    forwarders::register(&mut session, &[timeline()], true).await?;
    let failures: Vec<Failure> = rows.iter().map(|row| failure(row.id, error, outcome)).collect();
    common::failures::record(&mut session, &timeline(), &failures).await?;
    session.close().await?;
    Ok(())
}

/// A dead letter; its event.
pub(super) async fn dead(source: &TestDatabase, action: &str, error: &str) -> anyhow::Result<Uuid> {
    let row = AuditRow::sample(action);
    failed(source, std::slice::from_ref(&row), error, DEAD).await?;
    Ok(row.id)
}

/// That a page is closed, with words.
async fn is_refused(console: &Console, path: &str, status: StatusCode, term: &str) -> anyhow::Result<()> {
    let (found, html) = console.answer(path).await?;
    assert_eq!(found, status, "{path}: {html}");
    assert!(html.contains(&format!("<code>{term}</code>")), "{path}: {html}");
    Ok(())
}
