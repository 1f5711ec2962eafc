//! Lists as they are written: as pages come, or when all are there.

use serde::Serialize;
use threadline::query::{Entry, From, ReadError, Reader};

use crate::cli::answer::Failure;

use super::{
    arguments::{Format, Paging},
    gather::{End, Part, gather},
    render::{self, Tabs, put},
    session::Session,
};

/// How rows of a kind are written.
pub(super) struct Form<T: 'static> {
    pub(super) format: Format,
    pub(super) human: fn(&[T]) -> String,
    pub(super) tabs: Tabs<T>,
}

impl Form<Entry> {
    /// Of entries.
    pub(super) fn of_entries(format: Format, by_transaction: bool) -> Self {
        let human = if by_transaction { render::by_transaction } else { render::of_entries };
        Self { format, human, tabs: render::entry_columns() }
    }
}

impl<T: Serialize> Form<T> {
    fn text(&self, rows: &[T]) -> Result<String, Failure> {
        Ok(match self.format {
            Format::Human => (self.human)(rows),
            Format::Json => rows
                .iter()
                .map(render::json)
                .collect::<Result<Vec<_>, _>>()
                .map_err(anyhow::Error::new)?
                .concat(),
            Format::Tabs => rows.iter().fold(String::new(), |text, row| text + &self.tabs.line(row)),
        })
    }
}

/// Reads and writes a list.
pub(super) async fn list<T: Serialize>(
    session: &mut Session,
    paging: &Paging,
    form: &Form<T>,
    read: impl AsyncFnMut(&Reader, From, u16) -> Result<Part<T>, ReadError>,
) -> Result<End, Failure> {
    if form.format == Format::Tabs {
        put(&form.tabs.header())?;
    }
    // A table is as wide as its widest cells, and newer pages come the other way.
    let waits = form.format == Format::Human || paging.newer;
    let mut kept: Vec<Vec<T>> = Vec::new();
    let take = |rows: Vec<T>| {
        if waits {
            kept.push(rows);
            return Ok(());
        }
        Ok(put(&form.text(&rows)?)?)
    };
    let end = gather(session, paging, read, take).await?;
    if paging.newer {
        kept.reverse();
    }
    let rows: Vec<T> = kept.into_iter().flatten().collect();
    put(&form.text(&rows)?)?;
    Ok(end)
}

/// A document as the answer.
pub(in crate::cli) fn document(document: &impl Serialize) -> Result<(), Failure> {
    Ok(put(&render::json(document).map_err(anyhow::Error::new)?)?)
}

/// Rows of tabs as the answer.
pub(in crate::cli) fn tabs<T>(columns: &Tabs<T>, rows: &[T]) -> Result<(), Failure> {
    Ok(put(&rows.iter().fold(columns.header(), |text, row| text + &columns.line(row)))?)
}
