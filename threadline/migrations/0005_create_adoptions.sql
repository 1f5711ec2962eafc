-- What another forwarder has brought into the timeline under ids of its own, with an event's id as the correlation id, counts as
-- that event once somebody has said so: `publisher backfill --adopt` appends a row. Nothing is ever changed or removed.
create table if not exists audit_adoptions (
    -- In whose place it was delivered.
    forwarder  text        not null,
    -- Actions that were written before this time count; what comes later under an event's correlation id does not.
    until      timestamptz not null,
    adopted_at timestamptz not null default clock_timestamp(),
    primary key (forwarder, until)
);
