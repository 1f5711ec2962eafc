-- What was erased of a captured transaction, in the form of 0032.
alter table audit_transactions add column if not exists erased jsonb;
