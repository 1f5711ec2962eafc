//! `threadline timeline` and `threadline actions`: entries, the newest first.

use threadline::query::{Count, Entry, Filter, PageRequest};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Form, Format, Paging, Words},
    explain::explain,
    gather::{End, Part, gather},
    hint, refused_filter,
    render::{self, note, put},
    session::{Session, interrupted, reading, refused},
    words,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    paging: Paging,
    /// Together what was written in one transaction, with a line about it.
    #[arg(long)]
    by_transaction: bool,
    /// Prints how many there are, up to 10,000, instead.
    #[arg(long, conflicts_with_all = ["limit", "cursor", "newer", "by_transaction", "explain"])]
    count: bool,
    #[command(flatten)]
    form: Form,
}

/// What of the timeline a command lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    Everything,
    Actions,
}

pub(crate) fn run(target: Target, arguments: &Arguments, listed: Listed) -> Result<Answer, Failure> {
    let filter = match listed {
        Listed::Everything => words::filter(&arguments.words.filter),
        Listed::Actions => words::filter_of_actions(&arguments.words.filter),
    };
    let filter = filter.map_err(|error| refused_filter(&error))?;
    reading(target, async |session| {
        if arguments.count {
            count(session, &filter, arguments.form.format()).await
        } else if arguments.form.explain {
            let request = arguments.request(arguments.paging.from(), arguments.paging.size());
            let statements = session.answer(async |reader| reader.statements(&filter, &request).await).await?;
            explain(session, &statements, arguments.form.format()).await
        } else {
            list(session, &filter, arguments).await
        }
    })
}

impl Arguments {
    fn request(&self, from: threadline::query::From, size: u16) -> PageRequest {
        PageRequest { size, from, by_transaction: self.by_transaction, ..PageRequest::default() }
    }
}

async fn list(session: &mut Session, filter: &Filter, arguments: &Arguments) -> Result<u8, Failure> {
    let mut writer = Writer::new(arguments.form.format(), arguments.paging.newer, arguments.by_transaction);
    writer.begin()?;
    let end = gather(
        session,
        &arguments.paging,
        async |reader, from, size| reader.page(filter, &arguments.request(from, size)).await.map(Part::from),
        |entries| writer.take(entries),
    )
    .await?;
    writer.finish()?;
    if end.count == 0 && end.stopped.is_none() {
        session.answer(async |reader| hint::nothing(reader, filter).await).await?;
    }
    finish(&end, &arguments.paging, arguments.form.format())
}

/// Says how a list goes on.
pub(super) fn finish(end: &End, paging: &Paging, format: Format) -> Result<u8, Failure> {
    let direction = if paging.newer { "newer" } else { "older" };
    if let Some(cursor) = end.next.as_ref().filter(|_| format == Format::Human || end.stopped.is_some()) {
        note(&format!("{direction}: {}", hint::command(cursor)));
    }
    match end.stopped {
        None => Ok(0),
        Some(_) => Err(interrupted()),
    }
}

async fn count(session: &mut Session, filter: &Filter, format: Format) -> Result<u8, Failure> {
    let count = session.answer(async |reader| reader.count(filter).await).await?;
    let text = match (format, count) {
        (Format::Json, _) => render::json(&count).map_err(anyhow::Error::new)?,
        (Format::Human, Count::Exactly(entries)) => format!("{entries}\n"),
        (Format::Human, Count::MoreThan(entries)) => format!("more than {entries}\n"),
        (Format::Human, Count::Unknown) => {
            "unknown: counting took too long; a window such as last:24h makes it shorter\n".to_owned()
        }
        (Format::Tabs, Count::Exactly(entries)) => format!("count\tentries\nexactly\t{entries}\n"),
        (Format::Tabs, Count::MoreThan(entries)) => format!("count\tentries\nmore_than\t{entries}\n"),
        (Format::Tabs, Count::Unknown) => "count\tentries\nunknown\t\\N\n".to_owned(),
    };
    put(&text)?;
    Ok(0)
}

/// Writes entries as they come, or when all are there: a table is as wide as its widest cells, and newer pages come the other way.
struct Writer {
    format: Format,
    is_newer: bool,
    by_transaction: bool,
    kept: Vec<Vec<Entry>>,
}

impl Writer {
    fn new(format: Format, is_newer: bool, by_transaction: bool) -> Self {
        Self { format, is_newer, by_transaction, kept: Vec::new() }
    }

    fn begin(&self) -> Result<(), Failure> {
        if self.format == Format::Tabs {
            put(&render::entry_columns().header())?;
        }
        Ok(())
    }

    fn take(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        if self.format == Format::Human || self.is_newer {
            self.kept.push(entries);
            return Ok(());
        }
        self.write(&entries)
    }

    fn finish(mut self) -> Result<(), Failure> {
        if self.is_newer {
            self.kept.reverse();
        }
        let entries: Vec<Entry> = std::mem::take(&mut self.kept).into_iter().flatten().collect();
        self.write(&entries)
    }

    fn write(&self, entries: &[Entry]) -> Result<(), Failure> {
        let text = match self.format {
            Format::Human if self.by_transaction => render::by_transaction(entries),
            Format::Human => render::of_entries(entries),
            Format::Json => lines_of_json(entries)?,
            Format::Tabs => {
                let columns = render::entry_columns();
                entries.iter().fold(String::new(), |text, entry| text + &columns.line(entry))
            }
        };
        Ok(put(&text)?)
    }
}

/// An object on a line for each.
pub(super) fn lines_of_json<T: serde::Serialize>(rows: &[T]) -> Result<String, Failure> {
    let lines = rows.iter().map(render::json).collect::<Result<Vec<_>, _>>();
    lines.map(|lines| lines.concat()).map_err(|error| refused_json(&error))
}

fn refused_json(error: &serde_json::Error) -> Failure {
    Failure::Failed(anyhow::anyhow!("an entry cannot be written as JSON: {error}"))
}
