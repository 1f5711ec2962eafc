//! What becomes of captured columns: renamed, dropped, retyped, beside inserts of sessions that stay open.

use common::{
    outbox::{
        self,
        capture::{self, Capture, Cause},
    },
    session::Session,
};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use sandbox::fixture::{TestDatabase, empty_database};
use sqlx::{Executor as _, PgConnection};

const SESSIONS: usize = 3;

/// A table with a key of its own, so that nothing but the two captured columns depends on what becomes of them.
async fn database() -> anyhow::Result<(TestDatabase, Session)> {
    let database = empty_database().await?;
    let mut connection = Session::from(database.connect().await?);
    connection
        .execute(
            "create table audit_events (tag bigint generated always as identity primary key,
                 id uuid not null unique default gen_random_uuid(), occurred_at timestamp default now(), action text)",
        )
        .await?;
    outbox::migrate(&mut connection).await?;
    capture::attach(&mut connection, &"audit_events".parse()?).await?;
    Ok((database, connection))
}

async fn insert(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // A prepared statement, whose plan the session keeps.
    sqlx::query("insert into audit_events (action) select 'a.b' from generate_series(1, $1)")
        .bind(2)
        .execute(connection)
        .await
        .map(drop)
}

async fn number(connection: &mut Session, of: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(of).fetch_one(connection).await?)
}

const ENTRIES: &str = "select count(*) from outbox.entries";
const MISSED: &str = "select count(*) from outbox.missed";

/// Each change, how many of two rows inserted behind it have an entry, and whether capture counts as broken.
const CHANGES: [(&str, i64, bool); 16] = [
    ("alter table audit_events rename occurred_at to happened_at", 2, true),
    ("alter table audit_events rename id to event_id", 2, true),
    (
        "alter table audit_events rename id to event_id; alter table audit_events add id bigint default 7",
        2,
        true,
    ),
    ("alter table audit_events drop occurred_at", 2, true),
    ("alter table audit_events drop id", 0, true),
    (
        "alter table audit_events drop id; alter table audit_events add id uuid not null default gen_random_uuid()",
        2,
        true,
    ),
    (
        "alter table audit_events alter id drop default, alter id type text, alter id set default gen_random_uuid()",
        2,
        true,
    ),
    (
        "alter table audit_events drop id; alter table audit_events add id text not null default 'x-1'",
        0,
        true,
    ),
    ("alter table audit_events alter id drop not null, alter id set default null", 0, true),
    ("alter table audit_events drop occurred_at, add occurred_at timestamptz default 'infinity'", 2, false),
    ("alter table audit_events alter occurred_at type timestamptz", 2, false),
    ("alter table audit_events alter occurred_at type date", 2, true),
    ("alter table audit_events alter occurred_at drop default, alter occurred_at type text", 2, true),
    ("alter table audit_events alter occurred_at drop default, alter occurred_at type int using 1", 2, true),
    (
        "alter table audit_events add json json default '{\"a\":\"\\u0000\"}'; alter table audit_events rename id to nr",
        2,
        true,
    ),
    ("alter table audit_events add xml xml, drop action, add action text", 2, false),
];

#[tokio::test]
async fn whatever_becomes_of_a_captured_column_the_insert_commits_and_its_row_is_accounted_for()
-> anyhow::Result<()> {
    for (change, entries, broken) in CHANGES {
        let (database, mut connection) = database().await?;
        let (mut warm, mut mixed) = (database.connect().await?, database.connect().await?);
        for session in [&mut warm, &mut mixed] {
            insert(session).await?;
        }
        // In one transaction with the change, too: its own inserts come before and after it.
        mixed.execute("begin").await?;
        insert(&mut mixed).await?;
        mixed.execute(change).await?;
        insert(&mut mixed).await?;
        mixed.execute("commit").await?;
        let fresh = database.connect().await?;
        for mut session in [warm, fresh] {
            insert(&mut session).await.map_err(|error| anyhow::anyhow!("{change}: {error}"))?;
        }
        assert_eq!(number(&mut connection, ENTRIES).await?, 6 + 3 * entries, "{change}");
        assert_eq!(number(&mut connection, MISSED).await?, 3 * (2 - entries), "{change}");
        let state = capture::state(&mut connection).await?;
        assert_eq!(state != Capture::Attached, broken, "{change}: {state:?}");
        assert_eq!(state.missed(), 3 * (2 - entries), "{change}");
    }
    Ok(())
}

#[tokio::test]
async fn a_column_that_gets_its_name_back_is_captured_by_sessions_that_stayed_open() -> anyhow::Result<()> {
    let (database, mut connection) = database().await?;
    let mut session = database.connect().await?;
    insert(&mut session).await?;
    for there_and_back in [
        ["alter table audit_events rename id to event_id", "alter table audit_events rename event_id to id"],
        [
            "alter table audit_events alter id drop default, alter id type text, alter id set default 'none'",
            "alter table audit_events alter id drop default, alter id type uuid using gen_random_uuid(),
                 alter id set default gen_random_uuid()",
        ],
        [
            "alter table audit_events drop occurred_at, add occurred_at bigint",
            "alter table audit_events drop occurred_at, add occurred_at timestamptz default now()",
        ],
    ] {
        for (step, change) in there_and_back.into_iter().enumerate() {
            // A unique index is nobody's business here.
            connection
                .execute("alter table audit_events drop constraint if exists audit_events_id_key")
                .await?;
            connection.execute(change).await?;
            insert(&mut session).await?;
            let state = capture::state(&mut connection).await?;
            connection.execute("delete from outbox.missed").await?;
            assert_eq!(state == Capture::Attached, step == 1, "{change}: {state:?}");
        }
    }
    let last: Option<bool> = sqlx::query_scalar(
        "select e.occurred_at is not null and exists (select from audit_events a where a.id = e.audit_event_id)
         from outbox.entries e order by xid desc, seq desc limit 1",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(last, Some(true));
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_the_columns_is_said_with_the_column_and_its_remedy() -> anyhow::Result<()> {
    let (_database, mut connection) = database().await?;
    connection.execute("alter table audit_events rename id to event_id; alter table audit_events rename occurred_at to at").await?;
    let faults = capture::state(&mut connection).await?.faults();
    let said: Vec<_> = faults.iter().map(|(what, remedy)| format!("{what} / {remedy}")).collect();
    assert_eq!(
        said,
        [
            "public.audit_events does not fit any more: it needs a column \"id\" of type uuid, not null / The column that it \
             was attached with is called event_id now. Rename it back.",
            "public.audit_events does not fit any more: it needs a column \"occurred_at\" of type timestamp or timestamptz \
             / Without it no time would be right. Add it, or rename the one that has another name.",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_missed_row_leaves_nothing_of_what_was_in_it() -> anyhow::Result<()> {
    let (_database, mut connection) = database().await?;
    connection.execute("alter table audit_events alter id drop default, alter id type text").await?;
    connection.execute("insert into audit_events (id, action) values ('secret', 'a.b')").await?;
    let missed: String = sqlx::query_scalar("select to_jsonb(m)::text from outbox.missed m")
        .fetch_one(&mut connection)
        .await?;
    assert!(missed.contains("22P02") && !missed.contains("secret"), "{missed}");
    let Capture::Broken { causes, .. } = capture::state(&mut connection).await? else { panic!("missed") };
    assert!(matches!(&causes[..], [Cause::IdColumn { .. }, Cause::Missed { rows: 1, .. }]), "{causes:?}");
    Ok(())
}

/// A block with a handler is a subtransaction; one that writes would take a transaction id for each row.
#[tokio::test]
async fn a_bulk_insert_takes_one_transaction_id_whether_its_rows_are_captured_or_missed() -> anyhow::Result<()>
{
    let (_database, mut connection) = database().await?;
    for change in [
        "select 1",
        "alter table audit_events rename id to event_id",
        "alter table audit_events drop event_id",
    ] {
        connection.execute(change).await?;
        connection
            .execute("insert into audit_events (action) select 'a.b' from generate_series(1, 10000)")
            .await?;
    }
    // A subtransaction for each row would be an id for each row.
    let taken = "select count(distinct id) from (select xmin::text id from outbox.entries
                 union all select xmin::text from outbox.missed) written";
    assert_eq!(number(&mut connection, taken).await?, 3);
    assert_eq!(number(&mut connection, ENTRIES).await?, 20_000);
    assert_eq!(number(&mut connection, MISSED).await?, 10_000);
    Ok(())
}

const DDL: [&str; 20] = [
    "alter table audit_events rename id to event_id",
    "alter table audit_events rename event_id to id",
    "alter table audit_events alter id drop default, alter id type text, alter id set default gen_random_uuid()",
    "alter table audit_events alter id drop default, alter id type text, alter id set default 'x'",
    "alter table audit_events alter id drop default, alter id type uuid using gen_random_uuid(),
         alter id set default gen_random_uuid()",
    "alter table audit_events alter id set default null",
    "alter table audit_events drop id",
    "alter table audit_events drop event_id",
    "alter table audit_events add id uuid default gen_random_uuid()",
    "alter table audit_events add id bigint default 7",
    "alter table audit_events rename occurred_at to happened_at",
    "alter table audit_events rename happened_at to occurred_at",
    "alter table audit_events drop occurred_at",
    "alter table audit_events add occurred_at timestamptz default now()",
    "alter table audit_events add occurred_at bigint default 7",
    "alter table audit_events alter occurred_at type timestamp",
    "alter table audit_events alter occurred_at type timestamptz",
    "alter table audit_events alter occurred_at type date",
    "alter table audit_events add extra jsonb default '{}'",
    "alter table audit_events drop extra",
];

#[derive(Debug, Clone)]
enum Step {
    Insert(usize),
    /// Changes that do not apply are refused by the server, and that is that.
    Change(usize),
    /// Inserts around a change in one transaction, which commits or not.
    Mixed(usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..SESSIONS).prop_map(Step::Insert),
        3 => (0..DDL.len()).prop_map(Step::Change),
        1 => (0..SESSIONS, 0..DDL.len(), any::<bool>())
            .prop_map(|(session, change, commit)| Step::Mixed(session, change, commit)),
    ]
}

#[test]
fn no_history_of_changes_fails_an_insert_or_leaves_a_row_unaccounted_for() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&vec(step(), 1..50), |history| {
            runtime.block_on(play(&history)).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .unwrap();
}

async fn play(history: &[Step]) -> anyhow::Result<()> {
    let (database, mut connection) = database().await?;
    connection
        .execute("alter table audit_events drop constraint audit_events_id_key, alter id drop not null")
        .await?;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(database.connect().await?);
    }
    let mut seen = [0, 0, 0];
    for step in history {
        match *step {
            Step::Insert(session) => insert(&mut sessions[session]).await?,
            Step::Change(change) => drop(connection.execute(DDL[change]).await),
            Step::Mixed(session, change, commit) => {
                let session = &mut sessions[session];
                session.execute("begin").await?;
                insert(session).await?;
                session.execute("savepoint change").await?;
                if session.execute(DDL[change]).await.is_err() {
                    session.execute("rollback to change").await?;
                }
                insert(session).await?;
                session.execute(if commit { "commit" } else { "rollback" }).await?;
            }
        }
        account(&mut connection, &mut seen, step).await?;
    }
    Ok(())
}

/// Since the last look: each row has its entry, with an id that is in it, or is counted as missed; and missed rows need a
/// reason in the columns.
async fn account(connection: &mut Session, seen: &mut [i64; 3], step: &Step) -> anyhow::Result<()> {
    let state = capture::state(connection).await?;
    let rows = number(connection, "select count(*) from audit_events").await?;
    let [entries, missed] = [number(connection, ENTRIES).await?, number(connection, MISSED).await?];
    anyhow::ensure!(rows == entries + missed, "{rows} rows, {entries} entries, {missed} missed");
    anyhow::ensure!((missed > 0) <= (state != Capture::Attached), "{missed} missed, and {state:?}");
    if matches!(step, Step::Insert(_)) {
        let strange: i64 = sqlx::query_scalar(
            "select count(*) from (select audit_event_id from outbox.entries order by xid desc, seq desc limit $1) e
             where not exists (select from audit_events a
                               where a.tag > $2 and to_jsonb(a)::text like '%' || e.audit_event_id::text || '%')",
        )
        .bind(entries - seen[1])
        .bind(tag(connection).await? - (rows - seen[0]))
        .fetch_one(&mut *connection)
        .await?;
        anyhow::ensure!(strange == 0, "{strange} entries name rows that are none");
    }
    *seen = [rows, entries, missed];
    Ok(())
}

async fn tag(connection: &mut Session) -> anyhow::Result<i64> {
    number(connection, "select coalesce(max(tag), 0) from audit_events").await
}

#[tokio::test]
async fn what_a_trigger_does_not_see_or_a_crash_does_not_keep_is_refused_by_name() -> anyhow::Result<()> {
    let database = empty_database().await?;
    let mut connection = Session::from(database.superuser().await?);
    outbox::migrate(&mut connection).await?;
    connection
        .execute(
            "create foreign data wrapper elsewhere; create server elsewhere foreign data wrapper elsewhere;
             create foreign table far (id uuid not null, occurred_at timestamptz) server elsewhere;
             create temporary table short (id uuid primary key, occurred_at timestamptz);
             create unlogged table unkept (id uuid primary key, occurred_at timestamptz);
             create materialized view copied as select gen_random_uuid() as id, now() as occurred_at;
             create table twice (id uuid not null, occurred_at timestamptz);
             create table partly (id uuid not null, occurred_at timestamptz);
             create unique index on partly (id) where occurred_at is not null;
             create table both_columns (id uuid not null, occurred_at timestamptz, unique (id, occurred_at));
             create table parent (id uuid not null, occurred_at timestamptz, unique (id, occurred_at))
                 partition by range (occurred_at);
             create unlogged table unkept_part partition of parent default",
        )
        .await?;
    let mut refused = vec![
        ("far", "it is a foreign table"),
        ("pg_temp.short", "it is a temporary table"),
        ("unkept", "unkept is unlogged"),
        ("copied", "it is a materialized view"),
        ("twice", "no unique index"),
        ("partly", "no unique index"),
        ("both_columns", "no unique index"),
        ("parent", "unkept_part is unlogged"),
    ];
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(&mut connection)
        .await?;
    if version >= 180_000 {
        connection
            .execute(
                "create table virtual_id (key uuid primary key, id uuid generated always as (key) virtual not null,
                                          occurred_at timestamptz);
                 create table virtual_time (id uuid primary key, at timestamptz,
                                            occurred_at timestamptz generated always as (at) virtual)",
            )
            .await?;
        refused.extend([
            ("virtual_id", "its column \"id\" is computed whenever it is read"),
            ("virtual_time", "its column \"occurred_at\" is computed whenever it is read"),
        ]);
    }
    for (table, why) in refused {
        let error = capture::attach(&mut connection, &table.parse()?).await.expect_err(table);
        let said = error.as_database_error().unwrap().message().to_owned();
        assert!(said.contains(why), "{table}: {said}");
    }
    // What was attached, and is so only since, continues.
    connection.execute("create table kept (id uuid primary key, occurred_at timestamptz)").await?;
    capture::attach(&mut connection, &"kept".parse()?).await?;
    connection.execute("alter table kept drop constraint kept_pkey, alter id drop not null; alter table kept set unlogged").await?;
    capture::attach(&mut connection, &"kept".parse()?).await?;
    assert_eq!(capture::state(&mut connection).await?, Capture::Attached);
    let warned = capture::warnings(&mut connection, &"kept".parse()?).await?;
    let warned: Vec<&str> = warned.iter().map(|(what, _)| what.as_str()).collect();
    assert_eq!(warned.len(), 3, "{warned:?}");
    Ok(())
}
