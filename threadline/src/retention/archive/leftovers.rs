//! What an interrupted run has left in its folder: what has not the name of an archive is none.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::{StorageSchema, query::Statement};

/// What the name of an archive ends with.
const EXPORT: &str = ".ndjson";

/// What the names of the files beside it have behind that.
const BESIDE: [&str; 6] = [
    ".partial",
    ".progress.json",
    ".progress.json.partial",
    ".manifest.json",
    ".manifest.json.partial",
    ".manifest.sig",
];

/// What stands beside a complete archive.
const KEPT: [&str; 2] = [".manifest.json", ".manifest.sig"];

/// What is in the folder of a run.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Archives: an export has its name last.
    pub(super) complete: Vec<PathBuf>,
    /// What belongs to none.
    pub(super) leftovers: Vec<PathBuf>,
}

/// Files in the folders of runs that belong to no complete archive, by the run. One that another run is writing is among them.
///
/// # Errors
/// What the operating system says.
pub fn leftovers(directory: &Path) -> io::Result<BTreeMap<Uuid, Vec<PathBuf>>> {
    let mut found = BTreeMap::new();
    for run in runs(directory)? {
        let Folder { leftovers, .. } = folder(&directory.join(run.to_string()))?;
        if !leftovers.is_empty() {
            found.insert(run, leftovers);
        }
    }
    Ok(found)
}

/// The runs that there are folders of.
pub(super) fn runs(directory: &Path) -> io::Result<Vec<Uuid>> {
    let mut runs = Vec::new();
    for folder in fs::read_dir(directory)? {
        let folder = folder?;
        let name = folder.file_name();
        // Written as a run's folder is, and not in another way.
        let run =
            name.to_str().and_then(|name| name.parse::<Uuid>().ok().filter(|run| run.to_string() == name));
        if let Some(run) = run
            && folder.file_type()?.is_dir()
        {
            runs.push(run);
        }
    }
    Ok(runs)
}

pub(super) fn folder(path: &Path) -> io::Result<Folder> {
    let mut found = Folder::default();
    for file in fs::read_dir(path)? {
        let file = file?;
        let name = file.file_name();
        let Some((export, rest)) = name.to_str().and_then(|name| name.split_once(EXPORT)) else { continue };
        if !file.file_type()?.is_file() {
            continue;
        }
        let export = path.join(format!("{export}{EXPORT}"));
        if rest.is_empty() {
            found.complete.push(export);
        } else if BESIDE.contains(&rest) && !(KEPT.contains(&rest) && export.try_exists()?) {
            found.leftovers.push(file.path());
        }
    }
    found.complete.sort();
    found.leftovers.sort();
    Ok(found)
}

/// Which of these runs have failed, as far as this timeline knows them: another one may archive in the same folder. A run that has come to its
/// end has left nothing.
pub(super) async fn failed(
    connection: &mut PgConnection,
    storage: &StorageSchema,
    runs: Vec<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut statement = Statement::new(format!(
        "select r.id from {} r where r.status = 'failed' and r.id = any (",
        storage.table("threadline_retention_runs")
    ));
    statement.bind(runs).push(")");
    statement.fetch_all(connection).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Removes files, and their folders where nothing else is in them.
pub(super) fn remove<'f>(files: impl IntoIterator<Item = &'f PathBuf>) -> io::Result<()> {
    for file in files {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if let Some(folder) = file.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// The files of an export that was given up, or that holds nothing.
pub(super) fn files_of(export: &Path) -> Vec<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = export.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    std::iter::once("").chain(BESIDE).map(beside).collect()
}
