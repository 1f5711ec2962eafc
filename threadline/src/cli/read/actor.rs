//! `threadline actor`: what somebody did, transaction by transaction.

use threadline::query::{
    Filter, FilterError, From, PageRequest, TransactionPage, TransactionSummary, time_text,
};

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Explain, Form, Paging, Words},
    explain::explain,
    gather::Part,
    list, refused_filter,
    render::{self, Table, Tabs, time},
    session::reading,
    words, write,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Who: user, admin, `service_account`, job or system and an id, such as admin:a1; or anonymous.
    #[arg(value_name = "TYPE:ID")]
    actor: String,
    /// When the transactions began: last, from and to.
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    explain: Explain,
}

pub(crate) fn run(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    let filter = filter(arguments).map_err(|error| refused_filter(&error))?;
    let (Some(actor), window) = (&filter.actor, filter.window) else {
        return Err(refused_filter(&ONLY_WINDOW));
    };
    let format = arguments.form.format();
    let request = |from: From, size: u16| PageRequest { size, from, ..PageRequest::default() };
    reading(target, async |session| {
        if arguments.explain.explain {
            let request = request(arguments.paging.from(), arguments.paging.size());
            let statement = session
                .answer(async |reader| Ok(reader.actor_history_statement(actor, window, &request)))
                .await?;
            return explain(session, &[statement], format).await;
        }
        let form = write::Form { format, human, tabs: Tabs(COLUMNS) };
        let end = write::list(session, &arguments.paging, &form, async |reader, from, size| {
            reader.actor_history(actor, window, &request(from, size)).await.map(part)
        })
        .await?;
        list::finish(session, end, &arguments.paging, &filter).await
    })
}

const ONLY_WINDOW: FilterError = FilterError::Combination(
    "transactions of an actor are filtered by last, from and to alone: `threadline timeline actor:TYPE:ID …` takes all filters",
);

fn filter(arguments: &Arguments) -> Result<Filter, FilterError> {
    let given = words::filter(&arguments.words.filter)?;
    let Filter { window, .. } = given;
    if given != Filter::default().within(window) {
        return Err(ONLY_WINDOW);
    }
    let actor = words::filter(&[format!("actor:{}", arguments.actor)])?;
    Ok(actor.within(window))
}

fn part(page: TransactionPage) -> Part<TransactionSummary> {
    let TransactionPage { transactions, has_more, older, newer } = page;
    Part { rows: transactions, has_more, older, newer, visited_to: None }
}

fn human(transactions: &[TransactionSummary]) -> String {
    let mut table = Table::new(&["TIME", "TRANSACTION", "CHANGES", "ACTION", "SOURCE", "TABLES"]);
    for summary in transactions {
        let changes = if summary.changes < COUNTED_MAX { "" } else { "+" };
        table.push([
            time(summary.transaction.occurred_at),
            summary.transaction.id.to_string(),
            format!("{}{changes}", summary.changes),
            summary.action.as_ref().map(|action| action.name.clone()).unwrap_or_default(),
            summary.transaction.source.clone().unwrap_or_default(),
            summary.tables.join(", "),
        ]);
    }
    table.text(render::width())
}

/// As many changes of a transaction are counted.
const COUNTED_MAX: i64 = 1_000;

const COLUMNS: &[render::Column<TransactionSummary>] = &[
    ("id", |s| Some(s.transaction.id.to_string())),
    ("txid", |s| Some(s.transaction.txid.to_string())),
    ("occurred_at", |s| Some(time_text(s.transaction.occurred_at))),
    ("actor_ref", |s| render::document(s.transaction.actor_ref.as_deref())),
    ("source", |s| s.transaction.source.clone()),
    ("correlation_id", |s| s.transaction.correlation_id.clone()),
    ("request_id", |s| s.transaction.request_id.clone()),
    ("job_id", |s| s.transaction.job_id.clone()),
    ("meta", |s| render::document(s.transaction.meta.as_deref())),
    ("context", |s| render::document(s.transaction.context.as_deref())),
    ("action_id", |s| s.action.as_ref().map(|action| action.id.to_string())),
    ("action_name", |s| s.action.as_ref().map(|action| action.name.clone())),
    ("action_status", |s| s.action.as_ref().map(|action| action.status.clone())),
    ("changes", |s| Some(s.changes.to_string())),
    ("tables", |s| render::names(Some(&s.tables))),
];
