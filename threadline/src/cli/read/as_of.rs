//! `threadline as-of`: what a row, or a table, was at a time.

use serde::Serialize;
use serde_json::value::RawValue;
use threadline::{
    query::{
        Change, Key, Table,
        row::{
            AsOf, At, Children, ChildrenRequest, DEPTH_MAX, Followed, NotFollowed, Row, RowAsOf,
            RowWithChildren,
        },
    },
    retention::Horizon,
};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
    times,
};

use super::{
    arguments::{Explain, Form, Format},
    explain::explain,
    hint,
    history::asked,
    render::{self, Table as Shown, Tabs, key_of_texts, note, put, safe, time},
    session::{Session, reading, without_answer},
    table_as_of, words, write,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The table: posts, or billing.posts where several schemas have one.
    #[arg(value_name = "TABLE", value_parser = words::table)]
    pub(super) table: Table,
    /// The key of the row, or {"order":"1","line":"7"} where it has several columns; without it, all rows of the table.
    #[arg(value_name = "KEY", allow_negative_numbers = true, value_parser = words::key)]
    key: Option<Key>,
    /// When: a date in UTC, a time with its offset such as 2026-05-15T12:00:00Z, or so long ago, such as 2h.
    ///
    /// Lists for people cut times to seconds: a time from such a line is a moment before the change; `--json` has all of it.
    #[arg(long, value_name = "TIME", value_parser = times::at::<At>)]
    pub(super) at: At,
    /// Also what referred to the row then, through the foreign keys of today.
    #[arg(long, requires = "key", conflicts_with = "tsv")]
    children: bool,
    /// Foreign keys that are followed one after another.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "children", value_parser = clap::value_parser!(u8).range(1..=i64::from(DEPTH_MAX)))]
    depth: u8,
    /// Rows at most: of a table, or of each table that referred to the row.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Rows of a table behind this key, which another answer has named.
    #[arg(long, value_name = "KEY", conflicts_with = "key", value_parser = words::row_key)]
    pub(super) after: Option<threadline::query::row::RowKey>,
    #[command(flatten)]
    pub(super) form: Form,
    #[command(flatten)]
    pub(super) explain: Explain,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    reading(target, async |session| match &arguments.key {
        None => table_as_of::show(session, arguments).await,
        Some(key) => row(session, key, arguments).await,
    })
}

/// An answer in JSON, with what is missing as a term.
#[derive(Serialize)]
struct Answered<'a, T> {
    #[serde(flatten)]
    answer: &'a T,
    error: Option<&'static str>,
    /// Why there may be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<&'a Horizon>,
}

async fn row(session: &mut Session, key: &Key, arguments: &Arguments) -> Result<u8, Failure> {
    let (at, format) = (&arguments.at, arguments.form.format());
    let row = session.answer(async |reader| reader.row(&arguments.table, key).await).await?;
    let request = ChildrenRequest {
        size: arguments.limit.into(),
        depth: arguments.depth,
        ..ChildrenRequest::default()
    };
    if arguments.explain.explain {
        let asked = asked(session, async |reader| {
            if arguments.children {
                return reader.as_of_with_children(&row, at, &request).await.map(drop);
            }
            reader.as_of_followed(&row, at).await.map(drop)
        })
        .await?;
        return explain(session, &asked, format).await;
    }
    let followed = session.answer(async |reader| reader.as_of_followed(&row, at).await).await?;
    let error = error(&followed.as_of);
    if arguments.children && error.is_none() {
        let found = session
            .answer(async |reader| reader.as_of_with_children(&followed.row, at, &request).await)
            .await?;
        return show_family(&found, format);
    }
    let horizon = match &followed.as_of {
        AsOf::NotYet { .. } | AsOf::BeforeHorizon => hint::horizon_of(session, &row.table()).await?,
        _ => None,
    };
    match format {
        Format::Json => {
            write::document(&Answered { answer: &followed, error, purged: horizon.as_ref() })?;
        }
        Format::Human => put(&text(&followed.as_of))?,
        Format::Tabs => write::tabs(&Tabs(COLUMN), &columns(&followed.as_of))?,
    }
    match error {
        None => {
            if format == Format::Human {
                about(&row, &followed);
            }
            Ok(0)
        }
        Some(term) => Err(without_answer(term, &missing(&followed, horizon.as_ref()))),
    }
}

/// Why there is no row, in the words of the Elixir library.
pub(super) fn error(as_of: &AsOf) -> Option<&'static str> {
    match as_of {
        AsOf::Present { .. } => None,
        AsOf::Deleted { .. } => Some("deleted_record"),
        AsOf::Moved { .. } => Some("key_changed"),
        AsOf::NotYet { .. } | AsOf::BeforeHorizon => Some("before_audit_horizon"),
    }
}

/// Why there is no row, for people.
pub(super) fn missing(followed: &Followed, horizon: Option<&Horizon>) -> String {
    let Followed { row, as_of, not_followed } = followed;
    match (as_of, horizon) {
        (AsOf::Deleted { change }, _) => format!("{row} was gone: {}", by(change)),
        (AsOf::Moved { row: now, .. }, _) => {
            let why = match not_followed {
                Some(NotFollowed::UsedAgain) => {
                    "another row was inserted under that key meanwhile: which one this is, is not known"
                }
                Some(NotFollowed::CameBack) => {
                    "the changes of its key lead back to one that was followed already"
                }
                _ => "its key was changed too often to be followed",
            };
            format!("{row} had become {now}, and {why}")
        }
        (_, Some(horizon)) => format!("{row} is unknown up to then ({horizon})"),
        _ => format!(
            "no change of {row} up to then is known: it was not there, or not captured yet; `threadline history` shows what is known"
        ),
    }
}

/// Says under which key the row was found, and what made it so.
fn about(asked: &Row, found: &Followed) {
    let Some(change) = found.as_of.change() else { return };
    let key = if *asked == found.row { String::new() } else { format!("the row was {} then; ", found.row) };
    note(&format!("{key}{}", by(change)));
    note_erased(change);
}

/// Says that values of a row were erased.
pub(super) fn note_erased(change: &Change) {
    if let Some(erased) = change.erased.as_ref().filter(|erased| !erased.is_empty()) {
        note(&format!("values were erased: {}; `threadline erase runs` says why", erased.join(", ")));
    }
}

/// What a change did, when, and who.
fn by(change: &Change) -> String {
    let who = change.transaction.as_ref().map(|transaction| render::actor(transaction.actor_ref.as_deref()));
    let who = who.filter(|who| !who.is_empty()).map(|who| format!(" by {who}")).unwrap_or_default();
    format!("{} of {}{who} in transaction {}", change.op, time(change.captured_at), change.transaction_id)
}

/// A column of the row.
struct Column {
    name: String,
    value: String,
    is_sql_null: bool,
}

const COLUMN: &[render::Column<Column>] = &[
    ("column", |column| Some(column.name.clone())),
    ("value", |column| Some(column.value.clone())),
    ("is_sql_null", |column| Some(column.is_sql_null.to_string())),
];

fn columns(as_of: &AsOf) -> Vec<Column> {
    let AsOf::Present { image, sql_nulls, .. } = as_of else { return Vec::new() };
    let column = |(name, value): (String, Box<RawValue>)| Column {
        is_sql_null: sql_nulls.contains(&name),
        name,
        value: value.get().to_owned(),
    };
    render::fields(Some(image)).into_iter().map(column).collect()
}

fn text(as_of: &AsOf) -> String {
    let mut table = Shown::new(&["COLUMN", "VALUE"]);
    let erased = as_of.change().and_then(|change| change.erased.as_deref());
    for column in columns(as_of) {
        let value = if column.is_sql_null {
            "null (of SQL)".to_owned()
        } else {
            render::value(&column.value, &column.name, erased)
        };
        table.push([column.name, value]);
    }
    table.text(render::width())
}

fn show_family(found: &RowWithChildren, format: Format) -> Result<u8, Failure> {
    if format == Format::Json {
        write::document(&Answered { answer: found, error: None, purged: None })?;
        return Ok(0);
    }
    put(&(text(&found.as_of) + &family(&found.children, 0)))?;
    Ok(0)
}

/// What referred to a row: a line for each table, and one for each row.
fn family(children: &[Children], depth: usize) -> String {
    let mut text = String::new();
    let indent = "  ".repeat(depth);
    for of_table in children {
        let table = render::table_name(&of_table.schema, &of_table.table);
        let count = match (of_table.is_unknown, of_table.is_truncated, of_table.rows.len()) {
            (true, ..) => "not known, because what it refers to is not captured".to_owned(),
            (_, true, count) => format!("{count} rows and more: --limit shows them"),
            (_, _, 1) => "1 row".to_owned(),
            (_, _, count) => format!("{count} rows"),
        };
        let about = format!("{indent}{table} by {}: {count}", of_table.columns.join(", "));
        text += &(safe(&about) + "\n");
        for child in &of_table.rows {
            let image =
                child.as_of.image().map(|image| render::image(image, &child.row.key)).unwrap_or_default();
            let mut table = Shown::new(&["KEY", "ROW"]);
            table.push([format!("{indent}  {}", key_of_texts(&child.row.key)), image]);
            text += &(table.lines(render::width()).pop().unwrap_or_default() + "\n");
            text += &family(&child.children, depth + 2);
        }
    }
    text
}

/// A row of a table, for people and in lines of tabs.
pub(super) const TABLE_ROW: &[render::Column<RowAsOf>] = &[
    ("key", |row| serde_json::to_string(&row.key).ok()),
    ("image", |row| Some(row.image.get().to_owned())),
    ("sql_nulls", |row| render::names(Some(&row.sql_nulls))),
    ("change_id", |row| Some(row.change.id.to_string())),
    ("captured_at", |row| Some(threadline::query::time_text(row.change.captured_at))),
    ("transaction_id", |row| Some(row.change.transaction_id.to_string())),
];
