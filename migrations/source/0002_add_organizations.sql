-- Sigra's second migration. An installation may lack it, so the pipeline treats both columns as optional.
create table if not exists organizations (
    id   uuid not null primary key,
    name varchar(255) not null
);

alter table audit_events
    add column if not exists organization_id uuid references organizations (id) on delete set null,
    add column if not exists effective_user_id uuid;

create index if not exists audit_events_organization_id_inserted_at_index
    on audit_events (organization_id, inserted_at);
