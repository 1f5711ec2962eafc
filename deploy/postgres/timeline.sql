-- The pipeline's role on the timeline database: `consumer run` inserts actions with it, and can neither change nor remove
-- one. After `threadline install`, as a superuser, or as the role that installed if it may create roles:
--
--     psql --file deploy/postgres/timeline.sql "$THREADLINE_DATABASE_URL"
--
-- All or nothing, harmless when repeated. The role logs in and has no password, as in source.sql. Another storage schema
-- than public: replace its name. People who query the timeline need roles of their own.
begin;

do $$
begin
    if not exists (select from pg_roles where rolname = 'audit_projector') then
        create role audit_projector login;
    end if;
end
$$;

grant usage on schema public to audit_projector;
-- It reads what it needs to tell an action that it has written before from one of somebody else.
grant insert (id, name, actor_ref, status, verb, category, reason, comment, correlation_id, request_id, job_id, inserted_at),
      select (id, correlation_id)
    on public.audit_actions to audit_projector;

-- audit_receipts: ----------------------------------------------------------------------------------------------------
-- (its grants go here, and those of `reconcile` and `receipts verify`)
-----------------------------------------------------------------------------------------------------------------------

commit;
