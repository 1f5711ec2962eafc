-- The application deletes old audit rows by itself, by `inserted_at`. What is here tells it how far it may go without
-- deleting what has not been delivered, and tells the pipeline what is about to be deleted all the same.

-- How far every forwarder has settled what a reader handed to the stream, as the leader last saw it. The snapshot of the
-- mark, not its number: marks are thinned, and an outage of the consumers may last longer than they are kept.
create table outbox.settled (
    reader         text        not null primary key,
    -- Of the reader when the floors were looked at: after a rewind sequences mean something else.
    generation     integer     not null,
    stream_created timestamptz not null,
    -- The lowest floor of all durables.
    stream_seq     bigint      not null,
    -- Everything visible in it is settled. NULL when no mark lies at or below the floor.
    s              pg_snapshot,
    at             timestamptz not null default clock_timestamp()
);

-- What each reader's forwarders have settled; `s` is NULL when that is not known.
create view outbox.settled_snapshots as
select h.reader,
       case when h.system_identifier <> (select c.system_identifier from pg_control_system() c) then null
            -- Without a broker a page is settled when it has been handed over.
            when h.stream_seq is null then h.s
            else (select k.s from outbox.settled k where k.reader = h.reader and k.generation = h.generation)
       end as s
from (select distinct on (r.reader) r.reader, r.system_identifier, r.generation, r.stream_seq, r.s
      from outbox.rounds r order by r.reader, r.n desc) h;

-- The events that somebody still waits for; one may appear several times. Dead and discarded letters are not among
-- them: a letter waits for a person, perhaps for ever, and must not stand in the way of a duty to delete.
create view outbox.undelivered as
-- From a snapshot's `xmin` on: below it everything is visible, so a long log with a short backlog is not scanned.
-- `offset 0`: the snapshot is looked up once a reader, not once an entry, and comes before the entries.
select e.audit_event_id
from outbox.settled_snapshots d
cross join lateral (select coalesce(d.s, '3:3:'::pg_snapshot) as s offset 0) k
cross join lateral (
    select l.audit_event_id from outbox.entries l
    where l.xid >= pg_snapshot_xmin(k.s) and not pg_visible_in_snapshot(l.xid, k.s) offset 0) e
union all
select e.audit_event_id from outbox.entries e where not exists (select from outbox.rounds)
union all
select f.audit_event_id from outbox.failures f where f.state in ('retrying', 'queued');

-- The audit rows of undelivered events: the oldest `inserted_at`, and how many rows are older than `before`. Both are NULL
-- while no table is attached; `oldest` also when there is no such row.
create function outbox.undelivered_rows(before timestamptz, out oldest timestamptz, out older bigint)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    attached outbox.source%rowtype;
begin
    select * into attached from outbox.source;
    if not found then
        return;
    end if;
    -- Through epoch seconds, as in outbox.capture(): right for `timestamp` (UTC by convention) and `timestamptz` alike.
    execute format(
        'select min(t.at), count(*) filter (where t.at < $1)
         from (select to_timestamp(extract(epoch from a.inserted_at)) as at from %I.%I a
               where a.id in (select u.audit_event_id from outbox.undelivered u)) t',
        attached.table_schema, attached.table_name)
    into oldest, older using before;
end
$$;

-- Rows with `inserted_at` below this have been delivered to every forwarder, or are dead letters: they may be deleted.
-- `-infinity` when nothing is known to be delivered (no reader yet, another cluster's positions, no table attached).
--
-- Volatile on purpose: each statement below takes its own snapshot, and their order matters. Called inside a DELETE it
-- sees at least what the DELETE sees; inside a repeatable read transaction, exactly that.
create function outbox.safe_before() returns timestamptz
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- By how much an application's clock may be behind the database's, or a row older than its transaction.
    skew constant interval := '10 minutes';
    -- Longer than anybody holds a transaction open before preparing it: its beginning is not on record.
    preparing constant interval := '1 day';
    running timestamptz;
    hidden boolean;
    oldest timestamptz;
begin
    -- First the transactions that run, then the log: one that ends in between is in the first or in the second, never in
    -- neither. Those that have not written yet count, since they may still write a row with the time of their beginning;
    -- those that begin later are bounded by now(), the beginning of this one.
    select least(min(a.xact_start), now()), coalesce(bool_or(a.backend_type is null), false)
    into running, hidden
    from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid();
    if hidden then
        raise exception 'outbox.safe_before() cannot see when the transactions of other roles began'
            using errcode = 'insufficient_privilege',
                  hint = format('Run: grant pg_read_all_stats to %I', current_user);
    end if;
    select least(running, min(p.prepared) - preparing) into running
    from pg_prepared_xacts p where p.database = current_database();

    select u.oldest into oldest from outbox.undelivered_rows('-infinity') u;

    -- Last: a reader that came to be known meanwhile has had the whole log counted as undelivered above.
    if not exists (select from outbox.source)
       or not exists (select from outbox.settled_snapshots)
       or exists (select from outbox.settled_snapshots d where d.s is null) then
        return '-infinity';
    end if;
    return least(oldest, running - skew);
end
$$;

revoke execute on function outbox.undelivered_rows(timestamptz), outbox.safe_before() from public;
