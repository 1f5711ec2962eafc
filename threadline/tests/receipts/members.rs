//! Every committed row is in exactly one receipt, and nothing else is.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{Action, ActorRef, ActorType, StorageSchema, receipts::Trust};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Host, terms};

/// Transactions of each writer; and how many of them there are, at most, before another receipt.
const ROUNDS: u32 = 40;
const ROUNDS_OF_RECEIPT: u32 = 5;

const DEADLINE: Duration = Duration::from_secs(120);

/// Leaves by kind and id, each with how often it is there.
async fn sealed(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<(i32, Uuid), i64>> {
    let rows: Vec<(i32, Uuid, i64)> = sqlx::query_as(
        "select get_byte(leaves, i * 49), encode(substring(leaves from i * 49 + 2 for 16), 'hex')::uuid, count(*)
         from threadline_receipt_leaves cross join generate_series(0, octet_length(leaves) / 49 - 1) i group by 1, 2",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(kind, id, count)| ((kind, id), count)).collect())
}

async fn committed(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<(i32, Uuid), i64>> {
    let rows: Vec<(i32, Uuid)> = sqlx::query_as(
        "select 1, id from audit_transactions union all select 2, id from audit_changes
         union all select 3, id from audit_actions where correlation_id is distinct from id::text",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row, 1)).collect())
}

/// A transaction of some kind: short, long, rolled back, with savepoints, large, with an action alone, or with an event.
async fn write(connection: &mut PgConnection, kind: u32) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await?;
    let statements = match kind % 8 {
        0 => "insert into t (v) values (1)",
        1 => "insert into t (v) select n from generate_series(1, 5) n; update t set v = v + 1 where id = (select max(id) from t)",
        2 => {
            "savepoint first; insert into t (v) values (2); savepoint s; insert into t (v) values (3); rollback to s;
             insert into t (v) values (4); savepoint action; insert into audit_actions (name, actor_ref, status) values ('a.c', '{}', 'ok');
             rollback to action"
        }
        3 => {
            transaction.execute("insert into t (v) values (5)").await?;
            return Ok(transaction.rollback().await?);
        }
        4 => {
            let actor = ActorRef::new(ActorType::User, Some("u1"))?;
            Action::new("a.b", actor).record(&mut transaction, &StorageSchema::default()).await?;
            return Ok(transaction.commit().await?);
        }
        5 => "insert into audit_actions (id, name, actor_ref, status, correlation_id) select i, 'e.f', '{}', 'ok', i::text from gen_random_uuid() i",
        6 => "savepoint s; insert into audit_actions (name, actor_ref, status) values ('a.d', '{}', 'ok'); release s; insert into t (v) values (6)",
        _ => "insert into t (v) select n from generate_series(1, 300) n",
    };
    transaction.execute(statements).await?;
    Ok(transaction.commit().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_row_is_in_exactly_one_receipt_however_writers_overlap() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    // They are open through many receipts: one has written within a savepoint alone.
    let mut held = host.database.connect().await?;
    held.execute("begin; insert into t (v) values (-1)").await?;
    let mut nested = host.database.connect().await?;
    nested.execute("begin; savepoint s; insert into t (v) values (-1); release s; savepoint s").await?;
    let mut never = host.database.connect().await?;
    never.execute("begin; insert into t (v) values (-1)").await?;
    let (sealed_so_far, receipts) = watch::channel(0);
    let writers: Vec<_> = (0..6_u32)
        .map(|writer| {
            let (database, mut receipts) = (host.database.clone(), receipts.clone());
            tokio::spawn(async move {
                let mut connection = database.connect().await?;
                for round in 0..ROUNDS {
                    // So that there are receipts in between, however slow they are beside the writers.
                    let enough = receipts.wait_for(|count| *count >= round / ROUNDS_OF_RECEIPT);
                    tokio::time::timeout(DEADLINE, enough).await??;
                    write(&mut connection, writer * 7 + round * 5 + round / 8).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    let have_ended = AtomicBool::new(false);
    let seals = async {
        while !have_ended.load(Ordering::Relaxed) {
            host.seal().await?;
            sealed_so_far.send_modify(|count| *count += 1);
        }
        anyhow::Ok(())
    };
    let until_written = async {
        for writer in writers {
            writer.await??;
        }
        have_ended.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(seals, until_written)?;
    assert!(*receipts.borrow() >= ROUNDS / ROUNDS_OF_RECEIPT - 1);
    host.seal().await?;
    for late in [&mut held, &mut nested] {
        late.execute("commit").await?;
        let receipt = host.seal().await?;
        assert_eq!(
            (receipt.transactions, receipt.changes),
            (1, 1),
            "what commits late is in the receipt after that"
        );
    }
    never.execute("rollback").await?;
    let nothing = host.seal().await?;
    assert_eq!((nothing.transactions, nothing.changes, nothing.actions), (0, 0, 0));
    let committed = committed(&mut host.connection).await?;
    assert!(committed.len() > 3_000, "{}", committed.len());
    assert_eq!(sealed(&mut host.connection).await?, committed);
    let found = host.verify(&Trust::nothing()).await?;
    assert_eq!(terms(&found), Vec::<String>::new(), "{:?}", found.faults.listed);
    assert_eq!(found.compared.rows(), committed.len() as u64);
    assert_eq!(found.pending.rows(), 0);
    Ok(())
}

#[tokio::test]
async fn that_nothing_happened_is_a_receipt() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let first = host.seal().await?;
    let second = host.seal().await?;
    assert_eq!((first.n, first.since, first.position_before.clone()), (1, None, None));
    assert_eq!((second.n, second.since), (2, Some(first.until)));
    assert_eq!(second.position_before, Some(first.position));
    assert_eq!(second.previous, first.hash);
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!((second.digest.as_str(), second.changes), (nothing, 0));
    assert_eq!(host.count("threadline_receipt_leaves").await?, 0);
    for found in host.both(&Trust::nothing()).await? {
        assert!(found.holds(), "{found:?}");
        assert_eq!((found.receipts, found.compared.rows()), (2, 0));
        assert_eq!(found.end.as_deref(), Some(second.hash.as_str()));
    }
    Ok(())
}

/// Whoever commits before a receipt's time is in it, or in one before.
#[tokio::test]
async fn what_was_committed_before_a_receipts_time_is_in_it() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v) values (1)").await?;
    let before = "audit_changes where captured_at < (select max(until) from threadline_receipts)";
    let receipt = host.seal().await?;
    host.run("insert into t (v) values (2)").await?;
    assert_eq!(host.count(before).await?, receipt.changes);
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    assert_eq!((found.compared.changes, found.pending.changes, found.pending.transactions), (1, 1, 1));
    Ok(())
}

#[tokio::test]
async fn events_that_the_pipeline_projects_are_in_no_receipt() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run(
        "insert into audit_actions (id, name, actor_ref, status, correlation_id)
         select i, 'auth.login', '{}', 'ok', i::text from (select gen_random_uuid() from generate_series(1, 10)) g (i);
         insert into audit_actions (name, actor_ref, status, correlation_id) values ('a.b', '{}', 'ok', 'c1'), ('a.b', '{}', 'ok', null)",
    )
    .await?;
    assert_eq!(host.seal().await?.actions, 2);
    host.run("update audit_actions set comment = 'rewritten' where name = 'auth.login'").await?;
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    assert_eq!(found.compared.actions, 2);
    Ok(())
}

/// More than one part of leaves, in each kind.
#[tokio::test]
async fn a_receipt_of_many_rows_has_parts() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run(
        "insert into t (v) select n from generate_series(1, 9000) n;
         insert into audit_actions (name, actor_ref, status) select 'a.b', '{}', 'ok' from generate_series(1, 5000)",
    )
    .await?;
    let receipt = host.seal().await?;
    assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (1, 9000, 5000));
    assert_eq!(host.count("threadline_receipt_leaves").await?, 4);
    assert_eq!(host.count("threadline_receipt_leaves where octet_length(leaves) = 4096 * 49").await?, 3);
    for found in host.both(&Trust::nothing()).await? {
        assert!(found.holds(), "{found:?}");
        assert_eq!(found.compared.rows(), 14_001);
    }
    Ok(())
}

/// As a restore leaves them: numbers that this cluster gives out next, in rows that the first receipt has.
#[tokio::test]
async fn numbers_of_another_cluster_are_sealed_once() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let next: i64 = sqlx::query_scalar("select txid_current()").fetch_one(&mut host.connection).await?;
    let restored = format!(
        "insert into audit_transactions (txid, occurred_at) select {next} + n, '2020-01-01Z' from generate_series(2, 60) n;
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
         select id, 'public', 't', '{{}}', 'insert' from audit_transactions;
         insert into audit_actions (name, actor_ref, status, txid) select 'old', '{{}}', 'ok', {next} + n from generate_series(2, 60) n"
    );
    host.connection.execute(AssertSqlSafe(restored)).await?;
    assert_eq!(host.seal().await?.changes, 59);
    for _ in 0..80 {
        host.run("insert into t (v) values (1)").await?;
        let receipt = host.seal().await?;
        assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (1, 1, 0));
    }
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    Ok(())
}
