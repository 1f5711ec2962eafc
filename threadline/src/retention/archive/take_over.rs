//! What runs that have failed have left behind: files of no archive go, and an archive that was complete before its run could record it is
//! recorded. Nothing of it was deleted, as of any archive whose run ended there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ring::digest::{SHA256, digest};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{
    leftovers::{self, Folder},
    make::failed,
    settings::url_of,
    store::{self, Complete},
};
use crate::{
    batches::settle,
    export::{self, Manifest},
    query::Filter,
    retention::{error::PurgeError, purge::Purge, record::Counts},
    signing::hexadecimal,
    telemetry,
};

/// A manifest, and the digest of its bytes.
type Read = (Manifest, String);

/// What an archive holds, of which table, and the time before which that is.
type Described = (&'static str, Option<(String, String)>, OffsetDateTime);

impl Purge<'_> {
    /// Removes and records what failed runs have left. Where somebody else's files are in the way, they stay.
    pub(super) async fn take_over(&self, directory: &Path, counts: &Counts) -> Result<(), PurgeError> {
        let unusable = |error| failed(directory, &error, "see to the rights of the folder");
        let runs = leftovers::runs(directory).map_err(unusable)?;
        if runs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.timeline.pool().begin().await?;
        settle(&mut transaction, self.options.locked_limit).await?;
        let storage = self.timeline.schema();
        let runs = leftovers::failed(&mut transaction, storage, runs).await?;
        let known = store::locations(&mut transaction, storage, runs.clone()).await?;
        transaction.rollback().await?;
        for run in runs {
            let Folder { complete, leftovers } =
                leftovers::folder(&directory.join(run.to_string())).map_err(unusable)?;
            for path in complete.into_iter().filter(|path| !known.contains(&url_of(path))) {
                self.adopt(run, path, counts).await?;
            }
            leftovers::remove(&leftovers).map_err(unusable)?;
        }
        Ok(())
    }

    /// Records an archive of a run that could not do so. One that does not hold stays where it is, and is none.
    async fn adopt(&self, run: Uuid, path: PathBuf, counts: &Counts) -> Result<(), PurgeError> {
        let location = url_of(&path);
        let read = async {
            let read = spawn_blocking(move || verified(&path)).await;
            Ok(read.unwrap_or_else(|error| Err(error.to_string())))
        };
        let found = self.while_held(counts, read).await?;
        let Ok(((what, table, cutoff), (manifest, manifest_sha256))) =
            found.and_then(|read| Ok((described(&read.0)?, read)))
        else {
            telemetry::archive_not_taken_over();
            return Ok(());
        };
        let table = table.as_ref().map(|(schema, name)| (&**schema, &**name));
        let complete = Complete { run, what, table, cutoff, manifest: &manifest, manifest_sha256, location };
        self.insert(&complete, counts).await.map(drop)
    }
}

fn verified(path: &Path) -> Result<Read, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".manifest.json");
    let beside = PathBuf::from(name);
    export::verify(&beside, Some(path), None)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let bytes = fs::read(&beside).map_err(|error| error.to_string())?;
    let manifest = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    Ok((manifest, hexadecimal(digest(&SHA256, &bytes).as_ref())))
}

/// What it holds, of which table, and the time before which that is.
fn described(manifest: &Manifest) -> Result<Described, String> {
    let what = match manifest.rows {
        rows if rows.transaction > 0 => "transactions",
        rows if rows.change > 0 => "changes",
        _ => "actions",
    };
    let filter: Filter = manifest.filter.parse().map_err(|error| format!("its filter: {error}"))?;
    let table = filter.table.and_then(|table| Some((table.schema?, table.name)));
    let to = manifest.window.to.as_deref().ok_or("its window has no end")?;
    let to = OffsetDateTime::parse(to, &Rfc3339).map_err(|error| format!("its window: {error}"))?;
    Ok((what, table, to + Duration::MICROSECOND))
}
