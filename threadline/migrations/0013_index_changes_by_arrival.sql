-- In the order of arrival an index grows at its end. It builds while writers wait. Over a large table build both first, `concurrently`,
-- under the same names; this then skips them.
create index if not exists audit_changes_captured_at_id_idx on audit_changes (captured_at, id);
create index if not exists audit_changes_table_captured_at_id_idx on audit_changes (table_name, captured_at, id);
