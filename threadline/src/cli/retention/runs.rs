//! `threadline retention runs`.

use std::fmt::Write as _;

use threadline::retention::{self, Archive, RUNS_LISTED, RUNS_LISTED_MAX, RecordedRun};

use crate::cli::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    read::render::{Table, json, safe, time, width},
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs at most.
    #[arg(long, value_name = "N", default_value_t = RUNS_LISTED, value_parser = clap::value_parser!(u16).range(1..=i64::from(RUNS_LISTED_MAX)))]
    limit: u16,
    /// Prints JSON: an object for each run.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, retention, .. } = Settings::read(target)?;
    let archive = retention.as_ref().map(Archive::read).transpose()?.flatten();
    on_timeline(&options, Rights::Reader, async |connection| {
        let runs = retention::runs(connection, &schema, arguments.limit).await?;
        if arguments.json {
            return Ok(runs.iter().map(json).collect::<Result<String, _>>()?);
        }
        if runs.is_empty() {
            return Ok("nothing was purged yet\n".to_owned());
        }
        Ok(text(&runs) + &leftovers(archive.as_ref(), &runs))
    })
}

fn text(runs: &[RecordedRun]) -> String {
    let mut table =
        Table::new(&["RUN", "TIME", "STATUS", "CHANGES", "TRANSACTIONS", "ACTIONS", "SECONDS", "WHY"]);
    for run in runs {
        table.push(cells(run));
    }
    let mut text = table.text(width());
    for run in runs {
        if let Some(archived) = &run.archived {
            let (rows, files) = (archived.rows, archived.files);
            let _ = writeln!(
                text,
                "archived by {}: {rows} rows in {files} files in {}",
                run.id,
                safe(&archived.location)
            );
        }
    }
    text
}

/// What runs that were interrupted have left in the folder of archives. Where the folder cannot be read, purges say so.
fn leftovers(archive: Option<&Archive>, runs: &[RecordedRun]) -> String {
    let found = archive.and_then(|archive| retention::leftovers(&archive.directory).ok()).unwrap_or_default();
    let mut text = String::new();
    for (run, files) in found {
        // One that is running is writing it.
        if runs.iter().any(|known| known.id == run && known.status != "running") {
            for file in files {
                let file = file.display().to_string();
                let _ = writeln!(
                    text,
                    "left by {run}, which was interrupted: {}; the next purge removes it",
                    safe(&file)
                );
            }
        }
    }
    text
}

fn cells(run: &RecordedRun) -> [String; 8] {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let is_library = run.holder.is_none();
    [
        run.id.to_string(),
        run.started_at.map(time).unwrap_or_default(),
        run.status.clone(),
        // The library counts both together.
        number(if is_library { run.deleted_count.map(i64::from) } else { run.deleted_changes }),
        if is_library { "together".to_owned() } else { number(run.deleted_transactions) },
        number(run.deleted_actions),
        run.duration_ms.map(|ms| format!("{}.{:03}", ms / 1_000, ms % 1_000)).unwrap_or_default(),
        run.error_message.clone().unwrap_or_default(),
    ]
}
