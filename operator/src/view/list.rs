//! Entries of a timeline, one below the other.

use maud::{Markup, html};
use threadline::{
    capture::Policy,
    query::{Action, Change, Entry, LinkedAction},
};
use uuid::Uuid;

use super::{View, change, op, status, text};

/// Entries, together where they are of one transaction and stand beside each other.
pub(crate) fn entries(view: &View<'_>, entries: &[Entry]) -> Markup {
    entries_under(view, entries, None)
}

/// The same of changes of one table, which is captured under this policy.
pub(crate) fn entries_under(view: &View<'_>, entries: &[Entry], policy: Option<&Policy>) -> Markup {
    let groups =
        entries.chunk_by(|one, other| transaction(one).is_some() && transaction(one) == transaction(other));
    html! {
        ol.entries {
            @for group in groups {
                li.group data-entry=(group[0].id()) {
                    @if group.len() > 1 { (heading(view, &group[0], group)) }
                    @for entry in group { (one(view, entry, group.len() > 1, policy)) }
                }
            }
        }
    }
}

fn transaction(entry: &Entry) -> Option<Uuid> {
    entry.transaction().map(|transaction| transaction.id)
}

/// Of entries of one transaction, what all of them have in common.
fn heading(view: &View<'_>, first: &Entry, group: &[Entry]) -> Markup {
    let tables = group.iter().filter_map(|entry| match entry {
        Entry::Change(change) => Some(text::table_name(&change.table_schema, &change.table_name)),
        _ => None,
    });
    let tables: std::collections::BTreeSet<String> = tables.collect();
    html! {
        p.heading {
            @if let Some(transaction) = first.transaction() {
                (view.actor(transaction.actor_ref.as_ref()))
                span {
                    (group.len()) " entries"
                    @if !tables.is_empty() { " in " (text::line(&tables.into_iter().collect::<Vec<_>>().join(", "))) }
                }
                a.open href=(view.links.to(&format!("transactions/{}", transaction.id))) { "Transaction" }
            }
        }
    }
}

fn one(view: &View<'_>, entry: &Entry, is_grouped: bool, policy: Option<&Policy>) -> Markup {
    html! {
        @match entry {
            Entry::Change(change) => (of_change(view, change, is_grouped, policy)),
            Entry::Action(linked) => (of_action(view, linked, "action")),
            Entry::Event(linked) => (of_action(view, linked, "event")),
        }
    }
}

fn of_change(view: &View<'_>, change: &Change, is_grouped: bool, policy: Option<&Policy>) -> Markup {
    html! {
        article.entry.change data-id=(change.id) tabindex="-1" {
            p.line {
                (view.time(change.captured_at)) " " (op(&change.op)) " "
                (view.row(&change.table_schema, &change.table_name, &change.table_pk)) " "
                @if !is_grouped {
                    (view.actor(change.transaction.as_ref().and_then(|transaction| transaction.actor_ref.as_ref()))) " "
                    @if let Some(action) = &change.action { (action_link(view, action)) " " }
                    a.open href=(view.links.to(&format!("transactions/{}", change.transaction_id))) { "Transaction" }
                }
            }
            (change::inline_under(change, policy))
            details { summary { "All fields" } (change::table_under(change, policy)) }
        }
    }
}

fn of_action(view: &View<'_>, linked: &LinkedAction, kind: &str) -> Markup {
    let action = &linked.action;
    html! {
        article.entry.action data-id=(action.id) tabindex="-1" {
            p.line {
                (view.time(action.inserted_at)) " " span.op.recorded { (kind) } " "
                (action_link(view, action)) " " (status(&action.status)) " " (view.actor(Some(&action.actor_ref)))
                @if let Some(reason) = &action.reason { " " span.reason { (text::line(reason)) } }
            }
        }
    }
}

/// The name of an action, which leads to it.
pub(crate) fn action_link(view: &View<'_>, action: &Action) -> Markup {
    html! { a.name href=(view.links.to(&format!("actions/{}", action.id))) { (text::line(&action.name)) } }
}
