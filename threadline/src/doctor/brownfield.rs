//! What is left of earlier times, and whether tables are ready that had rows before.

use sqlx::PgConnection;

use super::{
    check::{Outcome, checks, listed},
    facts::Facts,
    remedy::Remedy,
};
use crate::{
    capture::Refusal,
    continuity::{NotReady, assert_ready},
};

checks! {
    "brownfield.triggers" triggers, "No table is captured by a trigger of the Elixir library from before its version 0.11.";
    "brownfield.functions" functions, "Every change is recorded by one trigger, with a function of its own table.";
    "brownfield.keys" keys, "Changes that older triggers have recorded name their rows.";
    "brownfield.readiness" readiness, "Of every expected table each change is recorded once, with its key, on every partition.";
}

/// Tables whose readiness is asserted.
const TABLES_MAX: usize = 100;

async fn triggers(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("brownfield.triggers"))
}

async fn functions(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("brownfield.functions"))
}

async fn keys(_: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    Ok(facts.findings("brownfield.keys"))
}

async fn readiness(connection: &mut PgConnection, facts: &Facts) -> Result<Outcome, sqlx::Error> {
    let expected = &facts.expectations.expected;
    if expected.is_empty() {
        return Ok(Outcome::not_applicable("the settings expect no table to be captured"));
    }
    let mut problems: Vec<Refusal> = Vec::new();
    let mut ready = 0;
    for table in expected.iter().take(TABLES_MAX) {
        match assert_ready(connection, &facts.storage, table).await {
            Ok(_) => ready += 1,
            Err(NotReady::Unready(found)) => problems.extend(found),
            Err(NotReady::Database(error)) => return Err(error),
        }
    }
    let beyond = expected.len().saturating_sub(TABLES_MAX);
    let seen = format!("{ready} of {} tables are ready", expected.len());
    if !problems.is_empty() {
        let lines = problems.iter().map(|one| format!("{}: {}", one.term, one.reason));
        let mut steps: Vec<Remedy> = Vec::new();
        for step in problems.iter().filter_map(|one| one.hint.as_deref()).map(step) {
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        return Ok(Outcome::failed(format!("{seen}; {}", listed(lines))).remedy(steps));
    }
    if beyond > 0 {
        let seen = format!("{seen}; {beyond} were not looked at");
        return Ok(
            Outcome::unknown(seen).remedy([Remedy::advice("ask for each: threadline continuity --table T")])
        );
    }
    Ok(Outcome::ok(seen))
}

/// A hint: a command line where it is nothing else. One that prints triggers is to make them here.
fn step(hint: &str) -> Remedy {
    match hint {
        _ if !hint.starts_with("threadline ") || hint.contains("; ") => Remedy::advice(hint),
        _ if hint.starts_with("threadline gen-triggers") => Remedy::command(format!("{hint} --apply")),
        _ => Remedy::command(hint),
    }
}
