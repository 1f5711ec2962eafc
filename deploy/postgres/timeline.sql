-- The pipeline's roles on the timeline database: `consumer run` inserts actions with it, and can neither change nor remove
-- one; `audit_reconciler`, `audit_reader` and `audit_exporter` below are for people, `audit_maintainer` for a purge, `audit_archivist` for one that archives, `audit_sealer` seals, `audit_surface` is the operator surface's. After `threadline install`, as a superuser, or as the role that installed if it
-- may create roles:
--
--     psql --file deploy/postgres/timeline.sql "$THREADLINE_DATABASE_URL"
--
-- All or nothing: it stops at the first error, as source.sql does. Harmless when repeated. The role logs in and has no password, as in source.sql. Another storage schema
-- than public: replace its name.
\set ON_ERROR_STOP on
begin;

do $$
declare
    role text;
begin
    foreach role in array array['audit_projector', 'audit_reconciler', 'audit_reader', 'audit_exporter', 'audit_maintainer', 'audit_archivist', 'audit_sealer', 'audit_eraser', 'audit_surface'] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I login', role);
        end if;
    end loop;
end
$$;

grant usage on schema public to audit_projector;
-- It reads what it needs to tell an action that it has written before from one of somebody else.
grant insert (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at),
      select (id, correlation_id, inserted_at)
    on public.audit_actions to audit_projector;
-- And which actions of somebody else it is to take for events.
grant select on public.audit_adoptions to audit_projector;
-- And of which version the tables are.
grant select on public.threadline_migrations to audit_projector, audit_reconciler;


-- audit_reconciler: `consumer reconcile`, with `--repair` and `--seal`, `receipts`, `explain`, and `replay`, with
-- `--overwrite`. It reads actions, overwrites what differs, and appends receipts, of which it can change none. It removes
-- nothing: for `--remove-extra` grant delete on public.audit_actions, or let the owner do it. `rebuild` makes tables and
-- stays with the owner.
grant usage on schema public to audit_reconciler;
grant select,
      insert (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at),
      update (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at)
    on public.audit_actions to audit_reconciler;
grant select, insert on public.audit_receipts to audit_reconciler;
-- Retention keeps an action that a captured transaction is linked to, whatever else of its time is gone: a receipt has to know.
grant select (action_id) on public.audit_transactions to audit_reconciler;
-- `publisher backfill --accept-foreign-ids` remembers what Sigra's own forwarder has delivered.
grant select, insert on public.audit_adoptions to audit_reconciler;

-- audit_reader: the commands of `threadline` that read, and nothing else: who may see the whole timeline. `undo-plan` also reads the rows
-- as they are now: grant select on the tables that it is to plan for.
grant usage on schema public to audit_reader, audit_surface;
grant select on public.audit_changes, public.audit_transactions, public.audit_actions, public.threadline_capture_policies,
    public.threadline_migrations, public.threadline_retention_runs, public.threadline_archives, public.threadline_evidence_records to audit_reader, audit_surface;

-- audit_maintainer: `threadline retention`. It reads no value of a row, deletes changes, captured transactions and actions, and says so. To lock
-- rows that others have not locked, a role needs the right to update a column: it has it of one in each table that says least.
grant usage on schema public to audit_maintainer;
grant select (id, transaction_id, table_schema, table_name, captured_at), delete, update (partition) on public.audit_changes to audit_maintainer;
grant select (id, txid, occurred_at, action_id), delete, update (source) on public.audit_transactions to audit_maintainer;
grant select (id, name, inserted_at), delete, update (txid),
      insert (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
    on public.audit_actions to audit_maintainer;
grant select, insert, update on public.threadline_retention_runs to audit_maintainer;
grant select on public.threadline_archives to audit_maintainer;
grant select, insert, update, delete on public.threadline_leases to audit_maintainer;
grant insert on public.threadline_evidence_records to audit_maintainer;
grant select on public.threadline_migrations to audit_maintainer;
-- Months of changes, where they are stored so: the functions check what they are asked.
grant execute on function public.threadline_prepare_partitions(integer),
    public.threadline_drop_partition(text, timestamptz, text[], text[], timestamptz[], boolean) to audit_maintainer, audit_archivist;

-- audit_archivist: `threadline retention` with a section [retention.archive]. It reads what it archives, every value of it; otherwise it
-- may what audit_maintainer may, and records its archives.
grant usage on schema public to audit_archivist;
grant select, delete, update (partition) on public.audit_changes to audit_archivist;
grant select, delete, update (source) on public.audit_transactions to audit_archivist;
grant select, delete, update (txid),
      insert (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
    on public.audit_actions to audit_archivist;
grant select, insert, update on public.threadline_retention_runs to audit_archivist;
grant select, insert, update (deleted_at) on public.threadline_archives to audit_archivist;
grant select, insert, update, delete on public.threadline_leases to audit_archivist;
grant insert on public.threadline_evidence_records to audit_archivist;
grant select on public.threadline_migrations to audit_archivist;

-- audit_exporter: what audit_reader may, and `threadline export run`, which records each export as an action and as evidence.
grant usage on schema public to audit_exporter;
grant select on public.audit_changes, public.audit_transactions, public.audit_actions, public.threadline_capture_policies,
    public.threadline_migrations, public.threadline_retention_runs, public.threadline_archives to audit_exporter;
grant insert on public.audit_actions, public.threadline_evidence_records to audit_exporter;
-- And `threadline export jobs`, `export schedules`: it asks for exports, makes them, and says what became of them. What a job is to export, and
-- in whose name, it can say once and change no more; a row of a job stays.
grant select,
      insert (id, status, query_params, actor_ref, request, due_at, attempts, generation, schedule, scheduled_for),
      update (status, holder, lease_until, attempts, generation, due_at, started_at, completed_at, updated_at, error_message, location, rows,
              bytes, sha256, manifest_sha256, keep_until)
    on public.threadline_export_jobs to audit_exporter;
grant select, insert (name, request, query_params, actor_ref, every_seconds, next_at), update (next_at, is_enabled, updated_at), delete
    on public.threadline_export_schedules to audit_exporter;

-- And `threadline receipts list`, `verify` and `bundle`.
grant select on public.threadline_receipts, public.threadline_receipt_leaves to audit_reader, audit_surface;

-- And `threadline metrics`: how many jobs are in which status, not of what.
grant select (status, inserted_at) on public.threadline_export_jobs to audit_reader, audit_surface;

-- audit_sealer: `threadline receipts`. It reads what it seals, and appends; nobody may change or remove a receipt. Policies of row level
-- security on the three tables would hide rows from it, which it refuses: exempt it from them.
grant usage on schema public to audit_sealer;
grant select on public.audit_changes, public.audit_transactions, public.audit_actions, public.threadline_retention_runs to audit_sealer;
grant select, insert on public.threadline_receipts, public.threadline_receipt_leaves to audit_sealer;

-- And which erasures there were, without what their subjects could be looked for with.
grant select (id, status, kind, reason, actor_ref, policy, counts, lease_until, started_at, completed_at, error_message)
    on public.threadline_erasures to audit_reader, audit_surface;
grant select (id, started_at) on public.threadline_erasures to audit_sealer;

-- audit_eraser: `threadline erase`. It reads what it erases, writes to columns that may be about a person and to no others, removes nothing, and
-- says what it did.
grant usage on schema public to audit_eraser;
grant select, update (table_pk, key_before, data_after, data_before, changed_from, erased) on public.audit_changes to audit_eraser;
grant select, update (actor_ref, meta, context, erased) on public.audit_transactions to audit_eraser;
grant select, update (actor_ref, reason, comment, erased),
      insert (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
    on public.audit_actions to audit_eraser;
grant select (id, subject, actor_ref, subject_ref, detail), update (actor_ref, subject_ref, detail), insert
    on public.threadline_evidence_records to audit_eraser;
grant select (id, actor_ref, query_params, request), update (actor_ref, query_params, request)
    on public.threadline_export_jobs, public.threadline_export_schedules to audit_eraser;
grant select (id, actor_ref, filters), update (actor_ref, filters) on public.threadline_saved_views to audit_eraser;
grant select, insert, update on public.threadline_erasures to audit_eraser;
grant select, insert, update, delete on public.threadline_leases to audit_eraser;
-- How many files there are that may hold the same.
grant select (id) on public.threadline_archives to audit_eraser;
grant select on public.threadline_migrations to audit_eraser;

-- audit_surface: what the operator surface does where it may do something. It has the rights of audit_reader, and exactly what acts need: it
-- records actions, of which it can change none, keeps the saved views of whoever saves them, and asks for exports, or ends one.
grant insert (name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id)
    on public.audit_actions to audit_surface;
grant select, insert (id, name, actor_ref, filters), update (name, updated_at), delete on public.threadline_saved_views to audit_surface;
grant insert on public.threadline_evidence_records to audit_surface;
grant select, insert (id, status, query_params, actor_ref, request, due_at, attempts, generation),
      update (status, holder, lease_until, completed_at, keep_until, error_message, updated_at)
    on public.threadline_export_jobs to audit_surface;

commit;
