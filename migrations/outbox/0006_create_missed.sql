-- Whatever becomes of the application's table, its inserts go on; and the outbox knows that table under any name.

-- A row for each audit row that could not be captured, because the columns of its table did not fit: written in the
-- application's own transaction, so that it shares the audit row's fate. Never anything of what was in it. A complete
-- `publisher backfill` enters the audit rows, and removes what it has made good.
create table outbox.missed (
    at       timestamptz not null default clock_timestamp(),
    sqlstate text,
    cause    text        not null,
    -- The backfill that began behind it.
    backfill bigint
);

-- The table's oid, which it keeps when it is renamed or moved, and the number of its column `id`. Both mean something in
-- this database only: a restored one goes by the name until it is attached again.
alter table outbox.source
    add column relation  oid,
    add column id_number smallint;

update outbox.source s
set relation = a.attrelid, id_number = a.attnum
from pg_attribute a
where a.attrelid = to_regclass(format('%I.%I', s.table_schema, s.table_name)) and a.attname = 'id' and not a.attisdropped;

-- The table that is attached: the one that was, while it has the trigger or the name; otherwise the one of that name;
-- otherwise the one that was. NULL when it is gone.
create function outbox.attached_table() returns oid
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.oid = s.relation and not c.relispartition
           and ((n.nspname, c.relname) = (s.table_schema, s.table_name)
                or exists (select from pg_trigger t
                           where t.tgrelid = c.oid and t.tgfoid = to_regprocedure('outbox.capture()')))),
        to_regclass(format('%I.%I', s.table_schema, s.table_name)),
        (select c.oid from pg_class c where c.oid = s.relation and c.relkind in ('r', 'p') and not c.relispartition))
    from outbox.source s
$$;

-- The type under the domains over it.
create function outbox.base_type(of oid) returns oid
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with recursive types as (
        select t.oid, t.typbasetype from pg_type t where t.oid = of
        union all
        select t.oid, t.typbasetype from types d join pg_type t on t.oid = d.typbasetype)
    select oid from types where typbasetype = 0
$$;

-- What is wrong with a table as a source, the worst first. `broken`: rows are not captured, or cannot be read. `refused`:
-- they are, but something is not promised; it is accepted where capture has begun already. `warned`: it works otherwise
-- than one might think.
create function outbox.faults(source oid) returns table (severity text, what text, remedy text)
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    with relation as (
        select c.* from pg_class c where c.oid = source),
    members as (
        select c.oid, c.relkind, c.relpersistence, c.oid::regclass::text as name
        from (select source as oid union select relid from pg_partition_tree(source)) m join pg_class c on c.oid = m.oid),
    columns as (
        select a.*, outbox.base_type(a.atttypid)::regtype as base, format_type(a.atttypid, a.atttypmod) as type
        from pg_attribute a where a.attrelid = source and a.attnum > 0 and not a.attisdropped),
    found (place, severity, what, remedy) as (
        select 1, 'broken',
               'it is ' || case r.relkind when 'v' then 'a view' when 'm' then 'a materialized view'
                                          when 'f' then 'a foreign table' else 'not a table' end,
               'Only rows that this server keeps itself are captured: attach the table that they come from, where it is.'
        from relation r where r.relkind not in ('r', 'p')
        union all
        select 2, 'broken', 'it is a temporary table', 'Only one session sees its rows. Attach a permanent table.'
        from relation r where r.relpersistence = 't'
        union all
        select 3, 'broken', 'it is a partition',
               'Attach its partitioned parent; every partition, present and future, is captured.'
        from relation r where r.relispartition
        union all
        select 4, 'broken', 'it takes part in table inheritance',
               'Row triggers are not inherited. Turn the children into partitions first.'
        where exists (select from pg_inherits i join pg_class c on c.oid = i.inhrelid
                      where (i.inhrelid = source or i.inhparent = source) and not c.relispartition)
        union all
        select 5, 'broken', 'it needs a column "id" of type uuid, not null',
               coalesce((select format('Its column "id" is of type %s. Give it back the type uuid.', c.type)
                         from columns c where c.attname = 'id'),
                        (select format('The column that it was attached with is called %I now. Rename it back.', c.attname)
                         from outbox.source s join columns c on c.attnum = s.id_number where s.relation = source),
                        'Rows are found by it. Add it, or rename the one that has another name.')
        where not exists (select from columns c where c.attname = 'id' and c.base = 'uuid'::regtype)
        union all
        select 6, 'refused', 'it needs a column "id" of type uuid, not null',
               format('A row without an id cannot be delivered. Run: alter table %s alter id set not null', source::regclass)
        from columns c where c.attname = 'id' and c.base = 'uuid'::regtype and not c.attnotnull
        union all
        -- 'v' from PostgreSQL 18 on.
        select 7, case c.attname when 'id' then 'broken' else 'refused' end,
               format('its column "%s" is computed whenever it is read (generated virtual), so that no trigger sees it', c.attname),
               'Make it a stored column.'
        from columns c where c.attname in ('id', 'occurred_at') and c.attgenerated = 'v'
        union all
        select 8, 'broken', 'it needs a column "occurred_at" of type timestamp or timestamptz',
               coalesce((select format('Its column "occurred_at" is of type %s. Give it one of these.', c.type)
                         from columns c where c.attname = 'occurred_at'),
                        'Without it no time would be right. Add it, or rename the one that has another name.')
        where not exists (select from columns c where c.attname = 'occurred_at'
                          and c.base in ('timestamp'::regtype, 'timestamptz'::regtype))
        union all
        select 9, 'refused', format('%s is unlogged: after a crash its rows are gone, and their entries are not', m.name),
               format('Run: alter table %s set logged', m.name)
        from members m where m.relpersistence = 'u' and m.relkind = 'r'
        union all
        -- A unique index of a partitioned table includes what it is partitioned by.
        select 10, case r.relkind when 'r' then 'refused' else 'warned' end,
               'no unique index keeps two rows from having one id, of which only one would be delivered',
               format('Run: create unique index concurrently on %s (id)', r.oid::regclass)
        from relation r join columns c on c.attname = 'id'
        where r.relkind in ('r', 'p')
          and not exists (select from pg_index i
                          where i.indrelid = source and i.indisunique and i.indisvalid and i.indpred is null
                            and case r.relkind when 'r' then i.indnkeyatts = 1 and i.indkey[0] = c.attnum
                                               else c.attnum = any (i.indkey) end)
        union all
        select 11, 'warned', format('its partition %s is a foreign table: what is inserted on its own server is not captured', m.name),
               'Let rows come in through the parent only.'
        from members m where m.relkind = 'f' and m.oid <> source
        union all
        select 12, 'warned', format('its column "inserted_at" is of type %s, which is no time: it counts as not there', c.type),
               'Make it timestamp or timestamptz, if it is to say when a row was inserted.'
        from columns c
        where c.attname = 'inserted_at' and c.base not in ('timestamp'::regtype, 'timestamptz'::regtype, 'date'::regtype)
        union all
        select 13, 'warned', format('its column "metadata" is of type %s: what is no JSON in it counts as not there', c.type),
               'Make it jsonb.'
        from columns c where c.attname = 'metadata' and c.base not in ('json'::regtype, 'jsonb'::regtype))
    select f.severity, f.what, f.remedy from found f order by array_position('{broken,refused,warned}'::text[], f.severity), f.place
$$;

-- What capture needs of a row whose columns are not what they were, or not what a session's plans took them for: the id by
-- the number that the column was attached with, and otherwise by its name, whatever its type is now; the time by its name.
-- Planned anew for each row, because a plan that knows a column's type fails when that changes. NULL is what cannot be had.
create function outbox.reread(one record, captured oid, out id uuid, out at timestamptz)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    name text;
begin
    begin
        select a.attname into strict name
        from outbox.source s join pg_attribute a on a.attrelid = s.relation and a.attnum = s.id_number
        where s.relation in (captured, pg_partition_root(captured)) and not a.attisdropped
          and outbox.base_type(a.atttypid) = 'uuid'::regtype;
        execute format('select ($1).%I', name) into id using one;
    exception when others then
        id := null;
    end;
    if id is null then
        begin
            execute 'select ($1).id::text::uuid' into id using one;
        exception when others then
            id := null;
        end;
    end if;
    begin
        execute 'select to_timestamp(least(extract(epoch from ($1).occurred_at), 9.2e12))
                 where ($1).occurred_at is not null
                   and outbox.base_type(pg_typeof(($1).occurred_at)) = any (''{timestamp,timestamptz,date}''::regtype[])'
            into at using one;
    exception when others then
        at := null;
    end;
end
$$;

-- As before, and no error that a change of the table can cause leaves it. The block holds what may fail, and writes
-- nothing: a subtransaction that writes needs an id of its own, and a bulk insert would take one for each row.
create or replace function outbox.capture() returns trigger
    language plpgsql
    security definer
as $$
declare
    id pg_catalog.uuid;
    at pg_catalog.timestamptz;
    code pg_catalog.text;
begin
    begin
        id := new.id;
        -- Through epoch seconds: right for `timestamp` (UTC by convention) and `timestamptz` alike, whatever the
        -- session's time zone. `at time zone` would turn the one into the other in opposite directions.
        -- Bounded: the last microseconds that a column can hold would round up to a time that nothing can hold. Of NULL
        -- `least` would make the bound.
        at := case when new.occurred_at is not null then pg_catalog.to_timestamp(
            least(pg_catalog.date_part('epoch', new.occurred_at), 9.2e12::pg_catalog.float8)) end;
    exception when others then
        code := sqlstate;
    end;
    if code is not null or id is null then
        select r.id, r.at into id, at from outbox.reread(new, tg_relid) r;
        if id is null then
            insert into outbox.missed (sqlstate, cause) values (code, case code
                when '42703' then 'the table had no column of that name'
                when '42804' then 'a column had another type'
                when '22P02' then 'the id was no uuid'
                else case when code is null then 'the row had no id' else 'its columns could not be read' end end);
            return null;
        end if;
    end if;
    insert into outbox.entries (audit_event_id, occurred_at) values (id, at);
    return null;
end
$$;

revoke execute on function outbox.attached_table(), outbox.base_type(oid), outbox.faults(oid), outbox.reread(record, oid)
    from public;

-- Starts capture on `source`, which may be what is attached already, under whatever name. Another table takes its place
-- when it has taken its name, or when capture is off, and it has every row that is still to be delivered. Waits at most
-- two seconds for the table's lock, so that it never queues the application behind itself; the caller tries again.
create or replace function outbox.attach(source regclass) returns void
    language plpgsql
    set lock_timeout = '2s'
as $$
declare
    relation pg_class%rowtype;
    schema_name text;
    attached outbox.source%rowtype;
    earlier oid;
    fault record;
    one record;
    without bigint;
    trigger_name text;
begin
    select * into strict relation from pg_class where oid = source;
    select nspname into strict schema_name from pg_namespace where oid = relation.relnamespace;
    select tgname into trigger_name from pg_trigger where tgrelid = source and tgfoid = 'outbox.capture()'::regprocedure;

    select f.* into fault from outbox.faults(source) f
    where f.severity = 'broken' or f.severity = 'refused' and trigger_name is null
    limit 1;
    if found then
        raise exception 'cannot attach %: %', source, fault.what using hint = fault.remedy;
    end if;

    select * into attached from outbox.source for update;
    earlier := outbox.attached_table();
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
               where t.tgfoid = 'outbox.capture()'::regprocedure and t.tgparentid = 0 and t.tgrelid <> source loop
        execute format('drop trigger %I on %s', one.tgname, one.name);
    end loop;
    if earlier is distinct from source and earlier is not null then
        execute format('select count(*) from (select distinct u.audit_event_id as id from outbox.undelivered u) u
                        where exists (select from %s o where o.id = u.id) and not exists (select from %s n where n.id = u.id)',
                       earlier::regclass, source) into without;
        if without > 0 then
            raise exception 'cannot attach %: % event(s) that are still to be delivered have their row in % only', source,
                without, earlier::regclass
                using hint = 'Copy these rows, or wait until they are delivered.';
        end if;
        if exists (select from outbox.missed) then
            raise exception 'cannot attach %: some rows of % have not been captured', source, earlier::regclass
                using hint = 'Run `publisher backfill` with source.table set to it first.';
        end if;
    end if;

    if trigger_name is null then
        trigger_name := 'outbox_capture';
        execute format('create trigger outbox_capture after insert on %s for each row execute function outbox.capture()', source);
    end if;
    -- Always: rows that logical replication applies are committed rows too.
    execute format('alter table %s enable always trigger %I', source, trigger_name);

    insert into outbox.source as s (table_schema, table_name, relation, id_number)
    select schema_name, relation.relname, source, a.attnum
    from pg_attribute a where a.attrelid = source and a.attname = 'id' and not a.attisdropped
    on conflict (singleton) do update
    set table_schema = excluded.table_schema, table_name = excluded.table_name,
        relation = excluded.relation, id_number = excluded.id_number,
        attached_at = case when earlier is distinct from source then excluded.attached_at else s.attached_at end;
end
$$;

-- Stops capture, wherever it is. Entries already written stay and are still delivered.
create or replace function outbox.detach() returns void
    language plpgsql
    set lock_timeout = '2s'
as $$
declare
    one record;
begin
    perform from outbox.source for update;
    for one in select t.tgrelid::regclass as name, t.tgname from pg_trigger t
               where t.tgfoid = 'outbox.capture()'::regprocedure and t.tgparentid = 0 loop
        execute format('drop trigger %I on %s', one.tgname, one.name);
    end loop;
    -- Entries name rows of this table, so it is remembered as long as there are any.
    if not exists (select from outbox.entries) and not exists (select from outbox.missed) then
        delete from outbox.source;
    end if;
end
$$;

-- As before, of the attached table under any name.
create or replace function outbox.undelivered_rows(before timestamptz, out oldest timestamptz, out older bigint)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    attached regclass := outbox.attached_table();
    kind regtype;
begin
    if not exists (select from outbox.source) then
        return;
    end if;
    select outbox.base_type(a.atttypid) into kind from pg_attribute a
    where a.attrelid = attached and a.attname = 'inserted_at' and not a.attisdropped;
    if kind is null or kind not in ('timestamp'::regtype, 'timestamptz'::regtype, 'date'::regtype) then
        raise exception 'the table % has no column "inserted_at" that is a time', coalesce(attached::text, 'of the outbox')
            using hint = 'How far rows may be deleted is told by their inserted_at: add it as timestamp or timestamptz.';
    end if;
    -- Through epoch seconds, as in outbox.capture(): right for `timestamp` (UTC by convention) and `timestamptz` alike.
    execute format(
        'select min(t.at), count(*) filter (where t.at < $1)
         from (select to_timestamp(extract(epoch from a.inserted_at)) as at from %s a
               where a.id in (select u.audit_event_id from outbox.undelivered u)) t',
        attached)
    into oldest, older using before;
end
$$;
