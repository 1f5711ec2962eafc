//! A transaction, and everything that is tied to it.

use maud::html;
use serde::Serialize;
use threadline::query::{Filter, Page, PageRequest, TransactionContext};

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{change, command, list, op},
};

/// Entries of each list.
const ENTRIES: u16 = 100;

/// What the page is made of.
#[derive(Serialize)]
struct Data<'d> {
    incident: &'d TransactionContext,
    tied: Vec<Tied<'d>>,
}

/// What something ties to it.
#[derive(Serialize)]
struct Tied<'d> {
    title: &'d str,
    filter: &'d Filter,
    page: &'d Page,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let id = asked.id()?;
    let reader = asked.reader();
    let found = reader.transaction(id, ENTRIES, None).await?.ok_or(Failure::NotFound)?;
    let request = PageRequest { size: ENTRIES, by_transaction: true, ..PageRequest::default() };
    let mut lists = Vec::new();
    for (title, filter) in [
        (
            "Same correlation",
            found
                .transaction
                .correlation_id
                .clone()
                .map(|id| Filter { correlation: Some(id), ..Filter::default() }),
        ),
        (
            "Same request",
            found.transaction.request_id.clone().map(|id| Filter { request: Some(id), ..Filter::default() }),
        ),
        (
            "Same job",
            found.transaction.job_id.clone().map(|id| Filter { job: Some(id), ..Filter::default() }),
        ),
    ] {
        if let Some(filter) = filter {
            lists.push((title, reader.page(&filter, &request).await?, filter));
        }
    }
    let tied = lists.iter().map(|(title, page, filter)| Tied { title, filter, page }).collect();
    let data = Data { incident: &found, tied };
    asked.answer("Incident", &data, |view| html! {
        p.identity { (view.id_link("transactions", id)) " " (view.actor(found.transaction.actor_ref.as_ref())) " " (view.exact_time(found.transaction.occurred_at)) }
        section {
            h2 { "This transaction" }
            @for one in &found.changes {
                article.entry tabindex="-1" {
                    p.line { (op(&one.op)) " " (view.row(&one.table_schema, &one.table_name, &one.table_pk)) " " (view.time(one.captured_at)) }
                    (change::table(one))
                }
            }
            @if found.has_more { p { a href=(view.links.to(&format!("transactions/{id}"))) { "All of it" } } }
            (command::shown("As a command", &format!("threadline incident {id}")))
        }
        @if lists.is_empty() { p { "This transaction is tied to no other: it has no correlation, request or job." } }
        @for (title, page, filter) in &lists {
            section {
                h2 { (title) }
                (list::entries(view, &page.entries))
                (command::export(filter))
                @if page.has_more { p { a href=(view.links.filtered("timeline", filter, &[])) { "All of it" } } }
            }
        }
    })
}
