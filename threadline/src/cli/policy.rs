//! `threadline policy show`: what settings say of each captured table, and what is deployed.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Value, json};
use threadline::{
    capture::Policy,
    coverage::{PolicyStatus, policies, policy_status::Status},
    evidence::redaction_policy,
};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    evidence::record_all,
    expectations::expectations,
    host_schema,
    settings::{HostTarget, Settings},
};

/// What is done with policies.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// What the settings say of each captured table, what is deployed, and whether both are the same. Shows no value of a row.
    Show {
        #[command(flatten)]
        target: HostTarget,
        #[command(flatten)]
        arguments: Arguments,
    },
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only tables of this schema of the host's; without it, all.
    #[arg(long, value_name = "SCHEMA", value_parser = host_schema::parse)]
    schema: Option<String>,
    /// Records what was found as evidence.
    #[arg(long)]
    record: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: PolicyCommand) -> Result<Answer, Failure> {
    let PolicyCommand::Show { target, arguments } = command;
    let Settings { options, schema: storage, capture, coverage, .. } = Settings::read(target.into())?;
    let expectations = expectations(&coverage, &capture)?;
    let rights = if arguments.record { Rights::Owner } else { Rights::Reader };
    on_timeline(&options, rights, async |connection| {
        if let Some(schema) = &arguments.schema {
            host_schema::look_up(connection, schema).await?;
        }
        let mut statuses =
            policies(connection, &storage, &expectations).await.context("cannot read the catalog")?;
        statuses.retain(|one| arguments.schema.as_ref().is_none_or(|schema| one.table.schema == *schema));
        if arguments.record {
            record_all(connection, &storage, statuses.iter().map(redaction_policy)).await?;
        }
        Ok(if arguments.json { described(arguments.schema.as_deref(), &statuses) } else { text(&statuses) })
    })
}

fn count(statuses: &[PolicyStatus], status: Status) -> usize {
    statuses.iter().filter(|one| one.status == status).count()
}

fn described(schema: Option<&str>, statuses: &[PolicyStatus]) -> String {
    let described = json!({
        "schema": schema,
        "total_tables": statuses.len(),
        "drift_detected": count(statuses, Status::DriftDetected),
        "could_not_introspect": count(statuses, Status::CouldNotIntrospect),
        "config_matches_deployed": count(statuses, Status::ConfigMatchesDeployed),
        "tables": statuses,
    });
    format!("{described}\n")
}

fn text(statuses: &[PolicyStatus]) -> String {
    let mut text = format!(
        "{} tables: {} drift detected, {} could not introspect, {} config matches deployed\n",
        statuses.len(),
        count(statuses, Status::DriftDetected),
        count(statuses, Status::CouldNotIntrospect),
        count(statuses, Status::ConfigMatchesDeployed)
    );
    let header = ["TABLE", "STATUS", "CONFIG", "DEPLOYED", "HINT"].map(str::to_owned);
    let rows: Vec<[String; 5]> = statuses
        .iter()
        .map(|one| {
            [
                one.table.to_string(),
                one.status.as_str().to_owned(),
                summary(one.configured.as_ref()),
                summary(one.deployed.as_ref()),
                one.hint.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let all: Vec<&[String; 5]> = std::iter::once(&header).chain(&rows).collect();
    let widths: [usize; 5] =
        std::array::from_fn(|n| all.iter().map(|row| row[n].chars().count()).max().unwrap_or_default());
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    for one in statuses {
        let Some(warning) = &one.warning else { continue };
        let _ = writeln!(text, "{}: {warning}", one.table);
        for (option, value) in one.diff.iter().filter(|(_, value)| !value.is_null() && **value != json!([])) {
            let _ = writeln!(text, "    {option}: {}", plain(value));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value.as_array() {
        Some(columns) => columns.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        None => value.to_string(),
    }
}

/// Options that say something.
fn summary(policy: Option<&Policy>) -> String {
    let Some(policy) = policy else { return "-".to_owned() };
    let paths: Vec<String> = policy.paths.iter().map(|path| path.join(".")).collect();
    let lists = [
        ("exclude", &policy.exclude),
        ("mask", &policy.mask),
        ("hash", &policy.hash),
        ("paths", &paths),
        ("except", &policy.except),
    ];
    let said: Vec<String> = lists
        .iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(option, columns)| format!("{option}={}", columns.join(",")))
        .collect();
    if said.is_empty() { "nothing hidden".to_owned() } else { said.join(" ") }
}
