-- Months of audit_changes, where it was installed with partitions. Bodies are written as those of the functions before them, but for
-- names, which a path of their own resolves: nobody calls them while something is captured.
do $install$
declare
    storage text := pg_catalog.quote_ident(pg_catalog.current_schema());
    owner   text := (select pg_catalog.quote_ident(r.rolname) from pg_catalog.pg_class c
                     join pg_catalog.pg_roles r on r.oid = c.relowner
                     where c.oid = 'audit_changes'::pg_catalog.regclass);
    definition text;
    name       text;
begin
    foreach definition in array array[
-- Makes the partitions of this month and of as many behind it, and says which it has made; none where audit_changes has no partitions.
-- Months are those of UTC. A month that the default partition has rows of already stays there.
$function$
create or replace function @storage@.threadline_prepare_partitions(months integer) returns setof text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $body$
declare
    parent      regclass := '@storage@.audit_changes'::regclass;
    fallback    regclass := (select p.partdefid from pg_partitioned_table p where p.partrelid = parent and p.partdefid <> 0);
    holder      text     := (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = parent);
    lower_bound timestamptz;
    upper_bound timestamptz;
    partition   text;
    is_taken    boolean := false;
begin
    if not exists (select from pg_partitioned_table p where p.partrelid = parent) then
        return;
    end if;
    if months is null or months not between 0 and 120 then
        raise exception 'months are 0 to 120' using errcode = 'invalid_parameter_value';
    end if;
    for n in 0..months loop
        lower_bound := date_trunc('month', clock_timestamp()) + make_interval(months => n);
        upper_bound := lower_bound + interval '1 month';
        partition := 'audit_changes_' || to_char(lower_bound, 'YYYY_MM');
        continue when exists (select from pg_inherits i join pg_class c on c.oid = i.inhrelid
                              where i.inhparent = parent and c.relname = partition);
        if fallback is not null then
            execute format('select exists (select from %s c where c.captured_at >= $1 and c.captured_at < $2)', fallback)
                into is_taken using lower_bound, upper_bound;
        end if;
        continue when is_taken;
        -- Attached, since a partition that is created as one locks out whoever writes changes.
        execute format('create table %I.%I (like %s including defaults including constraints including indexes including storage)',
                       holder, partition, parent);
        execute format('alter table %s attach partition %I.%I for values from (%L) to (%L)', parent, holder, partition, lower_bound, upper_bound);
        return next partition;
    end loop;
end
$body$
$function$,
-- Drops a month of which everything is to go: it ends before the cutoff, and so do the windows of all tables that it has changes of. Says how
-- many changes went, by their tables, as {"schema.table": 3}; null where something in it is to stay, and nothing was dropped then. With
-- `is_empty` it may have no changes. Writers of other months wait while the last lock is asked for, as long as lock_timeout says.
$function$
create or replace function @storage@.threadline_drop_partition(
    partition text, cutoff timestamptz, schemas text[], names text[], cutoffs timestamptz[], is_empty boolean) returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC'
set enable_seqscan = on as $body$
declare
    parent  regclass := '@storage@.audit_changes'::regclass;
    month   regclass := (select i.inhrelid from pg_inherits i join pg_class c on c.oid = i.inhrelid
                         where i.inhparent = parent and c.relname = partition);
    bound   timestamptz := (select substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz
                            from pg_class c where c.oid = month);
    is_kept boolean;
    changes jsonb;
begin
    if bound is null then
        raise exception 'audit_changes has no month %', partition using errcode = 'undefined_table';
    end if;
    if bound > cutoff then
        return null;
    end if;
    -- From here on nothing comes into the month. Nothing else is kept waiting by it.
    execute format('lock table %s in share mode', month);
    execute format(
        'select exists (select from %s c where $4) or exists (
             select from unnest($1, $2, $3) w (schema, name, cutoff)
             where w.cutoff < $5 and exists (select from %s c where c.table_name = w.name and c.table_schema = w.schema))', month, month)
        into is_kept using schemas, names, cutoffs, is_empty, bound;
    if is_kept then
        return null;
    end if;
    execute format(
        'select coalesce(jsonb_object_agg(g.name, g.count), ''{}'') from (
             select c.table_schema || ''.'' || c.table_name as name, count(*) as count from %s c group by 1) g', month)
        into changes;
    execute format('drop table %s', month);
    return changes;
end
$body$
$function$]
    loop
        execute pg_catalog.replace(definition, '@storage@', storage);
    end loop;
    foreach name in array array['threadline_prepare_partitions(integer)',
        'threadline_drop_partition(text, timestamptz, text[], text[], timestamptz[], boolean)']
    loop
        execute pg_catalog.format('alter function %s.%s owner to %s', storage, name, owner);
        execute pg_catalog.format('revoke all on function %s.%s from public', storage, name);
    end loop;
end
$install$;
