//! One event that could not be delivered, with its audit row, of which what may be about a person is masked.

use common::{
    failures::admin::{self, FailureRecord, MASK},
    process::operator_log,
};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    failures,
    parts::{self, Heading, runbook},
    which::Which,
};
use crate::{
    Capability,
    asked::{Answered, Asked},
    failure::Failure,
    source,
    view::{View, command::word, copy, facts, text},
};

/// Forwarders for which one event may have failed.
const FORWARDERS: i64 = 100;

/// What operators did with it.
const ACTS: i64 = 20;

pub(crate) async fn page(asked: Asked) -> Answered {
    let which = Which::read(&asked.query, &[], asked.now)?;
    let Some(reference) = which.filter.reference.clone() else {
        return Err(Failure::unusable(
            "event_missing",
            "event is the id of a failed event, as the list of failures has it.",
        ));
    };
    let source = asked.source()?;
    let mut session = source.read().await?;
    let read = async {
        let records = admin::list(&mut session, &source.table, &which.filter, FORWARDERS).await?;
        if records.is_empty() {
            return Ok(None);
        }
        let mut row = admin::audit_row(&mut session, &source.table, &reference).await?;
        row.iter_mut().for_each(admin::mask);
        let acts = operator_log::latest(&mut session, Some(&format!("id {reference}")), ACTS).await?;
        Ok(Some((records, row, acts)))
    };
    let (records, row, acts) = read.await.map_err(source::failure)?.ok_or(Failure::NotFound)?;
    let data = json!({"failures": records, "audit_row": row, "acts": acts});
    let can_redrive = asked.may(Capability::Redrive);
    asked.answer("Failure", &data, |view| html! {
        p.identity { code { (text::cut(&reference, 200)) } " " (copy("id", &reference)) }
        @for record in &records { section { h2 { (text::line(&record.forwarder)) } (one(view, record)) } }
        section { h2 { "Audit row" } (audit_row(row.as_ref())) }
        section { h2 { "What to do" } (decide(view, &records, &reference, can_redrive)) }
        @if !acts.is_empty() { section { h2 { "What operators did with it" } (failures::acts(view, &acts)) } }
    })
}

fn one(view: &View<'_>, record: &FailureRecord) -> Markup {
    html! {
        (facts(&[
            ("State", Some(failures::state(record.state))),
            ("Reason", record.reason.as_ref().map(|reason| html! { code { (text::line(reason)) } @if let Some(meaning) = meaning(reason) { " " (meaning) } })),
            ("Attempts", Some(html! { (record.attempts) })),
            ("First failed", Some(parts::exact_time(view, &record.first_failed_at))),
            ("Last failed", Some(parts::exact_time(view, &record.last_failed_at))),
            ("Next attempt", record.next_attempt_at.as_ref().map(|at| parts::exact_time(view, at))),
            ("Note", record.note.as_ref().map(|note| text::cut(note, 1_000))),
            ("Error", record.error.as_ref().map(|error| text::cut(error, 2_000))),
        ]))
    }
}

/// What a reason means.
fn meaning(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "schema_mismatch" => "The target refuses the data.",
        "id_conflict" => "The target has something else under this id.",
        "audit_event_unreadable" => "The source cannot hand the row over: repair the row first.",
        "audit_event_too_large" => "The row is larger than one may be (docs/limits.md).",
        "not_written" => "The target took it and did not keep it: look for triggers and rules on its table.",
        "attempts_exhausted" => "All attempts failed, or it crashed its process.",
        "audit_event_not_found" => "The audit row was deleted before it was delivered.",
        "unknown_forwarder" => "No process has, or had, this forwarder.",
        "malformed_reference" => "Another system publishes to the subject.",
        _ => return None,
    })
}

fn audit_row(row: Option<&Value>) -> Markup {
    let Some(columns) = row.and_then(Value::as_object) else {
        return html! { p.none { "The audit row does not exist (any more), or its id is not known." } };
    };
    html! {
        table.row {
            caption.visually-hidden { "Audit row" }
            thead { tr { th scope="col" { "Column" } th scope="col" { "Value" } } }
            tbody { @for (name, value) in columns { tr { th scope="row" { (text::line(name)) } td { (self::value(value)) } } } }
        }
        p.none { "What may be about a person is masked here; " code { "consumer failures show --unmask" } " shows it, and is recorded." }
    }
}

fn value(value: &Value) -> Markup {
    match value {
        Value::Null => html! { span.null { "null" } },
        Value::String(text) if text == MASK => html! { span.masked { "masked" } },
        Value::String(text) => html! { span.string { (text::cut(text, 1_000)) } },
        other => html! { span.literal { (text::cut(&other.to_string(), 1_000)) } },
    }
}

fn decide(view: &View<'_>, records: &[FailureRecord], reference: &str, can_redrive: bool) -> Markup {
    let pairs = match records {
        [only] => vec![("forwarder", only.forwarder.as_str()), ("event", reference)],
        _ => vec![("event", reference)],
    };
    let id = word(reference);
    html! {
        p { (runbook(Heading::FailuresAppear)) }
        ul {
            @if uuid::Uuid::try_parse(reference).is_ok() {
                li { a href=(view.links.to(&format!("events/{reference}"))) { "The way of this event" } ", from the audit row to the timeline" }
            }
            @if can_redrive { li { a href=(view.links.with("pipeline/redrive", &pairs)) { "Have it delivered again…" } } }
            li { (parts::command(&format!("consumer failures redrive --id {id}"))) }
            li { (parts::command(&format!("consumer failures discard --id {id} --reason '…'"))) ": never from here, since it hides a gap" }
        }
    }
}

#[cfg(test)]
mod tests {
    use common::failures::Reason;

    use super::meaning;

    #[test]
    fn every_reason_has_a_meaning() {
        for reason in [
            Reason::AuditEventNotFound,
            Reason::UnknownForwarder,
            Reason::SchemaMismatch,
            Reason::MalformedReference,
            Reason::IdConflict,
            Reason::AttemptsExhausted,
            Reason::AuditEventUnreadable,
            Reason::AuditEventTooLarge,
            Reason::NotWritten,
        ] {
            assert!(meaning(reason.as_str()).is_some(), "{reason}");
        }
    }
}
