//! Triggers that have the name of the capture trigger, or its function, and are not it.

use common::{
    outbox::{
        self,
        capture::{self, triggers},
    },
    session::Session,
};
use sandbox::fixture::{audit_events, empty_database};
use sqlx::Executor as _;

/// How many rows there are, and entries of them.
async fn captured(connection: &mut Session) -> anyhow::Result<(i64, i64)> {
    let count = "select (select count(*) from audit_events),
                        (select count(*) from outbox.entries e join audit_events a on a.id = e.audit_event_id)";
    Ok(sqlx::query_as(count).fetch_one(connection).await?)
}

/// Triggers that are not the one that attach makes, and what is said of them.
const OTHERS: [(&str, &str); 7] = [
    (
        "after insert on audit_events for each row when (new.action <> 'secret') execute function outbox.capture()",
        "WHEN",
    ),
    (
        "after update on audit_events for each row execute function outbox.capture()",
        "not for insert, it is for update",
    ),
    (
        "after insert or update of action on audit_events for each row execute function outbox.capture()",
        "some columns",
    ),
    (
        "after insert or delete on audit_events for each row execute function outbox.capture()",
        "it is for delete",
    ),
    (
        "after insert on audit_events for each statement execute function outbox.capture()",
        "for each statement",
    ),
    ("before insert on audit_events for each row execute function outbox.capture()", "before the row"),
    ("after insert on audit_events for each row execute function nothing()", "it calls"),
];

#[tokio::test]
async fn a_trigger_that_is_not_the_one_that_attach_makes_is_a_fault_and_attach_replaces_it()
-> anyhow::Result<()> {
    const INSERT: &str = "insert into audit_events (id, occurred_at, action) values (gen_random_uuid(), '2026-05-01', 'secret')";
    for is_partitioned in [false, true] {
        let database = empty_database().await?;
        let mut connection = database.session().await?;
        connection
            .execute(
                "create function nothing() returns trigger language plpgsql as $$ begin return new; end $$;
                 create table audit_events (id uuid not null, occurred_at timestamptz not null, action text,
                     outcome text, inserted_at timestamptz, primary key (id, occurred_at)) partition by range (occurred_at);
                 create table p2026 partition of audit_events for values from ('2026-01-01') to ('2027-01-01')",
            )
            .await?;
        if !is_partitioned {
            connection
                .execute(
                    "drop table audit_events;
                     create table audit_events (id uuid primary key, occurred_at timestamptz not null, action text)",
                )
                .await?;
        }
        outbox::migrate(&mut connection).await?;
        capture::attach(&mut connection, &audit_events()).await?;
        let mut inserted = 0;
        for (other, differs) in OTHERS {
            // A `before` trigger of a partitioned table may not be made on it, but on the partition.
            let on_partition = is_partitioned && (differs == "before the row" || differs == "it calls");
            let table = if on_partition { "p2026" } else { "audit_events" };
            let other = other.replace("audit_events", table);
            // Capture runs, or runs no more; the one of a partition stands beside its parent's.
            let own = if on_partition && differs == "before the row" { "own" } else { "outbox_capture" };
            if own == "outbox_capture" {
                connection.execute("drop trigger if exists outbox_capture on audit_events").await?;
            }
            connection
                .execute(sqlx::AssertSqlSafe(format!(
                    "create trigger {own} {other}; alter table {table} enable always trigger {own}"
                )))
                .await?;
            let faults = capture::state(&mut connection).await?.faults();
            let said = format!("the trigger {own} on public.{table} is not the one that attach made: ");
            assert!(
                faults.iter().any(|(what, remedy)| what.starts_with(&said)
                    && what.contains(differs)
                    && remedy.contains("publisher attach")),
                "{other}: {faults:?}"
            );
            capture::attach(&mut connection, &audit_events()).await?;
            assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached, "{other}");
            database
                .superuser()
                .await?
                .execute(sqlx::AssertSqlSafe(format!("set session_replication_role = replica; {INSERT}")))
                .await?;
            inserted += 1;
            assert_eq!(captured(&mut connection).await?, (inserted, inserted), "{other}");
        }
        // What only has the name, beside one that captures, is somebody else's. Before PostgreSQL 15 a partition's keeps its name.
        let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
            .fetch_one(&mut connection)
            .await?;
        if is_partitioned && version < 150_000 {
            connection.execute("alter trigger outbox_capture on p2026 rename to mine").await?;
        }
        connection
            .execute(
                "alter trigger outbox_capture on audit_events rename to mine;
                 create trigger outbox_capture after insert on audit_events for each row execute function nothing()",
            )
            .await?;
        assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached);
        capture::attach(&mut connection, &audit_events()).await?;
        connection.execute(INSERT).await?;
        assert_eq!(captured(&mut connection).await?, (inserted + 1, inserted + 1));
        let others: i64 = sqlx::query_scalar(
            "select count(*) from pg_trigger where tgfoid = 'nothing'::regproc and tgparentid = 0",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(others, 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_trigger_that_captures_beside_the_one_that_attach_made_is_a_fault_and_attach_removes_it()
-> anyhow::Result<()> {
    const TABLES: [&str; 2] = [
        "create table audit_events (id uuid primary key, occurred_at timestamptz not null)",
        "create table audit_events (id uuid not null, occurred_at timestamptz not null, primary key (id, occurred_at))
             partition by range (occurred_at);
         create table p2026 partition of audit_events for values from ('2026-01-01') to ('2027-01-01')",
    ];
    for (table, on) in [(TABLES[0], "audit_events"), (TABLES[1], "audit_events"), (TABLES[1], "p2026")] {
        let database = empty_database().await?;
        let mut connection = database.session().await?;
        connection.execute(table).await?;
        outbox::migrate(&mut connection).await?;
        capture::attach(&mut connection, &audit_events()).await?;
        // By its name it would be the first.
        connection
            .execute(sqlx::AssertSqlSafe(format!(
                "create trigger again after insert on {on} for each row execute function outbox.capture();
                 alter table {on} enable always trigger again"
            )))
            .await?;
        let faults = capture::state(&mut connection).await?.faults();
        let said =
            format!("the trigger again on public.{on} is not the one that attach made: it captures each row");
        assert!(
            faults.iter().any(|(what, remedy)| what.starts_with(&said) && remedy.contains("removes it")),
            "{on}: {faults:?}"
        );
        let replaced = triggers::replaced(&mut connection, &audit_events()).await?;
        assert!(replaced.iter().all(|one| one.repeats && one.name == "again"), "{replaced:?}");
        assert_eq!(replaced.len(), 1);
        capture::attach(&mut connection, &audit_events()).await?;
        assert_eq!(capture::state(&mut connection).await?, capture::Capture::Attached, "{on}");
        connection
            .execute("insert into audit_events (id, occurred_at) values (gen_random_uuid(), '2026-05-01')")
            .await?;
        assert_eq!(captured(&mut connection).await?, (1, 1), "{on}");
        let names: Vec<String> = sqlx::query_scalar(
            "select tgname::text from pg_trigger where tgfoid = 'outbox.capture()'::regprocedure and tgparentid = 0",
        )
        .fetch_all(&mut connection)
        .await?;
        assert_eq!(names, ["outbox_capture"]);

        // A table that has two of them is let go, and named, once.
        connection
            .execute("create trigger again after insert on audit_events for each row execute function outbox.capture()")
            .await?;
        assert_eq!(capture::detach(&mut connection).await?, ["public.audit_events"]);
        let left: i64 = sqlx::query_scalar(
            "select count(*) from pg_trigger where tgfoid = 'outbox.capture()'::regprocedure",
        )
        .fetch_one(&mut connection)
        .await?;
        assert_eq!(left, 0);
    }
    Ok(())
}
