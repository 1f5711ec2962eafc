-- What the Elixir library leaves to its host: the order behind keyset pages, and correlation. Over a large existing
-- installation build them first with `create index concurrently` under the same names; this then skips them.
create index if not exists audit_actions_page_idx on audit_actions (inserted_at desc, id desc);
create index if not exists audit_actions_correlation_id_idx on audit_actions (correlation_id);
create index if not exists audit_changes_page_idx on audit_changes (captured_at desc, id desc);
create index if not exists audit_transactions_page_idx on audit_transactions (occurred_at desc, id desc);
create index if not exists audit_transactions_action_id_idx on audit_transactions (action_id);
create index if not exists audit_transactions_actor_ref_gin on audit_transactions using gin (actor_ref);
