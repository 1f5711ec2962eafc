//! Lists, read page after page until there is enough.

use std::io::{self, IsTerminal as _, Write as _};

use threadline::query::{Cursor, From, PAGE_SIZE_MAX, Page, ReadError, Reader};
use time::OffsetDateTime;

use crate::cli::answer::Failure;

use super::{arguments::Paging, render, session::Session};

/// A page of whatever is listed.
pub(super) struct Part<T> {
    pub(super) rows: Vec<T>,
    pub(super) has_more: bool,
    pub(super) older: Option<Cursor>,
    pub(super) newer: Option<Cursor>,
    /// The search stopped here, and goes on with the next page.
    pub(super) visited_to: Option<OffsetDateTime>,
}

impl std::convert::From<Page> for Part<threadline::query::Entry> {
    fn from(page: Page) -> Self {
        let Page { entries, has_more, older, newer, visited_to } = page;
        Self { rows: entries, has_more, older, newer, visited_to }
    }
}

/// How a list ended.
pub(super) struct End {
    /// Rows that were read.
    pub(super) count: usize,
    /// For more rows in the direction of the list; none where there are none.
    pub(super) next: Option<Cursor>,
    /// A signal came first.
    pub(super) was_stopped: bool,
}

/// Reads page after page and hands each over, until there is enough, nothing is left, or a signal comes. Older pages come from the
/// newest on; newer ones from the oldest on, each with its newest row first.
pub(super) async fn gather<T>(
    session: &mut Session,
    paging: &Paging,
    mut read: impl AsyncFnMut(&Reader, From, u16) -> Result<Part<T>, ReadError>,
    mut take: impl FnMut(Vec<T>) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let mut end = End { count: 0, next: paging.cursor.clone(), was_stopped: false };
    let progress = Progress::new();
    let limit = usize::try_from(paging.limit).unwrap_or(usize::MAX);
    while end.count < limit {
        let from = match (&end.next, paging.newer) {
            (None, _) => From::Newest,
            (Some(cursor), false) => From::OlderThan(cursor.clone()),
            (Some(cursor), true) => From::NewerThan(cursor.clone()),
        };
        let size = u16::try_from(limit - end.count).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX);
        let part = session.answer_or_stop(async |reader| read(reader, from, size).await).await?;
        let Some(part) = part else {
            end.was_stopped = true;
            return Ok(end);
        };
        end.count += part.rows.len();
        take(part.rows)?;
        let next = if paging.newer { part.newer } else { part.older };
        end.next = next.filter(|_| part.has_more);
        if end.next.is_none() {
            break;
        }
        if let Some(at) = part.visited_to {
            progress.show(at, end.count);
        }
    }
    Ok(end)
}

/// How far a long search has come, on a line of a terminal that goes away again.
struct Progress {
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    fn show(&self, at: OffsetDateTime, found: usize) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[Kfound {found}, read back to {}", render::time(at));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
