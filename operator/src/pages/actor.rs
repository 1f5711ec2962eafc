//! What an actor did: in numbers, and their transactions.

use maud::{Markup, html};
use serde::Serialize;
use threadline::{
    ActorRef, ActorType, Status,
    query::{
        Activity, Filter, Frequency, Kind, PageRequest, Table, TransactionPage, TransactionSummary, Window,
    },
};

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{
        View, command, empty, facts,
        list::action_link,
        pager::{nothing_newer, pager},
        status, text,
    },
};

/// Lengths of time that a click is enough for.
const SPANS: [&str; 4] = ["1h", "24h", "7d", "30d"];

/// What the page is made of.
#[derive(Serialize)]
struct Data<'d> {
    #[serde(flatten)]
    found: &'d TransactionPage,
    /// None where counting took too long.
    activity: Option<&'d Activity>,
}

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter_of(&["actor", "last", "from", "to"])?;
    let Some(actor) = &filter.actor else {
        return Err(Failure::unusable("actor_missing", "Say who: actor?actor=user:u1."));
    };
    let request = PageRequest { size: asked.size()?, from: asked.from()?, ..PageRequest::default() };
    let reader = asked.reader();
    let found = reader.actor_history(actor, filter.window, &request).await?;
    let activity = match reader.activity(actor, filter.window).await {
        Ok(activity) => Some(activity),
        Err(error) => match Failure::from(error) {
            Failure::TooSlow => None,
            Failure::Refused { term, .. } if term == "took_too_long" => None,
            failure => return Err(failure),
        },
    };
    asked.answer("Actor", &Data { found: &found, activity: activity.as_ref() }, |view| {
        let own = |pairs: &[(&str, &str)]| view.links.filtered("actor", &filter, pairs);
        html! {
            p.identity { code { (text::line(&actor.to_string())) } " " a href=(view.links.filtered("timeline", &filter, &[])) { "On the timeline" } }
            @if actor.kind() == ActorType::Anonymous {
                p { "Anonymous is what the program said when nobody was logged in. It is not one person. Transactions of which it said nothing are not here: the timeline shows them as \"nobody known\"." }
            }
            (windows(view, &filter))
            @match &activity {
                Some(activity) => { (numbers(view, &filter, activity)) },
                None => { p.none { "Counting took too long: a shorter window makes it faster." } },
            }
            h2 { "Transactions" }
            @if !found.transactions.is_empty() {
                ol.entries { @for one in &found.transactions { li { (transaction(view, one)) } } }
            } @else if let Some(nothing) = nothing_newer(&request.from, &own(&[])) {
                (nothing)
            } @else {
                (nothing(view, actor, &filter, activity.as_ref()))
            }
            (pager(&request.from, found.newer.as_ref(), found.older.as_ref(), &own(&[]), |name, cursor| own(&[(name, cursor)])))
            (command::shown("As a command", &command::of("threadline timeline", &filter.to_string())))
        }
    })
}

fn windows(view: &View<'_>, filter: &Filter) -> Markup {
    let within = |text: &str| text.parse().map(|span| filter.clone().within(Window::Last(span)));
    let all = filter.clone().within(Window::Everything);
    html! {
        ul.windows aria-label="Window" {
            @for span in SPANS {
                @if let Ok(within) = within(span) {
                    @let current = (within.window == filter.window).then_some("true");
                    li { a href=(view.links.filtered("actor", &within, &[])) aria-current=[current] { "Last " (span) } }
                }
            }
            @let current = (filter.window == Window::Everything).then_some("true");
            li { a href=(view.links.filtered("actor", &all, &[])) aria-current=[current] { "All" } }
        }
    }
}

fn numbers(view: &View<'_>, filter: &Filter, activity: &Activity) -> Markup {
    let Activity {
        first_seen,
        last_seen,
        transactions,
        actions,
        errors,
        is_bounded,
        by_action,
        by_table,
        has_more_changes,
    } = activity;
    let failed = Filter { kind: Some(Kind::Recorded), status: Some(Status::Error), ..filter.clone() };
    let more = if *is_bounded { "+" } else { "" };
    let more_changes = if *has_more_changes { "+" } else { "" };
    html! {
        (facts(&[
            ("First seen", first_seen.map(|at| view.exact_time(at))),
            ("Last seen", last_seen.map(|at| view.exact_time(at))),
            ("Transactions", Some(html! { (transactions) (more) })),
            ("Actions", Some(html! { (actions) (more) })),
            ("Failed", Some(html! { a href=(view.links.filtered("timeline", &failed, &[])) { (errors) (more) } })),
        ]))
        @if *is_bounded { p.none { "Of this window only the newest 1,000 transactions and actions were counted." } }
        @if *has_more_changes { p.none { "Of each transaction 100 changes were counted; those with more have changed tables more often than this table says." } }
        div.frequencies {
            (frequencies("Actions by name", by_action, "", |name| {
                let name = name.parse().ok()?;
                Some(view.links.filtered("timeline", &Filter { action: Some(name), ..filter.clone() }, &[]))
            }))
            (frequencies("Changes by table", by_table, more_changes, |table| {
                let table = table.split_once('.').map(|(schema, name)| Table { schema: Some(schema.to_owned()), name: name.to_owned() })?;
                let filter = Filter { table: Some(table), kind: Some(Kind::Change), ..filter.clone() };
                filter.check().ok()?;
                Some(view.links.filtered("timeline", &filter, &[]))
            }))
        }
    }
}

fn frequencies(
    title: &str,
    frequencies: &[Frequency],
    more: &str,
    link: impl Fn(&str) -> Option<String>,
) -> Markup {
    html! {
        @if !frequencies.is_empty() {
            table.frequency {
                caption { (title) }
                thead { tr { th scope="col" { "Name" } th scope="col" { "How often" } th scope="col" { "Failed" } } }
                tbody {
                    @for frequency in frequencies {
                        tr {
                            th scope="row" { @match link(&frequency.name) { Some(link) => { a href=(link) { (text::line(&frequency.name)) } }, None => { (text::line(&frequency.name)) } } }
                            td { (frequency.count) (more) }
                            td { (frequency.errors) }
                        }
                    }
                }
            }
        }
    }
}

/// Why there is no transaction.
fn nothing(view: &View<'_>, actor: &ActorRef, filter: &Filter, activity: Option<&Activity>) -> Markup {
    let last = activity.and_then(|activity| activity.last_seen);
    if filter.window != Window::Everything {
        let all = Filter { actor: Some(actor.clone()), ..Filter::default() };
        return empty(
            "No transactions in this window",
            &html! {
                @if let Some(last) = last { "This actor was last seen " (view.exact_time(last)) ". " }
                a href=(view.links.filtered("actor", &all, &[])) { "Look at all times" } "."
            },
        );
    }
    if last.is_some() {
        return empty(
            "No transactions",
            &html! { "This actor changed no captured row that you may see, or its changes were purged. Actions of theirs without a change are on the " a href=(view.links.filtered("timeline", filter, &[])) { "timeline" } "." },
        );
    }
    empty(
        "Never seen",
        &html! { "Nothing that you may see was done by this actor. Is the reference right? It is a type and an id, such as " code { "user:u1" } ": user, admin, service_account, job, system, or anonymous without an id." },
    )
}

fn transaction(view: &View<'_>, one: &TransactionSummary) -> Markup {
    html! {
        article.entry tabindex="-1" {
            p.line {
                (view.time(one.transaction.occurred_at)) " " (view.id_link("transactions", one.transaction.id)) " "
                @if let Some(action) = &one.action { (action_link(view, action)) " " (status(&action.status)) " " }
                (one.changes) @if one.changes == 1 { " change" } @else { " changes" }
                @if !one.tables.is_empty() { " in " (text::line(&one.tables.join(", "))) }
            }
        }
    }
}
