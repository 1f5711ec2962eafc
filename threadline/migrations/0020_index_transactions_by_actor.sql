-- The transactions of an actor, and those of a correlation id, in the order of their times: pages of them are read from the index. What
-- is longer than an entry of an index may be is cut, so that no write fails for it. As in the migrations before, over a large table both
-- are built beforehand.
create index if not exists audit_transactions_actor_page_idx on audit_transactions
    ((actor_ref ->> 'type'),
     (case when actor_ref ->> 'type' = 'anonymous' then '' else left(coalesce(actor_ref ->> 'id', ''), 256) end), occurred_at, id)
    where actor_ref is not null;
create index if not exists audit_transactions_correlation_page_idx on audit_transactions (left(correlation_id, 256), occurred_at, id)
    where correlation_id is not null;

-- They do the work of these; what stands for a constraint stays.
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
