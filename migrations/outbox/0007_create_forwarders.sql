-- What a message whose audit row is gone may be: history that everybody had settled, history from before its forwarder, or
-- nothing that this log has ever held.

-- Who has ever been delivered to.
create table outbox.forwarders (
    forwarder  text        not null primary key,
    -- What was visible in it when the forwarder was new is its history. One that was there before this table has none.
    since      pg_snapshot not null,
    at         timestamptz not null default clock_timestamp(),
    -- When somebody let go of it. One that comes back begins anew.
    dropped_at timestamptz
);

-- What was settled under any generation: a rewind hands it over again, and the application may have deleted its rows.
alter table outbox.settled add column ever pg_snapshot;
update outbox.settled set ever = s;

-- How far the stream's reader had been acknowledged when the entries behind it went: nothing later has been pruned. NULL
-- until the next prune.
alter table outbox.horizon add column stream_created timestamptz;
alter table outbox.horizon add column stream_seq bigint;
