-- The transactions of an actor, and those of a correlation id, in the order of their times: pages of them are read from the index. What
-- is longer than an entry of an index may be is cut, so that no write fails for it. As in the migrations before, over a large table both
-- are built beforehand.
create index if not exists audit_transactions_actor_page_idx on audit_transactions
    (left(actor_ref ->> 'type', 256),
     (case when actor_ref ->> 'type' = 'anonymous' then '' else left(coalesce(actor_ref ->> 'id', ''), 256) end), occurred_at, id)
    where actor_ref is not null;
create index if not exists audit_transactions_correlation_page_idx on audit_transactions (left(correlation_id, 256), occurred_at, id)
    where correlation_id is not null;
