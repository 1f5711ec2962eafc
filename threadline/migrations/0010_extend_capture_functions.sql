-- What generated triggers call since their second generation. Bodies are written as those of the functions before them.
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
-- A UUID of version 7, which begins with the time: rows that are new stand together in an index, so that a checkpoint is followed by
-- fewer images of pages in the write-ahead log. It is no security definer, so that it becomes part of the statement that calls it.
$function$
create or replace function @storage@.threadline_new_id() returns uuid
language sql volatile as $body$
    select pg_catalog.encode(pg_catalog.set_bit(pg_catalog.set_bit(pg_catalog.overlay(
               pg_catalog.uuid_send(pg_catalog.gen_random_uuid()),
               pg_catalog.substring(pg_catalog.int8send((pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
                   operator(pg_catalog.*) 1000::pg_catalog.float8)::pg_catalog.int8), 3), 1, 6),
           52, 1), 53, 1), 'hex')::pg_catalog.uuid
$body$
$function$,
-- Sets what values are rendered by, and returns what was set before, for threadline_end_rendering.
$function$
create or replace function @storage@.threadline_begin_rendering() returns text[]
language plpgsql volatile security definer as $body$
declare
    was  pg_catalog.text[] := array[pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('DateStyle'),
        pg_catalog.current_setting('IntervalStyle'), pg_catalog.current_setting('extra_float_digits'),
        pg_catalog.current_setting('bytea_output')];
begin
    perform @storage@.threadline_end_rendering('{UTC,"ISO, MDY",postgres,1,hex}');
    return was;
end
$body$
$function$,
$function$
create or replace function @storage@.threadline_end_rendering(was text[]) returns void
language plpgsql volatile security definer as $body$
begin
    perform pg_catalog.set_config('TimeZone', was[1], true), pg_catalog.set_config('DateStyle', was[2], true),
        pg_catalog.set_config('IntervalStyle', was[3], true), pg_catalog.set_config('extra_float_digits', was[4], true),
        pg_catalog.set_config('bytea_output', was[5], true);
end
$body$
$function$,
-- A row as a document. Where it exceeds what a document can hold, its large values are replaced by their size and digest; where even
-- that is impossible, what is left says so.
$function$
create or replace function @storage@.threadline_large_image(whole record) returns jsonb
language plpgsql stable security definer as $body$
declare
    document pg_catalog.json;
    image    pg_catalog.jsonb;
begin
    return pg_catalog.to_jsonb(whole);
exception
    when program_limit_exceeded or out_of_memory or internal_error then
        begin
            -- A statement of its own, whose memory is free before the next.
            document := pg_catalog.row_to_json(whole);
            select pg_catalog.jsonb_object_agg(e.key,
                case when pg_catalog.octet_length(e.value::pg_catalog.text) operator(pg_catalog.<=) 131072
                     then e.value::pg_catalog.jsonb
                     else pg_catalog.jsonb_build_object('threadline.too_large', pg_catalog.jsonb_build_object(
                         'bytes', pg_catalog.octet_length(e.value::pg_catalog.text), 'sha256', pg_catalog.encode(
                             pg_catalog.sha256(pg_catalog.convert_to(e.value::pg_catalog.text, 'UTF8')), 'hex')))
                end)
            into image
            from pg_catalog.json_each(document) e;
            return image;
        exception
            when others then
                return pg_catalog.jsonb_build_object('threadline.too_large',
                    pg_catalog.jsonb_build_object('bytes', pg_catalog.pg_column_size(whole)));
        end;
end
$body$
$function$,
-- Makes the captured transaction, as before, under an id that begins with the time.
$function$
create or replace function @storage@.threadline_begin_transaction(xid bigint) returns uuid
language plpgsql volatile security definer as $body$
declare
    slot    pg_catalog.int8 := xid;
    id      pg_catalog.uuid;
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
        select t.id into id from @storage@.audit_transactions t
        where t.txid operator(pg_catalog.=) slot
          and t.occurred_at operator(pg_catalog.>=) pg_catalog.transaction_timestamp();
        if id is not null then
            return id;
        end if;
    end loop;
end
$body$
$function$,
-- The captured transaction for a table with `strict = true`. A setting that holds no JSON object names no actor.
$function$
create or replace function @storage@.threadline_transaction_id_of_actor(table_schema text, table_name text) returns uuid
language plpgsql volatile security definer as $body$
begin
    if @storage@.threadline_setting('threadline.actor_ref') is null then
        raise exception 'actor_required' using errcode = 'TL005',
            detail = pg_catalog.format('The policy of %I.%I is strict: a change says who makes it.', table_schema, table_name),
            hint = 'Call threadline_begin with an actor in this transaction, before the change.';
    end if;
    return @storage@.threadline_transaction_id();
end
$body$
$function$,
-- One row for a table that is emptied. Arguments are, of a partition, schema and name of the table that it belongs to, and last
-- 'strict', where the policy is.
$function$
create or replace function @storage@.threadline_capture_truncate() returns trigger
language plpgsql volatile security definer as $body$
declare
    is_partition pg_catalog.bool := tg_nargs operator(pg_catalog.>=) 2;
    schema_name  pg_catalog.text := case when is_partition then tg_argv[0] else tg_table_schema::pg_catalog.text end;
    table_name   pg_catalog.text := case when is_partition then tg_argv[1] else tg_table_name::pg_catalog.text end;
    captured     pg_catalog.uuid;
begin
    if tg_nargs operator(pg_catalog.=) any ('{1,3}'::pg_catalog.int4[]) then
        captured := @storage@.threadline_transaction_id_of_actor(schema_name, table_name);
    else
        captured := @storage@.threadline_transaction_id();
    end if;
    insert into @storage@.audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, partition, captured_at)
    values (@storage@.threadline_new_id(), captured, schema_name, table_name, '{}', 'truncate',
            case when is_partition then pg_catalog.concat(tg_table_schema, '.', tg_table_name) end,
            pg_catalog.clock_timestamp());
    return null;
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    foreach name in array array['threadline_new_id()', 'threadline_begin_rendering()', 'threadline_end_rendering(text[])',
        'threadline_large_image(record)', 'threadline_begin_transaction(bigint)', 'threadline_transaction_id_of_actor(text, text)',
        'threadline_capture_truncate()']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
    end loop;
end
$install$;
