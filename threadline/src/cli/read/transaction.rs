//! `threadline transaction` and `threadline incident`: one transaction, with everything that is part of it.

use serde::Serialize;
use threadline::query::{
    Action, Change, Cursor, Diff, DiffOptions, FieldChange, Transaction, TransactionContext,
};
use uuid::Uuid;

use crate::cli::{
    answer::{Answer, Failure},
    settings::Target,
};

use super::{
    arguments::{Explain, Form, Format},
    explain::explain,
    hint,
    history::entries,
    render::{self, Table, note, put, safe},
    session::{Session, reading, without_answer},
    write,
};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The id of the transaction, such as `threadline timeline --by-transaction` shows it.
    #[arg(value_name = "ID")]
    id: Uuid,
    /// Changes at most, the newest first.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Goes on from a place that another answer has named, to older changes.
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true, value_parser = super::arguments::cursor)]
    cursor: Option<Cursor>,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    explain: Explain,
}

/// The transaction with its changes in short.
pub(crate) fn transaction(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    run(target, arguments, |context, format| match format {
        Format::Json => write::document(context),
        Format::Tabs => write::tabs(&render::entry_columns(), &entries(context.changes.clone())),
        Format::Human => {
            let heading = safe(&render::heading(&context.transaction, context.action.as_ref()));
            Ok(put(&format!("{heading}\n{}", render::of_transaction(&entries(context.changes.clone()))))?)
        }
    })
}

/// What happened in the transaction, why, and field by field.
pub(crate) fn incident(target: Target, arguments: &Arguments) -> Result<Answer, Failure> {
    run(target, arguments, |context, format| match format {
        Format::Json => write::document(&Incident::of(context)),
        Format::Tabs => write::tabs(&render::Tabs(FIELDS), &fields(context)),
        Format::Human => Ok(put(&text(context))?),
    })
}

fn run(
    target: Target,
    arguments: &Arguments,
    show: impl Fn(&TransactionContext, Format) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let format = arguments.form.format();
    reading(target, async |session| {
        if arguments.explain.explain {
            let statement = async |reader: &threadline::query::Reader| {
                Ok(reader.transaction_statement(arguments.id, arguments.limit))
            };
            let statement = session.answer(statement).await?;
            return explain(session, &[statement], format).await;
        }
        let Some(context) = context(session, arguments).await? else {
            let why = format!("there is no transaction {}; check the id", arguments.id);
            return Err(without_answer("not_found", &why));
        };
        show(&context, format)?;
        if let Some(cursor) = context.older {
            note(&format!("older: {}", hint::command("--cursor", &cursor.to_string())));
        }
        Ok(0)
    })
}

async fn context(
    session: &mut Session,
    arguments: &Arguments,
) -> Result<Option<TransactionContext>, Failure> {
    let Arguments { id, limit, cursor, .. } = arguments;
    session.answer(async |reader| reader.transaction(*id, *limit, cursor.as_ref()).await).await
}

/// The document of an incident, with the keys of the Elixir library's command.
#[derive(Serialize)]
struct Incident<'c> {
    transaction: &'c Transaction,
    action: Option<&'c Action>,
    changes: Vec<Changed<'c>>,
    has_more: bool,
    older: Option<String>,
}

#[derive(Serialize)]
struct Changed<'c> {
    audit_change: &'c Change,
    change_diff: Diff,
}

impl<'c> Incident<'c> {
    fn of(context: &'c TransactionContext) -> Self {
        Self {
            transaction: &context.transaction,
            action: context.action.as_ref(),
            changes: context
                .changes
                .iter()
                .map(|change| Changed { audit_change: change, change_diff: diff(change) })
                .collect(),
            has_more: context.has_more,
            older: context.older.as_ref().map(ToString::to_string),
        }
    }
}

fn diff(change: &Change) -> Diff {
    Diff::with(change, DiffOptions::expanded())
}

/// One field of one change.
struct Field {
    change: Change,
    field: Option<FieldChange>,
}

const FIELDS: &[render::Column<Field>] = &[
    ("change_id", |f| Some(f.change.id.to_string())),
    ("captured_at", |f| Some(threadline::query::time_text(f.change.captured_at))),
    ("op", |f| Some(f.change.op.clone())),
    ("table_schema", |f| Some(f.change.table_schema.clone())),
    ("table_name", |f| Some(f.change.table_name.clone())),
    ("table_pk", |f| Some(f.change.table_pk.get().to_owned())),
    ("field", |f| f.field.as_ref().map(|field| field.name.clone())),
    ("before", |f| render::document(f.field.as_ref()?.before.as_deref())),
    ("after", |f| render::document(f.field.as_ref()?.after.as_deref())),
];

/// A row for each field, and one for a change of which no field is known.
fn fields(context: &TransactionContext) -> Vec<Field> {
    let of = |change: &Change| {
        let fields = diff(change).field_changes;
        let none = fields.is_empty().then_some(None);
        let fields = fields.into_iter().map(Some).chain(none);
        fields.map(|field| Field { change: change.clone(), field }).collect::<Vec<_>>()
    };
    context.changes.iter().flat_map(of).collect()
}

fn text(context: &TransactionContext) -> String {
    let mut text = safe(&render::heading(&context.transaction, context.action.as_ref())) + "\n";
    if let Some(action) = &context.action {
        text += &(safe(&format!("action {}  {}", action.name, render::outcome(action))) + "\n");
    }
    for (name, value) in [("meta", &context.transaction.meta), ("context", &context.transaction.context)] {
        if let Some(value) = value {
            text += &(safe(&format!("{name} {}", value.get())) + "\n");
        }
    }
    for change in &context.changes {
        text += &("\n".to_owned() + &safe(&render::about(change)) + "\n");
        let mut table = Table::new(&["COLUMN", "BEFORE", "AFTER"]);
        for field in diff(change).field_changes {
            let value = |value: &Option<threadline::query::Json>, is_sql_null: bool| match value {
                Some(_) if is_sql_null => "null (of SQL)".to_owned(),
                Some(value) => value.get().to_owned(),
                None => String::new(),
            };
            let before = if field.before_is_omitted || (change.op == "update" && field.before.is_none()) {
                "?".to_owned()
            } else {
                value(&field.before, field.before_is_sql_null)
            };
            let after = value(&field.after, field.after_is_sql_null);
            table.push([field.name, before, after]);
        }
        text += &table.text(render::width());
    }
    text
}
