//! `threadline export jobs add`.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use threadline::{
    ActorRef, Timeline,
    export::jobs::{self, Job, JobRequest},
    query::{Instant, Scope},
    storage::{Location, StorageError},
};
use tokio::time::sleep;

use super::{
    show::{again, text},
    timeline::{failed, interrupted, on_timeline, unless_interrupted, worker},
    work::Bar,
};
use crate::cli::{
    actor,
    answer::{Answer, Failure},
    database::Interrupt,
    export::{ExportSection, what::What},
    settings::{Settings, Target},
    times,
};

/// How often `--wait` looks.
const LOOK: Duration = Duration::from_millis(500);

/// What is asked for, and where it is to be brought.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    what: What,
    /// Where the export is stored: `file:///folder` or `s3://bucket/prefix`; without it `export.storage.location` of the settings file.
    #[arg(long, value_name = "LOCATION")]
    to: Option<String>,
    /// Not before this time, such as 2026-05-15T02:00:00Z; without it, at once.
    #[arg(long, value_name = "TIME", value_parser = times::at::<Instant>)]
    at: Option<Instant>,
    /// On whose behalf, such as admin:a1; without it the service account of the database's user.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    asked: Asked,
    /// Waits until a worker has made it.
    #[arg(long, conflicts_with = "now")]
    wait: bool,
    /// Makes it in this process.
    #[arg(long, conflicts_with = "at")]
    now: bool,
    /// Where the export is made with --now, before it is stored.
    #[arg(long, value_name = "DIR", requires = "now")]
    directory: Option<PathBuf>,
    /// Prints the job as one object of JSON.
    #[arg(long)]
    json: bool,
}

/// Clap would repeat the text, which may hold what is secret; nothing here does.
pub(super) fn location(text: &str) -> Result<Location, Failure> {
    text.parse().map_err(|error: StorageError| {
        Failure::Misused(format!("{}: {}", error.term(), errors::line(&error)))
    })
}

impl Asked {
    pub(super) fn request(&self, section: &ExportSection) -> Result<JobRequest, Failure> {
        let named = self.to.as_deref().map(location).transpose()?;
        let to = named.or_else(|| section.storage.location.clone()).ok_or_else(|| {
            let why = "location_missing: nothing says where the export is stored: say --to, or set location in the section [export.storage]";
            Failure::Misused(why.to_owned())
        })?;
        Ok(JobRequest {
            actor: self.actor.clone(),
            due_at: self.at.map(Instant::time),
            ..JobRequest::new(self.what.filter()?, self.what.options(None, None), to)
        })
    }
}

pub(super) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let settings = Settings::read(target)?;
    let request = arguments.asked.request(&settings.export)?;
    on_timeline(settings, async |timeline, section, interrupt| {
        let everything = Scope::everything();
        let added = jobs::add(timeline, &everything, &request);
        let mut job = unless_interrupted(added, interrupt).await?;
        if arguments.now {
            make(timeline, section, arguments, &request.storage, &job, interrupt).await?;
        }
        if arguments.now || arguments.wait {
            job = ended(timeline, job, interrupt).await?;
        }
        let status = u8::from((arguments.now || arguments.wait) && job.status != "completed");
        if !arguments.json && !arguments.now && !arguments.wait {
            return Ok(format!("{}\n", job.id).into());
        }
        Ok(Answer { text: text(&job, arguments.json)?, status })
    })
}

/// Makes it here, unless a worker has taken it meanwhile.
async fn make(
    timeline: &Timeline,
    section: &ExportSection,
    arguments: &Arguments,
    to: &Location,
    job: &Job,
    interrupt: &mut Interrupt,
) -> Result<(), Failure> {
    let bar = Bar::new();
    let worker = worker(timeline, section, arguments.directory.clone(), std::slice::from_ref(to))
        .on_progress(bar.shown());
    let ended = worker.work_one(Some(job.id), interrupt.come()).await;
    bar.end(|| ());
    match ended.map_err(failed)?.map(|ended| ended.outcome) {
        Some(jobs::Outcome::GivenBack) => Err(given_back(job)),
        Some(jobs::Outcome::PutOff { error }) => {
            let why = format!("{error}; job {} is tried again by the next worker that runs", job.id);
            Err(Failure::Failed(anyhow!(crate::cli::read::safe(&why))))
        }
        _ => Ok(()),
    }
}

fn given_back(job: &Job) -> Failure {
    Failure::Failed(anyhow!(
        "interrupted: job {} was given back, and the next worker goes on with it",
        job.id
    ))
}

/// The job at its end.
async fn ended(timeline: &Timeline, mut job: Job, interrupt: &mut Interrupt) -> Result<Job, Failure> {
    while !job.has_ended() {
        tokio::select! {
            () = sleep(LOOK) => {}
            () = interrupt.come() => return Err(interrupted()),
        }
        job = again(timeline, job.id).await?;
    }
    Ok(job)
}
