-- Who is stored as an actor, and what the Elixir library finds in a transaction without changes. Bodies are written as those of the
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
-- Whether something is what threadline_check_actor accepts.
$function$
create or replace function @storage@.threadline_is_actor(actor jsonb) returns boolean
language plpgsql immutable security definer as $body$
declare
    kind pg_catalog.text := case when pg_catalog.jsonb_typeof(actor) operator(pg_catalog.=) 'object'
                                 then actor operator(pg_catalog.->>) 'type' end;
begin
    return coalesce(
        pg_catalog.jsonb_typeof(actor operator(pg_catalog.->) 'type') operator(pg_catalog.=) 'string'
        and (kind operator(pg_catalog.=) 'anonymous'
             or kind operator(pg_catalog.=) any ('{user,admin,service_account,job,system}'::pg_catalog.text[])
                and pg_catalog.jsonb_typeof(actor operator(pg_catalog.->) 'id') operator(pg_catalog.=) 'string'
                and actor operator(pg_catalog.->>) 'id' operator(pg_catalog.<>) ''), false);
end
$body$
$function$,
-- Makes the captured transaction. What is no actor is not stored as one, since the Elixir library raises on it in every read and export:
-- it is kept in the context. A number that is taken by a row of before this transaction's start was given out by another cluster, from
-- which the database was restored: nothing is filed under it.
$function$
create or replace function @storage@.threadline_begin_transaction(xid bigint) returns uuid
language plpgsql volatile security definer as $body$
declare
    slot    pg_catalog.int8 := xid;
    id      pg_catalog.uuid;
    began   pg_catalog.timestamptz;
    given   pg_catalog.jsonb;
    actor   pg_catalog.jsonb;
    context pg_catalog.jsonb;
    faults  pg_catalog.text[] := '{}';
begin
    if pg_catalog.octet_length(pg_catalog.current_setting('threadline.actor_ref', true)) operator(pg_catalog.>) 0 then
        given := @storage@.threadline_setting('threadline.actor_ref');
        if @storage@.threadline_is_actor(given) then
            actor := given;
        else
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
        if actor is null and given is not null then
            context := context operator(pg_catalog.||) pg_catalog.jsonb_build_object('threadline.actor_ref', given);
        end if;
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
begin
    if not @storage@.threadline_is_actor(@storage@.threadline_setting('threadline.actor_ref')) then
        raise exception 'actor_required' using errcode = 'TL005',
            detail = pg_catalog.format('The policy of %I.%I is strict: a change says who makes it.', table_schema, table_name),
            hint = 'Call threadline_begin with an actor in this transaction, before the change.';
    end if;
    return @storage@.threadline_transaction_id();
end
$body$
$function$,
-- What an update calls that has touched rows and changed nothing that counts. An audited transaction of the Elixir library sets the actor
-- alone, and is rolled back when it finds no captured transaction to link its action to.
$function$
create or replace function @storage@.threadline_touch_transaction() returns void
language plpgsql volatile security definer as $body$
begin
    if pg_catalog.octet_length(pg_catalog.current_setting('threadline.actor_ref', true)) operator(pg_catalog.>) 0
        and pg_catalog.current_setting('threadline.audited', true) operator(pg_catalog.=) 'on' is not true
    then
        perform @storage@.threadline_transaction_id();
    end if;
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    foreach name in array array['threadline_is_actor(jsonb)', 'threadline_begin_transaction(bigint)',
        'threadline_transaction_id_of_actor(text, text)', 'threadline_touch_transaction()']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
    end loop;
end
$install$;
