-- An index goes if another one of its table begins with the same columns: it costs at every captured row (docs/benchmarks/history.md).
-- What stands for a constraint stays, and what has the name on another table.
do $install$
declare
    one     record;
    columns text := 'array(select a.attname::text from pg_catalog.unnest(i.indkey::int2[]) with ordinality k (attnum, n)
                     join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum order by k.n)';
begin
    for one in execute pg_catalog.format(
        'with indexes as (
             select x.relname, i.indisvalid, x.relam, %s as columns,
                    exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid) as is_constraint
             from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
             where i.indrelid = ''audit_changes''::pg_catalog.regclass)
         select o.relname from indexes o
         where o.relname in (''audit_changes_captured_at_idx'', ''audit_changes_page_idx'', ''audit_changes_table_name_idx'')
           and not o.is_constraint
           and exists (select from indexes n
                       where n.relam = o.relam and n.indisvalid
                         and n.columns[1:pg_catalog.cardinality(o.columns)] = o.columns
                         and (n.is_constraint or n.relname in (''audit_changes_captured_at_id_idx'', ''audit_changes_table_captured_at_id_idx'')))', columns)
    loop
        execute pg_catalog.format('drop index %I', one.relname);
    end loop;
end
$install$;
