//! A row through time: what happened to it, what it was at a time, who set each column, and what is not known.

mod compare;
mod marks;
mod state;

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    capture::Policy,
    coverage::stored_policy,
    query::{
        Change, Entry, Filter, From, Reader, Window,
        row::{Row, RowHistory, RowPage},
    },
};

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{
        View, command, empty, list,
        pager::{nothing_newer, pager},
        text,
    },
};
use compare::Compared;
use marks::Marks;
use state::State;

/// Changes of a page.
const CHANGES: u16 = 50;

/// What the page is made of.
#[derive(Serialize)]
struct Data<'d> {
    #[serde(flatten)]
    history: &'d RowHistory,
    /// What it was at the time that was asked for, or is.
    as_of: &'d State,
    compared: Option<&'d Compared>,
    marks: &'d Marks,
    /// What of its table is not stored as it is.
    policy: Option<Hidden<'d>>,
}

/// The columns that a policy names.
#[derive(Serialize)]
struct Hidden<'d> {
    excluded: &'d [String],
    masked: &'d [String],
    hashed: &'d [String],
    /// Places in documents that are masked: the column, and keys below it.
    paths: &'d [Vec<String>],
}

impl<'d> Hidden<'d> {
    fn of(policy: &'d Policy) -> Self {
        Self { excluded: &policy.exclude, masked: &policy.mask, hashed: &policy.hash, paths: &policy.paths }
    }
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter_of(&["table", "key", "last", "from", "to"])?;
    let (Some(table), Some(key)) = (&filter.table, &filter.key) else {
        return Err(Failure::unusable(
            "row_incomplete",
            "A row is a table and a key: row?table=posts&key=7.",
        ));
    };
    let reader = asked.reader();
    let row = reader.row(table, key).await?;
    let request = RowPage { size: CHANGES, from: asked.from()?, window: filter.window };
    let history = reader.row_history(&row, &request).await?;
    let state = State::read(&asked, &reader, &row).await?;
    let (marks, policy) = around(&reader, &row).await?;
    let compared = Compared::read(&asked, &reader, &row, &history, policy.as_ref()).await?;
    let data = Data {
        history: &history,
        as_of: &state,
        compared: compared.as_ref(),
        marks: &marks,
        policy: policy.as_ref().map(Hidden::of),
    };
    asked.answer("Row", &data, |view| {
        let shown =
            Shown { view, filter: &filter, from: &request.from, history: &history, policy: policy.as_ref() };
        html! {
            p.identity { code { (text::line(&row.to_string())) } }
            (shown.keys())
            (marks::shown(view, &marks))
            (shown.hidden())
            (state::shown(&shown, &state))
            (compare::shown(&shown, compared.as_ref()))
            (shown.changes())
            (commands(&filter, &state))
        }
    })
}

async fn around(reader: &Reader, row: &Row) -> Result<(Marks, Option<Policy>), Failure> {
    Ok((Marks::read(reader, row).await?, stored_policy(reader, &row.table()).await?))
}

/// What the parts of the page have in common.
struct Shown<'s> {
    view: &'s View<'s>,
    filter: &'s Filter,
    from: &'s From,
    history: &'s RowHistory,
    policy: Option<&'s Policy>,
}

impl Shown<'_> {
    /// A link to this page with more behind it.
    fn own(&self, pairs: &[(&str, &str)]) -> String {
        self.view.links.filtered("row", self.filter, pairs)
    }

    /// The fields that a form of this page carries along.
    fn fields(&self) -> Markup {
        let query = threadline::query::filter::url::to_query(self.filter);
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        html! { @for (name, value) in &pairs { input type="hidden" name=(name) value=(threadline::visible::text(value)); } }
    }

    /// The keys that the row has had.
    fn keys(&self) -> Markup {
        let spans = &self.history.keys;
        html! {
            @if spans.len() > 1 {
                p.keys {
                    "Its key was changed. It was "
                    @for (number, span) in spans.iter().enumerate() {
                        @if number > 0 { ", " }
                        code { (text::line(&serde_json::to_string(&span.key).unwrap_or_default())) }
                        @if let Some(from) = span.from { " from " (self.view.time(from)) }
                        @if let Some(to) = span.to { " to " (self.view.time(to)) }
                    }
                    @if self.history.has_more_keys { ", and more that were not followed" }
                    "."
                }
            }
        }
    }

    /// What is not stored as it is.
    fn hidden(&self) -> Markup {
        let Some(policy) = self.policy else { return html! {} };
        let names = |names: &[String]| text::cut(&names.join(", "), 500);
        html! {
            @if !policy.exclude.is_empty() { p.hidden { span.excluded { "not stored" } " " (names(&policy.exclude)) } }
            @if !policy.mask.is_empty() { p.hidden { span.masked { "masked" } " " (names(&policy.mask)) } }
            @if !policy.hash.is_empty() { p.hidden { span.hashed { "hashed" } " " (names(&policy.hash)) } }
            @if !policy.paths.is_empty() {
                @let paths: Vec<String> = policy.paths.iter().map(|path| path.join(".")).collect();
                p.hidden { span.masked { "masked" } " in documents: " (names(&paths)) }
            }
        }
    }

    /// Why nothing happened to it.
    fn nothing(&self) -> Markup {
        if let Some(nothing) = nothing_newer(self.from, &self.own(&[])) {
            return nothing;
        }
        if self.filter.window != Window::Everything {
            let all = self.filter.clone().within(Window::Everything);
            return empty(
                "Nothing happened to it in this window",
                &html! { "Nothing that you may see fits in this time. " a href=(self.view.links.filtered("row", &all, &[])) { "Look at all times" } "." },
            );
        }
        empty(
            "Nothing is recorded of this row",
            &html! { "It never was, its table is not captured, its changes were purged, or you may not see them." },
        )
    }

    fn changes(&self) -> Markup {
        let entries: Vec<Entry> =
            self.history.changes.iter().map(|change| Entry::Change(Box::new(change.clone()))).collect();
        html! {
            section aria-labelledby="history" {
                h2 #history { "What happened to it" }
                @if entries.is_empty() { (self.nothing()) } @else { (list::entries_under(self.view, &entries, self.policy)) }
                (pager(self.from, self.history.newer.as_ref(), self.history.older.as_ref(), &self.own(&[]), |name, cursor| self.own(&[(name, cursor)])))
            }
        }
    }
}

/// What happened, when, and who: of a change, on a line.
fn by(view: &View<'_>, change: &Change) -> Markup {
    html! {
        (crate::view::op(&change.op)) " " (view.time(change.captured_at)) " "
        (view.actor(change.transaction.as_ref().and_then(|transaction| transaction.actor_ref.as_ref()))) " "
        @if let Some(action) = &change.action { (list::action_link(view, action)) " " }
        a href=(view.links.to(&format!("transactions/{}#{}", change.transaction_id, change.id))) { "change" }
    }
}

fn commands(filter: &Filter, state: &State) -> Markup {
    let of = |name: &str| {
        let (Some(table), Some(key)) = (&filter.table, &filter.key) else { return String::new() };
        command::of_row(&format!("threadline {name}"), &table.to_string(), &key.to_string())
    };
    let blame = state.at().map_or_else(|| of("blame"), |at| of(&command::of("blame --at", at)));
    html! {
        section aria-labelledby="commands" {
            h2 #commands { "As commands" }
            (command::shown("History", &of("history")))
            (command::shown("Who set each column", &blame))
            @if let Some(change) = state.change() {
                (command::shown("SQL that would undo what made it so, to be read before it is run", &format!("threadline undo-plan {}", change.id)))
            }
        }
    }
}
