-- What a host calls in a transaction of its own, from any language: `threadline_begin` says who acts, `threadline_record_action` what was
-- done, `threadline_link` adds what else is known. Nobody may call them until the owner grants it. Called once a transaction, so each
-- brings its search path along. Errors are terms, in a class of SQLSTATE of their own: TL001 no actor, TL002 nested, TL003 nothing was
-- captured, TL004 malformed.
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
-- The captured transaction of the database transaction that calls; null before its first change. See threadline_begin_transaction
-- about numbers that another cluster gave out.
$function$
create or replace function @storage@.threadline_captured_transaction() returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $body$
declare
    slot   bigint := txid_current_if_assigned();
    found_id uuid;
    is_own boolean;
begin
    loop
        select t.id, t.occurred_at >= transaction_timestamp() into found_id, is_own
        from @storage@.audit_transactions t where t.txid = slot;
        if is_own is null or is_own then
            return found_id;
        end if;
        slot := slot + (1::bigint << 48);
    end loop;
end
$body$
$function$,
-- An actor as it is stored.
$function$
create or replace function @storage@.threadline_check_actor(actor jsonb) returns void
language plpgsql immutable security definer set search_path = pg_catalog, pg_temp as $body$
begin
    if jsonb_typeof(actor) <> 'object' or jsonb_typeof(actor -> 'type') is distinct from 'string' then
        raise exception 'invalid_actor_ref_map' using errcode = 'TL004',
            hint = 'An actor is an object such as {"type": "user", "id": "u1"}.';
    end if;
    if actor ->> 'type' = 'anonymous' then
        return;
    end if;
    if jsonb_typeof(actor -> 'id') is distinct from 'string' or actor ->> 'id' = '' then
        raise exception 'missing_actor_id' using errcode = 'TL004',
            hint = 'Every actor but {"type": "anonymous"} has an id, which is a text.';
    end if;
    if actor ->> 'type' not in ('user', 'admin', 'service_account', 'job', 'system') then
        raise exception 'unknown_actor_type' using errcode = 'TL004',
            hint = 'Types are user, admin, service_account, job, system and anonymous.';
    end if;
end
$body$
$function$,
-- Says who acts in this transaction: {"actor": {…}, "request_id": …, "correlation_id": …, "job_id": …, "source": …, and keys of the
-- host's own}. Without an actor only with {"allow_missing_actor": true}.
$function$
create or replace function @storage@.threadline_begin(context jsonb) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $body$
declare
    actor    jsonb := nullif(context -> 'actor', 'null');
    known    jsonb;
    captured uuid;
begin
    if jsonb_typeof(context) is distinct from 'object' then
        raise exception 'malformed_context' using errcode = 'TL004', hint = 'The context is a JSON object.';
    end if;
    known := jsonb_strip_nulls(context - '{actor,allow_missing_actor}'::text[]);
    if current_setting('threadline.audited', true) = 'on' then
        raise exception 'nested_audited_transaction' using errcode = 'TL002',
            hint = 'This transaction has begun with an actor already: a transaction has one. Call threadline_begin once.';
    end if;
    if actor is not null then
        perform @storage@.threadline_check_actor(actor);
        actor := case when actor ->> 'type' = 'anonymous' then '{"type": "anonymous"}'::jsonb
                      else jsonb_build_object('type', actor -> 'type', 'id', actor -> 'id') end;
    elsif context -> 'allow_missing_actor' is distinct from 'true' then
        raise exception 'missing_actor' using errcode = 'TL001',
            hint = 'Give an actor; {"type": "anonymous"} where nobody is known.';
    end if;
    if octet_length(known::text) > 8192 or octet_length(actor::text) > 8192 then
        raise exception 'context_too_large' using errcode = 'TL004', hint = 'Actor and context have 8 KiB each.';
    end if;
    perform set_config('threadline.actor_ref', coalesce(actor::text, ''), true);
    perform set_config('threadline.context', case when known = '{}' then '' else known::text end, true);
    perform set_config('threadline.audited', 'on', true);
    -- What changed before belongs to the same transaction.
    captured := @storage@.threadline_captured_transaction();
    if captured is not null then
        update @storage@.audit_transactions t
        set actor_ref = coalesce(t.actor_ref, actor), source = coalesce(t.source, known ->> 'source'),
            correlation_id = coalesce(t.correlation_id, known ->> 'correlation_id'),
            request_id = coalesce(t.request_id, known ->> 'request_id'), job_id = coalesce(t.job_id, known ->> 'job_id')
        where t.id = captured;
    end if;
end
$body$
$function$,
-- Records what is done and links it to the changes of this transaction, those that are still to come included. Options: actor, status,
-- verb, category, reason, comment, correlation_id, request_id, job_id, where the context of the transaction does not say the same;
-- meta, which is merged into the transaction's; require_changes.
$function$
create or replace function @storage@.threadline_record_action(name text, options jsonb default '{}',
    out action_id uuid, out transaction_id uuid, out recorded_at timestamptz)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $body$
declare
    context jsonb := coalesce(@storage@.threadline_setting('threadline.context'), '{}');
    actor   jsonb := coalesce(nullif(options -> 'actor', 'null'), @storage@.threadline_setting('threadline.actor_ref'));
    unknown text;
begin
    if jsonb_typeof(options) is distinct from 'object' then
        raise exception 'malformed_options' using errcode = 'TL004', hint = 'Options are a JSON object.';
    end if;
    select string_agg(quote_ident(k), ', ' order by k) into unknown from jsonb_object_keys(options) k
    where k not in ('actor', 'status', 'verb', 'category', 'reason', 'comment', 'correlation_id', 'request_id', 'job_id', 'meta',
                    'require_changes');
    if unknown is not null then
        raise exception 'option_unknown' using errcode = 'TL004', detail = 'There is no option ' || unknown || '.';
    end if;
    if coalesce(name, '') = '' then
        raise exception 'missing_name' using errcode = 'TL004', hint = 'An action has a name, such as user.suspended.';
    end if;
    if coalesce(options ->> 'status', 'ok') not in ('ok', 'error') then
        raise exception 'invalid_status' using errcode = 'TL004', hint = 'The status is ok or error.';
    end if;
    if actor is null then
        raise exception 'missing_actor' using errcode = 'TL001', hint = 'Call threadline_begin first, or give the option actor.';
    end if;
    perform @storage@.threadline_check_actor(actor);
    transaction_id := @storage@.threadline_captured_transaction();
    if options -> 'require_changes' = 'true' and (transaction_id is null or not exists (
           select from @storage@.audit_changes c where c.transaction_id = threadline_record_action.transaction_id)) then
        raise exception 'missing_audit_transaction_for_link' using errcode = 'TL003',
            hint = 'Nothing that is captured has changed in this transaction: see the triggers of the tables it writes to.';
    end if;
    transaction_id := coalesce(transaction_id, @storage@.threadline_transaction_id());
    insert into @storage@.audit_actions as a
        (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
    values (name, actor, coalesce(options ->> 'status', 'ok'), options ->> 'verb', options ->> 'category', options ->> 'reason',
            options ->> 'comment',
            case when options ? 'correlation_id' then options ->> 'correlation_id' else context ->> 'correlation_id' end,
            case when options ? 'request_id' then options ->> 'request_id' else context ->> 'request_id' end,
            case when options ? 'job_id' then options ->> 'job_id' else context ->> 'job_id' end)
    returning a.id, a.inserted_at into action_id, recorded_at;
    update @storage@.audit_transactions t
    set action_id = coalesce(t.action_id, threadline_record_action.action_id),
        meta = case when jsonb_typeof(options -> 'meta') = 'object' then coalesce(t.meta, '{}') || (options -> 'meta') else t.meta end
    where t.id = threadline_record_action.transaction_id;
end
$body$
$function$,
-- Adds to what is known of this transaction; its id, null where nothing was captured and nothing is to be added.
$function$
create or replace function @storage@.threadline_link(more jsonb default null) returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $body$
declare
    captured uuid := @storage@.threadline_captured_transaction();
begin
    if more is null or more = 'null' then
        return captured;
    end if;
    if jsonb_typeof(more) <> 'object' then
        raise exception 'malformed_meta' using errcode = 'TL004', hint = 'What is added is a JSON object.';
    end if;
    if captured is null then
        raise exception 'missing_audit_transaction_for_link' using errcode = 'TL003',
            hint = 'Nothing that is captured has changed in this transaction: see the triggers of the tables it writes to.';
    end if;
    update @storage@.audit_transactions t set meta = coalesce(t.meta, '{}') || more where t.id = captured;
    return captured;
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    foreach name in array array['threadline_captured_transaction()', 'threadline_check_actor(jsonb)', 'threadline_begin(jsonb)',
        'threadline_record_action(text, jsonb)', 'threadline_link(jsonb)']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
    end loop;
end
$install$;
