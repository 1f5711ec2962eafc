-- A reader's position in the log is a snapshot: everything visible in it has been handed over. A round reads what
-- is visible in `t` and was not visible in `s`. The primary key is the fence: whoever inserts round n + 1 reads it.
-- Insert-only, because updating one hot row slows down many times over under a transaction held open; rows behind
-- the head are thinned to one a minute and serve as marks.
create table outbox.rounds (
    reader            text        not null,
    n                 bigint      not null,
    s                 pg_snapshot not null,
    -- Equal to `s` when the reader had read everything and went idle.
    t                 pg_snapshot not null,
    -- The position reached inside this round; NULL when it stands at its start.
    after_xid         xid8,
    after_seq         bigint,
    -- Raised by a rewind or a rebase; part of the message id, so that the duplicate window lets repeats through.
    generation        integer     not null,
    -- Transaction ids mean nothing in another cluster.
    system_identifier bigint      not null,
    -- The stream that holds everything visible in `s`, at or below `stream_seq`. NULL for readers without a broker.
    stream_created    timestamptz,
    stream_seq        bigint,
    -- The event that the message at `stream_seq` names: a stream that lost its end and grew again holds another one.
    stream_event      uuid,
    at                timestamptz not null default clock_timestamp(),
    primary key (reader, n),
    check ((after_xid is null) = (after_seq is null)),
    check ((stream_created is null) = (stream_seq is null))
);

create index rounds_reader_at_idx on outbox.rounds (reader, at);

-- Who leads. Times are the database's own clock; holders measure their remaining time on a monotonic one.
create table outbox.leases (
    name       text        not null primary key,
    holder     text        not null,
    expires_at timestamptz not null
) with (fillfactor = 50);

-- How far the pipeline itself has trimmed a stream: whoever finds it begin later knows that somebody else removed
-- messages, delivered or not.
create table outbox.streams (
    created   timestamptz not null primary key,
    kept_from bigint      not null
);

-- Entries of transactions up to `pruned_to` may be gone.
create table outbox.horizon (
    singleton boolean     not null primary key default true check (singleton),
    pruned_to xid8        not null,
    pruned_at timestamptz not null default clock_timestamp()
);
