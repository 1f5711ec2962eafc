-- Reads the table once, without holding anybody up.
alter table audit_changes validate constraint audit_changes_op_check;

-- The Elixir library's tables for exports, retention, saved views and evidence.
create table if not exists threadline_export_jobs (
    id            uuid        not null primary key default gen_random_uuid(),
    status        text        not null,
    query_params  jsonb       not null,
    actor_ref     jsonb,
    file_path     text,
    error_message text,
    started_at    timestamptz,
    completed_at  timestamptz,
    expires_at    timestamptz,
    inserted_at   timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

create table if not exists threadline_retention_runs (
    id            uuid        not null primary key default gen_random_uuid(),
    status        text        not null,
    deleted_count integer,
    duration_ms   integer,
    error_message text,
    started_at    timestamptz,
    completed_at  timestamptz,
    inserted_at   timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

create table if not exists threadline_saved_views (
    id          uuid        not null primary key default gen_random_uuid(),
    name        text        not null,
    actor_ref   jsonb       not null,
    filters     jsonb       not null,
    inserted_at timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

create table if not exists threadline_evidence_records (
    id             uuid        not null primary key default gen_random_uuid(),
    subject        text        not null,
    subject_ref    jsonb       not null,
    summary_status text        not null,
    recorded_at    timestamptz not null,
    actor_ref      jsonb,
    provenance     jsonb       not null default '{}',
    detail         jsonb       not null default '{}',
    schema_version integer     not null default 1,
    inserted_at    timestamptz not null default now()
);

create index if not exists threadline_evidence_records_subject_idx on threadline_evidence_records (subject);
create index if not exists threadline_evidence_records_recorded_at_idx on threadline_evidence_records (recorded_at);
create index if not exists threadline_evidence_records_subject_ref_idx
    on threadline_evidence_records using gin (subject_ref);

-- What a generated trigger captures, and under which policy: what is installed is compared with it, and not guessed from the
-- text of a function.
create table if not exists threadline_capture_policies (
    -- As it was called when its triggers were made; the oid follows a rename.
    table_schema text        not null,
    table_name   text        not null,
    table_oid    oid         not null,
    level        text        not null check (level in ('row', 'statement')),
    -- As in the settings, and beside it the numbers of the columns that it names.
    policy       jsonb       not null,
    -- Of the generator that wrote the functions.
    generator    integer     not null,
    installed_at timestamptz not null default clock_timestamp(),
    primary key (table_schema, table_name)
);

-- Keys of hashed columns, as the two blocks that HMAC begins its hashes with. For the owner's eyes only: it is granted to nobody.
create table if not exists threadline_hash_keys (
    id         text        not null primary key,
    inner_pad  bytea       not null,
    outer_pad  bytea       not null,
    created_at timestamptz not null default clock_timestamp()
);
revoke all on threadline_hash_keys from public;
