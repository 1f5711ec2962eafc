-- What purges have handed over before they deleted it: a file each, with its manifest beside it. Append-only but for the time at which it was
-- deleted from the timeline.
create table if not exists threadline_archives (
    id              uuid        not null primary key,
    -- Of threadline_retention_runs. No foreign key: the Elixir library may remove old runs.
    run             uuid        not null,
    what            text        not null constraint threadline_archives_what_check check (what in ('changes', 'transactions', 'actions')),
    -- The table whose changes it holds; null of changes of all tables.
    table_schema    text,
    table_name      text,
    -- What is not older is not in it.
    cutoff          timestamptz not null,
    first_entry_at  timestamptz,
    last_entry_at   timestamptz,
    rows            bigint      not null,
    bytes           bigint      not null,
    -- A URL, file:///….
    location        text        not null,
    -- SHA-256 of the file and of its manifest, in hexadecimal; the public key that signed the manifest.
    sha256          text        not null,
    manifest_sha256 text        not null,
    key             text,
    -- What was visible, as pg_current_snapshot() prints it.
    snapshot        text        not null,
    archived_at     timestamptz not null default clock_timestamp(),
    -- When everything in it had been visited for deletion; null where its run ended before.
    deleted_at      timestamptz
);

create index if not exists threadline_archives_run_idx on threadline_archives (run);
