//! The keys of filters: the one list that text, URLs and JSON are made of and read with, so that none of them lacks a key.

use std::str::FromStr;

use super::{Changed, Filter, FilterError, Instant, Window};
use crate::{ActorRef, Status};

/// One key, and what it is of a filter.
struct Term {
    key: &'static str,
    /// What the filter says, as text; `None` where it says nothing.
    get: fn(&Filter) -> Option<String>,
    /// Reads the text. The terms that are before this one in the list are set already.
    set: fn(&mut Filter, &str) -> Result<(), FilterError>,
    /// Whether the empty text is a value: a column may have been that.
    may_be_empty: bool,
    help: FilterKey,
}

/// A key of filters, for whoever types one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilterKey {
    /// Its name.
    pub key: &'static str,
    /// A value of it, as it is typed.
    pub example: &'static str,
    /// What it asks for.
    pub meaning: &'static str,
}

impl Term {
    const fn new(
        key: &'static str,
        get: fn(&Filter) -> Option<String>,
        set: fn(&mut Filter, &str) -> Result<(), FilterError>,
    ) -> Self {
        Self { key, get, set, may_be_empty: false, help: FilterKey { key, example: "", meaning: "" } }
    }

    const fn like(self, example: &'static str, meaning: &'static str) -> Self {
        Self { help: FilterKey { example, meaning, ..self.help }, ..self }
    }

    const fn or_empty(self) -> Self {
        Self { may_be_empty: true, ..self }
    }
}

const COUNT: usize = 19;

/// All keys, in the order in which they are written. A key that needs another one stands behind it.
static TERMS: [Term; COUNT] = [
    Term::new("kind", |f| f.kind.map(|kind| kind.as_str().to_owned()), |f, text| parse(&mut f.kind, text))
        .like("change", "change, action, event, or recorded for both actions and events"),
    Term::new("table", |f| text_of(f.table.as_ref()), |f, text| parse(&mut f.table, text))
        .like("billing.posts", "a table of the host's; without a schema, of any"),
    Term::new("key", |f| text_of(f.key.as_ref()), |f, text| parse(&mut f.key, text))
        .like("7", r#"a row of the table; {"order":"1","line":"7"} where its key has columns"#),
    Term::new("op", |f| f.op.map(|op| op.as_str().to_owned()), |f, text| parse(&mut f.op, text))
        .like("update", "insert, update, delete or truncate"),
    Term::new("changed", |f| f.changed.as_ref().map(|changed| changed.column.clone()), set_changed)
        .like("price", "a column that an update changed"),
    Term::new(
        "before",
        |f| f.changed.as_ref()?.before.clone(),
        |f, text| keep(&mut changed(f)?.before, text),
    )
    .like("19.90", "what the changed column was")
    .or_empty(),
    Term::new("after", |f| f.changed.as_ref()?.after.clone(), |f, text| keep(&mut changed(f)?.after, text))
        .like("21.00", "what the changed column is")
        .or_empty(),
    Term::new("actor", |f| text_of(f.actor.as_ref()), set_actor)
        .like("admin:a1", "user, admin, service_account, job or system and an id; or anonymous"),
    Term::new("action", |f| text_of(f.action.as_ref()), |f, text| parse(&mut f.action, text))
        .like("user.*", "the name of an action, or how it begins and *"),
    Term::new("status", |f| f.status.map(|status| status.as_str().to_owned()), set_status)
        .like("error", "how an action ended: ok or error"),
    Term::new("category", |f| f.category.clone(), |f, text| keep(&mut f.category, text))
        .like("billing", "the category of an action"),
    Term::new("correlation", |f| f.correlation.clone(), |f, text| keep(&mut f.correlation, text))
        .like("c-81", "what ties actions and changes together"),
    Term::new("request", |f| f.request.clone(), |f, text| keep(&mut f.request, text))
        .like("r-17", "an HTTP request"),
    Term::new("job", |f| f.job.clone(), |f, text| keep(&mut f.job, text)).like("j-3", "a background job"),
    Term::new("source", |f| f.source.clone(), |f, text| keep(&mut f.source, text))
        .like("web", "what the host calls its source"),
    Term::new("text", |f| f.text.clone(), |f, text| keep(&mut f.text, text))
        .like(r#""two words""#, "what stands anywhere in an entry; slow without a table or a window"),
    Term::new("last", last_of, set_last).like("24h", "from so long ago on: 90s, 15m, 24h, 7d, 2w"),
    Term::new("from", |f| text_of(ends_of(f).0), set_from)
        .like("2026-05-15", "from this time on: a date in UTC, or 2026-05-15T12:00:00Z"),
    Term::new("to", |f| text_of(ends_of(f).1), set_to).like("2026-05-15T12:00:00Z", "up to this time"),
];

/// All keys, as an error lists them.
pub(super) fn names() -> String {
    TERMS.each_ref().map(|term| term.key).join(", ")
}

/// All keys, in the order in which they are written.
#[must_use]
pub fn keys() -> impl ExactSizeIterator<Item = FilterKey> {
    TERMS.iter().map(|term| term.help)
}

/// What a filter says, in the order of the list.
pub(super) fn written(filter: &Filter) -> impl Iterator<Item = (&'static str, String)> {
    TERMS.iter().filter_map(|term| (term.get)(filter).map(|text| (term.key, text)))
}

/// The key of this name.
pub(super) fn key(name: &str) -> Result<&'static str, FilterError> {
    position(name).map(|position| TERMS[position].key)
}

fn position(name: &str) -> Result<usize, FilterError> {
    TERMS.iter().position(|term| term.key == name).ok_or_else(|| FilterError::unknown_key(name))
}

/// Refuses values that are written as nothing, and what PostgreSQL holds in no text.
pub(super) fn check(filter: &Filter) -> Result<(), FilterError> {
    for term in &TERMS {
        match (term.get)(filter) {
            Some(text) if text.is_empty() && !term.may_be_empty => {
                return Err(FilterError::no_value(term.key));
            }
            Some(text) if text.contains('\0') => return Err(FilterError::value(term.key, &text, NO_NUL)),
            _ => {}
        }
    }
    Ok(())
}

/// What is expected of every text: PostgreSQL would refuse the statement.
pub(super) const NO_NUL: &str = "a text without the character NUL, which PostgreSQL cannot hold";

/// The values that were given, by the positions of their keys. They may come in any order.
#[derive(Default)]
pub(super) struct Given([Option<String>; COUNT]);

impl Given {
    /// Takes one more.
    pub(super) fn add(&mut self, name: &str, value: String) -> Result<(), FilterError> {
        let position = position(name)?;
        let term = &TERMS[position];
        if value.is_empty() && !term.may_be_empty {
            return Err(FilterError::no_value(name));
        }
        match self.0[position].replace(value) {
            Some(_) => Err(FilterError::Twice(term.key.to_owned())),
            None => Ok(()),
        }
    }

    /// The filter that they make.
    pub(super) fn filter(self) -> Result<Filter, FilterError> {
        let mut filter = Filter::default();
        for (term, value) in TERMS.iter().zip(self.0) {
            if let Some(value) = value {
                (term.set)(&mut filter, &value)?;
            }
        }
        filter.check()?;
        Ok(filter)
    }
}

fn text_of(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn parse<T: FromStr<Err = FilterError>>(place: &mut Option<T>, text: &str) -> Result<(), FilterError> {
    *place = Some(text.parse()?);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "one form for all that set a term")]
fn keep(place: &mut Option<String>, text: &str) -> Result<(), FilterError> {
    *place = Some(text.to_owned());
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "one form for all that set a term")]
fn set_changed(filter: &mut Filter, column: &str) -> Result<(), FilterError> {
    filter.changed = Some(Changed { column: column.to_owned(), before: None, after: None });
    Ok(())
}

fn changed(filter: &mut Filter) -> Result<&mut Changed, FilterError> {
    const ALONE: FilterError = FilterError::Combination("before and after are of a column: say changed too");
    filter.changed.as_mut().ok_or(ALONE)
}

fn set_actor(filter: &mut Filter, text: &str) -> Result<(), FilterError> {
    const EXPECTED: &str =
        "anonymous, or TYPE:ID with user, admin, service_account, job or system as the type";
    let actor = match text.split_once(':') {
        // `anonymous:7` would be read as all that are anonymous, which is more than it says.
        Some((kind, id)) if kind != "anonymous" => {
            kind.parse().and_then(|kind| ActorRef::new(kind, Some(id))).ok()
        }
        None if text == "anonymous" => Some(ActorRef::anonymous()),
        _ => None,
    };
    filter.actor = Some(actor.ok_or_else(|| FilterError::value("actor", text, EXPECTED))?);
    Ok(())
}

fn set_status(filter: &mut Filter, text: &str) -> Result<(), FilterError> {
    let status = [Status::Ok, Status::Error].into_iter().find(|status| status.as_str() == text);
    filter.status = Some(status.ok_or_else(|| FilterError::value("status", text, "ok or error"))?);
    Ok(())
}

fn last_of(filter: &Filter) -> Option<String> {
    match filter.window {
        Window::Last(span) => Some(span.to_string()),
        _ => None,
    }
}

fn ends_of(filter: &Filter) -> (Option<Instant>, Option<Instant>) {
    match filter.window {
        Window::Between { from, to } => (from, to),
        _ => (None, None),
    }
}

/// The ends that are set so far, unless there is another window.
fn free_ends(filter: &Filter) -> Result<(Option<Instant>, Option<Instant>), FilterError> {
    match filter.window {
        Window::Last(_) => {
            Err(FilterError::Combination("last and from or to are two windows: leave one out"))
        }
        _ => Ok(ends_of(filter)),
    }
}

fn set_last(filter: &mut Filter, text: &str) -> Result<(), FilterError> {
    filter.window = Window::Last(text.parse()?);
    Ok(())
}

fn set_from(filter: &mut Filter, text: &str) -> Result<(), FilterError> {
    let (_, to) = free_ends(filter)?;
    let from: Instant = text.parse().map_err(|error: FilterError| error.of("from"))?;
    filter.window = Window::Between { from: Some(from), to };
    Ok(())
}

fn set_to(filter: &mut Filter, text: &str) -> Result<(), FilterError> {
    let (from, _) = free_ends(filter)?;
    let to = Instant::end(text).map_err(|error| error.of("to"))?;
    filter.window = Window::Between { from, to: Some(to) };
    Ok(())
}
