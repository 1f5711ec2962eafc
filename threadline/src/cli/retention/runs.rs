//! `threadline retention runs`.

use threadline::retention::{self, RUNS_LISTED, RUNS_LISTED_MAX, RecordedRun};

use crate::cli::{
    answer::{Answer, Failure},
    database::on_timeline,
    read::render::{Table, json, time, width},
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
    let Settings { options, schema, .. } = Settings::read(target)?;
    on_timeline(&options, async |connection| {
        let runs = retention::runs(connection, &schema, arguments.limit).await?;
        if arguments.json {
            return Ok(runs.iter().map(json).collect::<Result<String, _>>()?);
        }
        if runs.is_empty() {
            return Ok("nothing was purged yet\n".to_owned());
        }
        Ok(text(&runs))
    })
}

fn text(runs: &[RecordedRun]) -> String {
    let mut table =
        Table::new(&["RUN", "TIME", "STATUS", "CHANGES", "TRANSACTIONS", "ACTIONS", "SECONDS", "WHY"]);
    for run in runs {
        table.push(cells(run));
    }
    table.text(width())
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
