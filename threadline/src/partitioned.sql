-- audit_changes by months, before the migrations, which complete it. The columns are those of the first of them. A key has to hold the column
-- that rows are distributed by.
create table audit_changes (
    id             uuid        not null default gen_random_uuid(),
    transaction_id uuid        not null,
    table_schema   text        not null,
    table_name     text        not null,
    table_pk       jsonb       not null,
    op             text        not null check (op in ('insert', 'update', 'delete')),
    data_after     jsonb,
    changed_fields text[],
    changed_from   jsonb,
    captured_at    timestamptz not null default now(),
    primary key (id, captured_at)
) partition by range (captured_at);

-- What is in no month that was made: nothing that is captured is ever refused.
create table audit_changes_default partition of audit_changes default;
