//! One's own exports in the background, and the form for another one.

pub(crate) mod cancel;
pub(crate) mod file;
pub(crate) mod form;
pub(crate) mod list;
pub(crate) mod now;
pub(crate) mod queue;

use maud::html;
use serde::Serialize;
use threadline::{
    ActorType,
    export::jobs::{self, Job},
};
use uuid::Uuid;

use crate::{
    Capability,
    asked::{Answered, Asked},
    failure::Failure,
    view::{amount::to_run, empty},
};

/// Jobs that are shown.
const JOBS: u16 = 100;

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter()?;
    let act = asked.query.get("act").and_then(|id| Uuid::try_parse(id).ok());
    let jobs = if asked.may_do(Capability::Export) { own(&asked).await? } else { Vec::new() };
    let data: Vec<Described<'_>> = jobs.iter().map(Described::of).collect();
    asked.answer("Exports", &data, |view| html! {
        @if let Some(act) = act { p.done role="status" { "Done, and recorded as " (view.id_link("actions", act)) "." } }
        (form::form(&asked, view, &filter))
        section {
            h2 { "Your exports" }
            @if !asked.may_do(Capability::Export) {
                (empty("Not here", &html! { "This surface was given no connection for exports. " (to_run("threadline export jobs list")) " shows those that there are." }))
            } @else if jobs.is_empty() {
                (empty("No exports", &html! { "You have asked for no export that is still known. What others have asked for is not shown." }))
            } @else {
                @for job in &jobs { (list::job(&asked, view, job)) }
            }
        }
    })
}

/// The newest jobs of whoever asks, as far as the grant reaches: one of a scope that they have no longer is not theirs any more.
async fn own(asked: &Asked) -> Result<Vec<Job>, Failure> {
    let actor = asked.grant.actor();
    if actor.kind() == ActorType::Anonymous {
        return Ok(Vec::new());
    }
    let mut jobs = jobs::list(&asked.writer()?, Some(actor), JOBS).await?;
    jobs.retain(|job| is_own(asked, job));
    Ok(jobs)
}

/// One of them; every other one is as if it were not there.
async fn own_one(asked: &Asked, id: Uuid) -> Result<Job, Failure> {
    let job = jobs::get(&asked.writer()?, id).await?;
    job.filter(|job| is_own(asked, job)).ok_or(Failure::NotFound)
}

fn is_own(asked: &Asked, job: &Job) -> bool {
    let actor = asked.grant.actor();
    let is_seen = job
        .exports()
        .is_some_and(|(_, _, scope)| asked.grant.scope().is_everything() || scope == *asked.grant.scope());
    actor.kind() != ActorType::Anonymous && job.is_of(actor) && is_seen
}

/// A job, for programs.
#[derive(Serialize)]
struct Described<'j> {
    id: Uuid,
    status: &'j str,
    filter: Option<String>,
    format: Option<&'static str>,
    profile: Option<&'static str>,
    rows: Option<i64>,
    bytes: Option<i64>,
    sha256: Option<&'j str>,
    inserted_at: Option<String>,
    completed_at: Option<String>,
    keep_until: Option<String>,
    error: Option<&'j str>,
}

impl<'j> Described<'j> {
    fn of(job: &'j Job) -> Self {
        let exports = job.exports();
        let time = |at: Option<time::OffsetDateTime>| at.map(threadline::query::time_text);
        Self {
            id: job.id,
            status: &job.status,
            filter: exports.as_ref().map(|(filter, _, _)| filter.to_string()),
            format: exports.as_ref().map(|(_, options, _)| options.format.as_str()),
            profile: exports.as_ref().map(|(_, options, _)| options.profile.as_str()),
            rows: job.rows,
            bytes: job.bytes,
            sha256: job.sha256.as_deref(),
            inserted_at: time(job.inserted_at),
            completed_at: time(job.completed_at),
            keep_until: time(job.keep_until),
            error: job.error_message.as_deref(),
        }
    }
}
