//! What could not be delivered: how many by state and reason, and the last ones.

use common::{
    failures::{
        FailureState,
        admin::{self, FailureRecord, FailureSummary},
    },
    process::operator_log::{self, RecordedAction},
    time_arg::to_rfc3339,
};
use maud::{Markup, html};
use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    parts::{self, Heading, more, runbook},
    state::COUNT_MAX,
    which::Which,
};
use crate::{
    Capability,
    asked::{Answered, Asked},
    source,
    view::{View, empty, text},
};

/// Failures of a page.
const SHOWN: usize = 100;

/// What operators did last, of a page.
const ACTS: i64 = 10;

pub(crate) async fn page(asked: Asked) -> Answered {
    let which = Which::read(&asked.query, &[], asked.now)?;
    let source = asked.source()?;
    let mut session = source.read().await?;
    let limit = i64::try_from(SHOWN).unwrap_or(i64::MAX) + 1;
    let read = async {
        Ok((
            admin::summary(&mut session, &source.table, &which.filter, Some(COUNT_MAX)).await?,
            admin::list(&mut session, &source.table, &which.filter, limit).await?,
            operator_log::latest(&mut session, None, ACTS).await?,
        ))
    };
    let (groups, mut failures, acts) = read.await.map_err(source::failure)?;
    let has_more = failures.len() > SHOWN;
    failures.truncate(SHOWN);
    let data = json!({"groups": groups, "failures": failures, "has_more": has_more, "acts": acts});
    let can_redrive = asked.may(Capability::Redrive);
    asked.answer("Failures", &data, |view| html! {
        (filter(view, &which))
        @if failures.is_empty() { (nothing(view, &which)) } @else {
            section { h2 { "By state and reason" } (self::groups(view, &groups)) }
            section { h2 { "The last ones" } (table(view, &failures)) (older(view, &which, failures.last(), has_more)) }
        }
        section { h2 { "What to do" } (decide(view, &which, can_redrive)) }
        @if !acts.is_empty() { section { h2 { "What operators did last" } (self::acts(view, &acts)) } }
    })
}

fn filter(view: &View<'_>, which: &Which) -> Markup {
    let field = |name: &str, label: &str, hint: &str| {
        html! {
            span.field {
                label for=(name) { (label) }
                input id=(name) name=(name) value=(which.get(name).unwrap_or_default()) placeholder=(hint) spellcheck="false" autocomplete="off";
            }
        }
    };
    html! {
        form.filter action=(view.links.to("pipeline/failures")) {
            input type="hidden" name="form" value="1";
            span.field {
                label for="state" { "State" }
                select #state name="state" {
                    option value="" { "any" }
                    @for state in FailureState::NAMES { option value=(state) selected[which.get("state") == Some(state)] { (state) } }
                }
            }
            (field("forwarder", "Forwarder", "timeline"))
            (field("reason", "Reason", "schema_mismatch"))
            (field("action", "Action", "auth.*"))
            (field("last", "Last", "24h"))
            @for name in ["since", "until", "event"] {
                @if let Some(value) = which.get(name) { input type="hidden" name=(name) value=(value); }
            }
            button { "Show" }
        }
        p.found { (parts::command(&which.command("list"))) @if !which.pairs().is_empty() { " " a href=(view.links.to("pipeline/failures")) { "Reset" } } }
    }
}

/// How many of each kind.
pub(super) fn groups(view: &View<'_>, groups: &[FailureSummary]) -> Markup {
    let total: i64 = groups.iter().map(|group| group.count).sum();
    html! {
        table.stacked {
            caption.visually-hidden { "Failures by forwarder, state and reason" }
            thead { tr { th scope="col" { "Forwarder" } th scope="col" { "State" } th scope="col" { "Reason" } th scope="col" { "Events" } th scope="col" { "Row gone" } } }
            tbody {
                @for group in groups {
                    @let reason = group.reason.as_deref();
                    @let mut pairs = vec![("forwarder", group.forwarder.as_str()), ("state", group.state.as_str())];
                    @if let Some(reason) = reason { @let () = pairs.push(("reason", reason)); }
                    tr {
                        th scope="row" { (text::line(&group.forwarder)) }
                        td data-label="State" { (state(group.state)) }
                        td data-label="Reason" { @match reason { Some(reason) => (text::line(reason)), None => span.none { "no reason yet" } } }
                        td data-label="Events" { a href=(view.links.with("pipeline/failures", &pairs)) { (more(group.count, COUNT_MAX)) } }
                        td data-label="Row gone" { (more(group.gone, COUNT_MAX)) }
                    }
                }
            }
        }
        @if total >= COUNT_MAX { p.none { "No more than " (more(COUNT_MAX, i64::MAX)) " were counted. A forwarder, a reason or a window makes it fewer." } }
    }
}

fn table(view: &View<'_>, failures: &[FailureRecord]) -> Markup {
    html! {
        table.stacked.failures {
            caption.visually-hidden { "Failures, the last one first" }
            thead { tr {
                th scope="col" { "Event" } th scope="col" { "Last failed" } th scope="col" { "Forwarder" } th scope="col" { "State" }
                th scope="col" { "Action" } th scope="col" { "Attempts" } th scope="col" { "Error" }
            } }
            tbody {
                @for failure in failures {
                    tr {
                        th scope="row" { (link(view, failure)) }
                        td data-label="Last failed" { (parts::time(view, &failure.last_failed_at)) }
                        td data-label="Forwarder" { (text::line(&failure.forwarder)) }
                        td data-label="State" { (state(failure.state)) @if let Some(reason) = &failure.reason { " " (text::line(reason)) } }
                        td data-label="Action" { @match &failure.action { Some(action) => (text::line(action)), None => span.none { "not known" } } }
                        td data-label="Attempts" { (failure.attempts) }
                        td data-label="Error" { @if let Some(error) = &failure.error { (text::line(error)) } }
                    }
                }
            }
        }
    }
}

/// To one failure: by its id, cut in the middle, or as much as fits of another name.
fn link(view: &View<'_>, failure: &FailureRecord) -> Markup {
    let reference = failure.reference.as_str();
    let pairs = [("forwarder", failure.forwarder.as_str()), ("event", reference)];
    let shown = match uuid::Uuid::try_parse(reference) {
        Ok(_) => html! { (reference[..8]) "…" (reference[reference.len() - 12..]) },
        Err(_) => text::cut(reference, 40),
    };
    html! { a.id href=(view.links.with("pipeline/failure", &pairs)) { (shown) } }
}

/// What becomes of a failure, in a word.
pub(super) fn state(state: FailureState) -> Markup {
    let class = if state == FailureState::Dead { "status error" } else { "status" };
    html! { span class=(class) { (state.as_str()) } }
}

fn older(view: &View<'_>, which: &Which, last: Option<&FailureRecord>, has_more: bool) -> Markup {
    let Some(at) =
        last.filter(|_| has_more).and_then(|last| OffsetDateTime::parse(&last.last_failed_at, &Rfc3339).ok())
    else {
        return html! {};
    };
    // Those that failed in the same microsecond come twice: better than not at all.
    let until = to_rfc3339(at + Duration::MICROSECOND);
    html! { nav.pager aria-label="More failures" { a rel="next" href=(view.links.with("pipeline/failures", &which.with("until", &until))) { "Older" } } }
}

fn nothing(view: &View<'_>, which: &Which) -> Markup {
    if which.pairs().is_empty() {
        return empty(
            "No event has failed",
            &html! { "Every event was delivered, or is on its way. What fails appears here, with its reason." },
        );
    }
    empty(
        "No failure fits",
        &html! { "What was delivered meanwhile is no failure any more. " a href=(view.links.to("pipeline/failures")) { "Look at all failures" } "." },
    )
}

fn decide(view: &View<'_>, which: &Which, can_redrive: bool) -> Markup {
    let is_narrow = !which.filter.is_empty();
    html! {
        p { "Fix the cause first: " (runbook(Heading::FailuresAppear)) }
        @if is_narrow && can_redrive {
            p { a href=(view.links.with("pipeline/redrive", &redrivable(which))) { "Have the dead ones among these delivered again…" } " shows first what it would reach." }
        }
        ul {
            li { (parts::command(&format!("{} --dry-run", which.command("redrive")))) " says what would be delivered again" @if !is_narrow { "; without a filter it needs --all" } }
            li { (parts::command(&format!("{} --reason '…'", which.command("discard")))) " marks them as not to be delivered: never from here, since it hides a gap" }
        }
    }
}

/// The filter without the state: dead ones are meant.
fn redrivable(which: &Which) -> Vec<(&str, &str)> {
    which.pairs().into_iter().filter(|pair| pair.0 != "state" || pair.1 == "discarded").collect()
}

/// What operators did.
pub(super) fn acts(view: &View<'_>, acts: &[RecordedAction]) -> Markup {
    html! {
        table.stacked {
            caption.visually-hidden { "What operators did" }
            thead { tr { th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "Which" } th scope="col" { "Rows" } th scope="col" { "Reason" } } }
            tbody {
                @for act in acts {
                    @let id = act.id.to_string();
                    tr {
                        th scope="row" { a href=(view.links.with("pipeline/act", &[("id", &id)])) { (parts::time(view, &act.at)) } }
                        td data-label="What" { (text::line(&act.kind)) }
                        td data-label="Who" { (text::line(&act.actor)) }
                        td data-label="Which" { @if let Some(filter) = &act.filter { (text::line(filter)) } }
                        td data-label="Rows" { @if let Some(count) = act.count { (more(count, i64::MAX)) } }
                        td data-label="Reason" { @if let Some(reason) = &act.reason { (text::line(reason)) } }
                    }
                }
            }
        }
    }
}
