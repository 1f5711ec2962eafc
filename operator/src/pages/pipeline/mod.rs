//! How far the pipeline has come, as far as its source database alone knows it.

pub(crate) mod act;
pub(crate) mod event;
pub(crate) mod failure;
pub(crate) mod failures;
pub(crate) mod redrive;

mod chart;
mod parts;
mod state;
mod which;

use common::outbox::admin::event_status::{BLOCKERS_MAX, Blocker};
use maud::{Markup, html};

use self::{
    parts::{Heading, more, runbook},
    state::{COUNT_MAX, State},
};
use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    source::Source,
    view::{
        View,
        amount::{ago, bytes, seconds, span},
        empty, text,
    },
};

impl Asked {
    /// The source database of the pipeline.
    fn source(&self) -> Result<&Source, Failure> {
        self.shared.source.as_ref().ok_or_else(|| {
            Failure::unusable(
                "pipeline_missing",
                "This surface is connected to no source database, so that nothing is known of the pipeline here. Whoever runs it connects one \
                 (Operator::pipeline); `publisher status` and `consumer status` show the same.",
            )
        })
    }
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let source = asked.source()?;
    let state = state::read(&mut source.read().await?, &source.table).await?;
    asked.answer("Pipeline", &state, |view| {
        html! {
            p { "As the source database says it at " (view.exact_time(view.now)) ". Of the broker it knows what the publisher has written down; " code { "consumer status" } " asks the broker itself. The runbook is docs/operations.md; a name there leads to what to do." }
            section { h2 { "Publisher and log" } (table("Publisher and log", &publisher(&state))) }
            section { h2 { "Forwarders" } (forwarders(view, &state)) }
            section { h2 { "Failures" } (failed(view, &state)) }
            @if let Some(chart) = chart::messages(view, &state.published) {
                section { h2 { "Messages of the last hour" } (chart) }
            }
            section {
                h2 { "Not from here" }
                p { "What deletes, or changes what is delivered, is done by command alone. " (runbook(Heading::Start)) }
                ul {
                    @for command in ["publisher prune", "publisher drop-reader NAME", "publisher rebase", "consumer drop-durable ID", "consumer replay", "consumer rebuild"] {
                        li { (parts::command(command)) }
                    }
                }
            }
        }
    })
}

/// A number, whether it is as it should be, and what that would be.
struct Measure {
    name: String,
    now: Markup,
    is_normal: Option<bool>,
    normal: &'static str,
    heading: Heading,
}

fn table(caption: &str, measures: &[Measure]) -> Markup {
    html! {
        table.stacked.measures {
            caption.visually-hidden { (caption) }
            thead { tr { th scope="col" { "What" } th scope="col" { "Now" } th scope="col" { "What is normal" } th scope="col" { "Runbook" } } }
            tbody {
                @for measure in measures {
                    tr {
                        th scope="row" { (text::line(&measure.name)) }
                        td data-label="Now" { (measure.now) @if let Some(is_normal) = measure.is_normal { " " (parts::verdict(is_normal)) } }
                        td data-label="Normal" { (measure.normal) }
                        td data-label="Runbook" { cite { (measure.heading.as_str()) } }
                    }
                }
            }
        }
    }
}

fn publisher(state: &State) -> Vec<Measure> {
    let mut measures = vec![Measure {
        name: "Capture".to_owned(),
        now: html! {
            @if state.capture.is_empty() { "attached" }
            @for fault in &state.capture { p { (text::cut(&fault.what, 500)) ": " (text::cut(&fault.remedy, 500)) } }
        },
        is_normal: Some(state.capture.is_empty()),
        normal: "Attached: every insert of the application writes an entry.",
        heading: Heading::CaptureBroken,
    }];
    for reader in &state.readers {
        let of = |what: &str| {
            if state.readers.len() == 1 {
                what.to_owned()
            } else {
                format!("{what} of {}", reader.standing.reader)
            }
        };
        let leader = reader.standing.leader.as_deref();
        measures.push(Measure {
            name: of("Leader"),
            now: html! { @match leader { Some(leader) => (text::line(leader)), None => "none: no process reads the log" } },
            is_normal: Some(leader.is_some()),
            normal: "One process reads; another one takes over within 15 seconds.",
            heading: Heading::Unready,
        });
        measures.push(Measure {
            name: of("Unread entries"),
            now: html! { (more(reader.standing.unread, COUNT_MAX)) },
            is_normal: Some(reader.standing.unread < 10_000),
            normal: "Near 0, and falling after a burst.",
            heading: Heading::LagGrows,
        });
        measures.push(Measure {
            name: of("Oldest unread event"),
            now: html! { @match reader.oldest_unread_seconds { Some(oldest) => (ago(seconds(oldest))), None => "none" } },
            is_normal: Some(reader.oldest_unread_seconds.is_none_or(|seconds| seconds < 60.0)),
            normal: "None, or a second. Older while a backfill is read.",
            heading: Heading::LagGrows,
        });
        measures.push(Measure {
            name: of("Position"),
            now: html! {
                @match (reader.standing.round, reader.standing.round_age_seconds) {
                    (Some(round), Some(age)) => { "round " (round) ", stored " (ago(seconds(age))) },
                    _ => "it has never read",
                }
            },
            is_normal: None,
            normal: "As old as the last row that the application has written.",
            heading: Heading::LagGrows,
        });
    }
    measures.push(Measure {
        name: "Open transactions".to_owned(),
        now: open_transactions(&state.open),
        is_normal: Some(state.open.iter().all(|one| one.seconds < 60.0)),
        normal: "None for longer than a request takes: its rows arrive when it commits, later than others.",
        heading: Heading::LagGrows,
    });
    measures.push(Measure {
        name: "Log".to_owned(),
        now: html! {
            (bytes(state.log.bytes)) ", "
            @match state.log.pruned_age_seconds { Some(age) => { "pruned " (ago(seconds(age))) }, None => "never pruned" }
        },
        is_normal: None,
        normal: "The rows of relay.retention, pruned within minutes once every forwarder is past them.",
        heading: Heading::StreamFull,
    });
    measures
}

/// Transactions that have written and not ended, of which the oldest comes first.
fn open_transactions(open: &[Blocker]) -> Markup {
    html! {
        @match open {
            [] => "none",
            [oldest, ..] => {
                (more(i64::try_from(open.len()).unwrap_or(i64::MAX), BLOCKERS_MAX))
                // The server shows times to who may see them.
                @if oldest.state == "hidden" { "; since when is not shown to this role" } @else {
                    ", the oldest for " (span(seconds(oldest.seconds)))
                    " (" (text::line(&oldest.state)) @if !oldest.application.is_empty() { ", " (text::line(&oldest.application)) } ")"
                }
            },
        }
    }
}

fn forwarders(view: &View<'_>, state: &State) -> Markup {
    let mut measures = Vec::new();
    for stream in &state.streams {
        measures.push(Measure {
            name: "Stream".to_owned(),
            now: html! { "written up to sequence " (stream.published_up_to) },
            is_normal: None,
            normal: "Rises with every row that the application writes.",
            heading: Heading::StreamFull,
        });
        measures.push(Measure {
            name: "Settled by every forwarder".to_owned(),
            now: html! {
                @match (stream.settled_up_to, stream.pending, stream.settled_age_seconds) {
                    (Some(settled), Some(pending), Some(age)) => {
                        "up to sequence " (settled) "; " (more(pending, i64::MAX)) " behind the stream, as the publisher saw it " (ago(seconds(age)))
                        @if age > 600.0 { " (stale: no publisher has looked since)" }
                    },
                    _ => "not known: the publisher has not looked since the stream was made or written again",
                }
            },
            is_normal: stream.pending.map(|pending| pending < 10_000),
            normal: "Near the stream. The slowest forwarder holds it.",
            heading: Heading::LagGrows,
        });
    }
    for one in &state.reconciled {
        measures.push(Measure {
            name: format!("Compared: {}", one.forwarder),
            now: html! { (more(one.checked, i64::MAX)) " settled entries, " (one.missing) " were missing; last at " (parts::time(view, &one.at)) },
            is_normal: Some(one.missing == 0),
            normal: "0 missing since the beginning; moves on within minutes.",
            heading: Heading::ReconcileDiffers,
        });
    }
    html! {
        @if state.forwarders.is_empty() {
            (empty("No forwarder yet", &html! { "No consumer has started against this database: " code { "consumer run" } " delivers what is in the log." }))
        } @else {
            ul.chips aria-label="Forwarders" {
                @for known in &state.forwarders {
                    li {
                        a href=(view.links.with("pipeline/failures", &[("forwarder", &known.forwarder)])) { (text::line(&known.forwarder)) }
                        @if known.is_dropped { " (dropped)" }
                    }
                }
            }
        }
        @if !measures.is_empty() { (table("Forwarders", &measures)) }
    }
}

fn failed(view: &View<'_>, state: &State) -> Markup {
    html! {
        @if state.failures.is_empty() {
            (empty("No event has failed", &html! { "Every event was delivered, or is on its way. That is normal. " (runbook(Heading::FailuresAppear)) }))
        } @else {
            (failures::groups(view, &state.failures))
            p { "Normal is none that is dead. " (runbook(Heading::FailuresAppear)) }
        }
    }
}
