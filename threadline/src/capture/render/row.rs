//! The trigger function of row level.

use super::{Capture, array, literal, quote};

/// Of [`Capture::record_update`] and of both images.
pub(super) const VARIABLES: &str = "    before pg_catalog.jsonb;
    after  pg_catalog.jsonb;
    known  pg_catalog.bool;
    shown  pg_catalog.jsonb;
    fields pg_catalog.text[];
    was    pg_catalog.jsonb;
";

pub(super) fn body(capture: &Capture) -> String {
    let (schema, table, partition) = capture.filed_under();
    let changes = capture.ours("audit_changes");
    let (id, transaction) = (capture.new_id(), capture.transaction_id());
    let (image_of_new, image_of_old) = (image(capture, "new", "after"), image(capture, "old", "before"));
    let (shown_after, shown_before) = (capture.redact("after"), capture.redact("before"));
    let (key_after, key_of_deleted) = (capture.key_of("after"), capture.key_of("before"));
    let (nulls_after, nulls_before) = (capture.nulls_of("after", "new"), capture.nulls_of("before", "old"));
    let update = capture.record_update(&nulls_after);
    let statements = format!(
        "    if tg_op operator(pg_catalog.=) 'INSERT' then
{image_of_new}
        insert into {changes} (id, transaction_id, table_schema, table_name, partition, table_pk, op, data_after, json_nulls, captured_at)
        values ({id}, {transaction}, {schema}, {table}, {partition},
            {key_after},
            'insert',
            {shown_after},
            {nulls_after},
            pg_catalog.clock_timestamp());
    elsif tg_op operator(pg_catalog.=) 'UPDATE' then
{image_of_new}
{image_of_old}
{update}
    else
{image_of_old}
        insert into {changes} (id, transaction_id, table_schema, table_name, partition, table_pk, op, data_before, json_nulls, captured_at)
        values ({id}, {transaction}, {schema}, {table}, {partition},
            {key_of_deleted},
            'delete',
            {shown_before},
            {nulls_before},
            pg_catalog.clock_timestamp());
    end if;"
    );
    capture.body(VARIABLES, &statements)
}

/// Statements that put the image of a row into a variable. A document of type json that jsonb cannot hold is kept as text.
fn image(capture: &Capture, row: &str, variable: &str) -> String {
    let documents = capture.table.json_columns();
    let fast = format!("        {variable} := {};", capture.image(row));
    if documents.is_empty() {
        return fast;
    }
    let texts: Vec<String> = documents
        .iter()
        .map(|column| format!("{}, {row}.{}::pg_catalog.text", literal(column), quote(column)))
        .collect();
    let emptied: Vec<String> = documents
        .iter()
        .map(|column| format!("                {row}.{} := null;\n", quote(column)))
        .collect();
    let emptied = emptied.concat();
    format!(
        "        begin
    {fast}
        exception when others then
            declare
                texts pg_catalog.jsonb;
            begin
                texts := pg_catalog.jsonb_build_object({});
{emptied}                {variable} := pg_catalog.to_jsonb({row}) operator(pg_catalog.||) texts;
            exception when others then
                -- The columns are not what they were: what can be said is which are not stored.
                {variable} := pg_catalog.jsonb_build_object('threadline.unreadable', pg_catalog.to_jsonb({}));
            end;
        end;",
        texts.join(", "),
        array(&documents)
    )
}
