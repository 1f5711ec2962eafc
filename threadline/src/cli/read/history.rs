//! `threadline history`: what happened to one row.

use threadline::query::{
    Change, Entry, Filter, Key, ReadError, Reader, Table,
    row::{Row, RowHistory, RowPage},
};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Explain, Form, Format, Paging},
    explain::explain,
    gather::Part,
    list,
    render::{key_of_texts, note, time},
    session::{Session, reading},
    words, write,
};

/// Which row.
#[derive(Debug, clap::Args)]
pub(crate) struct RowArguments {
    /// The table: posts, or billing.posts where several schemas have one.
    #[arg(value_name = "TABLE", value_parser = words::table)]
    pub(super) table: Table,
    /// The key of the row: its value, or {"order":"1","line":"7"} where it has several columns.
    #[arg(value_name = "KEY", allow_negative_numbers = true, value_parser = words::key)]
    pub(super) key: Key,
}

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    row: RowArguments,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    explain: Explain,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let RowArguments { table, key } = &arguments.row;
    let format = arguments.form.format();
    reading(target, async |session| {
        let row = session.answer(async |reader| reader.row(table, key).await).await?;
        let request = |from, size| RowPage { size, from, ..RowPage::default() };
        if arguments.explain.explain {
            let request = request(arguments.paging.from(), arguments.paging.size());
            let asked =
                asked(session, async |reader| reader.row_history(&row, &request).await.map(drop)).await?;
            return explain(session, &asked, format).await;
        }
        let mut keys = Keys::default();
        let form = write::Form::of_entries(format, false);
        let end = write::list(session, &arguments.paging, &form, async |reader, from, size| {
            let history = reader.row_history(&row, &request(from, size)).await?;
            keys.read(&history);
            Ok(part(history))
        })
        .await?;
        if format == Format::Human {
            keys.tell_apart(&row);
        }
        let filter = Filter { table: Some(table.clone()), key: Some(key.clone()), ..Filter::default() };
        list::finish(session, end, &arguments.paging, &filter).await
    })
}

/// The statements of a question.
pub(super) async fn asked(
    session: &mut Session,
    question: impl AsyncFnOnce(&Reader) -> Result<(), ReadError>,
) -> Result<Vec<threadline::query::Statement>, Failure> {
    session
        .answer(async |reader| {
            let reader = reader.keeping_statements();
            question(&reader).await?;
            Ok(reader.asked())
        })
        .await
}

fn part(history: RowHistory) -> Part<Entry> {
    let RowHistory { changes, has_more, older, newer, .. } = history;
    Part { rows: entries(changes), has_more, older, newer, visited_to: None }
}

/// Changes as entries of a timeline.
pub(super) fn entries(changes: Vec<Change>) -> Vec<Entry> {
    changes.into_iter().map(|change| Entry::Change(Box::new(change))).collect()
}

/// The keys that the row has had.
#[derive(Default)]
struct Keys {
    said: Vec<String>,
    has_more: bool,
}

impl Keys {
    fn read(&mut self, history: &RowHistory) {
        let said = history.keys.iter().map(|span| {
            let from = span.from.map(|from| format!(" from {}", time(from)));
            let to = span.to.map(|to| format!(" to {}", time(to)));
            key_of_texts(&span.key) + &from.unwrap_or_default() + &to.unwrap_or_default()
        });
        (self.said, self.has_more) = (said.collect(), history.has_more_keys);
    }

    /// Says that several keys were those of the row.
    fn tell_apart(&self, row: &Row) {
        if self.said.len() > 1 {
            let more = if self.has_more { ", and more that were not followed" } else { "" };
            note(&format!("the key of {row} was changed; it was {}{more}", self.said.join(", ")));
        }
    }
}
