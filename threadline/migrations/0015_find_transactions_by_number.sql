-- Functions that replace those of the same names, and the one that stands for a foreign key. Bodies are written as those of the
-- functions before them.
do $install$
declare
    storage text := pg_catalog.quote_ident(pg_catalog.current_schema());
    owner   text := (select pg_catalog.quote_ident(r.rolname) from pg_catalog.pg_class c
                     join pg_catalog.pg_roles r on r.oid = c.relowner
                     where c.oid = 'audit_changes'::pg_catalog.regclass);
    definition text;
    name       text;
begin
    foreach definition in array array[
-- The captured transaction of the database transaction that calls, made with its first change. Found by its number alone: with the
-- time as a condition as well, the server may walk all that has come since the transaction began.
$function$
create or replace function @storage@.threadline_transaction_id() returns uuid
language plpgsql volatile security definer as $body$
declare
    xid   pg_catalog.int8 := pg_catalog.txid_current();
    id    pg_catalog.uuid;
    began pg_catalog.timestamptz;
begin
    select t.id, t.occurred_at into id, began from @storage@.audit_transactions t
    where t.txid operator(pg_catalog.=) xid;
    if began operator(pg_catalog.>=) pg_catalog.transaction_timestamp() then
        return id;
    end if;
    return @storage@.threadline_begin_transaction(xid);
end
$body$
$function$,
-- Makes the captured transaction. A number that is taken by a row of before this transaction's start was given out by another
-- cluster, from which the database was restored: nothing is filed under it.
$function$
create or replace function @storage@.threadline_begin_transaction(xid bigint) returns uuid
language plpgsql volatile security definer as $body$
declare
    slot    pg_catalog.int8 := xid;
    id      pg_catalog.uuid;
    began   pg_catalog.timestamptz;
    actor   pg_catalog.jsonb;
    context pg_catalog.jsonb;
    faults  pg_catalog.text[] := '{}';
begin
    if pg_catalog.octet_length(pg_catalog.current_setting('threadline.actor_ref', true)) operator(pg_catalog.>) 0 then
        actor := @storage@.threadline_setting('threadline.actor_ref');
        if actor is null then
            faults := faults operator(pg_catalog.||) 'threadline.actor_ref'::pg_catalog.text;
        end if;
    end if;
    if pg_catalog.octet_length(pg_catalog.current_setting('threadline.context', true)) operator(pg_catalog.>) 0 then
        context := @storage@.threadline_setting('threadline.context');
        if context is null then
            faults := faults operator(pg_catalog.||) 'threadline.context'::pg_catalog.text;
        end if;
    end if;
    if pg_catalog.cardinality(faults) operator(pg_catalog.>) 0 then
        context := coalesce(context, '{}') operator(pg_catalog.||)
            pg_catalog.jsonb_build_object('threadline.malformed', pg_catalog.to_jsonb(faults));
    end if;
    loop
        insert into @storage@.audit_transactions
            (id, txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, context)
        values (@storage@.threadline_new_id(), slot, greatest(pg_catalog.clock_timestamp(), pg_catalog.transaction_timestamp()), actor,
                context operator(pg_catalog.->>) 'source', context operator(pg_catalog.->>) 'correlation_id',
                context operator(pg_catalog.->>) 'request_id', context operator(pg_catalog.->>) 'job_id',
                case when context operator(pg_catalog.-) '{source,correlation_id,request_id,job_id}'::pg_catalog.text[]
                          operator(pg_catalog.<>) '{}'
                     then context operator(pg_catalog.-) '{source,correlation_id,request_id,job_id}'::pg_catalog.text[] end)
        on conflict (txid) do nothing
        returning audit_transactions.id into id;
        if id is not null then
            return id;
        end if;
        slot := slot operator(pg_catalog.+) (1::pg_catalog.int8 operator(pg_catalog.<<) 48);
        select t.id, t.occurred_at into id, began from @storage@.audit_transactions t
        where t.txid operator(pg_catalog.=) slot;
        if began operator(pg_catalog.>=) pg_catalog.transaction_timestamp() then
            return id;
        end if;
    end loop;
end
$body$
$function$,
-- The captured transaction for a table with `strict = true`. What threadline_check_actor refuses is no actor here either.
$function$
create or replace function @storage@.threadline_transaction_id_of_actor(table_schema text, table_name text) returns uuid
language plpgsql volatile security definer as $body$
declare
    actor pg_catalog.jsonb := @storage@.threadline_setting('threadline.actor_ref');
    kind  pg_catalog.text := actor operator(pg_catalog.->>) 'type';
begin
    if not coalesce(
        pg_catalog.jsonb_typeof(actor operator(pg_catalog.->) 'type') operator(pg_catalog.=) 'string'
        and (kind operator(pg_catalog.=) 'anonymous'
             or kind operator(pg_catalog.=) any ('{user,admin,service_account,job,system}'::pg_catalog.text[])
                and pg_catalog.jsonb_typeof(actor operator(pg_catalog.->) 'id') operator(pg_catalog.=) 'string'
                and actor operator(pg_catalog.->>) 'id' operator(pg_catalog.<>) ''), false)
    then
        raise exception 'actor_required' using errcode = 'TL005',
            detail = pg_catalog.format('The policy of %I.%I is strict: a change says who makes it.', table_schema, table_name),
            hint = 'Call threadline_begin with an actor in this transaction, before the change.';
    end if;
    return @storage@.threadline_transaction_id();
end
$body$
$function$,
-- What the foreign key of a change did: changes are deleted with their transaction, and none is left without one.
$function$
create or replace function @storage@.threadline_delete_changes() returns trigger
language plpgsql volatile security definer as $body$
begin
    if tg_op operator(pg_catalog.=) 'DELETE' then
        delete from @storage@.audit_changes c using deleted_transactions t
        where c.transaction_id operator(pg_catalog.=) t.id;
        return null;
    elsif tg_op operator(pg_catalog.=) 'TRUNCATE' then
        if exists (select from @storage@.audit_changes) then
            raise exception 'changes refer to the captured transactions that are truncated' using errcode = 'feature_not_supported',
                hint = 'Name audit_changes in the same truncate.';
        end if;
        return null;
    end if;
    if exists (select from @storage@.audit_changes c where c.transaction_id operator(pg_catalog.=) old.id) then
        raise exception 'changes refer to the captured transaction %', old.id using errcode = 'foreign_key_violation';
    end if;
    return new;
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    foreach name in array array['threadline_transaction_id()', 'threadline_begin_transaction(bigint)',
        'threadline_transaction_id_of_actor(text, text)', 'threadline_delete_changes()']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
    end loop;
end
$install$;
