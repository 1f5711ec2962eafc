//! A change as the Elixir library writes it: eleven columns of CSV, or an object with its members in the order of their names.

use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Format, Renderer, push_string, push_time};
use crate::query::{LibraryRow, LibraryTransaction};

pub(super) fn write(
    renderer: &mut Renderer,
    row: &PgRow,
    out: &mut String,
) -> Result<OffsetDateTime, sqlx::Error> {
    let row = LibraryRow::of(row)?;
    match renderer.options.format {
        Format::Csv => record(renderer, &row, out),
        // Others are of the profile full alone, which options have been checked for.
        _ => object(renderer, &row, out),
    }
    Ok(row.captured_at)
}

fn record(renderer: &mut Renderer, row: &LibraryRow<'_>, out: &mut String) {
    push_id(row.id, out);
    out.push(',');
    push_id(row.transaction_id, out);
    for text in [row.table_schema, row.table_name, row.op] {
        renderer.next_cell(text, out);
    }
    out.push(',');
    push_time(row.captured_at, out);
    renderer.next_document(row.table_pk, out);
    renderer.next_document(row.data_after.unwrap_or("{}"), out);
    renderer.next_document(row.changed_fields.unwrap_or("[]"), out);
    renderer.next_document(row.changed_from.unwrap_or("{}"), out);
    let mut cell = std::mem::take(&mut renderer.cell);
    cell.clear();
    transaction(renderer, row.transaction.as_ref(), &mut cell);
    renderer.next_cell(&cell, out);
    renderer.cell = cell;
    if renderer.options.action_metadata {
        renderer.next_cell(row.action.and_then(|(_, correlation)| correlation).unwrap_or_default(), out);
        out.push(',');
        if let Some((id, _)) = row.action {
            push_id(id, out);
        }
    }
}

fn object(renderer: &mut Renderer, row: &LibraryRow<'_>, out: &mut String) {
    out.push('{');
    if let Some((id, correlation)) = row.action {
        out.push_str("\"action\":{\"correlation_id\":");
        push_text(correlation, out);
        out.push_str(",\"id\":\"");
        push_id(id, out);
        out.push_str("\"},");
    }
    out.push_str("\"captured_at\":\"");
    push_time(row.captured_at, out);
    out.push_str("\",\"changed_fields\":");
    renderer.canonical.write(row.changed_fields.unwrap_or("[]"), out);
    out.push_str(",\"changed_from\":");
    renderer.canonical.write(row.changed_from.unwrap_or("{}"), out);
    out.push_str(",\"data_after\":");
    renderer.canonical.write(row.data_after.unwrap_or("null"), out);
    out.push_str(",\"id\":\"");
    push_id(row.id, out);
    out.push_str("\",\"op\":");
    push_string(row.op, out);
    out.push_str(",\"table_name\":");
    push_string(row.table_name, out);
    out.push_str(",\"table_pk\":");
    renderer.canonical.write(row.table_pk, out);
    out.push_str(",\"table_schema\":");
    push_string(row.table_schema, out);
    out.push_str(",\"transaction\":");
    transaction(renderer, row.transaction.as_ref(), out);
    out.push_str(",\"transaction_id\":\"");
    push_id(row.transaction_id, out);
    out.push_str("\"}");
}

fn transaction(renderer: &mut Renderer, transaction: Option<&LibraryTransaction<'_>>, out: &mut String) {
    let Some(transaction) = transaction else { return out.push_str("null") };
    out.push_str("{\"actor_ref\":");
    renderer.canonical.write(transaction.actor_ref.unwrap_or("null"), out);
    out.push_str(",\"id\":\"");
    push_id(transaction.id, out);
    out.push_str("\",\"occurred_at\":\"");
    push_time(transaction.occurred_at, out);
    out.push_str("\",\"source\":");
    push_text(transaction.source, out);
    out.push('}');
}

fn push_id(id: Uuid, out: &mut String) {
    out.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
}

fn push_text(text: Option<&str>, out: &mut String) {
    match text {
        Some(text) => push_string(text, out),
        None => out.push_str("null"),
    }
}
