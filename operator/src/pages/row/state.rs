//! What a row was at a time: its columns, and who set each.

use jiff::civil;
use maud::{Markup, html};
use serde::Serialize;
use threadline::query::{
    Change, Json, ReadError, Reader,
    row::{AsOf, At, Blame, Children, ChildrenRequest, Followed, Row},
    time_text,
};
use time::OffsetDateTime;

use super::{Shown, by};
use crate::{
    asked::Asked,
    failure::Failure,
    view::{View, empty, text, value},
};

/// Rows of each table that belong to it.
const CHILDREN: usize = 50;

/// What the row was.
#[derive(Serialize)]
pub(super) struct State {
    /// The time that was asked for; none of what it is now.
    at: Option<String>,
    /// The row under the key that it had then, and what it was.
    #[serde(flatten)]
    followed: Followed,
    /// Who set each column; none where finding it took too long.
    blame: Option<Blame>,
    /// What referred to it; none where that was not asked for.
    children: Option<Vec<Children>>,
}

impl State {
    pub(super) async fn read(asked: &Asked, reader: &Reader, row: &Row) -> Result<Self, Failure> {
        let at = asked.query.get("at").map(|text| time(asked, text)).transpose()?;
        let until = at.clone().unwrap_or(At::latest());
        let followed = reader.as_of_followed(row, &until).await?;
        let blame = match reader.blame_of(&followed, &until).await {
            Ok(blame) => Some(blame),
            Err(error) if error.term() == Some("took_too_long") => None,
            Err(error) => return Err(error.into()),
        };
        let children = if asked.query.is("children", "1") {
            let request = ChildrenRequest { size: CHILDREN, depth: 1, time: asked.shared.limits.statement };
            Some(reader.as_of_with_children(&followed.row, &until, &request).await?.children)
        } else {
            None
        };
        Ok(Self { at: at.map(|at| at.to_string()), followed, blame, children })
    }

    /// The time that was asked for; none of what it is now.
    pub(super) fn at(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// The change that made it so.
    pub(super) fn change(&self) -> Option<&Change> {
        self.followed.as_of.change()
    }
}

/// A time as a filter has it, or as a field of a form: without an offset it is of the zone that times are shown in.
pub(super) fn time(asked: &Asked, text: &str) -> Result<At, Failure> {
    let error = match text.parse::<At>() {
        Ok(at) => return Ok(at),
        Err(error) => error,
    };
    let local = text.parse::<civil::DateTime>().ok();
    let zoned = local.and_then(|local| local.to_zoned_datetime(asked.preferences.zone.clone()).ok());
    let instant = zoned
        .and_then(|zoned| OffsetDateTime::from_unix_timestamp_nanos(zoned.timestamp().as_nanosecond()).ok());
    instant.map(At::from).ok_or_else(|| ReadError::from(error).into())
}

pub(super) fn shown(shown: &Shown<'_>, state: &State) -> Markup {
    let view = shown.view;
    html! {
        section aria-labelledby="state" {
            h2 #state { @if let Some(at) = &state.at { "What it was at " (text::line(at)) } @else { "What it is" } }
            (form(shown, state))
            (slider(shown, state))
            @match &state.followed.as_of {
                AsOf::Present { image, sql_nulls, change } => {
                    @if state.followed.row.key != shown.history.row.key {
                        p { "It was " code { (text::line(&state.followed.row.to_string())) } " then." }
                    }
                    p { "Since: " (by(view, change)) }
                    (columns(shown, state, image, sql_nulls, change.erased.as_deref()))
                },
                AsOf::Deleted { change } => {
                    (empty("It was gone", &html! { (by(view, change)) }))
                    @if let Some(image) = &change.data_before { (columns(shown, state, image, &change.json_nulls.clone().unwrap_or_default(), change.erased.as_deref())) }
                },
                AsOf::Moved { row, change } => {
                    (empty("It had another key by then", &html! { "It was " code { (text::line(&row.to_string())) } ": " (by(view, change)) }))
                },
                AsOf::NotYet { row, change } => {
                    (empty("It did not have this key yet", &html! { "Before, it was " code { (text::line(&row.to_string())) } ": " (by(view, change)) }))
                },
                AsOf::BeforeHorizon => {
                    (empty("Nothing is known of it up to then", &html! { "It was not there, it was not captured yet, its changes were purged, or you may not see them." }))
                },
            }
            (children(shown, state))
        }
    }
}

/// A field for any time.
fn form(shown: &Shown<'_>, state: &State) -> Markup {
    let zone = shown.view.preferences.zone_name();
    html! {
        form.at action=(shown.view.links.to("row")) {
            (shown.fields())
            label for="at" { "As of (" (zone) ")" }
            input #at name="at" type="datetime-local" step="0.001";
            button { "Show" }
            @if state.at.is_some() { " " a href=(shown.own(&[])) { "Now" } }
        }
    }
}

/// The times at which it changed, the oldest first: a step each.
fn slider(shown: &Shown<'_>, state: &State) -> Markup {
    let times: Vec<(String, &Change)> =
        shown.history.changes.iter().rev().map(|change| (time_text(change.captured_at), change)).collect();
    // The step that is shown is the last one up to the time.
    let current = match &state.at {
        Some(at) => times.iter().rposition(|(time, _)| time <= at),
        None => times.len().checked_sub(1),
    };
    let step = |number: Option<usize>| number.and_then(|number| times.get(number));
    html! {
        @if !times.is_empty() {
            nav.steps aria-label="Versions of this row" {
                @if let Some((time, _)) = step(current.and_then(|current| current.checked_sub(1))) {
                    a rel="prev" href=(shown.own(&[("at", time)])) { "Earlier" }
                }
                ol {
                    @for (number, (time, change)) in times.iter().enumerate() {
                        li { a href=(shown.own(&[("at", time)])) title=(time) aria-current=[(Some(number) == current).then_some("step")] {
                            (crate::view::op(&change.op)) span.visually-hidden { " " (time) }
                        } }
                    }
                }
                @if let Some((time, _)) = step(current.map(|current| current + 1)) {
                    a rel="next" href=(shown.own(&[("at", time)])) { "Later" }
                }
            }
        }
    }
}

fn columns(
    shown: &Shown<'_>,
    state: &State,
    image: &Json,
    sql_nulls: &[String],
    erased: Option<&[String]>,
) -> Markup {
    let view = shown.view;
    let fields: std::collections::BTreeMap<String, Json> =
        serde_json::from_str(image.get()).unwrap_or_default();
    html! {
        table.columns {
            caption.visually-hidden { "Columns of the row" }
            thead { tr { th scope="col" { "Column" } th scope="col" { "Value" } th scope="col" { "Set by" } } }
            tbody {
                @for (name, document) in &fields {
                    tr {
                        th scope="row" { (text::line(name)) }
                        td { (value::of_column(name, Some(document), sql_nulls.contains(name), value::LONG, value::Known::of(shown.policy, erased, name))) }
                        td.by { (blamed(view, state, name)) }
                    }
                }
                @for name in shown.policy.iter().flat_map(|policy| &policy.exclude).filter(|name| !fields.contains_key(*name)) {
                    tr { th scope="row" { (text::line(name)) } td { span.excluded { "not stored" } } td { span.none { "not known" } } }
                }
            }
        }
        @if state.blame.is_none() { p.none { "Who set each column could not be found in time: " code { "threadline blame" } " takes longer." } }
        @else if state.blame.as_ref().is_some_and(|blame| !blame.is_complete) { p.none { "Only the newest 10,000 changes were looked at." } }
    }
}

fn blamed(view: &View<'_>, state: &State, name: &str) -> Markup {
    let set_by = state.blame.as_ref().and_then(|blame| blame.change_of(name));
    set_by.map_or_else(|| html! { span.none { "not known" } }, |change| by(view, change))
}

/// What referred to it at the same time.
fn children(shown: &Shown<'_>, state: &State) -> Markup {
    let view = shown.view;
    let Some(children) = &state.children else {
        let at = state.at.as_deref().map(|at| ("at", at));
        let pairs: Vec<(&str, &str)> = at.into_iter().chain([("children", "1")]).collect();
        return html! {
            @if matches!(state.followed.as_of, AsOf::Present { .. }) {
                p { a href=(shown.own(&pairs)) { "What referred to it then" } }
            }
        };
    };
    html! {
        h3 { "What referred to it then" }
        @if children.is_empty() { p.none { "No captured table refers to its table." } }
        @for of_table in children {
            h4 { (text::line(&text::table_name(&of_table.schema, &of_table.table))) " by " (text::line(&of_table.columns.join(", "))) }
            @if of_table.is_unknown {
                p.none { "Not known, because what it refers to is not captured." }
            } @else if of_table.rows.is_empty() {
                p.none { "No row did." }
            } @else {
                ul { @for child in &of_table.rows { li {
                    @let key = serde_json::to_string(&child.row.key).unwrap_or_default();
                    @let table = format!("{}.{}", child.row.schema, child.row.table);
                    @let at = state.at.as_deref().map(|at| ("at", at));
                    @let pairs: Vec<(&str, &str)> = [("table", table.as_str()), ("key", key.as_str())].into_iter().chain(at).collect();
                    a.row href=(view.links.with("row", &pairs)) { (text::line(&key)) }
                    @if let Some(image) = child.as_of.image() { " " span.literal { (text::cut(image.get(), 200)) } }
                } } }
                @if of_table.is_truncated { p.none { "And more: " code { "threadline as-of --children" } " shows them." } }
            }
        }
    }
}
