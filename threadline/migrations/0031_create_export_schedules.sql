-- Exports that are made again and again: one that is due makes a job.
create table if not exists threadline_export_schedules (
    name          text        not null primary key,
    -- As in threadline_export_jobs.
    request       jsonb       not null,
    query_params  jsonb       not null,
    actor_ref     jsonb,
    every_seconds bigint      not null check (every_seconds >= 60),
    next_at       timestamptz not null,
    is_enabled    boolean     not null default true,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    id            uuid        not null default gen_random_uuid() unique
);
