-- What was erased of an action, in the form of 0032.
alter table audit_actions add column if not exists erased jsonb;
