//! How the timeline stands, in a few facts: each for who may see it, each within its own time.

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    coverage::Coverage,
    query::time_text,
    receipts,
    retention::{self, Purgeable},
};
use time::OffsetDateTime;

use super::in_time;
use crate::{Capability, asked::Asked, pages::coverage, view::View};

/// One fact.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    /// What it is about.
    name: &'static str,
    /// The page with more of it.
    #[serde(skip)]
    path: &'static str,
    /// In words; none where it could not be had in time.
    text: Option<String>,
    /// Of when it is; none of now.
    at: Option<String>,
    #[serde(skip)]
    time: Option<OffsetDateTime>,
    /// Whether somebody should look.
    needs_attention: bool,
}

impl Fact {
    fn new(
        name: &'static str,
        path: &'static str,
        found: Option<(String, Option<OffsetDateTime>, bool)>,
    ) -> Self {
        let (text, time, needs_attention) = match found {
            Some((text, time, needs_attention)) => (Some(text), time, needs_attention),
            None => (None, None, false),
        };
        Self { name, path, text, at: time.map(time_text), time, needs_attention }
    }
}

/// All that the grant allows.
pub(super) async fn read(asked: &Asked) -> Vec<Fact> {
    let facts = futures::join!(captured(asked), purged(asked), horizon(asked), sealed(asked));
    [facts.0, facts.1, facts.2, facts.3].into_iter().flatten().collect()
}

async fn captured(asked: &Asked) -> Option<Fact> {
    asked.whole(Capability::Coverage)?;
    // The one that the page of it has read, where that is new.
    let found = in_time(Box::pin(coverage::observe(asked))).await.map(|reading| {
        let report = &reading.value.report;
        let count = |of: fn(&Coverage) -> usize| report.schemas.iter().map(of).sum::<usize>();
        let (covered, uncovered) = (count(|one| one.covered.len()), count(|one| one.uncovered.len()));
        let errors = report.schemas.iter().filter(|one| one.has_errors()).count();
        let mut text = format!("{covered} of {} tables", covered + uncovered);
        if errors > 0 {
            text.push_str(", with errors");
        }
        (text, Some(reading.at), uncovered > 0 || errors > 0)
    });
    Some(Fact::new("Captured", "coverage", found))
}

async fn purged(asked: &Asked) -> Option<Fact> {
    let timeline = asked.whole(Capability::Policies)?;
    let found = in_time(async {
        let mut connection = timeline.pool().acquire().await.map_err(threadline::query::ReadError::from)?;
        retention::runs(&mut connection, timeline.schema(), 1).await
    })
    .await
    .map(|mut runs| match runs.pop() {
        Some(run) => {
            let is_bad = !matches!(run.status.as_str(), "completed" | "running");
            (run.status, run.completed_at.or(run.started_at), is_bad)
        }
        None => ("never".to_owned(), None, false),
    });
    Some(Fact::new("Last purge", "policy/retention", found))
}

async fn horizon(asked: &Asked) -> Option<Fact> {
    asked.whole(Capability::Policies)?;
    let reader = asked.reader();
    let found = in_time(retention::horizon(&reader, Purgeable::Changes)).await.map(|found| match found {
        Some(horizon) => {
            let cutoff = horizon.latest_of_a_table.or(horizon.cutoff);
            let text = if cutoff.is_some() { "whole since" } else { "something was purged" };
            (text.to_owned(), cutoff, false)
        }
        None => ("nothing was purged".to_owned(), None, false),
    });
    Some(Fact::new("Changes", "policy/retention", found))
}

async fn sealed(asked: &Asked) -> Option<Fact> {
    let timeline = asked.whole(Capability::Evidence)?;
    let found = in_time(receipts::newest(&timeline, 1)).await.map(|mut newest| match newest.pop() {
        Some(receipt) => (format!("receipt {}", receipt.n), Some(receipt.sealed_at), false),
        None => ("never".to_owned(), None, false),
    });
    Some(Fact::new("Last seal", "evidence", found))
}

pub(super) fn shown(view: &View<'_>, facts: &[Fact]) -> Markup {
    html! {
        @if !facts.is_empty() {
            ul.standing aria-label="How the timeline stands" {
                @for fact in facts {
                    li {
                        a href=(view.links.to(fact.path)) { (fact.name) } ": "
                        @match &fact.text {
                            Some(text) => { (threadline::visible::text(text)) },
                            None => { span.none { "could not be read in time" } },
                        }
                        @if let Some(at) = fact.time { " " (view.age(at)) }
                        @if fact.needs_attention { " " span.attention { "look" } }
                    }
                }
            }
        }
    }
}
