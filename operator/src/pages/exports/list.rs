//! One export as it is shown.

use maud::{Markup, html};
use threadline::{export::jobs::Job, storage::Location};

use crate::{
    asked::Asked,
    download,
    view::{
        View,
        amount::{bytes, grouped, to_run},
        command, copy, facts, text,
    },
};

/// How a job stands, for whoever waits for it.
fn readiness(status: &str) -> (&'static str, &'static str) {
    match status {
        "completed" => ("ready to hand over", "status ok"),
        "pending" => ("waits for a worker", "status"),
        "running" => ("is being made", "status"),
        "interrupted" => ("was interrupted: the next worker goes on", "status"),
        "cancelled" => ("cancelled", "status"),
        "expired" => ("was kept long enough, and is deleted", "status"),
        "failed" => ("failed", "status error"),
        _ => ("not known", "status error"),
    }
}

pub(super) fn job(asked: &Asked, view: &View<'_>, job: &Job) -> Markup {
    let (word, class) = readiness(&job.status);
    let id = job.id.to_string();
    let exports = job.exports();
    html! {
        article.job id=(id) {
            h3 { span class=(class) { (word) } " " @if let Some(at) = job.inserted_at { (view.age(at)) } }
            (facts(&[
                ("Filter", exports.as_ref().map(|(filter, _, _)| html! {
                    @let shown = filter.to_string();
                    @if shown.is_empty() { "everything" } @else { code { (text::cut(&shown, 500)) } }
                    " " a href=(view.links.filtered("timeline", filter, &[])) { "Open it again" }
                })),
                ("Format", exports.as_ref().map(|(_, options, _)| html! { (options.format.as_str()) ", " (options.profile.as_str()) })),
                ("Entries", job.rows.map(|rows| html! { (grouped(rows)) })),
                ("Size", job.bytes.map(|size| html! { (bytes(size)) })),
                ("SHA-256", job.sha256.as_ref().map(|sha256| html! { code { (text::cut(sha256, 16)) } " " (copy("SHA-256", sha256)) })),
                ("Begun", job.started_at.map(|at| html! { (view.age(at)) @if let Some(attempts) = job.attempts.filter(|attempts| *attempts > 1) { ", for the " (attempts) "th time" } })),
                ("Completed", job.completed_at.filter(|_| job.status == "completed").map(|at| view.age(at))),
                ("Kept until", job.keep_until.filter(|_| job.status == "completed").map(|at| view.age(at))),
                ("Why", job.error_message.as_ref().map(|why| text::cut(why, 1_000))),
                ("What to do", (job.status == "failed").then(|| to_run(&format!("threadline export jobs retry {id}")))),
                ("Id", Some(html! { code { (id) } })),
            ]))
            (acts(asked, view, job, &id))
        }
    }
}

/// The name that the manifest is downloaded under, where what the job has stored is in this folder.
fn manifest(job: &Job, folder: &Location) -> Option<String> {
    let location: Location = job.location.as_ref()?.parse().ok()?;
    let path = location.path().filter(|_| folder.contains(&location))?;
    Some(download::file_name(&format!("{}.manifest.json", path.file_name()?.to_string_lossy())))
}

fn acts(asked: &Asked, view: &View<'_>, job: &Job, id: &str) -> Markup {
    let manifest = asked.shared.exports.as_ref().and_then(|folder| manifest(job, folder));
    html! {
        @if job.status == "completed" {
            @if let Some(manifest) = manifest {
                p {
                    a href=(view.links.to(&format!("exports/file/{id}"))) download { "Download" } " "
                    a href=(view.links.with(&format!("exports/file/{id}"), &[("part", "manifest")])) download { "Manifest" }
                    " which, in the folder with both, " (to_run(&command::of("threadline export verify", &manifest))) " compares with it"
                }
            } @else {
                p { "It is stored elsewhere: " (to_run(&format!("threadline export jobs fetch {id} --output export"))) }
            }
        } @else if !job.has_ended() {
            form action=(view.links.to(&format!("exports/cancel/{id}"))) method="post" {
                input type="hidden" name="form" value="1";
                button { "Cancel" }
            }
        }
    }
}
