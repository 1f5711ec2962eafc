//! Asks for an export in the background. The scope of whoever asks goes with it.

use serde_json::json;
use threadline::{
    export::jobs::{self, JobRequest},
    telemetry::export_job_added,
};
use uuid::Uuid;

use super::{form, own_one};
use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    viewings::digest_of,
};

pub(crate) async fn run(asked: Asked) -> Answered {
    let (filter, options) = form::read(&asked.form)?;
    asked.reader().require_table(&filter).await?;
    let id = asked.form.get("id").and_then(|id| Uuid::try_parse(id).ok()).ok_or_else(|| {
        Failure::unusable("form_incomplete", "The form has no id: open the page of exports again.")
    })?;
    let folder = asked.shared.exports.clone().ok_or_else(|| {
        Failure::unusable(
            "exports_missing",
            "This surface was given no folder for exports: `threadline export jobs add` asks for one elsewhere.",
        )
    })?;
    // What the filter is stands in the job, from which it can be erased.
    let comment =
        json!({"filter_blake3": digest_of(&filter), "format": options.format, "profile": options.profile});
    let action = asked
        .action("audit.export_requested")
        .verb("export")
        .job_id(id.to_string())
        .comment(comment.to_string());
    let request =
        JobRequest { actor: Some(asked.grant.actor().clone()), ..JobRequest::new(filter, options, folder) };
    let mut act = asked.act(action).await?;
    let added =
        jobs::add_within(&mut act.transaction, &asked.shared.schema, id, asked.grant.scope(), &request).await;
    match added {
        Ok(()) => {
            let act = act.done().await?;
            export_job_added(id);
            let link = asked.links.with("exports", &[("act", &act.to_string())]);
            Ok(Answer::to(link))
        }
        // The form was sent twice: there is nothing more to do, and nothing more to record.
        Err(error) if error.term() == Some("job_exists") => {
            drop(act);
            own_one(&asked, id).await?;
            Ok(Answer::to(asked.links.to("exports")))
        }
        Err(error) => Err(error.into()),
    }
}
