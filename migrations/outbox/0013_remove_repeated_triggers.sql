-- Attach leaves one trigger that captures: each more makes another entry of a row.

-- Starts capture on `source`, which may be what is attached already, under whatever name. Another table takes its place
-- when it has taken its name, or when capture is off, and it has every row that is still to be delivered. Waits at most
-- two seconds for the table's lock, so that it never queues the application behind itself; the caller tries again.
-- A trigger that is not the one that this makes is replaced by that one. As before, and of several only one is left.
create or replace function outbox.attach(source regclass) returns void
    language plpgsql
    set lock_timeout = '2s'
    set search_path = pg_catalog, pg_temp
as $$
declare
    relation pg_class%rowtype;
    schema_name text;
    attached outbox.source%rowtype;
    earlier oid;
    fault record;
    one record;
    without bigint;
    column_was name;
    is_captured boolean;
    trigger_name text;
begin
    select * into strict relation from pg_class where oid = source;
    select nspname into strict schema_name from pg_namespace where oid = relation.relnamespace;
    is_captured := exists (select from pg_trigger where tgrelid = source and tgfoid = 'outbox.capture()'::regprocedure);

    select f.* into fault from outbox.faults(source) f
    where f.severity = 'broken' or f.severity = 'refused' and not is_captured
    limit 1;
    if found then
        raise exception 'cannot attach %: %', source, fault.what using hint = fault.remedy;
    end if;

    select * into attached from outbox.source for update;
    earlier := coalesce(
        (select c.oid from pg_class c where c.oid = attached.relation and c.relkind in ('r', 'p') and not c.relispartition
                                        and attached.attached_in = outbox.this_database()),
        outbox.attached_table());
    -- What is still to be delivered is known by the column that it was captured with.
    select b.attname into column_was from pg_attribute b
    where b.attrelid = earlier and b.attrelid = attached.relation and b.attnum = attached.id_number and not b.attisdropped
      and outbox.base_type(b.atttypid) = 'uuid'::regtype;
    if column_was is null then
        select b.attname into column_was from pg_attribute b
        where b.attrelid = earlier and b.attname = 'id' and not b.attisdropped and outbox.base_type(b.atttypid) = 'uuid'::regtype;
    end if;
    if earlier is distinct from source and earlier is not null
       and (schema_name, relation.relname::text) is distinct from (attached.table_schema, attached.table_name)
       and exists (select from pg_trigger where tgrelid = earlier and tgfoid = 'outbox.capture()'::regprocedure) then
        raise exception 'cannot attach %: this outbox already serves %', source,
            (select format('%s.%s', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where c.oid = earlier)
            using hint = 'One outbox schema serves one source table: set source.table to it, or run `publisher detach` first.';
    end if;

    -- Before anything is counted: whoever still inserts there has ended then, and nobody begins.
    for one in select t.tgrelid::regclass as name, t.tgname from pg_trigger t
               where t.tgfoid = 'outbox.capture()'::regprocedure and t.tgparentid = 0
                 -- tgtype 5 is after insert, for each row, and nothing else.
                 and (t.tgrelid <> source or t.tgtype <> 5 or t.tgqual is not null or t.tgattr::text <> '' or t.tgnargs <> 0
                      or exists (select from pg_trigger r
                                 where r.tgrelid = source and r.tgfoid = t.tgfoid and r.tgtype = 5 and r.tgqual is null
                                   and r.tgattr::text = '' and r.tgnargs = 0
                                   and (r.tgname <> 'outbox_capture', r.tgname) < (t.tgname <> 'outbox_capture', t.tgname))) loop
        execute format('drop trigger %I on %s', one.tgname, one.name);
    end loop;
    -- Whatever they are called, those that are left capture. One that only has the name is in the way of one that does.
    select min(t.tgname::text) into trigger_name from pg_trigger t
    where t.tgrelid = source and t.tgfoid = 'outbox.capture()'::regprocedure;
    if trigger_name is null then
        for one in select t.tgrelid::regclass as name, t.tgname from pg_trigger t
                   where t.tgname = 'outbox_capture' and t.tgparentid = 0
                     and t.tgrelid in (select source union select p.relid from pg_partition_tree(source) p) loop
            execute format('drop trigger %I on %s', one.tgname, one.name);
        end loop;
    end if;
    if earlier is distinct from source and earlier is not null or column_was <> 'id' then
        if column_was is null and exists (select from outbox.undelivered) then
            raise exception 'cannot attach %: events are still to be delivered, and %, which was attached before, has no column "id" of type uuid to look for their rows',
                source, earlier::regclass
                using hint = format('Give it one, with the ids that its rows had: alter table %s alter id type uuid using id::uuid', earlier::regclass);
        end if;
        if column_was is not null then
            execute format('select count(*) from (select distinct u.audit_event_id as id from outbox.undelivered u) u
                            where exists (select from %s o where o.%I = u.id) and not exists (select from %s n where n.id = u.id)',
                           earlier::regclass, column_was, source) into without;
        end if;
        if without > 0 then
            raise exception 'cannot attach %: % event(s) that are still to be delivered have their row in % only', source,
                without, case when earlier = source then format('the column %I', column_was) else earlier::regclass::text end
                using hint = case when earlier = source then 'Rename it back until they are delivered, or copy its values into "id".'
                                  else 'Copy these rows, or wait until they are delivered.' end;
        end if;
    end if;
    if earlier is distinct from source and earlier is not null
       and exists (select from outbox.missed m where m.relation is null or m.relation = earlier) then
        raise exception 'cannot attach %: some rows of % have not been captured', source, earlier::regclass
            using hint = case when column_was is distinct from 'id'
                                   then format('Its rows are found by a column "id" of type uuid: give it one (%s). ',
                                               case when column_was is null
                                                    then format('alter table %s alter id type uuid using id::uuid', earlier::regclass)
                                                    else format('alter table %s rename %I to id', earlier::regclass, column_was) end)
                                   else '' end
                              || case when earlier = outbox.attached_table()
                                      then 'Run `publisher backfill` with source.table set to it first.'
                                      else 'Run `publisher attach`, `publisher backfill` and `publisher detach` with source.table set to it first.' end;
    end if;

    if trigger_name is null then
        trigger_name := 'outbox_capture';
        execute format('create trigger outbox_capture after insert on %s for each row execute function outbox.capture()', source);
    end if;
    -- Always: rows that logical replication applies are committed rows too.
    execute format('alter table %s enable always trigger %I', source, trigger_name);

    insert into outbox.source as s (table_schema, table_name, relation, id_number, attached_in)
    select schema_name, relation.relname, source, a.attnum, outbox.this_database()
    from pg_attribute a where a.attrelid = source and a.attname = 'id' and not a.attisdropped
    on conflict (singleton) do update
    set table_schema = excluded.table_schema, table_name = excluded.table_name,
        relation = excluded.relation, id_number = excluded.id_number, attached_in = excluded.attached_in,
        attached_at = case when earlier is distinct from source then excluded.attached_at else s.attached_at end;
end
$$;
