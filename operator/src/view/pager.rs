//! To older and newer entries: links, so that the way back is the browser's own.

use maud::{Markup, html};
use threadline::query::{Cursor, From};

use crate::view::empty;

/// The links below a list that begins at `from`, where it has more than this page; `link` makes one of a page that begins at a cursor.
pub(crate) fn pager(
    from: &From,
    newer: Option<&Cursor>,
    older: Option<&Cursor>,
    newest: &str,
    link: impl Fn(&str, &str) -> String,
) -> Markup {
    // Before the newest, there is nothing that is known already.
    let newer = newer.filter(|_| !matches!(from, From::Newest));
    html! {
        @if newer.is_some() || older.is_some() {
            nav.pager aria-label="More entries" {
                @if let Some(cursor) = newer {
                    a href=(newest) { "Newest" }
                    a rel="prev" href=(link("newer", &cursor.to_string())) { "Newer" }
                }
                @if let Some(cursor) = older { a rel="next" href=(link("older", &cursor.to_string())) { "Older" } }
            }
        }
    }
}

/// In place of a list that is empty because nothing newer has happened; none where it is empty for another reason.
pub(crate) fn nothing_newer(from: &From, newest: &str) -> Option<Markup> {
    let is_ahead = matches!(from, From::NewerThan(_));
    is_ahead.then(|| {
        empty(
            "Nothing newer yet",
            &html! { "What was shown last is the newest. " a href=(newest) { "Look at the newest" } "." },
        )
    })
}
