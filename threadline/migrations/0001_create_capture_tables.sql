-- Threadline's capture tables. Everything is "if not exists": this runs over a schema that the Elixir library has
-- already created. Unqualified on purpose: the storage schema is the search path of the connection that runs this.
create table if not exists audit_transactions (
    id          uuid        not null primary key default gen_random_uuid(),
    txid        bigint      not null constraint audit_transactions_txid_key unique,
    occurred_at timestamptz not null default now(),
    source      text,
    meta        jsonb
);

create index if not exists audit_transactions_txid_idx on audit_transactions (txid);

create table if not exists audit_changes (
    id             uuid        not null primary key default gen_random_uuid(),
    transaction_id uuid        not null references audit_transactions (id) on delete cascade,
    table_schema   text        not null,
    table_name     text        not null,
    table_pk       jsonb       not null,
    op             text        not null check (op in ('insert', 'update', 'delete')),
    data_after     jsonb,
    changed_fields text[],
    changed_from   jsonb,
    captured_at    timestamptz not null default now()
);

create index if not exists audit_changes_transaction_id_idx on audit_changes (transaction_id);
create index if not exists audit_changes_table_name_idx on audit_changes (table_name);
create index if not exists audit_changes_captured_at_idx on audit_changes (captured_at);
create index if not exists audit_changes_row_history_idx
    on audit_changes (table_schema, table_name, table_pk, captured_at desc, id desc);
