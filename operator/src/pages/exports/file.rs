//! Hands out what an export of one's own has stored, as it stands there. That is recorded before the first byte.

use serde_json::json;
use threadline::{
    export::jobs::{StoredFile, StoredPart},
    storage::Location,
};
use tokio::task::spawn_blocking;

use super::own_one;
use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    download::{self, Download},
    failure::Failure,
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let job = own_one(&asked, asked.id()?).await?;
    let (part, kind) = match asked.query.get("part") {
        None | Some("export") => (StoredPart::Export, "application/octet-stream"),
        Some("manifest") => (StoredPart::Manifest, "application/json"),
        Some("signature") => (StoredPart::Signature, "application/octet-stream"),
        Some(_) => {
            return Err(Failure::unusable(
                "part_unknown",
                "A stored export has the parts export, manifest and signature.",
            ));
        }
    };
    let folder: Location = asked.shared.exports.clone().ok_or_else(|| {
        Failure::unusable(
            "exports_missing",
            format!(
                "This surface was given no folder for exports: `threadline export jobs fetch {}` fetches it.",
                job.id
            ),
        )
    })?;
    let id = job.id;
    let opened = spawn_blocking(move || job.open(part, &folder)).await.map_err(|_| Failure::Broken)?;
    let stored: StoredFile = opened?;
    let (download, mut out, ending) = Download::begin(&asked)?;
    let comment = json!({"file": stored.name, "bytes": stored.bytes, "sha256": stored.sha256});
    let action = asked
        .action("audit.export_downloaded")
        .verb("export")
        .job_id(id.to_string())
        .comment(comment.to_string());
    asked.act(action).await?.done().await?;
    let headers = download::headers(kind, &stored.name, Some(stored.bytes), stored.sha256.as_deref());
    tokio::spawn(async move {
        let copied = spawn_blocking(move || stored.copy(&mut out)).await;
        if let Some(failure) = copied.map_or(Some(Failure::Broken), |copied| copied.err().map(Failure::from))
        {
            ending.failed(failure).await;
        }
    });
    Ok(Answer::Whole(download.answer(headers).await?))
}
