//! `threadline erase runs`.

use threadline::erasure::{self, ErasureRun, RUNS_LISTED, RUNS_LISTED_MAX};

use crate::cli::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    read::render::{Table, actor, json, time, width},
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
    on_timeline(&options, Rights::Reader, async |connection| {
        let runs = erasure::runs(connection, &schema, arguments.limit).await?;
        if arguments.json {
            return Ok(runs.iter().map(json).collect::<Result<String, _>>()?);
        }
        if runs.is_empty() {
            return Ok("nothing was erased yet\n".to_owned());
        }
        Ok(text(&runs))
    })
}

fn text(runs: &[ErasureRun]) -> String {
    let mut table =
        Table::new(&["RUN", "TIME", "STATUS", "KIND", "ROWS", "VALUES", "WHO", "REASON", "WHY IT FAILED"]);
    for run in runs {
        table.push([
            run.id.to_string(),
            run.started_at.map(time).unwrap_or_default(),
            run.status.clone(),
            run.kind.clone(),
            run.counts.total_rows().to_string(),
            run.counts.total_values().to_string(),
            actor(run.actor_ref.as_deref()),
            run.reason.clone(),
            run.error_message.clone().unwrap_or_default(),
        ]);
    }
    table.text(width())
}
