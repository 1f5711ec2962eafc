//! The way of one event, from the audit row to the timeline: what `consumer explain` says, as far as the databases know it.

use common::{
    database,
    failures::{
        admin::{self, FailureRecord, Filter},
        diagnosis::{InTimeline, TimelineState, diagnose},
    },
    outbox::admin::{
        event_status::{self, EventStatus},
        standing,
    },
};
use maud::{Markup, html};
use serde::Serialize;
use threadline::query::{Filter as TimelineFilter, PageRequest};
use uuid::Uuid;

use super::{failures, parts};
use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    source,
    view::{
        View,
        amount::{seconds, span},
        copy, text,
    },
};

/// Failures of one event: one for each forwarder.
const FAILURES: i64 = 100;

#[derive(Debug, Serialize)]
struct Way {
    id: Uuid,
    /// None where looking through the log took too long.
    #[serde(flatten)]
    status: Option<EventStatus>,
    failures: Vec<FailureRecord>,
    timelines: [InTimeline; 1],
    diagnosis: String,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let id = asked.id()?;
    let source = asked.source()?;
    let mut session = source.read().await?;
    // The log has no index by event.
    let looked = async {
        let mut look = database::read_only_look(&mut session).await?;
        let status = event_status::of(&mut look, &source.table, id).await?;
        look.rollback().await?;
        Ok(status)
    };
    let status = match looked.await.map_err(source::failure) {
        Ok(status) => Some(status),
        Err(Failure::TooSlow) => None,
        Err(failure) => return Err(failure),
    };
    let filter = Filter { reference: Some(id.to_string()), ..Filter::default() };
    let read = async {
        Ok((
            admin::list(&mut session, &source.table, &filter, FAILURES).await?,
            standing::forwarders(&mut session).await?,
        ))
    };
    let (failures, forwarders) = read.await.map_err(source::failure)?;
    let mut forwarders = forwarders.into_iter().filter(|known| !known.is_dropped);
    let forwarder = match (forwarders.next(), forwarders.next()) {
        (Some(only), None) => only.forwarder,
        _ => "of this timeline".to_owned(),
    };
    let timelines =
        [InTimeline { forwarder, state: in_timeline(&asked, id).await, columns: Vec::new(), receipt: None }];
    let diagnosis = match &status {
        Some(status) => diagnose(status, &failures, &timelines),
        None => format!(
            "the log is too long to be looked through here: `consumer explain {id}` takes the time that it needs"
        ),
    };
    let way = Way { id, status, failures, timelines, diagnosis };
    asked.answer("The way of an event", &way, |view| shown(view, &way))
}

/// Whether it is in this timeline: under its id, or as the correlation id of another action.
async fn in_timeline(asked: &Asked, id: Uuid) -> TimelineState {
    let reader = asked.reader();
    let found = async {
        if reader.recorded(id).await?.is_some() {
            return Ok(TimelineState::Present);
        }
        let of_others = TimelineFilter { correlation: Some(id.to_string()), ..TimelineFilter::default() };
        let page = reader.page(&of_others, &PageRequest { size: 1, ..PageRequest::default() }).await?;
        Ok::<_, threadline::query::ReadError>(if page.entries.is_empty() {
            TimelineState::Absent
        } else {
            TimelineState::Elsewhere
        })
    };
    found.await.unwrap_or_else(|error| TimelineState::Unknown(Failure::from(error).text()))
}

fn shown(view: &View<'_>, way: &Way) -> Markup {
    let id = way.id.to_string();
    html! {
        p.identity { code { (id) } " " (copy("id", &id)) }
        p.diagnosis role="note" { strong { (text::cut(&way.diagnosis, 1_000)) } }
        ol.stations {
            @if let Some(status) = &way.status {
                li { h2 { "Audit row" } (audit_row(view, status)) }
                li { h2 { "Log" } (entries(status)) }
            }
            li { h2 { "Failures" } (failed(view, way)) }
            li { h2 { "Timeline" } (timeline(view, way)) }
        }
        p { "The stream, and whether the action in the timeline is what the row says: " (parts::command(&format!("consumer explain {id}"))) }
    }
}

fn audit_row(view: &View<'_>, status: &EventStatus) -> Markup {
    let time = |at: &Option<String>| html! { @match at { Some(at) => (parts::exact_time(view, at)), None => span.none { "no time" } } };
    html! {
        @match &status.row {
            Some(row) => p { (text::cut(row.action.as_deref().unwrap_or("no action"), 500)) ", occurred " (time(&row.occurred_at)) ", inserted " (time(&row.inserted_at)) },
            None => p.none { "No such row is committed." },
        }
        @if status.row.is_none() && !status.blockers.is_empty() {
            table.stacked {
                caption { "Transactions that write, one of which may hold it" }
                thead { tr { th scope="col" { "Process" } th scope="col" { "Program" } th scope="col" { "State" } th scope="col" { "Open for" } } }
                tbody {
                    @for blocker in &status.blockers {
                        tr { th scope="row" { (blocker.pid) } td { (text::line(&blocker.application)) } td { (text::line(&blocker.state)) } td { (span(seconds(blocker.seconds))) } }
                    }
                }
            }
        }
    }
}

fn entries(status: &EventStatus) -> Markup {
    html! {
        @if status.entries.is_empty() { p.none { "No entry: never captured, or pruned after it was delivered." } } @else {
            table.stacked {
                caption.visually-hidden { "Entries of the log" }
                thead { tr { th scope="col" { "Transaction" } th scope="col" { "Number" } th scope="col" { "For" } th scope="col" { "Readers" } } }
                tbody {
                    @for entry in &status.entries {
                        tr {
                            th scope="row" { (text::line(&entry.xid)) }
                            td { (entry.seq) }
                            td { (text::line(entry.forwarder.as_deref().unwrap_or("every forwarder"))) }
                            td {
                                @if entry.readers.is_empty() { span.none { "no process has ever read the log" } }
                                @for reader in &entry.readers {
                                    p { (text::line(&reader.reader)) ": " (reader.state.words())
                                        @if let (Some(above), Some(up_to)) = (reader.above_sequence, reader.up_to_sequence) { ", between the sequences " (above + 1) " and " (up_to) }
                                        @if status.leader(&reader.reader).is_none() { " (no process reads for it now)" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn failed(view: &View<'_>, way: &Way) -> Markup {
    html! {
        @if way.failures.is_empty() { p.none { "None." } }
        @for failure in &way.failures {
            p {
                a href=(view.links.with("pipeline/failure", &[("forwarder", &failure.forwarder), ("event", &failure.reference)])) { (text::line(&failure.forwarder)) }
                " " (failures::state(failure.state)) @if let Some(reason) = &failure.reason { " " (text::line(reason)) } ", " (failure.attempts) " attempts, last " (parts::time(view, &failure.last_failed_at))
            }
        }
    }
}

fn timeline(view: &View<'_>, way: &Way) -> Markup {
    let id = way.id.to_string();
    html! {
        @for one in &way.timelines {
            p {
                @match one.state {
                    TimelineState::Present => a href=(view.links.to(&format!("actions/{id}"))) { "It is there." },
                    TimelineState::Elsewhere => a href=(view.links.with("correlation", &[("correlation", &id)])) { "Another action has its correlation id." },
                    _ => (text::cut(&one.state.to_string(), 500)),
                }
            }
        }
    }
}
