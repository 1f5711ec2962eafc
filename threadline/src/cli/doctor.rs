//! `threadline doctor`: what a timeline in production rests on, with what to do.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use threadline::doctor::{Report, State, run as run_checks};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    expectations::{expectations, retained},
    read::render,
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Ends with status 1 for what needs attention or could not be found out, too.
    #[arg(long)]
    strict: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, capture, coverage, retention, .. } = Settings::read(target)?;
    let mut expectations = expectations(&coverage, &capture)?;
    expectations.retained = retained(retention.as_ref())?;
    on_timeline(&options, Rights::Reader, async |connection| {
        let report =
            run_checks(connection, &schema, &expectations).await.context("cannot look at the timeline")?;
        let fails = report.count(State::Failed) > 0
            || arguments.strict && report.count(State::Attention) + report.count(State::Unknown) > 0;
        let text = if arguments.json { render::json(&described(&report))? } else { text(&report) };
        Ok(Answer { text, status: u8::from(fails) })
    })
}

fn described(report: &Report) -> Value {
    let counts: Map<String, Value> =
        State::ALL.iter().map(|state| (state.as_str().to_owned(), report.count(*state).into())).collect();
    json!({"items": report.items, "summary": counts})
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut section = None;
    for item in &report.items {
        if section.replace(item.section) != Some(item.section) {
            let _ = writeln!(text, "{}", item.section.title());
        }
        let found = match item.state {
            State::Ok => format!("{} ({})", item.expectation, item.seen),
            _ => item.seen.clone(),
        };
        let line = format!("  {:14}  {}: {found}", item.state.as_str(), item.id);
        let _ = writeln!(text, "{}", render::safe(&line));
        for remedy in &item.remedy {
            // Settings have several lines.
            for line in remedy.to_string().lines() {
                let _ = writeln!(text, "{:18}{}", "", render::safe(line));
            }
        }
    }
    let counts =
        State::ALL.map(|state| format!("{} {}", report.count(state), state.as_str().replace('_', " ")));
    let _ = writeln!(text, "{}", counts.join(", "));
    text
}
