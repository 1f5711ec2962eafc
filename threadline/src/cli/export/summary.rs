//! What is said of an export at its end.

use std::{borrow::Cow, fmt::Write as _, path::Path, time::Duration};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use threadline::export::{Exported, Format, Profile, Purged, Rows};

use crate::cli::{
    answer::Failure,
    read::{json_line, safe},
};

/// What a dry run has counted.
#[derive(Serialize)]
pub(super) struct Counted {
    pub(super) dry_run: bool,
    pub(super) matching_rows: u64,
    pub(super) profile: Profile,
    pub(super) format: Format,
}

#[derive(Serialize)]
struct Summary<'e> {
    file: Option<Cow<'e, str>>,
    manifest: Option<Cow<'e, str>>,
    signature: Option<Cow<'e, str>>,
    rows: u64,
    rows_by_kind: Rows,
    truncated: bool,
    purged: Option<&'e Purged>,
    bytes: u64,
    sha256: &'e str,
    seconds: f64,
    recorded: bool,
    profile: Profile,
    format: Format,
}

pub(super) fn counted(counted: &Counted, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(json_line(counted).map_err(anyhow::Error::new)?);
    }
    Ok(format!("matching_rows: {}\n", counted.matching_rows))
}

/// For people a few lines, for programs one object.
pub(super) fn exported(
    exported: &Exported,
    file: Option<&Path>,
    took: Duration,
    json: bool,
) -> Result<String, Failure> {
    let Exported { manifest, manifest_path, signature_path, .. } = exported;
    if json {
        let summary = Summary {
            file: file.map(Path::to_string_lossy),
            manifest: manifest_path.as_deref().map(Path::to_string_lossy),
            signature: signature_path.as_deref().map(Path::to_string_lossy),
            rows: manifest.rows.total(),
            rows_by_kind: manifest.rows,
            truncated: manifest.truncated,
            purged: manifest.purged.as_ref(),
            bytes: manifest.bytes,
            sha256: &manifest.sha256,
            seconds: took.as_secs_f64(),
            recorded: manifest.recorded,
            profile: manifest.profile,
            format: manifest.format,
        };
        return Ok(json_line(&summary).map_err(anyhow::Error::new)?);
    }
    let rows = HumanCount(manifest.rows.total());
    let mut text = format!(
        "exported {rows} {}, {}, in {:.1} s\n",
        if manifest.rows.total() == 1 { "row" } else { "rows" },
        HumanBytes(manifest.bytes),
        took.as_secs_f64()
    );
    if manifest.truncated {
        let _ = writeln!(text, "truncated: there are more than --max-rows {rows}");
    }
    for (what, path) in
        [("file", file), ("manifest", manifest_path.as_deref()), ("signature", signature_path.as_deref())]
    {
        if let Some(path) = path {
            let _ = writeln!(text, "{what:<10} {}", safe(&path.to_string_lossy()));
        }
    }
    let _ = writeln!(text, "{:<10} {}", "sha256", manifest.sha256);
    if !manifest.recorded {
        text.push_str("not recorded in the timeline\n");
    }
    Ok(text)
}
