//! The three trigger functions of statement level, over transition tables.

use super::Capture;

/// Transition tables of every trigger.
pub(super) const NEW_ROWS: &str = "new_rows";
pub(super) const OLD_ROWS: &str = "old_rows";

pub(super) fn insert(capture: &Capture) -> String {
    let (key, shown) = (capture.key_of("i.image"), capture.redact("i.image"));
    let source = images(capture, NEW_ROWS);
    let columns = "table_pk, op, data_after, json_nulls";
    whole(
        capture,
        columns,
        &format!("{key}, 'insert',\n        {shown},\n        i.sql_nulls"),
        &format!("{source} i"),
    )
}

pub(super) fn delete(capture: &Capture) -> String {
    let (key, shown) = (capture.key_of("i.image"), capture.redact("i.image"));
    let source = images(capture, OLD_ROWS);
    let columns = "table_pk, op, data_before, json_nulls";
    whole(
        capture,
        columns,
        &format!("{key}, 'delete',\n        {shown},\n        i.sql_nulls"),
        &format!("{source} i"),
    )
}

/// One row is the common case, and is handled without the machinery of many. Of many, old and new rows stand in the same order. A
/// full join is never a nested loop, whatever number of rows the session's plan was made for; `offset 0` keeps it one, which the
/// condition on both sides would make an inner join, and has things computed once.
pub(super) fn update(capture: &Capture) -> String {
    let paired = format!(
        "(select a.n, b.image as before, a.image as after, a.sql_nulls
              from (select pg_catalog.row_number() over () as n, r.image, r.sql_nulls from {} r) a
              full join (select pg_catalog.row_number() over () as n, pg_catalog.to_jsonb(r) as image from {OLD_ROWS} r) b
                  on a.n operator(pg_catalog.=) b.n offset 0)",
        images(capture, NEW_ROWS)
    );
    let source = format!(
        "(select p.n, p.before, p.after, p.sql_nulls, p.known, {} as shown,
             case when p.known then {} else {} end as fields
          from (select p.n, p.before, p.after, p.sql_nulls, {} as known
                from {paired} p
                where not p.before operator(pg_catalog.=) p.after offset 0) p offset 0) u
    where pg_catalog.cardinality(u.fields) operator(pg_catalog.>) 0
    order by u.n",
        capture.redact("p.before"),
        capture.fields("p.before", "p.after"),
        capture.later_fields("p.before", "p.after"),
        capture.is_known("p.after"),
    );
    let values = format!(
        "{},\n        {},\n        'update',\n        {},\n        u.sql_nulls,\n        u.fields,\n        \
         case when u.known then {} else {} end",
        capture.key_of("u.after"),
        capture.key_before("u.fields", "u.before"),
        capture.redact("u.after"),
        capture.was("u.before", "u.after", "u.shown"),
        capture.later_was("u.fields", "u.shown"),
    );
    let columns = "table_pk, key_before, op, data_after, json_nulls, changed_fields, changed_from";
    let many = whole(capture, columns, &values, &source);
    let one = capture.record_update("absent");
    let images_of_one = format!(
        "select r.image, r.sql_nulls into after, absent from {} r;
        select pg_catalog.to_jsonb(r) into before from {OLD_ROWS} r;",
        images(capture, NEW_ROWS)
    );
    format!(
        "declare
    before pg_catalog.jsonb;
    after  pg_catalog.jsonb;
    shown  pg_catalog.jsonb;
    fields pg_catalog.text[];
    was    pg_catalog.jsonb;
    absent pg_catalog.text[];
    touched pg_catalog.int8;
begin
    select pg_catalog.count(*) into touched from (select from {NEW_ROWS} limit 2) r;
    if touched operator(pg_catalog.=) 0 then
        return null;
    elsif touched operator(pg_catalog.=) 1 then
        {images_of_one}
{one}
        return null;
    end if;
{}",
        many.trim_start_matches("begin\n")
    )
}

/// One insert of all rows; the transaction is looked up with the first of them, and not for a statement without rows.
fn whole(capture: &Capture, columns: &str, values: &str, source: &str) -> String {
    let (schema, table, partition) = capture.filed_under();
    format!(
        "begin
    insert into {} (transaction_id, table_schema, table_name, partition, captured_at, {columns})
    select (select {}()), {schema}, {table}, {partition}, pg_catalog.clock_timestamp(),
        {values}
    from {source};
    return null;
end",
        capture.ours("audit_changes"),
        capture.ours("threadline_transaction_id")
    )
}

/// All rows as documents, with what the documents do not say of nulls.
fn images(capture: &Capture, rows: &str) -> String {
    let nulls = capture.nulls_of("r.image", "r.whole");
    if nulls == "null" {
        return format!(
            "(select pg_catalog.to_jsonb(r) as image, null::pg_catalog.text[] as sql_nulls from {rows} r)"
        );
    }
    format!(
        "(select r.image, {nulls} as sql_nulls from (select pg_catalog.to_jsonb(r) as image, r as whole from {rows} r offset 0) r)"
    )
}
