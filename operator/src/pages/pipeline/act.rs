//! Something that operators did to the pipeline, or a service by itself.

use common::process::operator_log;
use maud::html;

use super::parts;
use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    source,
    view::{facts, text},
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let id: i64 = asked.query.get("id").and_then(|id| id.parse().ok()).ok_or(Failure::NotFound)?;
    let mut session = asked.source()?.read().await?;
    let act =
        operator_log::recorded(&mut session, id).await.map_err(source::failure)?.ok_or(Failure::NotFound)?;
    asked.answer("What was done", &act, |view| {
        let shown = |value: &Option<String>| value.as_ref().map(|value| text::cut(value, 1_000));
        html! {
            (facts(&[
                ("Number", Some(html! { (act.id) })),
                ("What", Some(text::line(&act.kind))),
                ("When", Some(parts::exact_time(view, &act.at))),
                ("Who", Some(text::cut(&act.actor, 500))),
                ("Which", shown(&act.filter)),
                ("Rows", act.count.map(|count| parts::more(count, i64::MAX))),
                ("Reason", shown(&act.reason)),
            ]))
            @if act.kind == "redrive" {
                p { "What is delivered leaves the failures. "
                    a href=(view.links.with("pipeline/failures", &[("state", "queued")])) { "What is still on its way" } ", "
                    a href=(view.links.with("pipeline/failures", &[("state", "dead")])) { "what is dead, again or still" } "." }
            }
        }
    })
}
