//! Everything that one correlation id ties together.

use maud::html;
use threadline::query::PageRequest;

use crate::{
    asked::{Answered, Asked},
    failure::Failure,
    view::{
        command, copy, empty, list,
        pager::{nothing_newer, pager},
        text,
    },
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter()?;
    let Some(id) = &filter.correlation else {
        return Err(Failure::unusable("correlation_missing", "Say which: correlation?correlation=ID."));
    };
    let request = PageRequest {
        size: asked.size()?,
        from: asked.from()?,
        by_transaction: true,
        ..PageRequest::default()
    };
    let page = asked.reader().page(&filter, &request).await?;
    asked.answer("Correlation", &page, |view| {
        let own = |pairs: &[(&str, &str)]| view.links.filtered("correlation", &filter, pairs);
        html! {
            p.identity { code { (text::line(id)) } " " (copy("id", id)) }
            @if !page.entries.is_empty() {
                (list::entries(view, &page.entries))
            } @else if let Some(nothing) = nothing_newer(&request.from, &own(&[])) {
                (nothing)
            } @else {
                (empty("Nothing is tied together by this id", &html! { "No change, action or event that you may see has it." }))
            }
            (command::export(&filter))
            (pager(&request.from, page.newer.as_ref(), page.older.as_ref(), &own(&[]), |name, cursor| own(&[(name, cursor)])))
        }
    })
}
