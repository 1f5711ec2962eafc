-- threadline_record_action refuses meta data that is no object, as threadline_link does: it was left out without a word. The rest is as it
-- was.
do $install$
declare
    storage    text := pg_catalog.quote_ident(pg_catalog.current_schema());
    definition text :=
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
    if jsonb_typeof(coalesce(nullif(options -> 'meta', 'null'), '{}')) <> 'object' then
        raise exception 'malformed_meta' using errcode = 'TL004', hint = 'What is added is a JSON object.';
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
        meta = case when nullif(options -> 'meta', 'null') is null then t.meta else coalesce(t.meta, '{}') || (options -> 'meta') end
    where t.id = threadline_record_action.transaction_id;
end
$body$
$function$;
begin
    execute pg_catalog.replace(definition, '@storage@', storage);
end
$install$;
