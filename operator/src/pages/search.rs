//! Where a search field leads: to whatever has the id, or to a filter.

use std::str::FromStr as _;

use maud::html;
use serde_json::json;
use threadline::{
    ActorRef, ActorType,
    query::{Filter, Found, PageRequest, ReadError},
};
use uuid::Uuid;

use crate::{
    Capability,
    answer::Answer,
    asked::{Answered, Asked},
    failure::Failure,
    links::Links,
    view::text,
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let text = asked.query.get("q").unwrap_or_default().trim().to_owned();
    if text.is_empty() {
        return Ok(Answer::to(asked.links.to("")));
    }
    if let Ok(id) = Uuid::try_parse(&text) {
        return of_id(&asked, &text, id).await;
    }
    let filter = Filter::from_str(&text).and_then(|filter| filter.check().map(|()| filter));
    if let Some(actor) = actor(&text) {
        // `job:` is a word of a filter too.
        let of_actor = Filter { actor: Some(actor.clone()), ..Filter::default() };
        if filter.is_err() || finds(&asked, &of_actor).await? {
            return Ok(Answer::to(asked.links.with("actor", &[("actor", &actor.to_string())])));
        }
    }
    match filter {
        Ok(filter) => Ok(Answer::to(asked.links.filtered("timeline", &filter, &[]))),
        Err(error) => match text.split_once(':') {
            // A key that no filter has is a table's name. A correlation id may hold anything.
            Some((table, key)) if error.term() == "unknown_filter" && !key.is_empty() => {
                if !is_row(&asked, table, key).await? && ties(&asked, &text).await? {
                    return Ok(correlation(&asked, &text));
                }
                Ok(Answer::to(asked.links.with("row", &[("table", table), ("key", key)])))
            }
            _ if ties(&asked, &text).await? => Ok(correlation(&asked, &text)),
            None => of_words(&asked, &text).await,
            _ => Err(error.into()),
        },
    }
}

fn correlation(asked: &Asked, id: &str) -> Answer {
    Answer::to(asked.links.with("correlation", &[("correlation", id)]))
}

/// Whether this correlation id ties something together.
async fn ties(asked: &Asked, id: &str) -> Result<bool, Failure> {
    let filter = Filter { correlation: Some(id.to_owned()), ..Filter::default() };
    if filter.check().is_err() {
        return Ok(false);
    }
    finds(asked, &filter).await
}

/// Whether a filter finds anything.
async fn finds(asked: &Asked, filter: &Filter) -> Result<bool, Failure> {
    let request = PageRequest { size: 1, ..PageRequest::default() };
    Ok(!asked.reader().page(filter, &request).await?.entries.is_empty())
}

/// What was typed without saying what it is: the one thing that has it, or a choice.
async fn of_words(asked: &Asked, typed: &str) -> Answered {
    let mut found = Vec::new();
    for filter in readings(typed) {
        if finds(asked, &filter).await? {
            found.push(filter);
        }
    }
    if let [only] = &found[..] {
        return Ok(Answer::to(way(&asked.links, only)));
    }
    let anywhere = Filter { text: Some(typed.to_owned()), ..Filter::default() };
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    asked.answer("What is it?", &json!({"found": texts, "text": anywhere.to_string()}), |view| {
        html! {
            @if found.is_empty() {
                p { "No table, action, actor or correlation id that you may see is called " code { (text::line(typed)) } "." }
            } @else {
                p { "Several things are called " code { (text::line(typed)) } ":" }
                ul { @for filter in &found { li { a href=(way(view.links, filter)) { code { (text::line(&filter.to_string())) } } } } }
            }
            p { a href=(view.links.filtered("timeline", &anywhere, &[])) { "Entries in which it stands somewhere" } }
            p { a href=(view.links.to("timeline")) { "The timeline" } }
        }
    })
}

/// Kinds of actors that have ids.
const NAMED: [ActorType; 5] =
    [ActorType::User, ActorType::Admin, ActorType::ServiceAccount, ActorType::Job, ActorType::System];

/// What words may be the name of: a table, an action, how actions begin, an actor of each kind.
fn readings(text: &str) -> Vec<Filter> {
    let action = |name: &str| Some(Filter { action: Some(name.parse().ok()?), ..Filter::default() });
    let actor =
        |kind| Some(Filter { actor: Some(ActorRef::new(kind, Some(text)).ok()?), ..Filter::default() });
    let table = text.parse().ok().map(|table| Filter { table: Some(table), ..Filter::default() });
    let actions = [action(text), action(&format!("{text}.*"))];
    let actors = NAMED.map(actor);
    let readings = [table].into_iter().chain(actions).chain(actors).flatten();
    readings.filter(|filter| filter.check().is_ok()).collect()
}

/// Where a reading is shown.
fn way(links: &Links, filter: &Filter) -> String {
    filter.actor.as_ref().map_or_else(
        || links.filtered("timeline", filter, &[]),
        |actor| links.with("actor", &[("actor", &actor.to_string())]),
    )
}

/// Whether there is a table of this name; what else is wrong with a row, its page says.
async fn is_row(asked: &Asked, table: &str, key: &str) -> Result<bool, Failure> {
    let (Ok(table), Ok(key)) = (table.parse(), key.parse()) else { return Ok(false) };
    match asked.reader().row(&table, &key).await {
        Err(error) if error.term() == Some("table_unknown") => Ok(false),
        Err(ReadError::Database(error)) => Err(error.into()),
        _ => Ok(true),
    }
}

/// `user:u1`, whatever the id holds.
fn actor(text: &str) -> Option<ActorRef> {
    if text == ActorType::Anonymous.as_str() {
        return Some(ActorRef::anonymous());
    }
    let (kind, id) = text.split_once(':')?;
    let kind = kind.parse().ok()?;
    ActorRef::new(kind, Some(id)).ok()
}

async fn of_id(asked: &Asked, text: &str, id: Uuid) -> Answered {
    match asked.reader().find(id).await? {
        Some(Found::Transaction(_)) => Ok(Answer::to(asked.links.to(&format!("transactions/{id}")))),
        Some(Found::Recorded(_)) => Ok(Answer::to(asked.links.to(&format!("actions/{id}")))),
        Some(Found::Change(change)) => Ok(Answer::to(format!(
            "{}#{id}",
            asked.links.to(&format!("transactions/{}", change.transaction_id))
        ))),
        // An id may tie actions together, and be of nothing itself.
        Some(_) | None => {
            // It is a text there, of which a uuid is one way to write it.
            for one in [text, &id.to_string()] {
                if ties(asked, one).await? {
                    return Ok(correlation(asked, one));
                }
            }
            asked.answer("Nothing has this id", &json!({"found": null}), |view| html! {
                p { "No transaction, change, action or event that you may see has the id " code { (text) } ", and nothing is tied together by it." }
                p { "It may be older than what is kept, or of a row: look for that with its table, such as " code { "posts:" (text) } "." }
                @if asked.may(Capability::Pipeline) { p { "If it is an event: " a href=(view.links.to(&format!("events/{id}"))) { "its way through the pipeline" } "." } }
                p { a href=(view.links.to("timeline")) { "The timeline" } }
            })
        }
    }
}
