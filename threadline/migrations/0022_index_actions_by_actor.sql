-- The actions of an actor, and those of a name, in the order of their times; and those that arrived. As in 0019, over a large table all
-- are built beforehand.
create index if not exists audit_actions_txid_idx on audit_actions (txid);
create index if not exists audit_actions_actor_page_idx on audit_actions
    (left(actor_ref ->> 'type', 256),
     (case when actor_ref ->> 'type' = 'anonymous' then '' else left(coalesce(actor_ref ->> 'id', ''), 256) end), inserted_at, id);
create index if not exists audit_actions_name_page_idx on audit_actions (name, inserted_at, id);
