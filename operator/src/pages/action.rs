//! One action, or one event that the pipeline has carried, and the rows that it changed.

use maud::{Markup, html};
use serde::Serialize;
use threadline::query::{Entry, TransactionContext};

use crate::{
    Capability,
    asked::{Answered, Asked},
    failure::Failure,
    view::{View, change, copy, facts, op, status, text},
};

/// Changes that are shown with it.
const CHANGES: u16 = 50;

/// What the page is made of.
#[derive(Serialize)]
struct Data<'d> {
    #[serde(flatten)]
    entry: &'d Entry,
    /// The changes of the transaction that is linked to it.
    changed: Option<&'d TransactionContext>,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let id = asked.id()?;
    let reader = asked.reader();
    let found = reader.recorded(id).await?.ok_or(Failure::NotFound)?;
    let (Entry::Action(linked) | Entry::Event(linked)) = &found else { return Err(Failure::NotFound) };
    let changed = match &linked.transaction {
        Some(transaction) => reader.transaction(transaction.id, CHANGES, None).await?,
        None => None,
    };
    let action = &linked.action;
    let has_way = matches!(found, Entry::Event(_)) && asked.may(Capability::Pipeline);
    let title = if matches!(found, Entry::Event(_)) { "Event" } else { "Action" };
    asked.answer(title, &Data { entry: &found, changed: changed.as_ref() }, |view| {
        let shown = |value: &Option<String>| value.as_ref().map(|value| text::cut(value, 1_000));
        let link = |path: &str, key: &str, value: &Option<String>| {
            value.as_ref().map(|value| html! { a href=(view.links.with(path, &[(key, value)])) { (text::line(value)) } })
        };
        html! {
            p.identity { code { (id) } " " (copy("id", &id.to_string())) }
            (facts(&[
                ("Name", Some(html! { a href=(view.links.with("timeline", &[("action", &action.name)])) { (text::line(&action.name)) } })),
                ("Status", Some(status(&action.status))),
                ("Actor", Some(view.actor(Some(&action.actor_ref)))),
                ("When", Some(view.exact_time(action.inserted_at))),
                ("Transaction", linked.transaction.as_ref().map(|transaction| view.id_link("transactions", transaction.id))),
                ("Verb", shown(&action.verb)),
                ("Category", shown(&action.category)),
                ("Reason", shown(&action.reason)),
                ("Comment", shown(&action.comment)),
                ("Correlation", link("correlation", "correlation", &action.correlation_id)),
                ("Request", link("timeline", "request", &action.request_id)),
                ("Job", link("timeline", "job", &action.job_id)),
            ]))
            @if has_way { p { a href=(view.links.to(&format!("events/{id}"))) { "The way of this event" } " through the pipeline" } }
            (rows(view, changed.as_ref()))
        }
    })
}

/// What it changed.
fn rows(view: &View<'_>, changed: Option<&TransactionContext>) -> Markup {
    html! {
        section aria-labelledby="changed" {
            h2 #changed { "What it changed" }
            @match changed.filter(|changed| !changed.changes.is_empty()) {
                None => { p.none { "No captured row that you may see, or its changes were purged." } },
                Some(changed) => {
                    @for one in &changed.changes {
                        article.entry tabindex="-1" {
                            p.line { (op(&one.op)) " " (view.row(&one.table_schema, &one.table_name, &one.table_pk)) " " (view.time(one.captured_at)) }
                            (change::inline(one))
                            details { summary { "All fields" } (change::table(one)) }
                        }
                    }
                    @if changed.has_more { p { a href=(view.links.to(&format!("transactions/{}", changed.transaction.id))) { "All of it" } } }
                },
            }
        }
    }
}
