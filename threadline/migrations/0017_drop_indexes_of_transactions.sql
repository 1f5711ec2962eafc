-- As the migration before it; and the triggers that take the place of a foreign key.
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
             where i.indrelid = ''audit_transactions''::pg_catalog.regclass)
         select o.relname from indexes o
         where o.relname in (''audit_transactions_txid_idx'', ''audit_transactions_page_idx'',
                             ''audit_transactions_action_id_idx'', ''audit_transactions_actor_ref_gin'')
           and not o.is_constraint
           and exists (select from indexes n
                       where n.relam = o.relam and n.indisvalid
                         and n.columns[1:pg_catalog.cardinality(o.columns)] = o.columns
                         and (n.is_constraint or n.relname in (''audit_transactions_occurred_at_id_idx'', ''audit_transactions_action_idx'', ''audit_transactions_actor_idx'')))', columns)
    loop
        execute pg_catalog.format('drop index %I', one.relname);
    end loop;
end
$install$;

create or replace trigger audit_transactions_delete_changes after delete on audit_transactions
    referencing old table as deleted_transactions for each statement execute function threadline_delete_changes();
create or replace trigger audit_transactions_truncate_changes after truncate on audit_transactions
    for each statement execute function threadline_delete_changes();
create or replace trigger audit_transactions_keep_changes before update of id on audit_transactions
    for each row when (new.id is distinct from old.id) execute function threadline_delete_changes();
