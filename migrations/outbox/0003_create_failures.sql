-- Every committed audit row is in its target or here. `ref` is the event id, or `stream:<created>:<sequence>` for a
-- message that could not be read. Delivery removes the row.
create table outbox.failures (
    forwarder       text        not null,
    ref             text        not null,
    audit_event_id  uuid,
    state           text        not null check (state in ('retrying', 'queued', 'dead', 'discarded')),
    reason          text,
    error           text,
    -- The first bytes of a message that could not be read.
    excerpt         bytea       check (octet_length(excerpt) <= 256),
    attempts        integer     not null default 0 check (attempts >= 0),
    -- How often delivery was started alone, committed before each start: a message that kills its process leaves this.
    started         integer     not null default 0 check (started >= 0),
    first_failed_at timestamptz not null default clock_timestamp(),
    last_failed_at  timestamptz not null default clock_timestamp(),
    next_attempt_at timestamptz,
    -- Why somebody discarded it.
    note            text,
    primary key (forwarder, ref),
    check ((state = 'retrying') = (next_attempt_at is not null)),
    check (state not in ('dead', 'discarded') or reason is not null)
);

create index failures_due_idx on outbox.failures (forwarder, next_attempt_at) where state = 'retrying';

-- What people did to the pipeline: re-drives, discards, rebases, changes of dispatch, looks at personal data.
create table outbox.acts (
    id     bigint      not null generated always as identity primary key,
    at     timestamptz not null default clock_timestamp(),
    actor  text        not null,
    kind   text        not null,
    filter text,
    count  bigint,
    reason text
);
