//! `threadline continuity`: the steps to a table of which everything is recorded, and whether one is there.

use std::fmt::Write as _;

use serde_json::json;
use threadline::{
    capture::HostTable,
    continuity::{NotReady, Readiness, Step, assert_ready, cutover_steps},
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    settings::{Settings, Target, table},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Asserts that every change of this table is recorded once, with its key; NAME or SCHEMA.NAME. Without it the steps are printed.
    #[arg(long, value_name = "TABLE", value_parser = table)]
    table: Option<HostTable>,
    /// Prints the steps, for the table where one is named, and asks nothing of the database.
    #[arg(long, short)]
    dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Some(table) = arguments.table.as_ref().filter(|_| !arguments.dry_run) else {
        let steps = cutover_steps(arguments.table.as_ref());
        return Ok(
            if arguments.json { format!("{}\n", json!({"steps": steps})) } else { listed(&steps) }.into()
        );
    };
    let Settings { options, schema, .. } = Settings::read(target)?;
    on_timeline(&options, Rights::Reader, async |connection| {
        match assert_ready(connection, &schema, table).await {
            Ok(ready) => Ok(Answer { text: ready_text(table, &ready, arguments.json), status: 0 }),
            Err(NotReady::Unready(problems)) => {
                let text = if arguments.json {
                    let problems: Vec<_> = problems
                        .iter()
                        .map(|one| json!({"term": one.term, "reason": one.reason, "hint": one.hint}))
                        .collect();
                    format!("{}\n", json!({"table": table.to_string(), "ready": false, "problems": problems}))
                } else {
                    problems
                        .iter()
                        .fold(String::new(), |text, one| text + one.term + ": " + &one.to_string() + "\n")
                };
                Ok(Answer { text, status: 1 })
            }
            Err(error) => Err(anyhow::Error::new(error).context("cannot read the triggers")),
        }
    })
}

fn ready_text(table: &HostTable, ready: &Readiness, json: bool) -> String {
    if json {
        return format!("{}\n", json!({"table": table.to_string(), "ready": true, "capture": ready}));
    }
    let mut text = format!("ready: {table} level={} key={}", ready.level.as_str(), ready.key.join(","));
    if !ready.partitions.is_empty() {
        let _ = write!(text, " partitions={}", ready.partitions.len());
    }
    if !ready.records_truncate {
        text.push_str(" (truncate is not recorded)");
    }
    text + "\n"
}

/// The steps for people.
fn listed(steps: &[Step]) -> String {
    let mut text = String::new();
    for (n, step) in steps.iter().enumerate() {
        let optional = if step.is_optional { " (optional)" } else { "" };
        let _ = writeln!(text, "{}. {}{optional}: {}", n + 1, step.name, step.what);
        if let Some(command) = &step.command {
            let _ = writeln!(text, "   {command}");
        }
    }
    text
}
