//! `threadline export run`: what a filter finds, into a file or to standard output.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use sqlx::postgres::PgPoolOptions;
use threadline::{
    ActorRef,
    export::{Destination, ExportError, Exported, Format, Options, Request, count, export},
    query::{Filter, Reader, Scope},
    retention::{self, Horizon},
    signing::SigningKey,
};

use super::{
    summary::{self, Counted},
    what::What,
    words::{STANDARD_OUTPUT, json_format},
};
use crate::cli::{
    actor,
    answer::{Answer, Failure},
    database::{Interrupt, Rights, line, runtime},
    read::{check_timeline, note, safe},
    settings::{Settings, Target},
};

/// Connections of the command: the one that reads, and the one that records.
const CONNECTIONS: u32 = 2;

/// How long `--dry-run` counts.
const DRY_RUN_TIME: Duration = Duration::from_secs(60);

/// How often the line on the terminal is drawn.
const DRAW: Duration = Duration::from_millis(200);

/// What the command line says.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches, independent of each other")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) what: What,
    /// The file; - for standard output.
    #[arg(long, short, value_name = "PATH", required_unless_present = "dry_run")]
    pub(super) output: Option<PathBuf>,
    /// Counts what would be exported, within a minute, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Goes on with an export that was stopped.
    #[arg(long)]
    resume: bool,
    /// Takes the place of a file that is there, and begins again where an export was stopped.
    #[arg(long)]
    force: bool,
    /// A PKCS#8 file with the Ed25519 key that signs the manifest; without it `export.key` of the settings file.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Who exports, such as admin:a1; without it the service account of the database's user.
    #[arg(long, value_name = "TYPE:ID", value_parser = actor)]
    actor: Option<ActorRef>,
    /// Exports without recording it in the timeline; the manifest says so.
    #[arg(long, conflicts_with = "actor")]
    unrecorded: bool,
    /// Where the manifest is written of an export to standard output, which has none otherwise.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Prints the summary as one object of JSON.
    #[arg(long)]
    json: bool,
    /// wrapped or ndjson, of --format json.
    #[arg(long, value_name = "FORM", value_parser = json_format)]
    pub(super) json_format: Option<Format>,
    /// The same as the filter table:NAME.
    #[arg(long, value_name = "NAME")]
    pub(super) table: Option<String>,
    /// The same as the filter from:TIME.
    #[arg(long, value_name = "TIME")]
    pub(super) from: Option<String>,
    /// The same as the filter to:TIME.
    #[arg(long, value_name = "TIME")]
    pub(super) to: Option<String>,
    /// A file with the actor to filter by, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) actor_json: Option<PathBuf>,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let (filter, options) = (arguments.filter()?, arguments.options()?);
    options.check(&filter).map_err(|error| failed(error, None))?;
    let to_stream = arguments.output.as_deref() == Some(Path::new(STANDARD_OUTPUT));
    arguments.check(to_stream)?;
    let settings = Settings::read(target)?;
    let key = arguments.key.clone().or(settings.export.key).filter(|_| !arguments.dry_run);
    let key = key.map(|path| SigningKey::read(&path)).transpose();
    let key = key.map_err(|error| Failure::Misused(safe(&error.to_string())))?;
    let format = options.format;
    let runtime = runtime()?;
    let answer = runtime.block_on(async {
        let mut interrupt = Interrupt::new()?;
        let work = async {
            check_timeline(&settings.options, &settings.schema).await?;
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_lazy_with(settings.options);
            let reader = Reader::new(pool, settings.schema, Scope::everything());
            if arguments.dry_run {
                return dry_run(&reader, &filter, &options, arguments.json).await;
            }
            exported(&reader, filter, options, arguments, key, to_stream).await
        };
        tokio::select! {
            answer = work => answer,
            () = interrupt.come() => Err(interrupted(arguments, format, to_stream)),
        }
    });
    // A statement that was left is not waited for.
    runtime.shutdown_background();
    answer
}

impl Arguments {
    fn check(&self, to_stream: bool) -> Result<(), Failure> {
        let why = if to_stream && (self.resume || self.force) {
            "--resume and --force are of files: name one with -o"
        } else if !to_stream && self.manifest.is_some() {
            "--manifest is of an export to standard output: beside a file there is one anyway"
        } else if to_stream && self.json && !self.dry_run {
            "--json prints the summary on standard output, where the export goes to: name a file with -o"
        } else if to_stream && !self.dry_run && io::stdout().is_terminal() {
            "what is stored may act on a terminal: name a file with -o, or lead standard output into one"
        } else {
            return Ok(());
        };
        Err(Failure::Misused(format!("export_options: {why}")))
    }
}

async fn dry_run(reader: &Reader, filter: &Filter, options: &Options, json: bool) -> Result<Answer, Failure> {
    let entries = count(reader, filter, options, DRY_RUN_TIME).await.map_err(|error| failed(error, None))?;
    let (profile, format) = (options.profile, options.format);
    let purged = retention::purged(reader, filter).await.map_err(|error| failed(error.into(), None))?;
    say_purged(purged.as_ref());
    let counted = Counted { dry_run: true, matching_rows: entries, profile, format };
    Ok(summary::counted(&counted, json)?.into())
}

async fn exported(
    reader: &Reader,
    filter: Filter,
    options: Options,
    arguments: &Arguments,
    key: Option<SigningKey>,
    to_stream: bool,
) -> Result<Answer, Failure> {
    let started = Instant::now();
    let path = arguments.output.clone().context("no file is named")?;
    let destination = if to_stream {
        Destination::Stream { out: Box::new(io::stdout()), manifest: arguments.manifest.clone() }
    } else {
        Destination::File { path: path.clone(), resume: arguments.resume, force: arguments.force }
    };
    let bar = progress_bar();
    let shown = bar.clone();
    let request = Request {
        is_recorded: !arguments.unrecorded,
        actor: arguments.actor.clone(),
        key,
        on_progress: Some(Box::new(move |rows, bytes| {
            shown.set_message(format!("{} rows, {}", HumanCount(rows), HumanBytes(bytes)));
        })),
        ..Request::new(filter, options)
    };
    let exported = export(reader, request, destination).await;
    bar.finish_and_clear();
    let unfinished = (!to_stream).then_some(&*path);
    let exported = exported.map_err(|error| failed(error, unfinished))?;
    let file = unfinished.map(Path::to_owned);
    say(&exported, file.as_deref(), started.elapsed(), arguments.json)
}

/// The end: on standard output, unless the export is there.
fn say(exported: &Exported, file: Option<&Path>, took: Duration, json: bool) -> Result<Answer, Failure> {
    let text = summary::exported(exported, file, took, json)?;
    say_purged(exported.purged.as_ref());
    if file.is_some() {
        return Ok(text.into());
    }
    text.lines().for_each(note);
    Ok(String::new().into())
}

/// What the export lacks, on standard error, as lists say it too.
fn say_purged(purged: Option<&Horizon>) {
    if let Some(horizon) = purged {
        note(&horizon.to_string());
    }
}

/// Nothing where standard error is no terminal.
pub(super) fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(DRAW);
    bar
}

fn interrupted(arguments: &Arguments, format: Format, to_stream: bool) -> Failure {
    let left = match &arguments.output {
        Some(path) if !to_stream && !arguments.dry_run && format.can_be_resumed() => {
            format!(
                "; what there is of {} can be gone on with: the same command with --resume",
                path.display()
            )
        }
        _ => String::new(),
    };
    Failure::Failed(anyhow!(safe(&format!("interrupted before the export was complete{left}"))))
}

/// Refusals of what is on the disk or took too long: the same arguments may do another time.
const OF_STATE: [&str; 5] = ["resume_changed", "export_in_use", "table_unknown", "took_too_long", "standby"];

/// Why there is no export, with its term; of a file that was begun, how it is gone on with.
fn failed(error: ExportError, unfinished: Option<&Path>) -> Failure {
    match (error.term(), error) {
        (_, ExportError::Unwritten(error)) => Failure::Unwritten(error),
        (Some(term), error) if OF_STATE.contains(&term) => {
            Failure::Failed(anyhow!(safe(&format!("{term}: {error}"))))
        }
        (Some(term), error) => Failure::Misused(safe(&format!("{term}: {error}"))),
        (None, error) => {
            let why = line(&error, Rights::Exporter);
            let left = unfinished.filter(|path| path.with_added_extension("progress.json").exists());
            let hint = left.map(|_| "; the same command with --resume goes on").unwrap_or_default();
            Failure::Failed(anyhow!(safe(&format!("{why}{hint}"))))
        }
    }
}
