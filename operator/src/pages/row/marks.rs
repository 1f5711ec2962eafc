//! What is not known of a row: times without capture, truncates, and what was purged.

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    continuity::{Gap, gaps},
    query::{Change, Reader, row::Row},
    retention::{Horizon, Purgeable, horizon},
};

use super::by;
use crate::{
    failure::Failure,
    view::{View, text},
};

/// Marks that are listed of each kind.
const LISTED: usize = 20;

#[derive(Serialize)]
pub(super) struct Marks {
    /// When its table was not captured.
    capture_off: Vec<Gap>,
    /// When its table was emptied.
    truncates: Vec<Change>,
    /// Up to where its table was purged.
    purged: Option<Horizon>,
}

impl Marks {
    pub(super) async fn read(reader: &Reader, row: &Row) -> Result<Self, Failure> {
        let table = row.table();
        let mut capture_off = gaps(reader, &table).await?;
        capture_off.truncate(LISTED);
        Ok(Self {
            capture_off,
            truncates: reader.truncates(row).await?,
            purged: horizon(reader, Purgeable::Table(&table)).await?,
        })
    }
}

pub(super) fn shown(view: &View<'_>, marks: &Marks) -> Markup {
    let Marks { capture_off, truncates, purged } = marks;
    html! {
        @if !capture_off.is_empty() || !truncates.is_empty() || purged.is_some() {
            section.marks aria-labelledby="marks" {
                h2 #marks { "What is not known" }
                ul {
                    @for gap in capture_off { li { (off(view, gap)) } }
                    @for change in truncates { li { "All rows of its table went: " (by(view, change)) } }
                    @if let Some(purged) = purged { li { (text::cut(&first_upper(&purged.to_string()), 1_000)) } }
                }
            }
        }
    }
}

fn off(view: &View<'_>, gap: &Gap) -> Markup {
    html! {
        "Its table was not captured"
        @if let Some(from) = gap.from { " from " (view.time(from)) }
        @match gap.to { Some(to) => { " to " (view.time(to)) }, None => { ", and is not now" } }
        @if let Some(action) = gap.action { ": " a href=(view.links.to(&format!("actions/{action}"))) { "who did that" } }
        @if let Some(reason) = &gap.reason { ", " span.reason { (text::line(reason)) } }
    }
}

/// As a sentence begins.
fn first_upper(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}
