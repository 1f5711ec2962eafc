-- A row whose key changes is one row: its history is followed from key to key. Few changes are in these indexes. They build while
-- writers wait: over a large table build both first, `concurrently`, under the same names; this then skips them.
create index if not exists audit_changes_key_before_idx on audit_changes (table_schema, table_name, key_before)
    where key_before is not null;
create index if not exists audit_changes_key_after_idx on audit_changes (table_schema, table_name, table_pk)
    where key_before is not null;
