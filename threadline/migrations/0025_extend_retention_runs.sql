-- What our own runs say beyond the Elixir library's columns. A run of the library's has no holder.
alter table threadline_retention_runs
    add column if not exists holder               text,
    -- A run that is running behind this time was interrupted.
    add column if not exists lease_until          timestamptz,
    add column if not exists deleted_changes      bigint,
    add column if not exists deleted_transactions bigint,
    add column if not exists deleted_actions      bigint,
    -- The cutoffs: {"default": …, "tables": {"schema.table": …}, "actions": …}; null stands for what is kept.
    add column if not exists windows              jsonb;
