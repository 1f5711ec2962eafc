//! `threadline as-of TABLE`: the rows of a table at a time.

use threadline::{
    capture::HostTable,
    query::row::{RowAsOf, TableAsOf, TablePage},
};

use crate::cli::answer::Failure;

use super::{
    arguments::Format,
    as_of::{Arguments, TABLE_ROW},
    explain::explain,
    hint,
    history::asked,
    render::{self, Table, Tabs, key_of_texts, note, put},
    session::Session,
    write,
};

/// Reads and writes the rows.
pub(super) async fn show(session: &mut Session, arguments: &Arguments) -> Result<u8, Failure> {
    let (table, at, format) = (&arguments.table, &arguments.at, arguments.form.format());
    let page = TablePage { size: arguments.limit, after: arguments.after.clone(), ..TablePage::default() };
    if arguments.explain.explain {
        let asked =
            asked(session, async |reader| reader.table_as_of(table, at, &page).await.map(drop)).await?;
        return explain(session, &asked, format).await;
    }
    let mut rows: Vec<RowAsOf> = Vec::new();
    let mut after = page.after.clone();
    let (shown, next) = loop {
        let left = page.size - u16::try_from(rows.len()).unwrap_or_default();
        let part = TablePage { size: left, after, ..page.clone() };
        let found = session.answer(async |reader| reader.table_as_of(table, at, &part).await).await?;
        let TableAsOf { schema, table: name, rows: mut more, next } = found;
        rows.append(&mut more);
        // A page of keys that were all gone by then has no row, and leads further.
        if next.is_none() || rows.len() >= page.size.into() {
            break (HostTable { schema, name }, next);
        }
        after = next;
    };
    match format {
        Format::Human => put(&text(&rows))?,
        Format::Json => {
            put(&rows
                .iter()
                .map(render::json)
                .collect::<Result<String, _>>()
                .map_err(anyhow::Error::new)?)?;
        }
        Format::Tabs => write::tabs(&Tabs(TABLE_ROW), &rows)?,
    }
    if rows.is_empty() {
        note(
            "no row of the table is known of that time; `threadline timeline table:…` shows when its changes begin",
        );
    }
    if let Some(horizon) = hint::horizon_of(session, &shown).await? {
        note(&format!("rows whose last change was purged are missing ({horizon})"));
    }
    if let Some(next) = next {
        let next = serde_json::to_string(&next).map_err(anyhow::Error::new)?;
        note(&format!("further rows: {}", hint::command("--after", &next)));
    }
    Ok(0)
}

fn text(rows: &[RowAsOf]) -> String {
    let mut table = Table::new(&["KEY", "ROW"]);
    for row in rows {
        table.push([key_of_texts(&row.key), render::image(&row.image, &row.key)]);
    }
    table.text(render::width())
}
