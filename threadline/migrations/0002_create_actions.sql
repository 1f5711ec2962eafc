-- Threadline's semantics table and its one link to the capture tables.
create table if not exists audit_actions (
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

create index if not exists audit_actions_actor_ref_idx on audit_actions using gin (actor_ref);
create index if not exists audit_actions_inserted_at_idx on audit_actions (inserted_at);
create index if not exists audit_actions_name_idx on audit_actions (name);

alter table audit_transactions
    add column if not exists actor_ref jsonb,
    add column if not exists action_id uuid references audit_actions (id) on delete set null;
