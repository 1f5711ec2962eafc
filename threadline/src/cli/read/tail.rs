//! `threadline tail`: the newest entries, the oldest of them first, and what comes after them.

use std::collections::HashSet;

use threadline::query::{Entry, Filter, From, PageRequest, Position, Reader, Tail, Window};
use uuid::Uuid;

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Form, Format, Words},
    hint, refused_filter,
    render::{self, note, put},
    session::{Session, interrupted, reading},
    words,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    words: Words,
    /// Goes on with what is written from now on, until Ctrl-C; a filter's window is of what is there already.
    #[arg(long, short)]
    follow: bool,
    /// Entries that are there already, at most.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    limit: u16,
    /// Follows from where another tail ended, which has named this position, so that nothing is missed between both.
    #[arg(long, value_name = "POSITION", requires = "follow", value_parser = position)]
    position: Option<Position>,
    #[command(flatten)]
    form: Form,
}

fn position(text: &str) -> Result<Position, String> {
    text.parse().map_err(|error| format!("invalid_position: {error}"))
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let filter = words::filter(&arguments.words.filter).map_err(|error| refused_filter(&error))?;
    let mut printer = Printer { format: arguments.form.format(), seen: HashSet::new() };
    reading(target, async |session| {
        if printer.format == Format::Tabs {
            put(&render::entry_columns().header())?;
        }
        // Begins before the newest entries are read, so that what is written meanwhile is in one of both.
        let mut tail = if arguments.follow { Some(begin(session, &filter, arguments).await?) } else { None };
        if arguments.position.is_none()
            && arguments.limit > 0
            && !newest(session, &filter, arguments, &mut printer).await?
        {
            return if arguments.follow { Ok(0) } else { Err(interrupted()) };
        }
        match &mut tail {
            Some(tail) => follow(session, tail, &mut printer).await,
            None => Ok(0),
        }
    })
}

async fn begin(session: &mut Session, filter: &Filter, arguments: &Arguments) -> Result<Tail, Failure> {
    let filter = filter.clone().within(Window::Everything);
    session
        .answer(async |reader| match &arguments.position {
            Some(position) => reader.tail_from(&filter, position.clone()),
            None => reader.tail(&filter).await,
        })
        .await
}

/// Prints what is there already; `false` when a signal came first.
async fn newest(
    session: &mut Session,
    filter: &Filter,
    arguments: &Arguments,
    printer: &mut Printer,
) -> Result<bool, Failure> {
    let mut found: Vec<Entry> = Vec::new();
    let mut from = From::Newest;
    while found.len() < usize::from(arguments.limit) {
        let left = arguments.limit - u16::try_from(found.len()).unwrap_or_default();
        let request = PageRequest { size: left, from, ..PageRequest::default() };
        let page = session.answer_or_stop(async |reader| reader.page(filter, &request).await).await?;
        let Some(page) = page else { return Ok(false) };
        found.extend(page.entries);
        let Some(older) = page.older.filter(|_| page.has_more) else { break };
        from = From::OlderThan(older);
    }
    if found.is_empty() {
        let hint = async |reader: &Reader| {
            if arguments.follow {
                return hint::unknown_table(reader, filter).await.map(drop);
            }
            hint::nothing(reader, filter).await
        };
        session.answer(hint).await?;
    }
    found.reverse();
    printer.print(&found)?;
    printer.seen = found.iter().map(Entry::id).collect();
    Ok(true)
}

/// Prints what is new until a signal comes.
async fn follow(session: &mut Session, tail: &mut Tail, printer: &mut Printer) -> Result<u8, Failure> {
    loop {
        let batch = session.answer_or_stop(async |_| tail.next().await).await;
        match batch {
            Ok(Some(batch)) => {
                if batch.was_rebuilt {
                    note("the projection was rebuilt: events that arrived meanwhile are not shown");
                }
                printer.print(&batch.entries)?;
            }
            ended => {
                note(&format!("to go on: {}", hint::command("--position", &tail.position().to_string())));
                return ended.map(|_| 0);
            }
        }
    }
}

/// Prints entries, each on a line.
struct Printer {
    format: Format,
    /// What was there already, and may come with what is new once more.
    seen: HashSet<Uuid>,
}

impl Printer {
    fn print(&self, entries: &[Entry]) -> Result<(), Failure> {
        let mut text = String::new();
        for entry in entries.iter().filter(|entry| !self.seen.contains(&entry.id())) {
            match self.format {
                Format::Human => text += &render::of_entry(entry),
                Format::Json => text += &render::json(entry).map_err(anyhow::Error::new)?,
                Format::Tabs => text += &render::entry_columns().line(entry),
            }
        }
        Ok(put(&text)?)
    }
}
