//! Jobs as people read them.

use std::fmt::Write as _;

use indicatif::{HumanBytes, HumanCount};
use serde_json::Value;
use threadline::export::jobs::Job;

use crate::cli::read::{
    render::{Table, time, width},
    safe,
};

fn text_of(document: Option<&serde_json::value::RawValue>, path: &[&str]) -> Option<String> {
    let mut value: Value = serde_json::from_str(document?.get()).ok()?;
    for name in path {
        value = value.get_mut(*name)?.take();
    }
    match value {
        Value::String(text) => Some(text),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

fn filter(job: &Job) -> String {
    match text_of(job.request.as_deref(), &["filter"]) {
        Some(filter) if filter.is_empty() => "everything".to_owned(),
        Some(filter) => filter,
        None => text_of(job.query_params.as_deref(), &[]).unwrap_or_default(),
    }
}

fn count(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| number.try_into().ok())
}

/// A line for each.
pub(super) fn table(jobs: &[Job]) -> String {
    let mut table = Table::new(&["JOB", "ADDED", "STATUS", "ROWS", "BYTES", "FILTER", "WHY"]);
    for job in jobs {
        let status = if job.is_ours() { job.status.clone() } else { format!("{} (library)", job.status) };
        table.push([
            job.id.to_string(),
            job.inserted_at.map(time).unwrap_or_default(),
            status,
            count(job.rows).map(|rows| HumanCount(rows).to_string()).unwrap_or_default(),
            count(job.bytes).map(|bytes| HumanBytes(bytes).to_string()).unwrap_or_default(),
            filter(job),
            job.error_message.clone().unwrap_or_default(),
        ]);
    }
    table.text(width())
}

/// Everything of one.
pub(super) fn one(job: &Job) -> String {
    let request = job.request.as_deref();
    let actor = [text_of(job.actor_ref.as_deref(), &["type"]), text_of(job.actor_ref.as_deref(), &["id"])];
    let lines = [
        ("job", Some(job.id.to_string())),
        ("status", Some(job.status.clone())),
        ("why", job.error_message.clone()),
        ("of", (!job.is_ours()).then(|| "the Elixir library".to_owned())),
        ("filter", Some(filter(job))),
        ("profile", text_of(request, &["options", "profile"])),
        ("format", text_of(request, &["options", "format"])),
        ("scope", text_of(request, &["scope"])),
        ("actor", Some(actor.into_iter().flatten().collect::<Vec<_>>().join(":"))),
        ("schedule", job.schedule.clone()),
        ("added", job.inserted_at.map(time)),
        ("due", job.due_at.map(time)),
        ("started", job.started_at.map(time)),
        ("ended", job.completed_at.map(time)),
        ("worker", job.holder.clone()),
        ("attempts", job.attempts.map(|attempts| attempts.to_string())),
        ("to", text_of(request, &["storage"])),
        ("location", job.location.clone()),
        ("rows", count(job.rows).map(|rows| HumanCount(rows).to_string())),
        ("bytes", count(job.bytes).map(|bytes| HumanBytes(bytes).to_string())),
        ("sha256", job.sha256.clone()),
        ("kept until", job.keep_until.map(time)),
    ];
    lines.into_iter().fold(String::new(), |mut text, (name, value)| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "{name:<10} {}", safe(&value));
        }
        text
    })
}
