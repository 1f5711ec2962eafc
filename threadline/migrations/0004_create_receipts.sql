-- One row for each window of time that was compared with its source and found equal: what the timeline held, summed up, and
-- chained to the receipt before it. Append-only: roles of services and of operators get no right to change or delete rows.
create table if not exists audit_receipts (
    forwarder   text        not null,
    -- Counts up from 1.
    n           bigint      not null,
    -- Which table of which database of which cluster.
    source      text        not null,
    since       timestamptz not null,
    until       timestamptz not null,
    -- Actions of the window, and events that are dead or discarded letters instead.
    actions     bigint      not null,
    letters     bigint      not null,
    -- The oldest of the actions: while it is there, retention has not begun with this window.
    first_at    timestamptz,
    -- Of all actions, see the documentation of the code that sums up.
    digest      text        not null,
    -- The hash of the receipt before this one, or 64 zeros.
    previous    text        not null,
    sealed_at   timestamptz not null,
    -- SHA-256 of all of the above.
    hash        text        not null,
    -- Ed25519: the public key, and the signature of the hash, in hexadecimal.
    key         text,
    signature   text,
    primary key (forwarder, n)
);
