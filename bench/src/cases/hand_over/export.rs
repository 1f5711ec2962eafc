//! All changes into a file.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;

use super::{
    A_QUARTER, ALL, COPY, COPY_AGAIN, CSV, LIBRARY, LIBRARYS, NDJSON, OURS, QUARTER, command, copy, library,
};
use crate::{cases::Bench, results::Sample};

/// What is exported, and what stands beside it.
struct Form {
    case: &'static str,
    /// The format is the one that the name of the file says.
    file: &'static str,
    copy: &'static str,
}

const FORMS: [Form; 2] = [
    Form { case: CSV, file: "exported.csv", copy: copy::OF_CSV },
    Form { case: NDJSON, file: "exported.ndjson", copy: copy::OF_NDJSON },
];

/// Both formats between two copies, then with fewer rows; CSV beside the library's too.
pub(super) async fn take(bench: &mut Bench<'_>, all: u64, quarter: u64, repeat: u32) -> anyhow::Result<()> {
    let url = |name: &str| bench.environment.sandbox.postgres.url(name);
    let (ours, fewer, librarys) = (url(ALL), url(A_QUARTER), url(LIBRARYS));
    let work_dir = bench.environment.sandbox.work_dir.path().to_owned();
    let copied = work_dir.join("copied");
    for form in FORMS {
        let Form { case, file, copy } = form;
        let path = work_dir.join(file);
        let before = copy::take(bench, (case, COPY, repeat), (&ours, copy), &copied).await?;
        keep(bench, before, all).await?;
        let exported = export(bench, (case, OURS, repeat), &ours, &path).await?;
        keep(bench, exported, all).await?;
        let behind = copy::take(bench, (case, COPY_AGAIN, repeat), (&ours, copy), &copied).await?;
        keep(bench, behind, all).await?;
        let exported = export(bench, (case, QUARTER, repeat), &fewer, &path).await?;
        keep(bench, exported, quarter).await?;
    }
    let written = library::take(bench, (CSV, LIBRARY, repeat), &librarys, &copied).await?;
    keep(bench, written, all).await?;
    Ok(fs::remove_file(copied)?)
}

/// A sample of other rows than there are is void.
async fn keep(bench: &mut Bench<'_>, mut sample: Sample, rows: u64) -> anyhow::Result<()> {
    if sample.rows != rows {
        sample.void = Some(format!("{rows} changes, {} of them in the file", sample.rows));
    }
    bench.keep(sample).await
}

/// By the command, which is not recorded: each repeat finds the same timeline.
async fn export(
    bench: &Bench<'_>,
    variant: (&str, &str, u32),
    url: &str,
    path: &Path,
) -> anyhow::Result<Sample> {
    let file = path.to_str().context("a folder whose name is a text")?;
    let arguments = ["export", "run", "--unrecorded", "-o", file];
    let mut sample = command::measure(bench, variant, Some(url), &arguments).await?;
    let manifest = PathBuf::from(format!("{file}.manifest.json"));
    sample.rows = rows(&manifest)?;
    fs::remove_file(manifest)?;
    fs::remove_file(path)?;
    Ok(sample)
}

/// As the manifest has counted them.
fn rows(manifest: &Path) -> anyhow::Result<u64> {
    let manifest: Value = serde_json::from_reader(BufReader::new(File::open(manifest)?))?;
    manifest.pointer("/rows/change").and_then(Value::as_u64).context("a manifest that counts changes")
}
