//! `threadline timeline`, `threadline actions` and `threadline correlation`: entries, the newest first.

use threadline::query::{Count, Filter, From, PageRequest};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Explain, Form, Format, Paging, Words},
    explain::explain,
    gather::{End, Part},
    hint, refused_filter,
    render::{note, put},
    session::{Session, interrupted, reading},
    words, write,
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
    #[command(flatten)]
    explain: Explain,
}

/// What the command line says about a correlation id.
#[derive(Debug, clap::Args)]
pub(crate) struct Correlated {
    /// What ties actions and changes together.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    explain: Explain,
}

/// Everything that a filter finds.
pub(crate) fn timeline(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    run(target, &words::filter(&arguments.words.filter).map_err(|error| refused_filter(&error))?, arguments)
}

/// Actions and events that a filter finds.
pub(crate) fn actions(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    run(
        target,
        &words::filter_of_actions(&arguments.words.filter).map_err(|error| refused_filter(&error))?,
        arguments,
    )
}

/// Everything that has a correlation id, transaction by transaction.
pub(crate) fn correlation(target: Target, correlated: Correlated) -> Result<Answer, Failure> {
    let Correlated { id, paging, form, explain } = correlated;
    let filter = Filter { correlation: Some(id), ..Filter::default() };
    filter.check().map_err(|error| refused_filter(&error))?;
    let words = Words { filter: Vec::new() };
    run(target, &filter, &Arguments { words, paging, by_transaction: true, count: false, form, explain })
}

fn run(target: Target, filter: &Filter, arguments: &Arguments) -> Result<Answer, Failure> {
    let format = arguments.form.format();
    reading(target, async |session| {
        if arguments.count {
            return count(session, filter, format).await;
        }
        if arguments.explain.explain {
            let request = arguments.request(arguments.paging.from(), arguments.paging.size());
            let statements = session.answer(async |reader| reader.statements(filter, &request).await).await?;
            return explain(session, &statements, format).await;
        }
        let form = write::Form::of_entries(format, arguments.by_transaction);
        let end = write::list(session, &arguments.paging, &form, async |reader, from, size| {
            reader.page(filter, &arguments.request(from, size)).await.map(Part::from)
        })
        .await?;
        finish(session, end, &arguments.paging, filter).await
    })
}

impl Arguments {
    fn request(&self, from: From, size: u16) -> PageRequest {
        PageRequest { size, from, by_transaction: self.by_transaction, ..PageRequest::default() }
    }
}

/// Says why a list is empty, what of it was purged, or how it goes on.
pub(super) async fn finish(
    session: &mut Session,
    end: End,
    paging: &Paging,
    filter: &Filter,
) -> Result<u8, Failure> {
    if end.count == 0 && !end.was_stopped && paging.cursor.is_none() {
        session.answer(async |reader| hint::nothing(reader, filter).await).await?;
    }
    if end.next.is_none() && !end.was_stopped && !paging.newer {
        session.answer(async |reader| hint::purged(reader, filter).await).await?;
    }
    go_on(&end, paging)
}

/// Says how a list goes on.
pub(super) fn go_on(end: &End, paging: &Paging) -> Result<u8, Failure> {
    let direction = if paging.newer { "newer" } else { "older" };
    if let Some(cursor) = end.next.as_ref() {
        note(&format!("{direction}: {}", hint::command("--cursor", &cursor.to_string())));
    }
    if end.was_stopped { Err(interrupted()) } else { Ok(0) }
}

async fn count(session: &mut Session, filter: &Filter, format: Format) -> Result<u8, Failure> {
    let count = session.answer(async |reader| reader.count(filter).await).await?;
    if count == Count::Exactly(0) {
        session.answer(async |reader| hint::unknown_table(reader, filter).await).await?;
    }
    let text = match (format, count) {
        (Format::Json, _) => return write::document(&count).map(|()| 0),
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
