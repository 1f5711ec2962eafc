//! A small export at once, as it is read. It is recorded before the first byte, and that it was handed over after the last one.

use std::time::Duration;

use serde_json::json;
use threadline::{
    ActorRef, Timeline,
    evidence::{Entrypoint, Record, Subject},
    export::{self, Destination, ExportError, Format, Manifest, Request},
};

use super::form;
use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    download::{self, Download},
    failure::Failure,
    view::amount::grouped,
    viewings::digest_of,
};

/// Entries that it has at most.
pub(crate) const ENTRIES: i64 = 10_000;

/// How long is counted, before.
const COUNTING: Duration = Duration::from_secs(2);

pub(crate) async fn page(asked: Asked) -> Answered {
    let (filter, options) = form::read(&asked.query)?;
    let (kind, format) = match options.format {
        Format::Csv => ("text/csv; charset=utf-8", options.format),
        Format::Ndjson => ("application/x-ndjson", options.format),
        Format::Json => ("application/json", options.format),
        Format::Ocsf | Format::Parquet => {
            let text = format!(
                "{} is made in the background: csv, ndjson and json can be downloaded at once.",
                options.format
            );
            return Err(Failure::unusable("format_not_at_once", text));
        }
    };
    let writing = asked.writer()?;
    let reader = asked.reader();
    let too_many = || {
        let text = format!(
            "There are more than {} entries, or they cannot be counted in time. Make the filter narrower, or have the export made in the background.",
            grouped(ENTRIES)
        );
        Failure::unusable("too_many_entries", text)
    };
    match export::count(&reader, &filter, &options, COUNTING).await {
        Ok(count) if i64::try_from(count).is_ok_and(|count| count <= ENTRIES) => {}
        Ok(_) => return Err(too_many()),
        Err(error) if error.term() == Some("took_too_long") => return Err(too_many()),
        Err(error) => return Err(error.into()),
    }
    let (download, out, ending) = Download::begin(&asked)?;
    // What the filter is stands in the evidence, from which it can be erased.
    let comment = json!({
        "filter_blake3": digest_of(&filter),
        "format": options.format,
        "profile": options.profile,
        "at_once": true,
    });
    let action = asked.action("audit.export_downloaded").verb("export").comment(comment.to_string());
    asked.act(action).await?.done().await?;
    let name = format!("timeline-{}.{format}", asked.now.unix_timestamp());
    let actor = asked.grant.actor().clone();
    // Its end is recorded by whoever may write.
    let request = Request { is_recorded: false, ..Request::new(filter, options) };
    tokio::spawn(async move {
        let out = Destination::Stream { out: Box::new(out), manifest: None };
        match export::export(&reader, request, out).await {
            Ok(exported) => {
                // What nobody has taken was not handed over.
                if ending.until_taken().await {
                    delivered(&writing, actor, &exported.manifest).await;
                }
            }
            Err(ExportError::Unwritten(_)) => {}
            Err(error) => ending.failed(error.into()).await,
        }
    });
    Ok(Answer::Whole(download.answer(download::headers(kind, &name, None, None)).await?))
}

/// Evidence of what was handed over.
async fn delivered(timeline: &Timeline, actor: ActorRef, manifest: &Manifest) {
    let detail = json!({
        "format": manifest.format,
        "profile": manifest.profile,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "filter": manifest.filter,
        "scope": manifest.scope,
        "snapshot": manifest.snapshot,
    });
    let record = Record::new(Subject::ExportDelivery, json!({"sha256": manifest.sha256}), "completed")
        .made_by(Entrypoint::Export)
        .actor(actor)
        .detail(detail);
    if let Err(error) = timeline.record_evidence(record).await {
        tracing::error!(error = %errors::line(&error), "an export was handed over, and evidence of it could not be recorded");
    }
}
