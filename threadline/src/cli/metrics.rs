//! `threadline metrics`: the state of the timeline for Prometheus.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use threadline::gauges;

use super::{
    answer::{Answer, Failure},
    database::{Rights, on_timeline},
    expectations::{expectations, retained},
    settings::{Settings, Target},
};

/// The collector is another user.
const MODE: u32 = 0o644;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Writes a file that is there as a whole or not at all, readable for everybody; nothing is printed. When the timeline cannot be read, the
    /// file of before stays.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let Settings { options, schema, capture, coverage, retention, .. } = Settings::read(target)?;
    let mut expectations = expectations(&coverage, &capture)?;
    expectations.retained = retained(retention.as_ref())?;
    let mut answer = on_timeline(&options, Rights::Reader, async |connection| {
        let gauges = gauges::read(connection, &schema, &expectations).await;
        Ok(gauges.context("cannot look at the timeline")?.text())
    })?;
    if let Some(path) = &arguments.output {
        let unwritten = |error| {
            let hint = "name a file in a folder that this user may write to";
            Failure::Failed(anyhow!("file_unwritten: {} was not written: {error}; {hint}", path.display()))
        };
        replace(path, &std::mem::take(&mut answer.text)).map_err(unwritten)?;
    }
    Ok(answer)
}

/// Each process writes a neighbour of its own: the collector reads whole files, whoever else writes one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_added_extension(format!("{}.partial", std::process::id()));
    let write = || {
        let mut file = File::create(&partial)?;
        // Whatever the mask of this process takes away.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}
