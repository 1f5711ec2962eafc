-- What triggers call. Bodies name the storage schema and qualify everything else, operators too: the writer's search path
-- decides nothing, and a `set search_path` on each function would cost tens of microseconds a call. They read no catalog and
-- run no dynamic statements. All of them act as the owner of the tables: whoever writes needs no right on these.
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
-- A setting that holds a JSON object; null where it holds anything else.
$function$
create or replace function @storage@.threadline_setting(name text) returns jsonb
language plpgsql stable security definer as $body$
declare
    value pg_catalog.jsonb;
begin
    if pg_catalog.octet_length(pg_catalog.current_setting(name, true)) operator(pg_catalog.>) 8192 then
        return null;
    end if;
    value := pg_catalog.current_setting(name, true)::pg_catalog.jsonb;
    if pg_catalog.jsonb_typeof(value) operator(pg_catalog.=) 'object' then
        return value;
    end if;
    return null;
exception
    when others then
        return null;
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
            (txid, occurred_at, actor_ref, source, correlation_id, request_id, job_id, context)
        values (slot, greatest(pg_catalog.clock_timestamp(), pg_catalog.transaction_timestamp()), actor,
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
-- The captured transaction of the database transaction that calls, made with its first change.
$function$
create or replace function @storage@.threadline_transaction_id() returns uuid
language plpgsql volatile security definer as $body$
declare
    xid pg_catalog.int8 := pg_catalog.txid_current();
    id  pg_catalog.uuid;
begin
    select t.id into id from @storage@.audit_transactions t
    where t.txid operator(pg_catalog.=) xid
      and t.occurred_at operator(pg_catalog.>=) pg_catalog.transaction_timestamp();
    if id is not null then
        return id;
    end if;
    return @storage@.threadline_begin_transaction(xid);
end
$body$
$function$,
-- The function that the Elixir library's triggers call: its columns, its rows. The names of key columns are arguments.
$function$
create or replace function @storage@.threadline_capture_changes() returns trigger
language plpgsql volatile security definer
set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set extra_float_digits = 1
set bytea_output = 'hex' as $body$
declare
    before  pg_catalog.jsonb;
    after   pg_catalog.jsonb;
    key     pg_catalog.jsonb := '{}';
    changed pg_catalog.text[];
    part    pg_catalog.text;
    present pg_catalog.jsonb;
begin
    if tg_op operator(pg_catalog.<>) 'INSERT' then
        before := pg_catalog.to_jsonb(old);
    end if;
    if tg_op operator(pg_catalog.<>) 'DELETE' then
        after := pg_catalog.to_jsonb(new);
    end if;
    present := coalesce(after, before);
    if tg_nargs operator(pg_catalog.=) 0 then
        if present operator(pg_catalog.?) 'id' then
            key := pg_catalog.jsonb_build_object('id', present operator(pg_catalog.->>) 'id');
        end if;
    else
        foreach part in array tg_argv loop
            if present operator(pg_catalog.->>) part is null then
                key := '{}';
                exit;
            end if;
            key := key operator(pg_catalog.||)
                pg_catalog.jsonb_build_object(part, present operator(pg_catalog.->>) part);
        end loop;
    end if;
    if tg_op operator(pg_catalog.=) 'UPDATE' then
        select pg_catalog.array_agg(n.key order by n.key collate pg_catalog."C") into changed
        from pg_catalog.jsonb_each(after) n
        where not n.value operator(pg_catalog.=) (before operator(pg_catalog.->) n.key);
    end if;
    insert into @storage@.audit_changes
        (transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, captured_at)
    values (@storage@.threadline_transaction_id(), tg_table_schema, tg_table_name, key, pg_catalog.lower(tg_op), after, changed,
            pg_catalog.clock_timestamp());
    return null;
end
$body$
$function$,
-- One row for a table that is emptied. Of a partition, the arguments are schema and name of the table that it belongs to.
$function$
create or replace function @storage@.threadline_capture_truncate() returns trigger
language plpgsql volatile security definer as $body$
begin
    insert into @storage@.audit_changes (transaction_id, table_schema, table_name, table_pk, op, partition, captured_at)
    values (@storage@.threadline_transaction_id(), coalesce(tg_argv[0], tg_table_schema), coalesce(tg_argv[1], tg_table_name),
            '{}', 'truncate',
            case when tg_nargs operator(pg_catalog.>) 0
                 then pg_catalog.concat(tg_table_schema, '.', tg_table_name) end,
            pg_catalog.clock_timestamp());
    return null;
end
$body$
$function$,
-- Which of the columns are null in SQL, of a row as record_send and row_to_json give it: JSON's null is null in the image too.
$function$
create or replace function @storage@.threadline_json_nulls(names text[], row_json json, row_bytes bytea) returns text[]
language plpgsql immutable security definer as $body$
declare
    name   pg_catalog.text;
    offs   pg_catalog.int4 := 4;
    length pg_catalog.int4;
    nulls  pg_catalog.text[] := '{}';
begin
    for name in select k.name from pg_catalog.json_object_keys(row_json) k (name) loop
        -- The type comes first, then the length, -1 for a null.
        length := (pg_catalog.get_byte(row_bytes, offs operator(pg_catalog.+) 4) operator(pg_catalog.<<) 24)
            operator(pg_catalog.|) (pg_catalog.get_byte(row_bytes, offs operator(pg_catalog.+) 5) operator(pg_catalog.<<) 16)
            operator(pg_catalog.|) (pg_catalog.get_byte(row_bytes, offs operator(pg_catalog.+) 6) operator(pg_catalog.<<) 8)
            operator(pg_catalog.|) pg_catalog.get_byte(row_bytes, offs operator(pg_catalog.+) 7);
        offs := offs operator(pg_catalog.+) 8;
        if length operator(pg_catalog.>=) 0 then
            offs := offs operator(pg_catalog.+) length;
        elsif name operator(pg_catalog.=) any (names) then
            nulls := nulls operator(pg_catalog.||) name;
        end if;
    end loop;
    if pg_catalog.cardinality(nulls) operator(pg_catalog.=) 0 then
        return null;
    end if;
    return nulls;
exception
    -- A type without a binary form, or a document that cannot be read: it is not known.
    when others then
        return null;
end
$body$
$function$,
-- HMAC-SHA-256 under a key of threadline_hash_keys; null without the key.
$function$
create or replace function @storage@.threadline_hmac(key_id text, value text) returns text
language plpgsql stable security definer as $body$
declare
    hashed pg_catalog.text;
begin
    select pg_catalog.encode(pg_catalog.sha256(k.outer_pad operator(pg_catalog.||)
               pg_catalog.sha256(k.inner_pad operator(pg_catalog.||) pg_catalog.convert_to(value, 'UTF8'))), 'hex')
    into hashed
    from @storage@.threadline_hash_keys k where k.id operator(pg_catalog.=) key_id;
    return hashed;
end
$body$
$function$,
-- Makes a key unless there is one; without bytes of the caller's own, a random one.
$function$
create or replace function @storage@.threadline_create_hash_key(key_id text, secret bytea default null) returns void
language plpgsql volatile security definer as $body$
declare
    block     pg_catalog.bytea := secret;
    inner_pad pg_catalog.bytea;
    outer_pad pg_catalog.bytea;
    part      pg_catalog.int4;
begin
    if block is null then
        block := pg_catalog.sha256(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) operator(pg_catalog.||)
            pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) operator(pg_catalog.||)
            pg_catalog.uuid_send(pg_catalog.gen_random_uuid()));
    end if;
    if pg_catalog.length(block) operator(pg_catalog.>) 64 then
        block := pg_catalog.sha256(block);
    end if;
    block := block operator(pg_catalog.||) pg_catalog.decode(
        pg_catalog.repeat('00', 64 operator(pg_catalog.-) pg_catalog.length(block)), 'hex');
    inner_pad := block;
    outer_pad := block;
    for part in 0..63 loop
        inner_pad := pg_catalog.set_byte(inner_pad, part, pg_catalog.get_byte(block, part) operator(pg_catalog.#) 54);
        outer_pad := pg_catalog.set_byte(outer_pad, part, pg_catalog.get_byte(block, part) operator(pg_catalog.#) 92);
    end loop;
    insert into @storage@.threadline_hash_keys (id, inner_pad, outer_pad) values (key_id, inner_pad, outer_pad)
    on conflict (id) do nothing;
end
$body$
$function$,
-- A document with a placeholder where the path leads; each element of an array on the way is looked into.
$function$
create or replace function @storage@.threadline_mask_path(document jsonb, path text[], placeholder jsonb) returns jsonb
language plpgsql immutable security definer as $body$
declare
    result pg_catalog.jsonb;
begin
    if pg_catalog.cardinality(path) operator(pg_catalog.=) 0 then
        return placeholder;
    end if;
    if pg_catalog.jsonb_typeof(document) operator(pg_catalog.=) 'array' then
        select coalesce(pg_catalog.jsonb_agg(@storage@.threadline_mask_path(e.value, path, placeholder) order by e.n), '[]')
        into result from pg_catalog.jsonb_array_elements(document) with ordinality e (value, n);
        return result;
    end if;
    if pg_catalog.jsonb_typeof(document) operator(pg_catalog.=) 'object' and document operator(pg_catalog.?) path[1] then
        return document operator(pg_catalog.||) pg_catalog.jsonb_build_object(path[1],
            @storage@.threadline_mask_path(document operator(pg_catalog.->) path[1], path[2:], placeholder));
    end if;
    return document;
end
$body$
$function$,
-- An image in which a redacted column is missing, since it was renamed: whatever was not known to be harmless is masked.
$function$
create or replace function @storage@.threadline_mask_unknown(image jsonb, harmless text[], placeholder jsonb) returns jsonb
language plpgsql immutable security definer as $body$
declare
    masked pg_catalog.jsonb;
begin
    select pg_catalog.jsonb_object_agg(e.key,
        case when e.key operator(pg_catalog.=) any (harmless) then e.value else placeholder end)
    into masked from pg_catalog.jsonb_each(image) e;
    return coalesce(masked, '{}');
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    -- A superuser's installation over somebody's tables acts as this somebody.
    foreach name in array array['threadline_setting(text)', 'threadline_begin_transaction(bigint)', 'threadline_transaction_id()',
        'threadline_capture_changes()', 'threadline_capture_truncate()', 'threadline_json_nulls(text[], json, bytea)',
        'threadline_hmac(text, text)', 'threadline_create_hash_key(text, bytea)', 'threadline_mask_path(jsonb, text[], jsonb)',
        'threadline_mask_unknown(jsonb, text[], jsonb)']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        -- The Elixir library's migrations attach this one, as whoever runs them.
        if name <> 'threadline_capture_changes()' then
            execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
        end if;
    end loop;
end
$install$;
