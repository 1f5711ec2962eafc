//! `threadline receipts bundle`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use indicatif::HumanCount;
use threadline::{
    query::Instant,
    receipts::{Bundled, ReceiptError, Span, bundle},
};

use super::session::{Access, failed, on_timeline, progress, unless_interrupted};
use crate::cli::{
    answer::{Answer, Failure},
    read::{json_line, safe},
    settings::{Settings, Target},
    times,
};

/// A bundle is for whoever asked for it.
const MODE: u32 = 0o600;

/// Bytes that are written at a time.
const WRITTEN: usize = 256 << 10;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only receipts of this time and later: a date in UTC, a time with its offset, or so long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = times::at::<Instant>)]
    since: Option<Instant>,
    /// Only receipts of before this time.
    #[arg(long, value_name = "TIME", value_parser = times::at::<Instant>)]
    until: Option<Instant>,
    /// The file, which is there whole or not at all.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Takes the place of a file that is there.
    #[arg(long)]
    force: bool,
    /// Prints the summary as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let path = &arguments.output;
    if path.exists() && !arguments.force {
        let why = format!("file_exists: {} is there: name another file, or say --force", path.display());
        return Err(Failure::Misused(safe(&why)));
    }
    let span = Span { since: arguments.since.map(Instant::time), until: arguments.until.map(Instant::time) };
    let partial = path.with_added_extension("partial");
    let made = on_timeline(Settings::read(target)?, Access::ReadOnly, async |timeline, interrupt| {
        let file = create(&partial).map_err(|error| unwritten(&partial, &error))?;
        let mut writer = BufWriter::with_capacity(WRITTEN, file);
        let (bar, progress) = progress("rows");
        let bundled = unless_interrupted(bundle(timeline, span, &mut writer, progress), interrupt).await;
        bar.finish_and_clear();
        let bundled = bundled?;
        writer.get_ref().sync_all().map_err(|error| unwritten(&partial, &error))?;
        fs::rename(&partial, path).map_err(|error| unwritten(path, &error))?;
        summary(&bundled, path, arguments.json)
    });
    if made.is_err() {
        let _ = fs::remove_file(&partial);
    }
    made
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(path)
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let path = path.display().to_string();
    failed(&ReceiptError::File("written", io::Error::new(error.kind(), format!("{path}: {error}"))))
}

fn summary(bundled: &Bundled, path: &Path, json: bool) -> Result<Answer, Failure> {
    if json {
        return Ok(json_line(bundled).map_err(anyhow::Error::new)?.into());
    }
    let Bundled { from, to, receipts, rows, .. } = bundled;
    let text = format!(
        "{}: receipts {from} to {to} ({receipts}), {} rows; `threadline receipts verify-bundle` verifies it",
        path.display(),
        HumanCount(*rows)
    );
    Ok((safe(&text) + "\n").into())
}
