-- Behind ../changes/library.sql: the rest of the Elixir library's tables, and the rows of ours. An index on actors is not part of what
-- it installs.
drop index library.audit_transactions_actor_ref_gin;
create table library.audit_actions (
    id             uuid        not null primary key default gen_random_uuid(),
    name           text        not null,
    actor_ref      jsonb       not null,
    status         text        not null check (status in ('ok', 'error')),
    verb           text,
    category       text,
    reason         text,
    comment        text,
    correlation_id text,
    request_id     text,
    job_id         text,
    inserted_at    timestamptz not null default now()
);
create index audit_actions_actor_ref_idx on library.audit_actions using gin (actor_ref);
create index audit_actions_inserted_at_idx on library.audit_actions (inserted_at);
create index audit_actions_name_idx on library.audit_actions (name);
insert into library.audit_actions
    select id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at
    from public.audit_actions;
insert into library.audit_transactions (id, txid, occurred_at, source, meta, actor_ref, action_id)
    select id, txid, occurred_at, source, meta, actor_ref, action_id from public.audit_transactions;
insert into library.audit_changes
    (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at)
    select id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, changed_from, captured_at
    from public.audit_changes;
alter table library.audit_transactions add foreign key (action_id) references library.audit_actions (id) on delete set null;
