//! `threadline retention archives`.

use std::fmt::Write as _;

use clap::Subcommand;
use serde_json::json;
use threadline::{
    StorageSchema,
    retention::{self, RecordedArchive},
};
use uuid::Uuid;

use crate::cli::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    read::render::{self, Table, safe, time, width},
    settings::{Settings, Target},
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Those of a run alone.
    #[arg(long, value_name = "RUN")]
    run: Option<Uuid>,
    /// Prints JSON: an object for each archive.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Compares archives with their manifests, and with what the timeline says of them. It reads every byte.
    ///
    /// Exit status 1 when one is not what it was.
    Verify {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        arguments: Verified,
    },
}

/// What is verified.
#[derive(Debug, clap::Args)]
pub(crate) struct Verified {
    /// The run whose archives are verified.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    run: Option<Uuid>,
    /// Verifies those of all runs.
    #[arg(long)]
    all: bool,
    /// Prints JSON: an object for each archive.
    #[arg(long)]
    json: bool,
}

impl Command {
    /// The settings file that is named.
    pub(crate) fn config(&self) -> Option<&std::path::Path> {
        let Self::Verify { target, .. } = self;
        target.config.as_deref()
    }

    pub(crate) fn run(self) -> Result<Answer, Failure> {
        let Self::Verify { target, arguments } = self;
        let Settings { options, schema, .. } = Settings::read(target)?;
        on_timeline(&options, Rights::Reader, async |connection| {
            verify(connection, &schema, &arguments).await
        })
    }
}

pub(crate) fn list(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, .. } = Settings::read(target)?;
    on_timeline(&options, Rights::Reader, async |connection| {
        let archives = retention::archives(connection, &schema, arguments.run).await?;
        if arguments.json {
            return Ok(archives.iter().map(render::json).collect::<Result<String, _>>()?);
        }
        if archives.is_empty() {
            return Ok("nothing was archived yet\n".to_owned());
        }
        let mut table =
            Table::new(&["RUN", "ARCHIVED", "WHAT", "OLDER THAN", "ROWS", "BYTES", "DELETED", "LOCATION"]);
        for archive in &archives {
            table.push(cells(archive));
        }
        Ok(table.text(width()))
    })
}

fn cells(archive: &RecordedArchive) -> [String; 8] {
    let what = match (&archive.table_schema, &archive.table_name) {
        (Some(schema), Some(name)) => format!("{} of {schema}.{name}", archive.what),
        _ => archive.what.clone(),
    };
    [
        archive.run.to_string(),
        time(archive.archived_at),
        what,
        time(archive.cutoff),
        archive.rows.to_string(),
        archive.bytes.to_string(),
        archive.deleted_at.map(time).unwrap_or_default(),
        archive.location.clone(),
    ]
}

async fn verify(
    connection: &mut sqlx::PgConnection,
    schema: &StorageSchema,
    arguments: &Verified,
) -> anyhow::Result<Answer> {
    let archives = retention::archives(connection, schema, arguments.run).await?;
    let (mut text, mut status) = (String::new(), 0);
    for archive in &archives {
        let verified = retention::verify(archive);
        status |= u8::from(verified.is_err());
        let faults = verified.err().unwrap_or_default();
        if arguments.json {
            let (id, location) = (archive.id, &archive.location);
            text += &render::json(&json!({"id": id, "location": location, "faults": faults}))?;
            continue;
        }
        if faults.is_empty() {
            let _ = writeln!(text, "ok: {}, {} rows", safe(&archive.location), archive.rows);
        }
        for fault in &faults {
            let _ = writeln!(text, "{}: {}: {}", fault.term, safe(&archive.location), safe(&fault.reason));
        }
    }
    // What was asked for and is not there is not verified.
    if archives.is_empty()
        && let Some(run) = arguments.run
    {
        anyhow::bail!(
            "the run {run} has archived nothing: `threadline retention archives` lists those that have"
        );
    }
    if archives.is_empty() && !arguments.json {
        text.push_str("nothing was archived yet\n");
    }
    Ok(Answer { text, status })
}
