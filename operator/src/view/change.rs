//! What a change changed, field by field.

use maud::{Markup, html};
use threadline::{
    capture::Policy,
    query::{Change, Diff, DiffOptions, FieldChange, FieldKind},
};

use super::{diff, text, value};

/// Fields of a change in a list.
const INLINE: usize = 3;

/// Fields of a change by itself; more are a click away, as JSON.
const FIELDS_MAX: usize = 500;

/// The first fields of a change, on a line.
pub(crate) fn inline(change: &Change) -> Markup {
    inline_under(change, None)
}

/// The same of a change whose table is captured under this policy.
pub(crate) fn inline_under(change: &Change, policy: Option<&Policy>) -> Markup {
    let diff = Diff::with(change, DiffOptions::expanded());
    html! {
        ul.diff.inline {
            @for field in diff.field_changes.iter().take(INLINE) {
                li { (name(change, field)) " " (both(change, field, value::SHORT, policy)) }
            }
            @if diff.field_changes.len() > INLINE { li.more { "and " (diff.field_changes.len() - INLINE) " more" } }
        }
    }
}

/// All fields of a change, as a table.
pub(crate) fn table(change: &Change) -> Markup {
    table_under(change, None)
}

/// The same of a change whose table is captured under this policy.
pub(crate) fn table_under(change: &Change, policy: Option<&Policy>) -> Markup {
    let diff = Diff::with(change, DiffOptions::expanded());
    if diff.field_changes.is_empty() {
        return html! { p.none { (nothing(change)) } };
    }
    html! {
        table.diff {
            caption.visually-hidden { "What this change changed" }
            thead { tr { th scope="col" { "Column" } th scope="col" { "Before" } th scope="col" { "After" } } }
            tbody {
                @for field in diff.field_changes.iter().take(FIELDS_MAX) {
                    tr {
                        th scope="row" { (name(change, field)) }
                        @if let Some(fine) = fine(change, field, policy) {
                            td.fine colspan="2" { (fine) }
                        } @else {
                            td { (before(change, field, value::LONG, policy)) }
                            td { (after(change, field, value::LONG, policy)) }
                        }
                    }
                }
            }
        }
        @if diff.field_changes.len() > FIELDS_MAX {
            p.none { "and " (diff.field_changes.len() - FIELDS_MAX) " more columns: they are in the JSON of this page" }
        }
    }
}

/// Why there is no field.
fn nothing(change: &Change) -> &'static str {
    match change.op.as_str() {
        "truncate" => "All rows of the table went. Which ones is in the changes before it.",
        "delete" => "The row went; what it held was not recorded. It is in the changes before it.",
        "update" => "It changed no column that is recorded.",
        _ => "No column was recorded.",
    }
}

fn name(change: &Change, field: &FieldChange) -> Markup {
    html! { span.column { (text::line(&field.name)) } @if is_erased(change, field) { " " span.erased { "erased" } } }
}

fn is_erased(change: &Change, field: &FieldChange) -> bool {
    change.erased.as_ref().is_some_and(|erased| erased.contains(&field.name))
}

fn known<'k>(change: &Change, field: &FieldChange, policy: Option<&'k Policy>) -> value::Known<'k> {
    value::Known { policy, is_erased: is_erased(change, field) }
}

/// What differs within a value, where that is known and says more than both of them.
fn fine(change: &Change, field: &FieldChange, policy: Option<&Policy>) -> Option<Markup> {
    let (before, after) = (field.before.as_ref()?, field.after.as_ref()?);
    let is_hidden = |value| value::is_redacted(&field.name, value, known(change, field, policy));
    if field.kind != FieldKind::Changed || is_erased(change, field) || is_hidden(before) || is_hidden(after) {
        return None;
    }
    diff::fine(before, after)
}

fn both(change: &Change, field: &FieldChange, characters: usize, policy: Option<&Policy>) -> Markup {
    html! {
        @match field.kind {
            FieldKind::Set => (after(change, field, characters, policy)),
            FieldKind::Removed => { del { (before(change, field, characters, policy)) } },
            FieldKind::Changed => {
                (before(change, field, characters, policy)) " " span.arrow aria-label="became" { "→" } " " (after(change, field, characters, policy))
            },
        }
    }
}

fn before(change: &Change, field: &FieldChange, characters: usize, policy: Option<&Policy>) -> Markup {
    if field.kind == FieldKind::Set {
        return html! { span.none aria-label="did not exist" { "—" } };
    }
    if is_erased(change, field) && field.before.is_none() {
        return html! { span.erased { "erased" } };
    }
    value::of_column(
        &field.name,
        field.before.as_ref(),
        field.before_is_sql_null,
        characters,
        known(change, field, policy),
    )
}

fn after(change: &Change, field: &FieldChange, characters: usize, policy: Option<&Policy>) -> Markup {
    if field.kind == FieldKind::Removed {
        return html! { span.none aria-label="is gone" { "—" } };
    }
    if is_erased(change, field) && field.after.is_none() {
        return html! { span.erased { "erased" } };
    }
    value::of_column(
        &field.name,
        field.after.as_ref(),
        field.after_is_sql_null,
        characters,
        known(change, field, policy),
    )
}
