//! `threadline install`: the tables of the timeline.

use std::fmt::Write as _;

use threadline::{Installation, Layout, StorageSchema};

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    settings::{Settings, Target},
};

/// How the tables are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Store the changes of each month, of UTC, in a table of their own, which a purge drops as a whole where nothing of it is to stay. For a
    /// fresh timeline alone; installing and purging make the months to come.
    #[arg(long, value_name = "BY")]
    partitions: Option<Partitions>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Partitions {
    Monthly,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, .. } = Settings::read(target)?;
    let layout = match arguments.partitions {
        None => Layout::AsItIs,
        Some(Partitions::Monthly) => Layout::Monthly,
    };
    on_timeline(&options, Rights::Installer, async |connection| {
        let done = threadline::install_as(connection, &schema, layout).await.map_err(|error| {
            let remedy = if threadline::install::is_locked(&error) {
                ": its tables are in use. End the transactions that hold them, which pg_blocking_pids shows, and install again; what was \
                 done stays done"
            } else {
                ""
            };
            anyhow::Error::new(error).context(format!("cannot install into schema {schema}{remedy}"))
        })?;
        Ok(described(&done, &schema))
    })
}

/// What an installation found and did.
fn described(done: &Installation, schema: &StorageSchema) -> String {
    let Installation { recreated, added, replaced, lacking, partitions, .. } = done;
    let mut text = String::new();
    if !recreated.is_empty() {
        let _ = writeln!(
            text,
            "recreated, empty, what had been dropped: {}. Grants on it are to be made again; `consumer reconcile --repair` \
             delivers actions again, receipts begin a new chain",
            recreated.join(", ")
        );
    }
    for one in added {
        let _ = writeln!(text, "added {one}");
    }
    for one in replaced {
        let _ = writeln!(text, "replaced {one}");
    }
    if !partitions.is_empty() {
        let _ = writeln!(text, "made partitions for months of changes: {}", partitions.join(", "));
    }
    for one in lacking {
        let _ = writeln!(text, "warning: {one} is missing, and cannot be made over what is there");
    }
    let _ = writeln!(text, "Threadline's tables are in schema {schema}");
    text
}
