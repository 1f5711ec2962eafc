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

/// Old and new rows stand in the same order. A full join is never a nested loop, whatever number of rows the session's plan was made
/// for; `offset 0` keeps it one, which the condition on both sides would make an inner join.
pub(super) fn update(capture: &Capture) -> String {
    let shown_before = capture.redact("p.before");
    // Computed once for a row, not once for a column.
    let paired = format!(
        "(select p.n, p.before, p.after, p.sql_nulls, {shown_before} as shown
          from (select a.n, b.image as before, a.image as after, a.sql_nulls
                from (select pg_catalog.row_number() over () as n, r.image, r.sql_nulls from {} r) a
                full join (select pg_catalog.row_number() over () as n, pg_catalog.to_jsonb(r) as image from {OLD_ROWS} r) b
                    on a.n operator(pg_catalog.=) b.n offset 0) p
          where not p.before operator(pg_catalog.=) p.after offset 0) u",
        images(capture, NEW_ROWS)
    );
    let changes = capture.changes("u.before", "u.after", "u.shown");
    let source = format!(
        "{paired}\n    cross join lateral ({changes}) c\n    where c.fields is not null\n    order by u.n"
    );
    let values = format!(
        "{},\n        {},\n        'update',\n        {},\n        u.sql_nulls,\n        c.fields, c.was",
        capture.key_of("u.after"),
        capture.key_before("c.fields", "u.before"),
        capture.redact("u.after")
    );
    whole(
        capture,
        "table_pk, key_before, op, data_after, json_nulls, changed_fields, changed_from",
        &values,
        &source,
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

/// All rows as documents, with what the documents do not tell of nulls.
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
