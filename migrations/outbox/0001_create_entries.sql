-- The outbox log: one row per captured audit row, written in the application's own transaction.
-- Insert-only; rows leave only through prune, from the head. Nothing here can fail an insert: no foreign key,
-- no check, no NOT NULL beyond the key.
create table outbox.entries (
    -- The top-level transaction id, also inside savepoints; the relay's reading order is (xid, seq).
    xid            xid8   not null default pg_current_xact_id(),
    -- Each session takes 64 at a time: only its order within a transaction means anything.
    seq            bigint not null generated always as identity (cache 64),
    audit_event_id uuid,
    -- NULL when the audit row has no time of its own.
    occurred_at    timestamptz,
    -- NULL addresses every forwarder; an id addresses that one (re-drive, repair).
    forwarder      text,
    primary key (xid, seq)
);

-- Which table feeds the log. One schema serves one source table.
create table outbox.source (
    singleton    boolean     not null primary key default true check (singleton),
    table_schema text        not null,
    table_name   text        not null,
    attached_at  timestamptz not null default clock_timestamp()
);

-- Runs with the rights of the pipeline's role, so that the application's role needs none on this schema. Every name in
-- it is qualified, so that a caller's search_path cannot redirect it: pinning the path would say so once more, and
-- costs a tenth of the trigger.
create function outbox.capture() returns trigger
    language plpgsql
    security definer
as $$
begin
    -- Through epoch seconds: right for `timestamp` (UTC by convention) and `timestamptz` alike, whatever the
    -- session's time zone. `at time zone` would turn the one into the other in opposite directions.
    insert into outbox.entries (audit_event_id, occurred_at)
    -- Bounded: the last microseconds that a column can hold would round up to a time that nothing can hold.
    values (new.id, pg_catalog.to_timestamp(
        least(pg_catalog.date_part('epoch', new.occurred_at), 9.2e12::pg_catalog.float8)));
    return null;
end
$$;

revoke execute on function outbox.capture() from public;

-- Starts capture on `source`. Idempotent for the attached table. Waits at most two seconds for the table's lock,
-- so that it never queues the application behind itself; the caller tries again.
create function outbox.attach(source regclass) returns void
    language plpgsql
    set lock_timeout = '2s'
as $$
declare
    relation pg_class%rowtype;
    schema_name text;
    attached outbox.source%rowtype;
begin
    select * into strict relation from pg_class where oid = source;
    select nspname into strict schema_name from pg_namespace where oid = relation.relnamespace;

    if relation.relkind not in ('r', 'p') then
        raise exception 'cannot attach %: it is not a table', source;
    end if;
    if relation.relispartition then
        raise exception 'cannot attach %: it is a partition', source
            using hint = 'Attach its partitioned parent; every partition, present and future, is captured.';
    end if;
    if exists (select from pg_inherits i join pg_class c on c.oid = i.inhrelid
               where (i.inhrelid = source or i.inhparent = source) and not c.relispartition) then
        raise exception 'cannot attach %: it takes part in table inheritance', source
            using hint = 'Row triggers are not inherited. Turn the children into partitions first.';
    end if;
    if not exists (select from pg_attribute where attrelid = source and attname = 'id' and not attisdropped
                   and atttypid = 'uuid'::regtype and attnotnull) then
        raise exception 'cannot attach %: it needs a column "id" of type uuid, not null', source;
    end if;
    if not exists (select from pg_attribute where attrelid = source and attname = 'occurred_at' and not attisdropped
                   and atttypid in ('timestamp'::regtype, 'timestamptz'::regtype)) then
        raise exception 'cannot attach %: it needs a column "occurred_at" of type timestamp or timestamptz', source;
    end if;

    select * into attached from outbox.source for update;
    if found and (attached.table_schema, attached.table_name) is distinct from (schema_name, relation.relname::text) then
        raise exception 'cannot attach %: this outbox already serves %.%', source, attached.table_schema, attached.table_name
            using hint = 'One outbox schema serves one source table.';
    end if;

    if not exists (select from pg_trigger where tgrelid = source and tgname = 'outbox_capture') then
        execute format('create trigger outbox_capture after insert on %s for each row execute function outbox.capture()', source);
    end if;
    -- Always: rows that logical replication applies are committed rows too.
    execute format('alter table %s enable always trigger outbox_capture', source);

    insert into outbox.source (table_schema, table_name) values (schema_name, relation.relname)
    on conflict do nothing;
end
$$;

-- Stops capture. Entries already written stay and are still delivered.
create function outbox.detach() returns void
    language plpgsql
    set lock_timeout = '2s'
as $$
declare
    attached outbox.source%rowtype;
begin
    select * into attached from outbox.source for update;
    if not found then
        return;
    end if;
    if to_regclass(format('%I.%I', attached.table_schema, attached.table_name)) is not null then
        execute format('drop trigger if exists outbox_capture on %I.%I', attached.table_schema, attached.table_name);
    end if;
    -- Entries name rows of this table, so another one may take its place only once the log is empty.
    if not exists (select from outbox.entries) then
        delete from outbox.source;
    end if;
end
$$;

revoke execute on function outbox.attach(regclass), outbox.detach() from public;
