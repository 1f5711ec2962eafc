//! Whose code and whose rights capture and attach run with.

use common::{
    outbox::{
        self,
        admin::backfill,
        capture::{self, Capture, Cause, table_locks},
    },
    session::Session,
};
use sandbox::fixture::{TestDatabase, audit_events, empty_database, source_database};
use sqlx::Executor as _;
use uuid::Uuid;

async fn number(connection: &mut Session, of: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(of).fetch_one(connection).await?)
}

const ENTRIES: &str = "select count(*) from outbox.entries";
const MISSED: &str = "select count(*) from outbox.missed";

/// A table without anything but what capture needs.
async fn small_table() -> anyhow::Result<(TestDatabase, Session)> {
    let database = empty_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute("create table audit_events (id uuid default gen_random_uuid(), occurred_at timestamptz default now(), action text)")
        .await?;
    connection.execute("alter table audit_events alter id set not null, add unique (id)").await?;
    outbox::migrate(&mut connection).await?;
    capture::attach(&mut connection, &audit_events()).await?;
    Ok((database, connection))
}

/// Whoever owns the table may make casts of types of his own; some errors pass `when others`, and planning alone runs what is
/// immutable.
#[tokio::test]
async fn no_cast_of_the_table_owners_own_types_is_ever_run() -> anyhow::Result<()> {
    for volatility in ["volatile", "immutable"] {
        for code in ["P0004", "57014"] {
            let (database, mut connection) = small_table().await?;
            let mut warm = database.session().await?;
            warm.execute("insert into audit_events default values").await?;
            let types = format!(
                "create type own_id as (u uuid); create type own_time as (t timestamptz);
                 create function of_id(own_id) returns uuid language plpgsql {volatility} as
                     $$ begin raise exception 'run' using errcode = '{code}'; end $$;
                 create function as_text(own_id) returns text language plpgsql {volatility} as
                     $$ begin raise exception 'run' using errcode = '{code}'; end $$;
                 create function of_time(own_time) returns timestamptz language plpgsql {volatility} as
                     $$ begin raise exception 'run' using errcode = '{code}'; end $$;
                 create cast (own_id as uuid) with function of_id(own_id) as implicit;
                 create cast (own_id as text) with function as_text(own_id) as implicit;
                 create cast (own_time as timestamptz) with function of_time(own_time) as implicit;
                 alter table audit_events drop constraint audit_events_id_key, alter id drop default,
                     alter id type own_id using row(id)::own_id, alter id set default row(gen_random_uuid())::own_id"
            );
            connection.execute(sqlx::AssertSqlSafe(types)).await?;
            for session in [&mut warm, &mut connection] {
                session.execute("insert into audit_events default values").await?;
            }
            assert_eq!(number(&mut connection, MISSED).await?, 2, "{volatility} {code}");
            connection
                .execute(
                    "truncate audit_events; alter table audit_events drop id, alter occurred_at drop default,
                     add id uuid not null default gen_random_uuid();
                     alter table audit_events alter occurred_at type own_time using row(occurred_at)::own_time,
                         alter occurred_at set default row(now())::own_time",
                )
                .await?;
            for session in [&mut warm, &mut connection] {
                session.execute("insert into audit_events default values").await?;
            }
            assert_eq!(number(&mut connection, ENTRIES).await?, 3, "{volatility} {code}");
            assert_eq!(number(&mut connection, MISSED).await?, 2, "{volatility} {code}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn columns_of_a_domain_over_what_capture_reads_are_captured_with_their_time() -> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection
        .execute(
            "create domain event_id as uuid; create domain moment as timestamp; create domain late_moment as moment;
             alter table audit_events alter id type event_id, alter occurred_at type late_moment;
             insert into audit_events default values",
        )
        .await?;
    let timed = "select count(*) from outbox.entries where occurred_at > now() - interval '1 day'";
    assert_eq!(number(&mut connection, timed).await?, 1);
    assert_eq!(capture::state(&mut connection).await?, Capture::Attached);
    Ok(())
}

/// A row of more than a gigabyte is no value that can be handed on; what else may fail there is as bad.
#[tokio::test]
async fn whatever_the_long_way_fails_with_the_insert_commits_and_its_row_is_counted() -> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection
        .execute(
            "create or replace function outbox.reread(one record, captured oid, out id uuid, out at timestamptz)
             language plpgsql as $$ begin raise exception 'invalid memory alloc request size'; end $$;
             alter table audit_events rename id to event_id;
             insert into audit_events default values",
        )
        .await?;
    assert_eq!(number(&mut connection, MISSED).await?, 1);
    Ok(())
}

/// Every operator and function of the names in `outbox.capture()`, for all types in it.
const HOSTILE: &str = "create schema hostile;
    create function hostile.no(anyelement) returns bool language plpgsql as $$ begin raise exception 'redirected'; end $$;
    do $do$
    declare
        one record;
    begin
        for one in select distinct o.oprname, o.oprleft::regtype as l, o.oprright::regtype as r, o.oprresult::regtype as result
                   from pg_operator o
                   where o.oprname in ('=', '<>', '<', '>', '<=', '>=', '||')
                     and o.oprleft in ('text'::regtype, 'oid'::regtype, 'float8'::regtype, 'uuid'::regtype, 'bool'::regtype,
                                       'name'::regtype, 'timestamptz'::regtype, 'timestamp'::regtype)
                     and o.oprright = o.oprleft loop
            execute format('create function hostile.%I(%s, %s) returns %s language plpgsql as
                                $$ begin raise exception ''redirected''; end $$',
                           'op_' || md5(one::text), one.l, one.r, one.result);
            execute format('create operator hostile.%s (leftarg = %s, rightarg = %s, function = hostile.%I)',
                           one.oprname, one.l, one.r, 'op_' || md5(one::text));
        end loop;
        execute 'create function hostile.eq(regtype, regtype) returns bool language plpgsql as
                     $$ begin raise exception ''redirected''; end $$';
        execute 'create operator hostile.= (leftarg = regtype, rightarg = regtype, function = hostile.eq)';
        for one in select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, p.prorettype::regtype as result
                   from pg_proc p
                   where p.pronamespace = 'pg_catalog'::regnamespace and p.proretset is false and p.prokind = 'f'
                     and p.proname in ('pg_typeof', 'to_timestamp', 'date_part', 'pg_partition_root', 'format')
                     and p.provariadic = 0 and p.prorettype::regtype::text not like 'any%'
                     and pg_get_function_identity_arguments(p.oid) not like '%any%' loop
            execute format('create function hostile.%I(%s) returns %s language plpgsql as
                                $$ begin raise exception ''redirected''; end $$', one.proname, one.arguments, one.result);
        end loop;
        execute 'create function hostile.pg_typeof(anyelement) returns regtype language plpgsql as
                     $$ begin raise exception ''redirected''; end $$';
    end
    $do$";

#[tokio::test]
async fn no_operator_or_function_of_the_caller_is_run_by_capture_neither_way() -> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection.execute(HOSTILE).await?;
    connection.execute("alter table audit_events drop constraint audit_events_id_key").await?;
    for (change, entries, missed) in [
        ("select 1", 1, 0),
        ("alter table public.audit_events rename id to event_id", 2, 0),
        (
            "alter table public.audit_events alter event_id drop default, alter event_id type text,
                 alter event_id set default 'x'",
            2,
            1,
        ),
        ("alter table public.audit_events rename event_id to id", 2, 2),
        ("alter table public.audit_events drop id, add id bigint default 7", 2, 3),
    ] {
        connection.execute(change).await?;
        connection
            .execute("set search_path = hostile, pg_catalog, public; insert into public.audit_events default values; reset search_path")
            .await
            .map_err(|error| anyhow::anyhow!("{change}: {error}"))?;
        assert_eq!(number(&mut connection, ENTRIES).await?, entries, "{change}");
        assert_eq!(number(&mut connection, MISSED).await?, missed, "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn attach_and_detach_run_no_function_that_somebody_else_has_put_into_public() -> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection
        .execute(
            "create function public.format(text, regclass) returns text language plpgsql as
                 $$ begin raise exception 'redirected'; end $$;
             create function public.format(text, regclass, text) returns text language plpgsql as
                 $$ begin raise exception 'redirected'; end $$;
             create function public.format(text, name, regclass) returns text language plpgsql as
                 $$ begin raise exception 'redirected'; end $$",
        )
        .await?;
    connection.execute("select outbox.detach()").await?;
    connection.execute("select outbox.attach('public.audit_events')").await?;
    let unpinned: Vec<String> = sqlx::query_scalar(
        "select p.proname::text from pg_proc p
         where p.pronamespace = 'outbox'::regnamespace and p.proname <> 'capture'
           and not coalesce(array_to_string(p.proconfig, ',') like '%search_path=pg_catalog, pg_temp%', false)",
    )
    .fetch_all(&mut connection)
    .await?;
    assert!(unpinned.is_empty(), "{unpinned:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_superuser_recreates_is_the_owners_and_a_right_that_the_owner_lacks_breaks_capture()
-> anyhow::Result<()> {
    let (database, mut owner) = small_table().await?;
    let mut superuser = Session::from(database.superuser().await?);
    for dropped in [
        "drop function outbox.reread(record, oid); drop table outbox.missed",
        "drop table outbox.entries cascade",
    ] {
        owner.execute(dropped).await?;
        outbox::migrate(&mut superuser).await?;
        let strange = "select count(*) from (select proowner as o from pg_proc where pronamespace = 'outbox'::regnamespace
                       union all select relowner from pg_class where relnamespace = 'outbox'::regnamespace) a
                       where a.o <> (select nspowner from pg_namespace where nspname = 'outbox')";
        assert_eq!(number(&mut superuser, strange).await?, 0, "{dropped}");
        owner.execute("insert into audit_events default values").await?;
    }
    assert_eq!(number(&mut owner, ENTRIES).await?, 1);
    assert_eq!(capture::state(&mut owner).await?, Capture::Attached);

    superuser.execute("alter table outbox.entries owner to current_user").await?;
    let Capture::Broken { causes, .. } = capture::state(&mut superuser).await? else { panic!("broken") };
    assert!(
        matches!(&causes[..], [Cause::Powerless { lacks, .. }] if lacks == "insert into outbox.entries"),
        "{causes:?}"
    );
    outbox::migrate(&mut superuser).await?;
    assert_eq!(capture::state(&mut owner).await?, Capture::Attached);
    owner.execute("insert into audit_events default values").await?;
    Ok(())
}

#[tokio::test]
async fn who_holds_the_table_is_named_with_its_process_and_its_transaction() -> anyhow::Result<()> {
    let (database, mut connection) = small_table().await?;
    assert!(table_locks::holders(&mut connection, &audit_events()).await?.is_empty());
    let mut other = database.connect().await?;
    other
        .execute("set application_name = 'a long report'; begin; insert into audit_events default values")
        .await?;
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut other).await?;
    let holders = table_locks::holders(&mut connection, &audit_events()).await?;
    assert_eq!(holders.len(), 1, "{holders:?}");
    for part in
        [&format!("process {process}, a long report, user "), "idle in transaction, in a transaction since 2"]
    {
        assert!(holders[0].contains(part), "{part}: {holders:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_last_time_that_a_column_holds_stops_no_command_that_compares_times() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), '294276-12-31 23:59:59.999999', 'a.b', 'success', '294276-12-31 23:59:59.999999')",
        )
        .await?;
    let filter =
        backfill::Filter { since: Some(time::OffsetDateTime::UNIX_EPOCH), ..backfill::Filter::default() };
    assert_eq!(backfill::count(&mut connection, &audit_events(), &filter).await?, 1);
    assert_eq!(number(&mut connection, "select older from outbox.undelivered_rows('infinity')").await?, 1);
    Ok(())
}

#[tokio::test]
async fn another_column_called_id_breaks_capture_and_is_attached_with_every_undelivered_event_only()
-> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection.execute("insert into audit_events default values").await?;
    connection
        .execute(
            "alter table audit_events rename id to legacy_id; alter table audit_events add id uuid unique",
        )
        .await?;
    let said = capture::state(&mut connection).await?.faults();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].0.ends_with("its column \"id\" is not the one that it was attached with"), "{said:?}");
    assert!(said[0].1.contains("legacy_id") && said[0].1.contains("`publisher attach`"), "{said:?}");
    let error = capture::attach(&mut connection, &audit_events()).await.expect_err("refused").to_string();
    assert!(error.contains("1 event(s)") && error.contains("column legacy_id only"), "{error}");
    connection.execute("update audit_events set id = legacy_id").await?;
    capture::attach(&mut connection, &audit_events()).await?;
    assert_eq!(capture::state(&mut connection).await?, Capture::Attached);
    Ok(())
}

#[tokio::test]
async fn a_detach_before_the_swap_does_not_make_the_new_table_good_for_what_is_in_the_old_one()
-> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    connection
        .execute(
            "insert into audit_events default values; alter table audit_events rename id to event_id;
             alter table audit_events rename event_id to id",
        )
        .await?;
    capture::detach(&mut connection).await?;
    let swap = "alter table audit_events rename to audit_old; create table audit_events (like audit_old including all)";
    connection.execute(swap).await?;
    let error = capture::attach(&mut connection, &audit_events()).await.expect_err("refused").to_string();
    assert!(error.contains("have their row in public.audit_old only"), "{error}");
    connection.execute("insert into audit_events select * from audit_old").await?;
    // Missed there, and nowhere else.
    let missed =
        "insert into outbox.missed (relation, cause) values ('audit_old'::regclass, 'the row had no id')";
    connection.execute(missed).await?;
    let error = capture::attach(&mut connection, &audit_events()).await.expect_err("refused").to_string();
    assert!(error.contains("some rows of public.audit_old have not been captured"), "{error}");
    connection.execute("update outbox.missed set relation = 1").await?;
    capture::attach(&mut connection, &audit_events()).await?;

    // What cannot be looked up is said with its table and column.
    connection.execute("alter table audit_events alter id drop default, alter id type text; alter table audit_events rename to worn").await?;
    connection.execute("create table audit_events (id uuid primary key, occurred_at timestamptz)").await?;
    let error = capture::attach(&mut connection, &audit_events()).await.expect_err("refused");
    let error = errors::line(&error);
    assert!(error.contains("public.worn") && error.contains("alter id type uuid"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_index_that_a_partitioned_table_lacks_is_advised_with_its_whole_partition_key()
-> anyhow::Result<()> {
    let (_database, mut connection) = small_table().await?;
    let name = format!("parts_{}", Uuid::new_v4().simple());
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "create table {name} (id uuid not null, occurred_at timestamptz, tenant int) partition by list (tenant);
             create table {name}_1 partition of {name} for values in (1) partition by range (occurred_at)"
        )))
        .await?;
    let warned = capture::warnings(&mut connection, &name.parse()?).await?;
    let advice = format!("create unique index on public.{name} (id, occurred_at, tenant)");
    assert!(warned.iter().any(|(_, remedy)| remedy.ends_with(&advice)), "{warned:?}");
    connection.execute(sqlx::AssertSqlSafe(advice)).await?;
    assert!(capture::warnings(&mut connection, &name.parse()?).await?.is_empty());
    Ok(())
}
