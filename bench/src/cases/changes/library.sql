-- The tables of the Elixir library with the indexes that it makes, where they are not there, and a row trigger of its shape: the
-- transaction is inserted unless it is there, then read, then the change is inserted. With the values before an update.
create table if not exists @schema@.audit_transactions (
    id          uuid        not null primary key default gen_random_uuid(),
    txid        bigint      not null unique,
    occurred_at timestamptz not null default now(),
    source      text,
    meta        jsonb,
    actor_ref   jsonb,
    action_id   uuid
);
create index if not exists audit_transactions_txid_idx on @schema@.audit_transactions (txid);
create index if not exists audit_transactions_actor_ref_gin on @schema@.audit_transactions using gin (actor_ref);

create table if not exists @schema@.audit_changes (
    id             uuid        not null primary key default gen_random_uuid(),
    transaction_id uuid        not null references @schema@.audit_transactions (id) on delete cascade,
    table_schema   text        not null,
    table_name     text        not null,
    table_pk       jsonb       not null,
    op             text        not null check (op in ('insert', 'update', 'delete')),
    data_after     jsonb,
    changed_fields text[],
    changed_from   jsonb,
    captured_at    timestamptz not null default now()
);
create index if not exists audit_changes_transaction_id_idx on @schema@.audit_changes (transaction_id);
create index if not exists audit_changes_table_name_idx on @schema@.audit_changes (table_name);
create index if not exists audit_changes_captured_at_idx on @schema@.audit_changes (captured_at);
create index if not exists audit_changes_row_history_idx
    on @schema@.audit_changes (table_schema, table_name, table_pk, captured_at desc, id desc);

create function @schema@.record_change() returns trigger language plpgsql as $body$
declare
    known_id uuid;
    row_now  jsonb;
    row_was  jsonb;
    key      jsonb := '{}';
    part     text;
    changed  text[];
    was      jsonb;
begin
    insert into @schema@.audit_transactions (id, txid, occurred_at, actor_ref)
    values (gen_random_uuid(), txid_current(), clock_timestamp(),
            nullif(current_setting('threadline.actor_ref', true), '')::jsonb)
    on conflict (txid) do nothing;
    select t.id into known_id from @schema@.audit_transactions t where t.txid = txid_current();
    if tg_op = 'DELETE' then
        row_was := to_jsonb(old);
    else
        row_now := to_jsonb(new);
    end if;
    foreach part in array tg_argv loop
        if coalesce(row_now, row_was) ->> part is null then
            key := '{}';
            exit;
        end if;
        key := key || jsonb_build_object(part, coalesce(row_now, row_was) ->> part);
    end loop;
    if tg_op = 'UPDATE' then
        row_was := to_jsonb(old);
        select array_agg(n.key order by n.key), jsonb_object_agg(n.key, row_was -> n.key) into changed, was
        from jsonb_each(row_now) n where n.value is distinct from row_was -> n.key;
    end if;
    insert into @schema@.audit_changes
        (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at)
    values (gen_random_uuid(), known_id, tg_table_schema, tg_table_name, key, lower(tg_op), row_now, changed, was,
            clock_timestamp());
    return null;
end
$body$;
