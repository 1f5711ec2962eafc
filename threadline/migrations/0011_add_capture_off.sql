-- Since when capture of a table is switched off, by whom and why: {"at", "actor", "reason", "triggers"}. The last are the firing
-- states from before, which come back when it is switched on. Null while the table is captured.
alter table threadline_capture_policies add column if not exists off jsonb;
