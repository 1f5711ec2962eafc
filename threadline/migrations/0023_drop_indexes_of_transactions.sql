-- What the indexes of 0020 do the work of. What stands for a constraint stays. Not with them: whoever holds a lock and asks for a stronger
-- one makes the server end a writer.
do $install$
declare
    one record;
begin
    for one in
        select x.relname from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
        where i.indrelid = 'audit_transactions'::pg_catalog.regclass
          and x.relname in ('audit_transactions_actor_idx', 'audit_transactions_correlation_id_idx')
          and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid)
    loop
        execute pg_catalog.format('drop index %I', one.relname);
    end loop;
end
$install$;
