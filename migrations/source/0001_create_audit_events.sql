-- `audit_events` as Sigra's installer makes it. Unqualified on purpose: the installer's schema prefix is the
-- search path of the connection that runs this. Only the sandbox and the tests create this table; a real
-- application already has it.
create table if not exists audit_events (
    id          uuid         not null primary key,
    occurred_at timestamp(6) not null,
    action      varchar(255) not null,
    outcome     varchar(32)  not null,
    actor_id    uuid,
    actor_type  varchar(64)  not null default 'user',
    target_id   uuid,
    target_type varchar(64),
    ip_address  varchar(64),
    user_agent  varchar(512),
    metadata    jsonb        not null default '{}',
    inserted_at timestamp(6) not null
);

create index if not exists audit_events_actor_id_inserted_at_index on audit_events (actor_id, inserted_at);
create index if not exists audit_events_action_inserted_at_index on audit_events (action, inserted_at);
create index if not exists audit_events_inserted_at_index on audit_events (inserted_at);
