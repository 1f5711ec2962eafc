-- Erasures: why, who, when, and how many values. Whom or what they were about is not stored, only a hash by which the same command finds its run
-- again.
create table if not exists threadline_erasures (
    id            uuid        not null primary key,
    -- running, completed, failed. One that is running behind lease_until was interrupted.
    status        text        not null,
    -- row, actor, person.
    kind          text        not null,
    reason        text        not null,
    actor_ref     jsonb,
    -- Of the salt and the subject, in hexadecimal.
    subject_hash  text        not null,
    salt          text        not null,
    -- Tables and columns.
    policy        jsonb       not null,
    -- {"rows": {"audit_changes": 2}, "values": {"public.users": {"email": 2}}}
    counts        jsonb       not null default '{}',
    -- Where the run goes on.
    position      jsonb,
    holder        text,
    lease_until   timestamptz,
    started_at    timestamptz not null,
    completed_at  timestamptz,
    error_message text
);
