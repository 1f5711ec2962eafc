//! How things look: the frame of all pages, and what pages are made of.

pub(crate) mod amount;
pub(crate) mod change;
pub(crate) mod command;
pub(crate) mod diff;
pub(crate) mod layout;
pub(crate) mod list;
pub(crate) mod pager;
pub(crate) mod spark;
pub(crate) mod text;
pub(crate) mod value;

mod time;

use ::time::OffsetDateTime;
use maud::{Markup, html};
use threadline::{ActorRef, query::Json, visible};
use uuid::Uuid;

use crate::{links::Links, preferences::Preferences};

/// What pages are written with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) links: &'a Links,
    pub(crate) preferences: &'a Preferences,
    pub(crate) now: OffsetDateTime,
}

impl View<'_> {
    /// A time: short, in the chosen zone; whole, in UTC, where somebody points at it or copies it.
    pub(crate) fn time(&self, at: OffsetDateTime) -> Markup {
        let whole = threadline::query::time_text(at);
        html! { time datetime=(whole) title=(whole) { (time::short(at, self.now, &self.preferences.zone)) } }
    }

    /// A time with its date and its microseconds, in the chosen zone.
    pub(crate) fn exact_time(&self, at: OffsetDateTime) -> Markup {
        let whole = threadline::query::time_text(at);
        html! { time datetime=(whole) title=(whole) { (time::long(at, &self.preferences.zone)) } }
    }

    /// An id, cut in the middle, that leads somewhere.
    pub(crate) fn id_link(&self, path: &str, id: Uuid) -> Markup {
        let whole = id.to_string();
        html! {
            a.id href=(self.links.to(&format!("{path}/{whole}"))) title=(whole) { (whole[..8]) "…" (whole[24..]) }
        }
    }

    /// Who, with a link to what else they did.
    pub(crate) fn actor(&self, actor: Option<&Json>) -> Markup {
        let Some(actor) = actor else { return html! { span.none { "nobody known" } } };
        let read = serde_json::from_str(actor.get()).ok().and_then(|value| ActorRef::from_json(&value).ok());
        if let Some(actor) = read {
            let name = actor.to_string();
            return html! { a.actor href=(self.links.with("actor", &[("actor", &name)])) { (text::line(&name)) } };
        }
        // What is stored may be no actor of ours; it is shown as it is.
        html! { span.actor { (text::line(actor.get())) } }
    }

    /// A row, with a link to its history where its key is known.
    pub(crate) fn row(&self, schema: &str, table: &str, key: &Json) -> Markup {
        let key_text = key.get();
        let name = text::table_name(schema, table);
        if key_text == "{}" {
            return html! { span.table { (text::line(&name)) } };
        }
        let qualified = format!("{schema}.{table}");
        html! {
            a.row href=(self.links.with("row", &[("table", &qualified), ("key", key_text)])) {
                span.table { (text::line(&name)) } " " span.key { (text::key(key)) }
            }
        }
    }
}

/// Something to copy; nothing where it holds what would act in a terminal, or could not be seen there.
pub(crate) fn copy(what: &str, text: &str) -> Markup {
    html! { @if !text.chars().any(visible::acts) { button.copy type="button" data-copy=(text) hidden { "Copy " (what) } } }
}

/// What was done to a row, in a word and a shape, never in a colour alone.
pub(crate) fn op(op: &str) -> Markup {
    let (class, sign) = match op {
        "insert" => ("insert", "+"),
        "update" => ("update", "~"),
        "delete" => ("delete", "−"),
        "truncate" => ("truncate", "×"),
        _ => ("other", "?"),
    };
    html! { span class={ "op " (class) } { span aria-hidden="true" { (sign) } " " (text::line(op)) } }
}

/// How an action ended.
pub(crate) fn status(status: &str) -> Markup {
    let class = if status == "ok" { "status ok" } else { "status error" };
    html! { span class=(class) { (text::line(status)) } }
}

/// A list of terms and what they are; those without are left out.
pub(crate) fn facts(facts: &[(&str, Option<Markup>)]) -> Markup {
    html! {
        dl.facts {
            @for (name, fact) in facts {
                @if let Some(fact) = fact { div { dt { (name) } dd { (fact) } } }
            }
        }
    }
}

/// Where nothing is to be shown: why, and what to do.
pub(crate) fn empty(title: &str, text: &Markup) -> Markup {
    html! { section.empty { h2 { (title) } p { (text) } } }
}
