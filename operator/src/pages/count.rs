//! How many entries a filter finds: asked for beside the page, which does not wait for it; a page of its own where no script asks.

use maud::html;
use threadline::query::Count;

use crate::{
    answer::Answer,
    asked::{Answered, Asked},
    view::amount::grouped,
};

pub(crate) async fn page(asked: Asked) -> Answered {
    let filter = asked.query.filter()?;
    let count = asked.reader().count(&filter).await?;
    let text = match count {
        Count::Exactly(1) => "1 entry".to_owned(),
        Count::Exactly(entries) => format!("{} entries", grouped(entries)),
        Count::MoreThan(entries) => format!("{}+ entries", grouped(entries)),
        Count::Unknown => "more than can be counted in half a second".to_owned(),
    };
    if asked.query.is("part", "1") {
        return Ok(Answer::Part(html! { (text) }));
    }
    asked.answer("Count", &count, |view| {
        html! { p { (text) ". " a href=(view.links.filtered("timeline", &filter, &[])) { "Which they are" } } }
    })
}
