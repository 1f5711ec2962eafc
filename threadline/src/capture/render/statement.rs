//! The three trigger functions of statement level, over transition tables.

use super::{Capture, row::VARIABLES};

/// Transition tables of every trigger.
pub(super) const NEW_ROWS: &str = "new_rows";
pub(super) const OLD_ROWS: &str = "old_rows";

pub(super) fn insert(capture: &Capture) -> String {
    whole(capture, NEW_ROWS, "insert", "data_after")
}

pub(super) fn delete(capture: &Capture) -> String {
    whole(capture, OLD_ROWS, "delete", "data_before")
}

/// Inserts and deletes have one image a row.
fn whole(capture: &Capture, rows: &str, op: &str, column: &str) -> String {
    let values = format!(
        "{},\n        '{op}',\n        {},\n        i.sql_nulls",
        capture.key_of("i.image"),
        capture.redact("i.image")
    );
    let source = format!("{} i", images(capture, rows));
    capture.body("", &insert_all(capture, &format!("table_pk, op, {column}, json_nulls"), &values, &source))
}

/// One row is the common case, and is handled without the machinery of many. Of many, old and new rows stand in the same order. A
/// full join is never a nested loop, whatever number of rows the session's plan was made for; `offset 0` keeps it one, which the
/// condition on both sides would make an inner join, and has things computed once.
pub(super) fn update(capture: &Capture) -> String {
    let (new_images, old_image) = (images(capture, NEW_ROWS), capture.image("r"));
    let paired = format!(
        "(select a.n, b.image as before, a.image as after, a.sql_nulls
              from (select pg_catalog.row_number() over () as n, r.image, r.sql_nulls from {new_images} r) a
              full join (select pg_catalog.row_number() over () as n, {old_image} as image from {OLD_ROWS} r) b
                  on a.n operator(pg_catalog.=) b.n offset 0)"
    );
    let source = format!(
        "(select p.n, p.before, p.after, p.sql_nulls, case when known then {} else {} end as fields
          from {paired} p
          where not p.before operator(pg_catalog.=) p.after offset 0) u
    where pg_catalog.cardinality(u.fields) operator(pg_catalog.>) 0
    order by u.n",
        capture.fields("p.before", "p.after"),
        capture.later_fields("p.before", "p.after"),
    );
    let was = if capture.policy.store_changed_from {
        let shown = capture.redact("u.before");
        format!(
            "case when known then {} else {} end",
            capture.was("u.fields", &shown),
            Capture::later_was("u.fields", &shown)
        )
    } else {
        "null".to_owned()
    };
    let values = format!(
        "{},\n        {},\n        'update',\n        {},\n        u.sql_nulls,\n        u.fields,\n        {was}",
        capture.key_of("u.after"),
        capture.key_before("u.fields", "u.before"),
        capture.redact("u.after"),
    );
    let columns = "table_pk, key_before, op, data_after, json_nulls, changed_fields, changed_from";
    let many = insert_all(capture, columns, &values, &source);
    let one = capture.record_update("absent");
    let known = capture.is_known("after");
    let statements = format!(
        "    select a.image, a.sql_nulls, b.image, (select pg_catalog.count(*) from (select from {NEW_ROWS} limit 2) r)
    into after, absent, before, touched
    from (select r.image, r.sql_nulls from {new_images} r limit 1) a
    cross join (select {old_image} as image from {OLD_ROWS} r limit 1) b;
    if touched is null then
        exit capture;
    elsif touched operator(pg_catalog.=) 1 then
{one}
        exit capture;
    end if;
    -- Of one statement, all rows have the same columns.
    known := {known};
{many}
    if not found then
        perform {touch}();
    end if;",
        touch = capture.touch(),
    );
    let declarations = format!("{VARIABLES}    absent pg_catalog.text[];\n    touched pg_catalog.int8;\n");
    capture.body(&declarations, &statements)
}

/// One insert of all rows; the transaction is looked up with the first of them, and not for a statement without rows.
fn insert_all(capture: &Capture, columns: &str, values: &str, source: &str) -> String {
    let (schema, table, partition) = capture.filed_under();
    format!(
        "    insert into {} (id, transaction_id, table_schema, table_name, partition, captured_at, {columns})
    select {}, (select {}), {schema}, {table}, {partition}, pg_catalog.clock_timestamp(),
        {values}
    from {source};",
        capture.ours("audit_changes"),
        capture.new_id(),
        capture.transaction_id()
    )
}

/// All rows as documents, with what the documents do not say of nulls.
fn images(capture: &Capture, rows: &str) -> String {
    let image = capture.image("r");
    let nulls = capture.nulls_of("r.image", "r.whole");
    if nulls == "null" {
        return format!(
            "(select {image} as image, null::pg_catalog.text[] as sql_nulls from {rows} r offset 0)"
        );
    }
    format!(
        "(select r.image, {nulls} as sql_nulls from (select {image} as image, r as whole from {rows} r offset 0) r offset 0)"
    )
}
