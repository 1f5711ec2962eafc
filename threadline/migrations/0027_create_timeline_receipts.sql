-- What was committed to the timeline between two snapshots: captured transactions, changes and a host's own actions, each by its hash (0028),
-- chained to the receipt before it. Append-only: no role gets a right to change or delete rows.
create table if not exists threadline_receipts (
    -- Counts up from 1. Of two processes that seal at one time, the second is refused by it.
    n               bigint      not null primary key,
    -- System identifier / database / storage schema.
    database        text        not null,
    -- The snapshots, as the position of a tail is written. The first receipt holds everything that was there.
    position_before text,
    position        text        not null,
    -- The database's clock, before each of these snapshots was taken.
    since           timestamptz,
    until           timestamptz not null,
    transactions    bigint      not null,
    changes         bigint      not null,
    actions         bigint      not null,
    -- SHA-256 of all leaves, in their order.
    digest          text        not null,
    -- The hash of the receipt before this one, or 64 zeros.
    previous        text        not null,
    sealed_at       timestamptz not null,
    -- SHA-256 of all of the above.
    hash            text        not null,
    -- Ed25519: the public key, and the signature of the hash, in hexadecimal.
    key             text,
    signature       text
);
