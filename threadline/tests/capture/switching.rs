//! From the Elixir library's triggers to ours and back, beside writers that never stop: each committed change is recorded once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use sandbox::{fixture::TestDatabase, wait::until_some};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use threadline::{
    StorageSchema,
    capture::{Capture, Migration},
    continuity::{NotReady, assert_ready},
};
use tokio::task::JoinSet;

use super::{captures, host, run};

const WRITERS: usize = 4;

/// What is written, and what is to be recorded of it: a row of `expected` is committed with the change that it stands for.
const TABLES: &str = "create sequence versions; create table items (id bigint generated always as identity primary key, writer bigint not null,
     v bigint not null, secret text not null default 'hunter2');
     create table expected (op text not null, id bigint not null, v bigint)";

/// Statements of one writer, one row and many.
const STATEMENTS: [&str; 5] = [
    "with n as (insert into items (writer, v) values ($1, nextval('versions')) returning id, v)
     insert into expected select 'insert', id, v from n",
    "with n as (insert into items (writer, v) select $1, nextval('versions') from generate_series(1, 5) returning id, v)
     insert into expected select 'insert', id, v from n",
    "with n as (update items set v = nextval('versions') where writer = $1 returning id, v)
     insert into expected select 'update', id, v from n",
    "with n as (update items set v = nextval('versions') where id = (select max(id) from items where writer = $1) returning id, v)
     insert into expected select 'update', id, v from n",
    "with n as (delete from items where writer = $1 and id < (select max(id) - 20 from items where writer = $1) returning id)
     insert into expected select 'delete', id, null from n",
];

/// Writers that commit and roll back until they are told to stop.
struct Writers {
    tasks: JoinSet<anyhow::Result<()>>,
    stop: Arc<AtomicBool>,
    /// How often each has committed.
    committed: Arc<[AtomicU64; WRITERS]>,
}

impl Writers {
    fn start(database: &TestDatabase) -> Self {
        let mut writers = Self { tasks: JoinSet::new(), stop: Arc::default(), committed: Arc::default() };
        for writer in 0..WRITERS {
            let (database, stop, committed) =
                (database.clone(), writers.stop.clone(), writers.committed.clone());
            writers.tasks.spawn(async move {
                let mut connection = database.connect().await?;
                for n in 0_usize.. {
                    let mut transaction = connection.begin().await?;
                    // One to three statements of the list, another choice each time.
                    for k in 0..=n % 3 {
                        let statement = STATEMENTS[(n * 7 + k + writer) % 5];
                        sqlx::query(statement)
                            .bind(i64::try_from(writer)?)
                            .execute(&mut *transaction)
                            .await?;
                    }
                    if n % 5 == 4 {
                        transaction.rollback().await?;
                        continue;
                    }
                    transaction.commit().await?;
                    committed[writer].fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                }
                Ok(())
            });
        }
        writers
    }

    /// Each has committed some more transactions.
    async fn go_on(&mut self) -> anyhow::Result<()> {
        let before: Vec<u64> = self.committed.iter().map(|count| count.load(Ordering::SeqCst)).collect();
        until_some("every writer to go on", Duration::from_secs(30), async || {
            // One that has ended has failed: nobody has stopped it.
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
                anyhow::bail!("a writer has stopped");
            }
            let all = self
                .committed
                .iter()
                .zip(&before)
                .all(|(now, before)| now.load(Ordering::SeqCst) >= before + 8);
            Ok(all.then_some(()))
        })
        .await
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// As the library's migration makes it: a row trigger that calls the function for all tables.
const LIBRARY: &str =
    "create or replace trigger threadline_audit_items after insert or update or delete on items
     for each row execute function threadline_capture_changes('id')";

/// The same of a table with something to hide, in the shape of the library's: three statements a row, with the writer's rights.
const LIBRARY_REDACTING: &str = "create or replace function threadline_capture_changes_items() returns trigger language plpgsql as $$
     declare
         recorded uuid;
         shown    jsonb;
         changed  text[];
         key      text;
     begin
         insert into audit_transactions (id, txid, occurred_at, actor_ref)
         values (gen_random_uuid(), txid_current(), clock_timestamp(), nullif(current_setting('threadline.actor_ref', true), '')::jsonb)
         on conflict (txid) do nothing;
         select t.id into recorded from audit_transactions t where t.txid = txid_current();
         if tg_op <> 'DELETE' then
             shown := to_jsonb(new) || '{\"secret\": \"***\"}';
             key := to_jsonb(new) ->> tg_argv[0];
         else
             key := to_jsonb(old) ->> tg_argv[0];
         end if;
         if tg_op = 'UPDATE' then
             changed := array(select n.key from jsonb_each(to_jsonb(new)) n where n.value is distinct from to_jsonb(old) -> n.key order by 1);
         end if;
         insert into audit_changes (id, transaction_id, table_schema, table_name, table_pk, op, data_after, changed_fields, captured_at)
         values (gen_random_uuid(), recorded, tg_table_schema, tg_table_name, jsonb_build_object(tg_argv[0], key), lower(tg_op), shown,
                 changed, clock_timestamp());
         return null;
     end $$;
     create or replace trigger threadline_audit_items after insert or update or delete on items
     for each row execute function threadline_capture_changes_items('id')";

async fn planned(connection: &mut PgConnection, policy: &Value) -> anyhow::Result<Vec<Capture>> {
    Ok(captures(connection, &[("items", policy.clone())]).await?)
}

/// Runs a migration beside the writers, as an operator does: it waits for locks for as long as it takes.
async fn migrate(connection: &mut PgConnection, writers: &mut Writers, sql: &str) -> anyhow::Result<()> {
    run(connection, sql).await.context("a migration")?;
    writers.go_on().await
}

/// Every change that was committed is recorded once, and no other.
async fn assert_each_once(connection: &mut PgConnection) -> anyhow::Result<()> {
    let (expected, recorded): (i64, i64) = sqlx::query_as(
        "select (select count(*) from expected), (select count(*) from audit_changes where table_name = 'items')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let differing: Vec<String> = sqlx::query_scalar(
        "with recorded as (select op, (table_pk ->> 'id')::bigint as id, (data_after ->> 'v')::bigint as v from audit_changes
                           where table_name = 'items')
         (select 'missing ' || e::text from (select * from expected except all select * from recorded) e limit 5)
         union all (select 'too many ' || r::text from (select * from recorded except all select * from expected) r limit 5)",
    )
    .fetch_all(connection)
    .await?;
    assert_eq!(differing, Vec::<String>::new(), "{expected} changes were committed, {recorded} recorded");
    assert!(expected > 0);
    Ok(())
}

async fn triggers(connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select tgname || ' ' || f.proname from pg_trigger t join pg_proc f on f.oid = t.tgfoid
         where tgrelid = 'items'::regclass and not tgisinternal order by 1",
    )
    .fetch_all(connection)
    .await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_from_the_elixir_library_and_its_roll_back_record_each_change_once() -> anyhow::Result<()> {
    let policies = [
        (LIBRARY, json!({})),
        (LIBRARY, json!({"level": "row"})),
        (LIBRARY_REDACTING, json!({"mask": ["secret"]})),
        (LIBRARY_REDACTING, json!({"mask": ["secret"], "level": "row"})),
    ];
    for (library, policy) in policies {
        let (database, mut connection) = host(TABLES).await?;
        run(&mut connection, library).await?;
        let before = triggers(&mut connection).await?;
        let mut writers = Writers::start(&database);
        writers.go_on().await?;
        let migration = Migration::new(&planned(&mut connection, &policy).await?, 1, Capture::is_rerun);
        for _ in 0..3 {
            migrate(&mut connection, &mut writers, &migration.up).await?;
            assert_ne!(triggers(&mut connection).await?, before);
            migrate(&mut connection, &mut writers, &migration.down).await?;
            assert_eq!(triggers(&mut connection).await?, before);
        }
        migrate(&mut connection, &mut writers, &migration.up).await?;
        writers.stop().await?;
        assert_each_once(&mut connection).await?;
        if policy.get("mask").is_some() {
            let told: i64 =
                sqlx::query_scalar("select count(*) from audit_changes c where c::text like '%hunter2%'")
                    .fetch_one(&mut connection)
                    .await?;
            assert_eq!(told, 0);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_way_back_to_the_elixir_library_records_each_change_once() -> anyhow::Result<()> {
    for (library, policy) in [(LIBRARY, json!({})), (LIBRARY_REDACTING, json!({"mask": ["secret"]}))] {
        let (database, mut connection) = host(TABLES).await?;
        let ours = Migration::new(&planned(&mut connection, &policy).await?, 1, Capture::is_rerun);
        run(&mut connection, &ours.up).await?;
        let mut writers = Writers::start(&database);
        writers.go_on().await?;
        let leave = Migration::to_library(&planned(&mut connection, &policy).await?, 2);
        migrate(&mut connection, &mut writers, &leave.up).await?;
        migrate(&mut connection, &mut writers, &leave.down).await?;
        migrate(&mut connection, &mut writers, &leave.up).await?;
        // The library's own migration, whenever it is run.
        migrate(&mut connection, &mut writers, library).await?;
        let ready = assert_ready(&mut connection, &StorageSchema::default(), &"items".parse()?).await?;
        assert!(!ready.records_truncate);
        let again = Migration::new(&planned(&mut connection, &policy).await?, 3, Capture::is_rerun);
        migrate(&mut connection, &mut writers, &again.up).await?;
        writers.stop().await?;
        assert_each_once(&mut connection).await?;
        let policies: i64 = sqlx::query_scalar("select count(*) from threadline_capture_policies")
            .fetch_one(&mut connection)
            .await?;
        assert_eq!(policies, 1);
    }
    Ok(())
}

#[tokio::test]
async fn the_librarys_migration_over_ours_is_found_and_repaired_in_either_direction() -> anyhow::Result<()> {
    for to_library in [true, false] {
        let (_database, mut connection) = host(TABLES).await?;
        let ours = Migration::new(&planned(&mut connection, &json!({})).await?, 1, Capture::is_rerun);
        run(&mut connection, &ours.up).await?;
        run(&mut connection, LIBRARY).await?;
        let table = "items".parse()?;
        let storage = StorageSchema::default();
        let Err(NotReady::Unready(found)) = assert_ready(&mut connection, &storage, &table).await else {
            panic!("updates are recorded twice")
        };
        assert_eq!(found[0].term, "duplicate_capture_trigger");
        let captures = planned(&mut connection, &json!({})).await?;
        let repair = if to_library {
            Migration::to_library(&captures, 2)
        } else {
            Migration::new(&captures, 2, Capture::is_rerun)
        };
        run(&mut connection, &repair.up).await?;
        assert_ready(&mut connection, &storage, &table).await?;
        connection
            .execute("insert into items (writer, v) values (1, 1); update items set v = 2; delete from items")
            .await?;
        let recorded: i64 =
            sqlx::query_scalar("select count(*) from audit_changes").fetch_one(&mut connection).await?;
        assert_eq!(recorded, 3);
    }
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_left_to_the_library_on_a_database_without_its_trigger_is_refused()
-> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    let ours = Migration::new(&planned(&mut connection, &json!({})).await?, 1, Capture::is_rerun);
    run(&mut connection, &ours.up).await?;
    run(&mut connection, LIBRARY).await?;
    let leave = Migration::to_library(&planned(&mut connection, &json!({})).await?, 2);
    // Elsewhere, where the library's migration has not been run.
    run(&mut connection, &ours.up).await?;
    let refused = run(&mut connection, &leave.up).await.unwrap_err().to_string();
    assert!(refused.contains("no row trigger captures public.items"), "{refused}");
    connection.execute("rollback").await?;
    assert_ready(&mut connection, &StorageSchema::default(), &"items".parse()?).await?;
    Ok(())
}

#[tokio::test]
async fn triggers_of_a_tables_earlier_name_go_when_it_is_captured_under_the_new_one() -> anyhow::Result<()> {
    let (_database, mut connection) = host(TABLES).await?;
    let ours = Migration::new(&planned(&mut connection, &json!({})).await?, 1, Capture::is_rerun);
    run(&mut connection, &ours.up).await?;
    connection.execute("alter table items rename to things").await?;
    let captures = captures(&mut connection, &[("things", json!({}))]).await?;
    run(&mut connection, &Migration::new(&captures, 1, Capture::is_rerun).up).await?;
    connection.execute("insert into things (writer, v) values (1, 1)").await?;
    let left: (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from audit_changes),
                (select count(*) from pg_proc where proname ~ '^threadline_capture_.*_items$'),
                (select count(*) from threadline_capture_policies where table_name = 'things')",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(left, (1, 0, 1));
    Ok(())
}
