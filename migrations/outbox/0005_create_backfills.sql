-- Long work that is taken up where it ended.

-- Rows that were there before capture enter the log in chunks; the position is committed with each chunk.
create table outbox.backfills (
    id          bigint      not null generated always as identity primary key,
    -- What was asked for, in words: the same words go on with the same work.
    filter      text        not null,
    -- NULL for every forwarder.
    forwarder   text,
    -- What `2h` and the like meant when the work began.
    since       timestamptz,
    until       timestamptz,
    -- Rows are walked by id; NULL before the first chunk.
    after_id    uuid,
    -- How many rows matched at the beginning, how many of these were walked past, and how many were entered.
    total       bigint      not null,
    passed      bigint      not null default 0,
    entered     bigint      not null default 0,
    started_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);

create unique index backfills_unfinished_idx on outbox.backfills (filter) where finished_at is null;

-- How far the standing comparison of a forwarder's target with the log has come: everything visible in `s` has been found
-- in the target or among the failures, or has been entered again.
create table outbox.reconciled (
    forwarder         text        not null primary key,
    s                 pg_snapshot not null,
    -- Of a long round: its goal, and the position reached.
    t                 pg_snapshot,
    after_xid         xid8,
    after_seq         bigint,
    -- Transaction ids mean nothing in another cluster.
    system_identifier bigint      not null,
    checked           bigint      not null default 0,
    -- Found missing since the beginning.
    missing           bigint      not null default 0,
    at                timestamptz not null default clock_timestamp()
);
