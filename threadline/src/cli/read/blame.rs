//! `threadline blame`: who set what stands in a row.

use threadline::query::{
    Change,
    row::{AsOf, At, Blame, BlamedColumn, Followed},
    time_text,
};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
    times,
};

use super::{
    arguments::{Explain, Form, Format},
    as_of::{error, missing, note_erased},
    explain::explain,
    hint,
    history::{RowArguments, asked},
    render::{self, Table, Tabs, note, put, time},
    session::{reading, without_answer},
    write,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    row: RowArguments,
    /// When: a date in UTC, a time with its offset, or so long ago, such as 2h; without it, now.
    #[arg(long, value_name = "TIME", value_parser = times::at::<At>)]
    at: Option<At>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    explain: Explain,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let at = arguments.at.clone().unwrap_or_else(At::latest);
    let (RowArguments { table, key }, format) = (&arguments.row, arguments.form.format());
    reading(target, async |session| {
        let row = session.answer(async |reader| reader.row(table, key).await).await?;
        if arguments.explain.explain {
            let asked = asked(session, async |reader| reader.blame(&row, &at).await.map(drop)).await?;
            return explain(session, &asked, format).await;
        }
        let Followed { row: found, not_followed, .. } =
            session.answer(async |reader| reader.as_of_followed(&row, &at).await).await?;
        let blame = session.answer(async |reader| reader.blame(&found, &at).await).await?;
        match format {
            Format::Json => write::document(&blame)?,
            Format::Human => put(&text(&blame))?,
            Format::Tabs => write::tabs(&Tabs(COLUMNS), &columns(&blame))?,
        }
        if let Some(change) = blame.as_of.change().filter(|_| format == Format::Human) {
            note_erased(change);
        }
        let answered = Followed { row: blame.row, as_of: blame.as_of, not_followed };
        match (error(&answered.as_of), &answered.as_of) {
            (None, _) if format == Format::Human && found != row => {
                note(&format!("the row was {found} then"));
            }
            (None, _) => {}
            // Who set what it was last, is still to be known.
            (Some(_), AsOf::Deleted { .. }) => note(&missing(&answered, None)),
            (Some(term), _) => {
                let horizon = hint::horizon_of(session, &row.table()).await?;
                return Err(without_answer(term, &missing(&answered, horizon.as_ref())));
            }
        }
        if blame.columns.iter().any(|column| column.change.is_none())
            && let Some(horizon) = hint::horizon_of(session, &row.table()).await?
        {
            note(&horizon.to_string());
        }
        if !blame.is_complete {
            note(
                "the row has very many changes; who set the columns without an answer was not sought further",
            );
        }
        Ok(0)
    })
}

struct Blamed {
    column: BlamedColumn,
    change: Option<Change>,
}

const COLUMNS: &[render::Column<Blamed>] = &[
    ("column", |b| Some(b.column.name.clone())),
    ("value", |b| Some(b.column.value.get().to_owned())),
    ("is_sql_null", |b| Some(b.column.is_sql_null.to_string())),
    ("change_id", |b| b.change.as_ref().map(|change| change.id.to_string())),
    ("op", |b| b.change.as_ref().map(|change| change.op.clone())),
    ("captured_at", |b| b.change.as_ref().map(|change| time_text(change.captured_at))),
    ("transaction_id", |b| b.change.as_ref().map(|change| change.transaction_id.to_string())),
    ("actor_ref", |b| render::document(b.change.as_ref()?.transaction.as_ref()?.actor_ref.as_deref())),
    ("action_name", |b| Some(b.change.as_ref()?.action.as_ref()?.name.clone())),
];

fn columns(blame: &Blame) -> Vec<Blamed> {
    let blamed = |column: &BlamedColumn| Blamed {
        column: column.clone(),
        change: blame.change_of(&column.name).cloned(),
    };
    blame.columns.iter().map(blamed).collect()
}

fn text(blame: &Blame) -> String {
    let erased = blame.as_of.change().and_then(|change| change.erased.as_deref());
    let mut table = Table::new(&["COLUMN", "TIME", "OP", "WHO", "ACTION", "VALUE"]);
    for Blamed { column, change } in columns(blame) {
        let value = if column.is_sql_null {
            "null (of SQL)".to_owned()
        } else {
            render::value(column.value.get(), &column.name, erased)
        };
        let change = change.as_ref();
        let transaction = change.and_then(|change| change.transaction.as_ref());
        table.push([
            column.name,
            change.map_or_else(|| "unknown".to_owned(), |change| time(change.captured_at)),
            change.map(|change| change.op.clone()).unwrap_or_default(),
            transaction
                .map(|transaction| render::actor(transaction.actor_ref.as_deref()))
                .unwrap_or_default(),
            change
                .and_then(|change| change.action.as_ref())
                .map(|action| action.name.clone())
                .unwrap_or_default(),
            value,
        ]);
    }
    table.text(render::width())
}
