-- As the migration before it; what is null in most rows is in no index. One table a migration: a writer that has changed one of them
-- and waits for the other is never in the way of whoever holds the other.
create index if not exists audit_transactions_occurred_at_id_idx on audit_transactions (occurred_at, id);
create index if not exists audit_transactions_action_idx on audit_transactions (action_id) where action_id is not null;
create index if not exists audit_transactions_actor_idx on audit_transactions using gin (actor_ref) where actor_ref is not null;
