-- As the migration before it: what those of 0022, and the index of pages, do the work of.
do $install$
declare
    one record;
begin
    for one in
        select x.relname from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
        where i.indrelid = 'audit_actions'::pg_catalog.regclass
          and x.relname in ('audit_actions_actor_ref_idx', 'audit_actions_name_idx', 'audit_actions_inserted_at_idx')
          and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid)
    loop
        execute pg_catalog.format('drop index %I', one.relname);
    end loop;
end
$install$;
