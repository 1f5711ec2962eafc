-- How many changes of which table a run has deleted, as {"schema.table": 3}: what is missing beyond that was not purged. None of older runs.
alter table threadline_retention_runs add column if not exists deleted_tables jsonb;
