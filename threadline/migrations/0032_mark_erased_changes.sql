-- What was erased of a change: {"run": the last erasure, "columns": {"data_after": {"sha256": of the text before the first erasure, "keys": ["email"]}}}.
-- Without keys the whole value went. Capture leaves it null.
alter table audit_changes add column if not exists erased jsonb;
