-- Capture runs nobody's code and fails on no row; attach knows the table that it serves by what it is, not by its name.

-- Which table the row is of: what was missed in one is not made good by another.
alter table outbox.missed add column if not exists relation oid;
update outbox.missed set relation = outbox.attached_table() where relation is null;

-- The cluster and database (which everybody may ask for) in which `relation` and `id_number` mean something. In a restored one any table may have that oid.
alter table outbox.source add column if not exists attached_in text;

create or replace function outbox.this_database() returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select format('%s/%s', (select c.system_identifier from pg_control_system() c),
                  (select d.oid from pg_database d where d.datname = current_database()))
$$;

update outbox.source set attached_in = outbox.this_database()
where attached_in is null and relation = outbox.attached_table();

-- Why no id can be read from rows of a table, as an SQLSTATE; NULL when its column fits.
create or replace function outbox.unreadable(captured oid) returns text
    language sql
    stable
    set search_path = pg_catalog, pg_temp
as $$
    select case when a.base is null then '42703'
                when a.base = 'uuid'::regtype then null
                when a.base < 16384 then '22P02'
                else '42804' end
    from (select (select outbox.base_type(c.atttypid) from pg_attribute c
                  where c.attrelid = captured and c.attname = 'id' and c.attnum > 0 and not c.attisdropped) as base) a
$$;

-- As before, and no cast runs that the table's owner may have made: it would run with the rights of this function's owner,
-- and raise what no handler catches. Casts of types below 16384 are made by superusers, and those of domains count for
-- nothing. The types are looked at first, in a statement of their own: planning evaluates an immutable cast of a value.
create or replace function outbox.reread(one record, captured oid, out id uuid, out at timestamptz)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    name text;
begin
    select a.attname into name
    from outbox.source s join pg_attribute a on a.attrelid = s.relation and a.attnum = s.id_number
    where s.relation in (captured, pg_partition_root(captured)) and not a.attisdropped
      and outbox.base_type(a.atttypid) = 'uuid'::regtype;
    if name is not null then
        begin
            execute format('select ($1).%I', name) into id using one;
        exception when others then
            id := null;
        end;
    end if;
    if id is null and exists (select from pg_attribute a
                              where a.attrelid = captured and a.attname = 'id' and a.attnum > 0 and not a.attisdropped
                                and outbox.base_type(a.atttypid) < 16384) then
        begin
            execute 'select ($1).id::text::uuid' into id using one;
        exception when others then
            id := null;
        end;
    end if;
    if exists (select from pg_attribute a
               where a.attrelid = captured and a.attname = 'occurred_at' and a.attnum > 0 and not a.attisdropped
                 and outbox.base_type(a.atttypid) = any ('{timestamp,timestamptz,date}'::regtype[])) then
        begin
            execute 'select to_timestamp(least(extract(epoch from ($1).occurred_at), 9.2e12))
                     where ($1).occurred_at is not null' into at using one;
        exception when others then
            at := null;
        end;
    end if;
end
$$;

-- As before, and the types are looked at before anything is read: an assignment runs whatever cast there is, as above. What
-- is not ordinary goes the long way. Every name is qualified, operators too: this function alone pins no path. Handing the
-- row on makes one value of it, which a row may be too large for.
create or replace function outbox.capture() returns trigger
    language plpgsql
    security definer
as $$
declare
    id pg_catalog.uuid;
    at pg_catalog.timestamptz;
    is_ordinary pg_catalog.bool := false;
    code pg_catalog.text;
begin
    begin
        if (pg_catalog.pg_typeof(new.id) operator(pg_catalog.=) 'pg_catalog.uuid'::pg_catalog.regtype
            or outbox.base_type(pg_catalog.pg_typeof(new.id)) operator(pg_catalog.=) 'pg_catalog.uuid'::pg_catalog.regtype)
           and (pg_catalog.pg_typeof(new.occurred_at) operator(pg_catalog.=) 'pg_catalog.timestamp'::pg_catalog.regtype
                or pg_catalog.pg_typeof(new.occurred_at) operator(pg_catalog.=) 'pg_catalog.timestamptz'::pg_catalog.regtype
                or outbox.base_type(pg_catalog.pg_typeof(new.occurred_at)) operator(pg_catalog.=)
                    any ('{pg_catalog.timestamp,pg_catalog.timestamptz,pg_catalog.date}'::pg_catalog.regtype[]))
        then
            id := new.id;
            -- Through epoch seconds: right for `timestamp` (UTC by convention) and `timestamptz` alike, whatever the
            -- session's time zone. `at time zone` would turn the one into the other in opposite directions.
            -- Bounded: the last microseconds that a column can hold would round up to a time that nothing can hold. Of
            -- NULL `least` would make the bound.
            at := case when new.occurred_at is not null then pg_catalog.to_timestamp(
                least(pg_catalog.date_part('epoch', new.occurred_at), 9.2e12::pg_catalog.float8)) end;
            is_ordinary := true;
        end if;
    exception when others then
        is_ordinary := false;
    end;
    if not is_ordinary or id is null then
        begin
            select r.id, r.at into id, at from outbox.reread(new, tg_relid) r;
        exception when others then
            id := null;
        end;
        if id is null then
            code := outbox.unreadable(tg_relid);
            insert into outbox.missed (relation, sqlstate, cause)
            values (coalesce(pg_catalog.pg_partition_root(tg_relid), tg_relid), code,
                    case when code is null then 'the row had no id'
                         when code operator(pg_catalog.=) '42703' then 'the table had no column of that name'
                         when code operator(pg_catalog.=) '22P02' then 'the id was no uuid'
                         else 'the id was of a type that is not built in' end);
            return null;
        end if;
    end if;
    insert into outbox.entries (audit_event_id, occurred_at) values (id, at);
    return null;
end
$$;

revoke execute on function outbox.this_database(), outbox.unreadable(oid) from public;

-- What is wrong with a table as a source, the worst first. `broken`: rows are not captured, or cannot be read. `refused`:
-- they are, but something is not promised; it is accepted where capture has begun already. `warned`: it works otherwise
-- than one might think. As before, with a remedy for partitioned tables. `changed`: rows are captured and looked for by another
-- column than the one that it was attached with, until it is attached again.
create or replace function outbox.faults(source oid) returns table (severity text, what text, remedy text)
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
    partition_key as (
        select coalesce(bool_or(k.attnum = 0), false) as over_expression,
               concat_ws(', ', 'id', string_agg(distinct quote_ident(a.attname), ', ') filter (where a.attname <> 'id')) as names
        from members m join pg_partitioned_table p on p.partrelid = m.oid
        cross join lateral unnest(p.partattrs) k (attnum)
        left join pg_attribute a on a.attrelid = m.oid and a.attnum = k.attnum and k.attnum > 0),
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
        -- Rows are captured and found by it, and what is still to be delivered is known by the other one.
        select 5, 'changed', 'its column "id" is not the one that it was attached with',
               coalesce((select format('That one is called %I now. Rename it back, or run `publisher attach` to go on with the new one.',
                                       b.attname)
                         from columns b where b.attnum = s.id_number),
                        'That one was dropped. Run `publisher attach` to go on with the new one.')
        from outbox.source s join columns c on c.attname = 'id' and c.base = 'uuid'::regtype
        where s.relation = source and c.attnum <> s.id_number and s.attached_in = outbox.this_database()
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
        -- A unique index of a partitioned table includes what it is partitioned by, on every level, and none can be made over
        -- an expression.
        select 10, case r.relkind when 'r' then 'refused' else 'warned' end,
               'no unique index keeps two rows from having one id, of which only one would be delivered',
               case when r.relkind = 'r' then format('Run: create unique index concurrently on %s (id)', r.oid::regclass)
                    when k.over_expression then 'It is partitioned by an expression: make one on the column "id" of each partition.'
                    else format('Run, when its writers can wait for it: create unique index on %s (%s)', r.oid::regclass, k.names) end
        from relation r join columns c on c.attname = 'id' cross join partition_key k
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
    select f.severity, f.what, f.remedy from found f order by array_position('{broken,changed,refused,warned}'::text[], f.severity), f.place
$$;

-- Starts capture on `source`, which may be what is attached already, under whatever name. Another table takes its place
-- when it has taken its name, or when capture is off, and it has every row that is still to be delivered. Waits at most
-- two seconds for the table's lock, so that it never queues the application behind itself; the caller tries again.
-- As before, and the earlier table is known by its oid, whatever has become of its name and its trigger.
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
               where t.tgfoid = 'outbox.capture()'::regprocedure and t.tgparentid = 0 and t.tgrelid <> source loop
        execute format('drop trigger %I on %s', one.tgname, one.name);
    end loop;
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

-- Stops capture, wherever it is. Entries already written stay and are still delivered.
create or replace function outbox.detach() returns void
    language plpgsql
    set lock_timeout = '2s'
    set search_path = pg_catalog, pg_temp
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

-- As before, bounded as in outbox.capture().
create or replace function outbox.undelivered_rows(before timestamptz, out oldest timestamptz, out older bigint)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set row_security = off
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
         from (select case when a.inserted_at is not null then to_timestamp(least(extract(epoch from a.inserted_at), 9.2e12)) end as at
               from %s a
               where a.id in (select u.audit_event_id from outbox.undelivered u)) t',
        attached)
    into oldest, older using before;
end
$$;
