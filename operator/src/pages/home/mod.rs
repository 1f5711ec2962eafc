//! The first page: where everything begins, how the timeline stands, what failed lately, and saved views.

mod standing;

use std::time::Duration;

use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json};
use threadline::{
    Status,
    query::{Entry, Filter, Kind, PageRequest, Window},
    views::{self, SavedView},
};

use crate::{
    asked::{Answered, Asked},
    pages::saved,
    view::{View, list},
};
use standing::Fact;

/// Time for each part of the page: it shows what is known by then.
const PART: Duration = Duration::from_secs(1);

/// Actions that failed.
const FAILED: u16 = 10;

/// Saved views that are shown.
const VIEWS: usize = 6;

/// What the page is made of; what could not be had in time is null.
#[derive(Serialize)]
struct Home {
    actor: Value,
    scope: Value,
    standing: Vec<Fact>,
    failed: Option<Vec<Entry>>,
    views: Option<Vec<SavedView>>,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let (standing, failed, views) = futures::join!(standing::read(&asked), failed(&asked), views(&asked));
    let data = Home {
        actor: asked.grant.actor().to_json(),
        scope: json!(asked.grant.scope().describe()),
        standing,
        failed,
        views,
    };
    asked.answer("What happened?", &data, |view| {
        html! {
            (standing::shown(view, &data.standing))
            section.cards aria-label="Where to begin" {
                (find(view))
                @if asked.has_views() { (of_views(view, data.views.as_deref())) }
            }
            (of_failed(view, data.failed.as_deref()))
        }
    })
}

/// What is known of something by the end of its time.
async fn in_time<T, E>(part: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(PART, part).await.ok()?.ok()
}

async fn failed(asked: &Asked) -> Option<Vec<Entry>> {
    let request = PageRequest { size: FAILED, ..PageRequest::default() };
    in_time(asked.reader().page(&of_errors()?, &request)).await.map(|page| page.entries)
}

/// Actions that failed in the last 30 days.
fn of_errors() -> Option<Filter> {
    let window = Window::Last("30d".parse().ok()?);
    Some(Filter { kind: Some(Kind::Recorded), status: Some(Status::Error), window, ..Filter::default() })
}

async fn views(asked: &Asked) -> Option<Vec<SavedView>> {
    if !asked.has_views() {
        return None;
    }
    let timeline = asked.writer().ok()?;
    in_time(views::list(&timeline, asked.grant.actor())).await
}

fn find(view: &View<'_>) -> Markup {
    let timeline = |filter: &str| view.links.to(&format!("timeline?{filter}"));
    html! {
        article {
            h2 { "Find" }
            p { "Who changed what, when, and in which action. The field at the top takes an id of anything, a row such as " code { "posts:7" }
                ", an actor such as " code { "user:u1" } ", or a filter such as " code { "table:posts op:update last:24h" } "." }
            ul {
                li { a href=(timeline("last=24h")) { "The last 24 hours" } }
                li { a href=(timeline("kind=recorded&status=error&last=7d")) { "Actions that failed in the last 7 days" } }
                li { a href=(timeline("op=delete&last=7d")) { "Rows deleted in the last 7 days" } }
            }
        }
    }
}

fn of_views(view: &View<'_>, views: Option<&[SavedView]>) -> Markup {
    html! {
        article {
            h2 { "Saved views" }
            @match views {
                None => { p.none { "They could not be read in time." } },
                Some([]) => { p { "None yet. The " a href=(view.links.to("timeline")) { "timeline" } " saves its filter under a name." } },
                Some(views) => {
                    ul { @for saved in views.iter().take(VIEWS) { li { (saved::link(view, saved)) } } }
                    p { a href=(view.links.to("saved")) { "All of them" } }
                },
            }
        }
    }
}

fn of_failed(view: &View<'_>, failed: Option<&[Entry]>) -> Markup {
    html! {
        section aria-labelledby="failed" {
            h2 #failed { "Failed lately" }
            @match failed {
                None => { p.none { "This could not be read in time. " a href=(view.links.to("timeline?kind=recorded&status=error&last=30d")) { "Look on the timeline" } "." } },
                Some([]) => { p.none { "No action that you may see failed in the last 30 days." } },
                Some(entries) => {
                    (list::entries(view, entries))
                    @if let Some(filter) = of_errors() { p { a href=(view.links.filtered("timeline", &filter, &[])) { "All that failed in the last 30 days" } } }
                },
            }
        }
    }
}
