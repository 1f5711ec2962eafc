//! `threadline export jobs work` and `clean`.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount, ProgressBar};
use threadline::{
    export::jobs::{Ended, JobError, Outcome},
    storage::Location,
};
use uuid::Uuid;

use super::{
    add::location,
    timeline::{failed, interrupted, on_timeline, worker},
};
use crate::cli::{
    answer::{Answer, Failure},
    export::run::progress_bar,
    read::{json_line, note, put, safe},
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Ends when nothing is due.
    #[arg(long)]
    until_idle: bool,
    /// Where exports are made before they are stored, and gone on with after a restart; without it a folder below that of temporary files.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Also stores at this place, besides `export.storage.location`: a job that names another place is refused. Can be repeated.
    #[arg(long, value_name = "LOCATION")]
    allow: Vec<String>,
    /// Prints an object of JSON for each job that ended.
    #[arg(long)]
    json: bool,
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanArguments {
    /// Also deletes at this place, besides `export.storage.location`. Can be repeated.
    #[arg(long, value_name = "LOCATION")]
    allow: Vec<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// The line that says how far a job is; nothing where standard error is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = progress_bar();
        bar.disable_steady_tick();
        Self(bar)
    }

    pub(super) fn shown(&self) -> impl Fn(Uuid, u64, u64) + Send + Sync + 'static {
        let bar = self.0.clone();
        let is_begun = AtomicBool::new(false);
        move |job, rows, bytes| {
            if !is_begun.swap(true, Ordering::Relaxed) {
                bar.enable_steady_tick(Duration::from_millis(200));
            }
            bar.set_message(format!("{job}: {} rows, {}", HumanCount(rows), HumanBytes(bytes)));
        }
    }

    /// Says something below the line, and takes the line away.
    pub(super) fn end(&self, say: impl FnOnce()) {
        self.0.suspend(say);
        self.0.set_message("");
    }
}

fn locations(texts: &[String]) -> Result<Vec<Location>, Failure> {
    texts.iter().map(|text| location(text)).collect()
}

pub(super) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let allowed = locations(&arguments.allow)?;
    on_timeline(Settings::read(target)?, async |timeline, section, interrupt| {
        let bar = Bar::new();
        let worker =
            worker(timeline, section, arguments.directory.clone(), &allowed).on_progress(bar.shown());
        let mut written = Ok(());
        let mut heard = |heard: Result<&Ended, &JobError>| {
            bar.end(|| {
                let said = say(heard, arguments.json);
                if written.is_ok() {
                    written = said;
                }
            });
        };
        if arguments.until_idle {
            let done = worker.run_until_idle(interrupt.come(), |ended| heard(Ok(ended))).await;
            done.map_err(failed)?;
        } else {
            worker.run_until(interrupt.come(), heard).await;
        }
        written.map_err(Failure::Unwritten)?;
        Ok(String::new().into())
    })
}

fn say(heard: Result<&Ended, &JobError>, json: bool) -> std::io::Result<()> {
    let ended = match heard {
        Ok(ended) => ended,
        Err(error) => {
            note(&safe(&format!("the worker goes on later: {}", errors::line(error))));
            return Ok(());
        }
    };
    if json {
        return put(&json_line(ended).map_err(std::io::Error::other)?);
    }
    let words = match &ended.outcome {
        Outcome::Completed { location, rows, bytes } => {
            format!("completed, {} rows, {}, {location}", HumanCount(*rows), HumanBytes(*bytes))
        }
        Outcome::Failed { error } => format!("failed, {error}"),
        Outcome::PutOff { error } => format!("put off, {error}"),
        Outcome::Lost => "lost: it was cancelled, or another worker has it".to_owned(),
        _ => "given back".to_owned(),
    };
    put(&format!("{} {}\n", ended.job, safe(&words)))
}

pub(super) fn clean(target: Target, arguments: &CleanArguments) -> Result<Answer, Failure> {
    let allowed = locations(&arguments.allow)?;
    on_timeline(Settings::read(target)?, async |timeline, section, interrupt| {
        // Its folder is nobody's: what is left there belongs to workers.
        let worker = worker(timeline, section, Some(PathBuf::from("/nonexistent")), &allowed);
        let cleaned = tokio::select! {
            cleaned = worker.clean() => cleaned.map_err(failed)?,
            () = interrupt.come() => return Err(interrupted()),
        };
        let text = if arguments.json {
            json_line(&cleaned).map_err(anyhow::Error::new)?
        } else {
            format!(
                "deleted what {} jobs had stored; {} could not be deleted\n",
                cleaned.deleted, cleaned.kept
            )
        };
        Ok(Answer { text, status: u8::from(cleaned.kept > 0) })
    })
}
