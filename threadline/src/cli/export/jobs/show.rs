//! The jobs that there are, and what is to become of one.

use threadline::{
    ActorRef, Timeline,
    export::jobs::{self, JOBS_LISTED, JOBS_LISTED_MAX, Job, JobError},
};
use uuid::Uuid;

use super::{
    fields,
    timeline::{failed, on_timeline, unless_interrupted},
};
use crate::cli::{
    actor,
    answer::{Answer, Failure},
    read::json_line,
    settings::{Settings, Target},
};

/// One job.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The id, as `add` prints it and `list` shows it.
    #[arg(value_name = "JOB")]
    job: Uuid,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Which jobs.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    /// Only those that were asked for on behalf of this actor, such as admin:a1.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
    /// Jobs at most.
    #[arg(long, value_name = "N", default_value_t = JOBS_LISTED, value_parser = clap::value_parser!(u16).range(1..=i64::from(JOBS_LISTED_MAX)))]
    limit: u16,
    /// Prints JSON: an object for each job.
    #[arg(long)]
    json: bool,
}

pub(super) fn list(target: Target, arguments: &ListArguments) -> Result<Answer, Failure> {
    on_timeline(Settings::read(target)?, async |timeline, _, interrupt| {
        let listed = jobs::list(timeline, arguments.actor.as_ref(), arguments.limit);
        let listed = unless_interrupted(listed, interrupt).await?;
        if arguments.json {
            let lines = listed.iter().map(json_line).collect::<Result<String, _>>();
            return Ok(lines.map_err(anyhow::Error::new)?.into());
        }
        if listed.is_empty() {
            return Ok("there are no jobs\n".to_owned().into());
        }
        Ok(fields::table(&listed).into())
    })
}

pub(super) fn show(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    change(target, arguments, async |timeline, id| {
        jobs::get(timeline, id).await?.ok_or_else(|| JobError::missing(id))
    })
}

pub(super) fn cancel(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    change(target, arguments, jobs::cancel)
}

pub(super) fn retry(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    change(target, arguments, jobs::retry)
}

fn change(
    target: Target,
    arguments: &Arguments,
    change: impl AsyncFnOnce(&Timeline, Uuid) -> Result<Job, JobError>,
) -> Result<Answer, Failure> {
    on_timeline(Settings::read(target)?, async |timeline, _, interrupt| {
        let job = unless_interrupted(change(timeline, arguments.job), interrupt).await?;
        Ok(text(&job, arguments.json)?.into())
    })
}

/// One job for people or for programs.
pub(super) fn text(job: &Job, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(json_line(job).map_err(anyhow::Error::new)?);
    }
    Ok(fields::one(job))
}

/// The job as it is now.
pub(super) async fn again(timeline: &Timeline, id: Uuid) -> Result<Job, Failure> {
    let job = jobs::get(timeline, id).await.map_err(failed)?;
    job.ok_or_else(|| failed(JobError::missing(id)))
}
