//! `threadline verify-coverage`: whether the tables that are expected to be captured are, for a build that is to fail when not.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::json;
use threadline::{
    capture::{HostTable, Refusal},
    coverage::{Coverage, Report, Severity, Verdict, read, verdict, verdict::Status},
    evidence::{Record, expected_coverage},
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    evidence::record_all,
    expectations::expectations,
    host_schema,
    settings::{HostTarget, Settings},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only expected tables of this schema of the host's; without it, all.
    #[arg(long, value_name = "SCHEMA", value_parser = host_schema::parse)]
    schema: Option<String>,
    /// Records what was found as evidence.
    #[arg(long)]
    record: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: HostTarget, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema: storage, capture, coverage, .. } = Settings::read(target.into())?;
    let expectations = expectations(&coverage, &capture)?;
    let mut expected = expectations.expected.clone();
    expected.retain(|table| arguments.schema.as_ref().is_none_or(|schema| table.schema == *schema));
    if expected.is_empty() {
        return Err(Refusal {
            term: "nothing_expected",
            reason: "no table is expected to be captured".to_owned(),
            hint: Some(
                "in audit.toml, expected = [\"schema.table\"] in the section [coverage], or a section [capture.tables.\"schema.table\"]"
                    .to_owned(),
            ),
        }
        .into());
    }
    let rights = if arguments.record { Rights::Owner } else { Rights::Reader };
    on_timeline(&options, rights, async |connection| {
        if let Some(schema) = &arguments.schema {
            host_schema::look_up(connection, schema).await?;
        }
        let schemas: Vec<String> = expected.iter().map(|table| table.schema.clone()).collect();
        let report = read(connection, &storage, Some(&schemas), &expectations)
            .await
            .context("cannot read the catalog")?;
        let verdict = verdict(&report, &expected);
        if arguments.record {
            record_all(connection, &storage, records(&report, &expected)).await?;
        }
        let text = if arguments.json {
            format!("{}\n", described(&report, &verdict))
        } else {
            text(&report, &verdict)
        };
        Ok(Answer { text, status: u8::from(!verdict.violations.is_empty()) })
    })
}

/// A record for each schema that has tables which are expected to be captured.
fn records(report: &Report, expected: &[HostTable]) -> Vec<Record> {
    let of_schema = |coverage: &Coverage| {
        let expected: Vec<HostTable> =
            expected.iter().filter(|table| table.schema == coverage.schema).cloned().collect();
        let alone = Report { schemas: vec![coverage.clone()], skipped: report.skipped.clone() };
        expected_coverage(coverage, &report.skipped, &verdict(&alone, &expected))
    };
    report.schemas.iter().map(of_schema).collect()
}

fn described(report: &Report, verdict: &Verdict) -> serde_json::Value {
    json!({
        "tables": verdict.tables,
        "violations": verdict.violations,
        "summary": {"expected": verdict.expected, "covered": verdict.covered, "violated": verdict.violations.len()},
        "skipped": report.skipped,
    })
}

fn text(report: &Report, verdict: &Verdict) -> String {
    let width = verdict.tables.iter().map(|one| one.table.len()).max().unwrap_or_default().max(5);
    let mut text = format!("{:width$}  STATUS\n", "TABLE");
    for one in &verdict.tables {
        let note = if one.expected { "" } else { " (not in the list of expected tables)" };
        let _ = writeln!(text, "{:width$}  {}{note}", one.table, one.status.as_str());
    }
    for one in &verdict.violations {
        match one.status {
            Status::Missing => {
                let _ = writeln!(
                    text,
                    "{}: there is no such table; a partition counts with its table",
                    one.table
                );
            }
            Status::Uncovered if one.errors.is_empty() => {
                let plain: Option<HostTable> = one.table.parse().ok();
                let command =
                    plain.map(|table| format!(": threadline gen-triggers --tables {table} --apply"));
                let _ = writeln!(text, "{}: not captured{}", one.table, command.unwrap_or_default());
            }
            _ => {}
        }
        for finding in report.schemas.iter().flat_map(|coverage| &coverage.findings) {
            if finding.severity == Severity::Error
                && format!("{}.{}", finding.schema, finding.table) == one.table
            {
                let _ = writeln!(text, "{}: {}: {}", one.table, finding.code, finding.message);
                for step in &finding.remedy {
                    let _ = writeln!(text, "    {step}");
                }
            }
        }
    }
    let _ = writeln!(
        text,
        "summary: {}/{} expected tables covered ({} violated)",
        verdict.covered,
        verdict.expected,
        verdict.violations.len()
    );
    text
}
