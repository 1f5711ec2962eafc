//! Which inserts are captured, how, and on which tables.

use common::{
    outbox::{self, capture},
    session::Session,
};
use sandbox::fixture::{audit_events, empty_database, source_database};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::reader::{committed, read_all, sorted};

async fn exact(connection: &mut Session) -> anyhow::Result<usize> {
    let read = read_all(connection, 100).await?;
    assert_eq!(sorted(read.clone()), committed(connection).await?);
    Ok(read.len())
}

#[tokio::test]
async fn copy_multi_row_inserts_and_raw_sql_are_captured() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let mut copy = connection
        .direct()?
        .copy_in_raw("copy audit_events (id, occurred_at, action, outcome, inserted_at) from stdin")
        .await?;
    for _ in 0..250 {
        let row =
            format!("{}\t2026-01-01 00:00:00\tcopy.row\tsuccess\t2026-01-01 00:00:00\n", Uuid::new_v4());
        copy.send(row.as_bytes()).await?;
    }
    copy.finish().await?;
    connection
        .execute(
            "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), now(), 'a.b', 'success', now()),
                    (gen_random_uuid(), now(), 'c.d', 'failure', now())",
        )
        .await?;
    connection
        .execute(
            "do $$ begin
                 insert into audit_events (id, occurred_at, action, outcome, inserted_at)
                 values (gen_random_uuid(), now(), 'e.f', 'success', now());
             end $$",
        )
        .await?;
    assert_eq!(exact(&mut connection).await?, 253);
    Ok(())
}

/// The function runs with the rights of its owner, under the path of whoever inserts.
#[tokio::test]
async fn a_hostile_search_path_cannot_redirect_capture() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            "create schema hostile;
             create table hostile.entries (like outbox.entries);
             create domain hostile.float8 as text check (false);
             create function hostile.to_timestamp(pg_catalog.float8) returns timestamptz language plpgsql as
                 $$ begin raise exception 'redirected'; end $$;
             create function hostile.date_part(text, timestamp) returns pg_catalog.float8 language plpgsql as
                 $$ begin raise exception 'redirected'; end $$;
             create function hostile.less(pg_catalog.float8, pg_catalog.float8) returns bool language plpgsql as
                 $$ begin raise exception 'redirected'; end $$;
             create operator hostile.< (leftarg = pg_catalog.float8, rightarg = pg_catalog.float8, function = hostile.less);
             set search_path = hostile, public, pg_catalog;
             insert into public.audit_events (id, occurred_at, action, outcome, inserted_at)
             values ('d0e158f8-97ac-4a0c-af51-c1c235e11a66', '2026-05-15 12:00', 'a.b', 'success', '2026-05-15 12:00');
             reset search_path",
        )
        .await?;
    assert_eq!(exact(&mut connection).await?, 1);
    Ok(())
}

#[tokio::test]
async fn rows_that_replication_applies_are_captured() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = Session::from(database.superuser().await?);
    // What an apply worker runs under; ordinary triggers are silent in it.
    connection.execute("set session_replication_role = replica").await?;
    crate::reader::insert(&mut connection, 3).await?;
    assert_eq!(exact(&mut connection).await?, 3);
    Ok(())
}

#[tokio::test]
async fn partitions_present_and_future_are_captured() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            "create table audit_events (id uuid not null, occurred_at timestamptz not null, action text,
                 outcome text, inserted_at timestamptz, primary key (id, occurred_at))
                 partition by range (occurred_at);
             create table p2026 partition of audit_events for values from ('2026-01-01') to ('2027-01-01')",
        )
        .await?;
    outbox::migrate(&mut connection).await?;
    capture::attach(&mut connection, &audit_events()).await?;
    connection
        .execute(
            "create table p2027 partition of audit_events for values from ('2027-01-01') to ('2028-01-01')",
        )
        .await?;
    connection
        .execute(
            "insert into audit_events (id, occurred_at) values (gen_random_uuid(), '2026-05-01');
             insert into p2027 (id, occurred_at) values (gen_random_uuid(), '2027-05-01')",
        )
        .await?;
    database
        .superuser()
        .await?
        .execute("set session_replication_role = replica; insert into p2027 values (gen_random_uuid(), '2027-06-01')")
        .await?;
    assert_eq!(exact(&mut connection).await?, 3);
    assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached);
    connection.execute("alter table p2027 disable trigger outbox_capture").await?;
    let causes = vec![capture::Cause::Uncovered(1)];
    let broken = capture::Capture::Broken { table: "public.audit_events".into(), causes };
    assert_eq!(capture::state(&mut connection).await?, broken);
    // Ordinary again, as `enable trigger all` leaves it: it would miss what replication applies.
    connection.execute("alter table p2027 enable trigger outbox_capture").await?;
    assert_eq!(capture::state(&mut connection).await?, broken);
    Ok(())
}

#[tokio::test]
async fn a_table_in_a_quoted_schema_without_organization_columns_is_captured() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let mut connection = database.session().await?;
    connection
        .execute(
            r#"create schema "Auth Data";
               create table "Auth Data"."audit-events" (id uuid primary key, occurred_at timestamp not null)"#,
        )
        .await?;
    outbox::migrate(&mut connection).await?;
    capture::attach(&mut connection, &"Auth Data.audit-events".parse()?).await?;
    connection
        .execute(
            r#"insert into "Auth Data"."audit-events" values (gen_random_uuid(), '2026-01-01 12:00:00')"#,
        )
        .await?;
    assert_eq!(read_all(&mut connection, 10).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn tables_that_cannot_be_captured_are_refused_with_the_remedy() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let mut connection = database.session().await?;
    outbox::migrate(&mut connection).await?;
    connection
        .execute(
            "create table no_id (occurred_at timestamptz);
             create table wrong_id (id bigint, occurred_at timestamptz);
             create table null_id (id uuid, occurred_at timestamptz);
             create table no_time (id uuid not null);
             create view a_view as select gen_random_uuid() as id, now() as occurred_at;
             create table parent (id uuid, occurred_at timestamptz);
             create table child () inherits (parent);
             create table parted (id uuid, occurred_at timestamptz) partition by range (occurred_at);
             create table part partition of parted default;
             create table good (id uuid primary key, occurred_at timestamptz);
             create table second (id uuid primary key, occurred_at timestamptz)",
        )
        .await?;
    let mut refusals = Vec::new();
    for table in ["no_id", "wrong_id", "null_id", "no_time", "a_view", "parent", "child", "part", "absent"] {
        let error = capture::attach(&mut connection, &table.parse()?).await.expect_err(table);
        refusals.push(format!(
            "{table}: {}",
            error.as_database_error().map_or(String::new(), |e| e.message().into())
        ));
    }
    capture::attach(&mut connection, &"good".parse()?).await?;
    capture::attach(&mut connection, &"good".parse()?).await?;
    let error = capture::attach(&mut connection, &"second".parse()?).await.expect_err("a second table");
    refusals.push(format!("second: {}", error.as_database_error().unwrap().message()));
    assert_eq!(
        refusals,
        [
            "no_id: cannot attach public.no_id: it needs a column \"id\" of type uuid, not null",
            "wrong_id: cannot attach public.wrong_id: it needs a column \"id\" of type uuid, not null",
            "null_id: cannot attach public.null_id: it needs a column \"id\" of type uuid, not null",
            "no_time: cannot attach public.no_time: it needs a column \"occurred_at\" of type timestamp or timestamptz",
            "a_view: cannot attach public.a_view: it is a view",
            "parent: cannot attach public.parent: it takes part in table inheritance",
            "child: cannot attach public.child: it takes part in table inheritance",
            "part: cannot attach public.part: it is a partition",
            "absent: relation \"public.absent\" does not exist",
            "second: cannot attach public.second: this outbox already serves public.good",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_application_needs_no_rights_on_the_outbox_and_gets_none() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = Session::from(database.superuser().await?);
    let role = format!("app_{}", Uuid::new_v4().simple());
    connection
        .execute(sqlx::AssertSqlSafe(format!(
            "create role {role}; grant insert, select on audit_events to {role}; set role {role}"
        )))
        .await?;
    crate::reader::insert(&mut connection, 2).await?;
    for forbidden in [
        "select from outbox.entries",
        "insert into outbox.entries (audit_event_id) values (gen_random_uuid())",
        "select outbox.detach()",
    ] {
        let error = connection.execute(forbidden).await.expect_err(forbidden);
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{forbidden}");
    }
    connection.execute("reset role").await?;
    assert_eq!(exact(&mut connection).await?, 2);
    connection.execute(sqlx::AssertSqlSafe(format!("drop owned by {role}; drop role {role}"))).await?;
    Ok(())
}

#[tokio::test]
async fn times_at_the_edge_of_what_postgresql_allows_are_clamped_not_lost() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    for time in [
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00 BC",
        "12026-01-01",
        // The very last ones: a microsecond more is out of range, and rounding must not get there.
        "294276-12-31 23:59:59.999999",
        "4713-01-01 00:00:00 BC",
        "2026-05-15 12:00:00.123457",
    ] {
        sqlx::query(
            "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), $1::text::timestamp, 'a.b', 'success', now())",
        )
        .bind(time)
        .execute(&mut connection)
        .await?;
    }
    let identifier = outbox::system_identifier(&mut connection).await?;
    let head = outbox::reader::rounds::head(&mut connection, "edge", identifier).await?;
    let outbox::reader::rounds::Append::Written(round) =
        outbox::reader::rounds::open(&mut connection, &head, None, false).await?
    else {
        panic!("seven rows are unread");
    };
    let page = outbox::reader::pages::Pages::new(round, 10).next(&mut connection).await?;
    let times: Vec<_> = page.iter().map(|entry| entry.occurred_at.as_deref().unwrap()).collect();
    assert_eq!(
        times,
        [
            "9999-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00.000000Z",
            "0001-01-01T00:00:00.000000Z",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59.999999Z",
            "0001-01-01T00:00:00.000000Z",
            "2026-05-15T12:00:00.123457Z",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn after_detach_nothing_is_captured_and_what_was_is_still_read() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let captured = crate::reader::insert(&mut connection, 2).await?;
    capture::detach(&mut connection).await?;
    capture::detach(&mut connection).await?;
    crate::reader::insert(&mut connection, 1).await?;
    assert_eq!(sorted(read_all(&mut connection, 10).await?), sorted(captured));
    capture::attach(&mut connection, &audit_events()).await?;
    assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached);
    Ok(())
}

#[tokio::test]
async fn attach_gives_way_to_a_busy_table_and_tries_again() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    capture::detach(&mut connection).await?;
    let mut application = database.session().await?;
    application.execute("begin; lock table audit_events in row exclusive mode").await?;
    let attach = tokio::spawn({
        let database = database.clone();
        async move {
            capture::attach(&mut database.session().await?, &audit_events())
                .await
                .map_err(anyhow::Error::from)
        }
    });
    sandbox::wait::until_some("attach to queue for the lock", std::time::Duration::from_secs(10), async || {
        let waits: bool = sqlx::query_scalar("select exists (select from pg_locks where not granted and relation = 'audit_events'::regclass)")
            .fetch_one(&mut connection)
            .await?;
        Ok(waits.then_some(()))
    })
    .await?;
    // Behind a queued lock everybody waits; ours gives up after two seconds at most.
    sandbox::wait::until_some("attach to give way", std::time::Duration::from_secs(10), async || {
        let waits: bool = sqlx::query_scalar(
            "select exists (select from pg_locks where not granted and relation = 'audit_events'::regclass)",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok((!waits).then_some(()))
    })
    .await?;
    application.execute("rollback").await?;
    attach.await??;
    assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached);
    Ok(())
}

#[tokio::test]
async fn migrating_twice_changes_nothing() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    crate::reader::insert(&mut connection, 1).await?;
    outbox::migrate(&mut connection).await?;
    assert_eq!(exact(&mut connection).await?, 1);
    Ok(())
}
