-- The rows of a receipt: 49 bytes for each, which are its kind (1 transaction, 2 change, 3 action), its id, and the SHA-256 of its columns; at
-- most 4,096 in a part. Append-only, as the receipts are.
create table if not exists threadline_receipt_leaves (
    n      bigint  not null,
    -- Counts up from 0.
    part   integer not null,
    leaves bytea   not null,
    primary key (n, part)
);
-- Hashes cannot be compressed.
alter table threadline_receipt_leaves alter column leaves set storage external;
