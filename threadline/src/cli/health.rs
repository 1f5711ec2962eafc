//! `threadline health coverage`: which tables are captured, which are not, and what is wrong.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use threadline::{
    coverage::{Coverage, Report, Severity, read},
    evidence::trigger_coverage,
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    evidence::record_all,
    expectations::expectations,
    host_schema,
    settings::{HostTarget, Settings},
};

/// What is looked at.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Health {
    /// Which tables are captured, which are not, and what is wrong with those that are.
    Coverage {
        #[command(flatten)]
        target: HostTarget,
        #[command(flatten)]
        arguments: Arguments,
    },
}

/// What the command line says.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Arguments {
    /// The schema of the host's.
    #[arg(long, value_name = "SCHEMA", default_value = "public", value_parser = host_schema::parse)]
    schema: String,
    /// All schemas that have tables.
    #[arg(long, conflicts_with = "schema")]
    all_schemas: bool,
    /// Ends with status 1 when there is a finding of severity error.
    #[arg(long)]
    strict: bool,
    /// Records what was found as evidence.
    #[arg(long)]
    record: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(health: Health) -> Result<Answer, Failure> {
    let Health::Coverage { target, arguments } = health;
    let Settings { options, schema: storage, capture, coverage, .. } = Settings::read(target.into())?;
    let expectations = expectations(&coverage, &capture)?;
    let rights = if arguments.record { Rights::Owner } else { Rights::Reader };
    on_timeline(&options, rights, async |connection| {
        let one = [arguments.schema.clone()];
        if !arguments.all_schemas {
            host_schema::look_up(connection, &arguments.schema).await?;
        }
        let schemas = (!arguments.all_schemas).then_some(&one[..]);
        let report =
            read(connection, &storage, schemas, &expectations).await.context("cannot read the catalog")?;
        if arguments.record {
            let records = report.schemas.iter().map(|one| trigger_coverage(one, &report.skipped));
            record_all(connection, &storage, records).await?;
        }
        let fails = arguments.strict && report.schemas.iter().any(Coverage::has_errors);
        let text = match (arguments.json, arguments.all_schemas) {
            (true, true) => format!("{}\n", of_all(&report)?),
            (true, false) => format!("{}\n", of_one(&report)?),
            (false, _) => text(&report),
        };
        Ok(Answer { text, status: u8::from(fails) })
    })
}

/// The keys of the Elixir library's command, and what could not be looked for.
fn of_one(report: &Report) -> serde_json::Result<Value> {
    let mut described = serde_json::to_value(&report.schemas[0])?;
    described["skipped"] = serde_json::to_value(&report.skipped)?;
    Ok(described)
}

fn of_all(report: &Report) -> serde_json::Result<Value> {
    let mut schemas = Map::new();
    for coverage in &report.schemas {
        schemas.insert(coverage.schema.clone(), serde_json::to_value(coverage)?);
    }
    let count = |of: fn(&Coverage) -> usize| -> usize { report.schemas.iter().map(of).sum() };
    let errors =
        |one: &Coverage| one.findings.iter().filter(|found| found.severity == Severity::Error).count();
    Ok(json!({
        "schemas": schemas,
        "summary": {
            "schemas": report.schemas.len(),
            "covered": count(|one| one.covered.len()),
            "uncovered": count(|one| one.uncovered.len()),
            "expected_uncovered": count(|one| one.expected_uncovered.len()),
            "findings": count(|one| one.findings.len()),
            "errors": count(errors),
        },
        "skipped": report.skipped,
    }))
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for coverage in &report.schemas {
        let Coverage { schema, covered, uncovered, expected_uncovered, findings } = coverage;
        let _ = writeln!(
            text,
            "schema {schema}: {} covered, {} uncovered, {} expected uncovered",
            covered.len(),
            uncovered.len(),
            expected_uncovered.len()
        );
        for (status, tables) in [("covered", covered), ("uncovered", uncovered)] {
            for table in tables {
                let _ = writeln!(text, "  {status:18}  {table}");
            }
        }
        for gap in expected_uncovered {
            let _ = writeln!(text, "  {:18}  {} ({})", "expected_uncovered", gap.table, gap.source.as_str());
        }
        for finding in findings {
            let _ = writeln!(
                text,
                "{}: {} of {}.{}: {}",
                finding.severity.as_str(),
                finding.code,
                finding.schema,
                finding.table,
                finding.message
            );
            for step in &finding.remedy {
                let _ = writeln!(text, "    {step}");
            }
        }
    }
    for skipped in &report.skipped {
        let _ = writeln!(text, "not looked for: {}, {}", skipped.code, skipped.reason);
    }
    text
}
