-- What our own export jobs say beyond the Elixir library's columns. A job without a request is one of the library's: nothing here takes,
-- changes or deletes it. Ours leave file_path and expires_at null, so that the library's clean-up finds none of them.
alter table threadline_export_jobs
    -- {"filter": …, "options": …, "scope": …, "storage": …}
    add column if not exists request         jsonb,
    add column if not exists due_at          timestamptz,
    -- Which worker has it, and until when that is believed.
    add column if not exists holder          text,
    add column if not exists lease_until     timestamptz,
    -- How often it was taken since it was asked for, and in all; the second number is part of the name of what is stored.
    add column if not exists attempts        integer,
    add column if not exists generation      integer,
    add column if not exists location        text,
    add column if not exists rows            bigint,
    add column if not exists bytes           bigint,
    add column if not exists sha256          text,
    add column if not exists manifest_sha256 text,
    add column if not exists keep_until      timestamptz,
    -- The schedule that it was made for, and which of its times.
    add column if not exists schedule        text,
    add column if not exists scheduled_for   timestamptz;

create index if not exists threadline_export_jobs_due_idx on threadline_export_jobs (due_at)
    where request is not null and status in ('pending', 'running', 'failed');
