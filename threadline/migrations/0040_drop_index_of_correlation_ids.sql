-- What 0039 does the work of. Not with it, as in 0023. Reads of the Elixir library say nothing of ids and need the whole index: where an
-- application of Elixir keeps the versions of its migrations, it stays.
do $install$
declare
    one record;
begin
    for one in
        select x.relname from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
        where i.indrelid = 'audit_actions'::pg_catalog.regclass and x.relname = 'audit_actions_correlation_id_idx'
          and not i.indisunique and i.indpred is null
          and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid)
          and not exists (
              select from pg_catalog.pg_class m
              where m.relkind = 'r' and m.relnatts = 2
                and array(select pg_catalog.format('%s %s', a.attname, a.atttypid::pg_catalog.regtype) from pg_catalog.pg_attribute a
                          where a.attrelid = m.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
                    = '{version bigint,inserted_at timestamp without time zone}')
    loop
        execute pg_catalog.format('drop index %I', one.relname);
    end loop;
end
$install$;
