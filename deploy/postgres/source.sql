-- The pipeline's roles on the source database. Each may do what the SQL of its process does, and nothing else; the
-- pipeline's own tests run under exactly these grants.
--
-- After `publisher attach`, as a superuser, or as the role that attached if it may create roles (from PostgreSQL 16 on it
-- also needs the right to grant pg_read_all_stats):
--
--     psql --file deploy/postgres/source.sql "$SOURCE_DATABASE_URL"
--
-- All or nothing: it stops at the first error, and psql then ends with status 3. Another client than psql leaves out the
-- line that begins with a backslash. Harmless when repeated. Run it again after an upgrade whose changelog says so. Roles belong to the
-- cluster: before a dump is restored into another one, take them along with `pg_dumpall --roles-only`.
--
-- The roles log in and have no password: give them one with \password, or let them in by certificate. Where not
-- everybody may connect, they need `grant connect on database` too.
--
-- Another table than public.audit_events: replace its name, and leave out columns that it does not have. Where it has
-- row level security: `alter role audit_consumer bypassrls`, and the others that are to read it. Rows that a policy
-- hides look deleted, so the consumer stops and says so instead of reading around them.
--
-- `publisher attach`, `detach` and `rebase` change tables: they stay with the owner, who need not be a superuser. It owns
-- the audit table and may create a schema in the database (`grant create on database`).
\set ON_ERROR_STOP on
begin;

do $$
declare
    role text;
begin
    foreach role in array array['audit_publisher', 'audit_consumer', 'audit_operator', 'audit_decider'] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I login', role);
        end if;
    end loop;
end
$$;

-- The owner of the outbox, who attached: outbox.safe_before(), which clean-ups and receipts ask, runs with its rights, and has
-- to see when the transactions of other roles began.
do $$
declare
    owner oid;
begin
    select proowner into strict owner from pg_proc where oid = 'outbox.safe_before()'::regprocedure;
    if not pg_has_role(owner, 'pg_read_all_stats', 'usage') then
        execute format('grant pg_read_all_stats to %s', owner::regrole);
    end if;
end
$$;

grant usage on schema outbox, public to audit_publisher, audit_consumer, audit_operator;
grant select on outbox.source, outbox.missed, outbox.migrations to audit_publisher, audit_consumer, audit_operator;
grant execute on function outbox.attached_table(), outbox.this_database(), outbox.base_type(oid), outbox.faults(oid)
    to audit_publisher, audit_consumer, audit_operator;

-- audit_publisher: `publisher run` and `publisher prune`.

grant select, insert, update (holder, expires_at), delete on outbox.leases to audit_publisher;
grant select,
      insert (reader, n, s, t, after_xid, after_seq, generation, system_identifier, stream_created, stream_seq, stream_event),
      delete
    on outbox.rounds to audit_publisher;
-- It reads the log, prunes it, and enters retries again whose message is gone.
grant select, insert (audit_event_id, forwarder), delete on outbox.entries to audit_publisher;
grant select (forwarder, ref, audit_event_id, state, next_attempt_at), update (state, next_attempt_at)
    on outbox.failures to audit_publisher;
grant select, insert (pruned_to, stream_created, stream_seq), update (pruned_to, pruned_at, stream_created, stream_seq)
    on outbox.horizon to audit_publisher;
grant select, insert, update (kept_from) on outbox.streams to audit_publisher;
grant select,
      insert (reader, generation, stream_created, stream_seq, s, ever),
      update (generation, stream_created, stream_seq, s, ever, at)
    on outbox.settled to audit_publisher;
-- With source.retention: it counts rows that the application is about to delete. Nothing else of the audit table is its
-- business; without that setting leave these three out.
grant execute on function outbox.undelivered_rows(timestamptz) to audit_publisher;
grant select (audit_event_id) on outbox.undelivered to audit_publisher;
grant select (id, inserted_at) on public.audit_events to audit_publisher;

-- audit_consumer: `consumer run`.

-- The columns that the forwarder `threadline` reads. A webhook is sent whole rows:
--     grant select on public.audit_events to audit_consumer;
grant select (id, occurred_at, inserted_at, action, outcome, actor_id, actor_type, metadata)
    on public.audit_events to audit_consumer;
-- `excluded.reason` and `excluded.error` of an upsert count as reading these two.
grant select (forwarder, ref, audit_event_id, state, reason, error, attempts, started, first_failed_at, next_attempt_at),
      insert (forwarder, ref, audit_event_id, state, reason, error, attempts, started, next_attempt_at, excerpt),
      update (state, reason, error, attempts, started, next_attempt_at, last_failed_at),
      delete
    on outbox.failures to audit_consumer;
-- At start it reads the position of the forwarder's other dispatch mode, and records it in outbox.acts when it switches to this one.
grant select, delete on outbox.rounds to audit_consumer;
grant select (xid) on outbox.entries to audit_consumer;
-- Whom it delivers to; and what the log knows of an event whose row is gone.
grant select, insert (forwarder, since), update (since, at, dropped_at) on outbox.forwarders to audit_consumer;
grant select (xid, audit_event_id, forwarder) on outbox.entries to audit_consumer;
grant select on outbox.horizon, outbox.settled to audit_consumer;
grant insert (actor, kind, filter, count, reason), select (id) on outbox.acts to audit_consumer;
-- An event of a pack that is to be tried again enters the log, for a message of its own. So does, by the continuous reconciliation
-- (consumer.reconcile.interval), what is settled and missing; one process at a time looks for that.
grant select, insert (audit_event_id, occurred_at, forwarder) on outbox.entries to audit_consumer;
grant select,
      insert (forwarder, s, system_identifier, checked, missing, t, after_xid, after_seq),
      update (s, system_identifier, checked, missing, t, after_xid, after_seq, at)
    on outbox.reconciled to audit_consumer;
grant select, insert, update (holder, expires_at), delete on outbox.leases to audit_consumer;
-- With dispatch `sync` only: it reads the log itself, prunes it, and counts what is about to be deleted. Leave these out
-- where every forwarder goes through the broker.
grant insert (reader, n, s, t, after_xid, after_seq, generation, system_identifier, stream_created, stream_seq, stream_event)
    on outbox.rounds to audit_consumer;
grant delete on outbox.entries to audit_consumer;
grant insert (pruned_to, stream_created, stream_seq), update (pruned_to, pruned_at, stream_created, stream_seq)
    on outbox.horizon to audit_consumer;
grant execute on function outbox.undelivered_rows(timestamptz) to audit_consumer;
grant select (audit_event_id) on outbox.undelivered to audit_consumer;

-- audit_operator: `publisher status`, `consumer status`, `consumer failures list`, and the operator surface's pages of the pipeline. It
-- only reads, and of an audit row nothing but what happened. The surface's page of one event needs audit_decider.

grant select (xid, occurred_at) on outbox.entries to audit_operator;
grant select on outbox.rounds, outbox.leases, outbox.reconciled to audit_operator;
grant select on outbox.settled, outbox.horizon, outbox.forwarders, outbox.acts to audit_operator;
grant select (forwarder, ref, audit_event_id, state, reason, error, attempts, first_failed_at, last_failed_at,
              next_attempt_at, note)
    on outbox.failures to audit_operator;
grant select (id, action) on public.audit_events to audit_operator;

-- audit_decider: the same, and `consumer failures show`, `redrive` and `discard`, also from the operator surface. Whoever has it sees whole audit rows
-- (`show` masks them on the way to the screen, not in the database) and changes what will be delivered; each of these
-- leaves a row in outbox.acts, which it can neither delete nor rewrite.

grant audit_operator to audit_decider;
grant select on public.audit_events to audit_decider;
grant insert (audit_event_id, occurred_at, forwarder) on outbox.entries to audit_decider;
grant update (state, attempts, started, next_attempt_at, note) on outbox.failures to audit_decider;
grant insert (actor, kind, filter, count, reason), select (id, count), update (count) on outbox.acts to audit_decider;

-- And `publisher backfill`, `consumer reconcile`, `receipts` and `explain`: they read everything, and enter what is to be
-- delivered. pg_read_all_stats is for `explain` and `reconcile --seal`, which must see when the transactions of other roles
-- began. `consumer replay` delivers by itself, as the consumer does: with audit_consumer.
grant select on outbox.entries, outbox.failures, outbox.settled to audit_decider;
grant select,
      insert (filter, forwarder, total, since, until),
      update (after_id, passed, entered, total, finished_at)
    on outbox.backfills to audit_decider;
-- What capture missed is claimed by a complete backfill, and removed when it has ended.
grant update (backfill), delete on outbox.missed to audit_decider;
grant execute on function outbox.safe_before() to audit_decider;
grant pg_read_all_stats to audit_decider;

commit;
