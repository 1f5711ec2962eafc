//! Whether archives are still what the timeline says of them.

use std::{fs, path::Path};

use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::{settings::path_of, store::RecordedArchive};
use crate::{export, signing::hexadecimal};

/// What does not hold of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveFault {
    /// Which kind: one of an export's, or `location`, `recorded`.
    pub term: &'static str,
    /// What, and where.
    pub reason: String,
}

/// Compares the files of an archive with one another and with its row. It reads all of the file, which takes time.
///
/// # Errors
/// Everything that does not hold.
pub fn verify(archive: &RecordedArchive) -> Result<(), Vec<ArchiveFault>> {
    let fault = |term, reason| ArchiveFault { term, reason };
    let Some(path) = path_of(&archive.location) else {
        return Err(vec![fault("location", format!("{} is no place of this machine", archive.location))]);
    };
    let mut name = path.clone().into_os_string();
    name.push(".manifest.json");
    let manifest = Path::new(&name);
    let mut faults = Vec::new();
    match export::verify(manifest, Some(&path), archive.key.as_deref()) {
        Ok(verified)
            if i64::try_from(verified.rows) != Ok(archive.rows)
                || i64::try_from(verified.bytes) != Ok(archive.bytes) =>
        {
            let reason = format!(
                "it has {} entries in {} bytes, and the timeline says {} in {}",
                verified.rows, verified.bytes, archive.rows, archive.bytes
            );
            faults.push(fault("recorded", reason));
        }
        Ok(_) => {}
        Err(found) => faults.extend(found.into_iter().map(|found| fault(found.term, found.reason))),
    }
    // What holds of the manifest, holds of the file that it describes.
    if let Ok(bytes) = fs::read(manifest) {
        let claimed = serde_json::from_slice::<export::Manifest>(&bytes).map(|manifest| manifest.sha256);
        if hexadecimal(digest(&SHA256, &bytes).as_ref()) != archive.manifest_sha256 {
            faults.push(fault("recorded", "the manifest is not the one that the timeline knows".to_owned()));
        } else if claimed.is_ok_and(|sha256| sha256 != archive.sha256) {
            faults.push(fault("recorded", "the timeline knows another digest of the file".to_owned()));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}
