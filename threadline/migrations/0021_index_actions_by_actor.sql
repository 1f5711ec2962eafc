-- The actions of an actor, and those of a name, in the order of their times. And in which transaction an action arrived: whoever follows
-- the timeline misses none that is committed late. The default is one for all rows that are there, so no row is written again.
alter table audit_actions add column if not exists txid bigint default txid_current();
create index if not exists audit_actions_txid_idx on audit_actions (txid);
create index if not exists audit_actions_actor_page_idx on audit_actions
    ((actor_ref ->> 'type'),
     (case when actor_ref ->> 'type' = 'anonymous' then '' else left(coalesce(actor_ref ->> 'id', ''), 256) end), inserted_at, id);
create index if not exists audit_actions_name_page_idx on audit_actions (name, inserted_at, id);

-- They, and the index of pages, do the work of these. What stands for a constraint stays.
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
