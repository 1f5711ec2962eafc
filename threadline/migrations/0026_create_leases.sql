-- Who does what one process at a time may do, such as a purge, and until when it is believed without another word.
create table if not exists threadline_leases (
    name   text        not null primary key,
    holder text        not null,
    until  timestamptz not null
);
