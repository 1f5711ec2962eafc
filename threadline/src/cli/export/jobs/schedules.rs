//! `threadline export schedules`: exports that are made again and again.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use threadline::{
    export::jobs::schedules::{self, Schedule},
    query::Scope,
};

use super::{
    add::Asked,
    timeline::{on_timeline, unless_interrupted},
};
use crate::cli::{
    answer::{Answer, Failure},
    read::{
        json_line, keys,
        render::{Table, time, width},
    },
    settings::{Settings, Target},
};

#[derive(Debug, Subcommand)]
pub(crate) enum SchedulesCommand {
    /// Asks for an export at a time, and again after each interval. A worker has to run for that.
    ///
    /// A filter such as last:24h counts from the moment at which each export begins.
    #[command(after_help = keys())]
    Add {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Box<AddArguments>,
    },
    /// Lists schedules, by name.
    List {
        #[command(flatten)]
        target: Target,
        /// Prints JSON: an object for each schedule.
        #[arg(long)]
        json: bool,
    },
    /// Has a schedule make no jobs until it is resumed.
    Pause {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Has a paused schedule make jobs again; what it has missed is made up by one.
    Resume {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Arguments,
    },
    /// Removes a schedule. Jobs that it has made stay.
    Remove {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Arguments,
    },
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    asked: Asked,
    /// The time from one export to the next, such as 1d or 12h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Duration,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One schedule.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl SchedulesCommand {
    /// The settings file that is named.
    pub(in crate::cli::export) fn config(&self) -> Option<&Path> {
        let (Self::Add { target, .. }
        | Self::List { target, .. }
        | Self::Pause { target, .. }
        | Self::Resume { target, .. }
        | Self::Remove { target, .. }) = self;
        target.config.as_deref()
    }

    pub(in crate::cli::export) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Add { target, arguments } => {
                let settings = Settings::read(target)?;
                let request = arguments.asked.request(&settings.export)?;
                on_timeline(settings, async |timeline, _, interrupt| {
                    let (everything, every) = (Scope::everything(), arguments.every);
                    let added = schedules::add(timeline, &everything, &arguments.name, &request, every);
                    text(&[unless_interrupted(added, interrupt).await?], arguments.json)
                })
            }
            Self::List { target, json } => {
                on_timeline(Settings::read(target)?, async |timeline, _, interrupt| {
                    text(&unless_interrupted(schedules::list(timeline), interrupt).await?, json)
                })
            }
            Self::Pause { target, arguments } => enabled(target, &arguments, false),
            Self::Resume { target, arguments } => enabled(target, &arguments, true),
            Self::Remove { target, arguments } => {
                on_timeline(Settings::read(target)?, async |timeline, _, interrupt| {
                    let removed = schedules::remove(timeline, &arguments.name);
                    text(&[unless_interrupted(removed, interrupt).await?], arguments.json)
                })
            }
        }
    }
}

fn enabled(target: Target, arguments: &Arguments, is_enabled: bool) -> Result<Answer, Failure> {
    on_timeline(Settings::read(target)?, async |timeline, _, interrupt| {
        let changed = schedules::enable(timeline, &arguments.name, is_enabled);
        text(&[unless_interrupted(changed, interrupt).await?], arguments.json)
    })
}

fn text(all: &[Schedule], json: bool) -> Result<Answer, Failure> {
    if json {
        let lines = all.iter().map(json_line).collect::<Result<String, _>>();
        return Ok(lines.map_err(anyhow::Error::new)?.into());
    }
    if all.is_empty() {
        return Ok("there are no schedules\n".to_owned().into());
    }
    let mut table = Table::new(&["SCHEDULE", "EVERY", "NEXT", "FILTER"]);
    for schedule in all {
        let every = Duration::from_secs(schedule.every_seconds.try_into().unwrap_or_default());
        let request: Option<serde_json::Value> =
            schedule.request.as_ref().and_then(|request| serde_json::from_str(request.get()).ok());
        let filter = request.and_then(|request| Some(request.get("filter")?.as_str()?.to_owned()));
        table.push([
            schedule.name.clone(),
            humantime::format_duration(every).to_string(),
            if schedule.is_enabled {
                schedule.next_at.map(time).unwrap_or_default()
            } else {
                "paused".to_owned()
            },
            filter.filter(|filter| !filter.is_empty()).unwrap_or_else(|| "everything".to_owned()),
        ]);
    }
    Ok(table.text(width()).into())
}
