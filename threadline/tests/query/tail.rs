//! Whoever follows the timeline gets everything that is committed, once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::{
    Action, ActorRef, ActorType, StorageSchema, Timeline,
    query::{Entry, Filter, Position, Rule, Scope, Tail},
};
use uuid::Uuid;

use super::{Read, capture};

const HOST: &str = "create table t (id bigint generated always as identity primary key, v int, tenant text)";

async fn host() -> anyhow::Result<Read> {
    let mut read = Read::after(HOST).await?;
    capture(&mut read.connection, &[("t", json!({}))]).await?;
    Ok(read)
}

/// Everything that is new at this moment.
async fn drain(tail: &mut Tail, seen: &mut BTreeMap<Uuid, u32>) -> anyhow::Result<usize> {
    let mut count = 0;
    loop {
        let batch = tail.poll().await?;
        if batch.entries.is_empty() {
            return Ok(count);
        }
        count += batch.entries.len();
        for entry in &batch.entries {
            *seen.entry(entry.id()).or_default() += 1;
        }
    }
}

fn ops(entries: &[Entry]) -> Vec<String> {
    let op = |entry: &Entry| match entry {
        Entry::Change(change) => change.op.clone(),
        Entry::Action(_) | Entry::Event(_) => "action".to_owned(),
    };
    entries.iter().map(op).collect()
}

async fn committed(connection: &mut PgConnection) -> anyhow::Result<BTreeMap<Uuid, u32>> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from audit_changes union all select id from audit_actions")
            .fetch_all(connection)
            .await?;
    Ok(ids.into_iter().map(|id| (id, 1)).collect())
}

/// A transaction of some kind: short, long, rolled back, with a savepoint, large, or with an action alone.
async fn write(connection: &mut PgConnection, kind: u32) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await?;
    let statements = match kind % 6 {
        0 => "insert into t (v) values (1)",
        1 => {
            "insert into t (v) select n from generate_series(1, 5) n; update t set v = v + 1 where id = (select max(id) from t)"
        }
        2 => {
            "savepoint first; insert into t (v) values (2); savepoint s; insert into t (v) values (3); rollback to s;
             insert into t (v) values (4)"
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
        _ => "insert into t (v) select n from generate_series(1, 700) n",
    };
    transaction.execute(statements).await?;
    Ok(transaction.commit().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_equals_what_is_committed_however_writers_overlap() -> anyhow::Result<()> {
    let read = host().await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    let mut seen = BTreeMap::new();
    // They are open through everything, and commit when all others have: one has written within a savepoint alone.
    let mut held = read.database.connect().await?;
    held.execute("begin; insert into t (v) values (-1)").await?;
    let mut nested = read.database.connect().await?;
    nested.execute("begin; savepoint s; insert into t (v) values (-1); release s; savepoint s").await?;
    let mut writers = Vec::new();
    for writer in 0..6 {
        let database = read.database.clone();
        writers.push(tokio::spawn(async move {
            let mut connection = database.connect().await?;
            for round in 0..40 {
                write(&mut connection, writer * 7 + round * 5 + round / 6).await?;
            }
            anyhow::Ok(())
        }));
    }
    let have_ended = AtomicBool::new(false);
    let follow = async {
        while !have_ended.load(Ordering::Relaxed) {
            drain(&mut tail, &mut seen).await?;
        }
        anyhow::Ok(())
    };
    let write = async {
        for writer in writers {
            writer.await??;
        }
        have_ended.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(follow, write)?;
    drain(&mut tail, &mut seen).await?;
    let before = seen.len();
    for late in [&mut held, &mut nested] {
        late.execute("commit").await?;
        assert_eq!(drain(&mut tail, &mut seen).await?, 1, "what commits late is new then");
    }
    assert_eq!(seen.len(), before + 2);
    let committed = committed(&mut held).await?;
    assert!(committed.len() > 5_000, "{}", committed.len());
    assert_eq!(seen, committed);
    Ok(())
}

#[tokio::test]
async fn a_tail_waits_and_goes_on_from_where_another_one_was() -> anyhow::Result<()> {
    let mut read = host().await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    let waiting = tokio::spawn(async move {
        let batch = tail.next().await?;
        Ok::<_, threadline::query::ReadError>((batch, tail))
    });
    read.connection.execute("insert into t (v) values (1)").await?;
    let (batch, tail) = tokio::time::timeout(Duration::from_secs(30), waiting).await???;
    assert_eq!(batch.entries.len(), 1);
    let kept = tail.position().to_string();
    read.connection.execute("insert into t (v) values (2); insert into t (v) values (3)").await?;
    let mut other = read.reader().tail_from(&Filter::default(), kept.parse::<Position>()?)?;
    let batch = other.poll().await?;
    assert_eq!(batch.entries.len(), 2);
    for text in ["1:2~3", "1:9223372036854775807:~1", "10:20:25~1", "-5:-3:~1", "10:20:15,12~1"] {
        assert!(text.parse::<Position>().is_err(), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_tail_shows_what_filter_and_scope_let_through() -> anyhow::Result<()> {
    let mut read = host().await?;
    let mut deletes = read.reader().tail(&"op:delete".parse()?).await?;
    let mut of_table = read.reader().tail(&"table:other".parse()?).await?;
    let rule = Rule::Column { name: "tenant".to_owned(), value: "a".to_owned() };
    let tenant = read.timeline.reader(Scope::nothing().changes(rule));
    let mut tenant = tenant.tail(&Filter::default()).await?;
    let mut nothing = read.timeline.reader(Scope::nothing()).tail(&Filter::default()).await?;
    read.connection
        .execute("insert into t (v, tenant) values (1, 'a'), (2, 'b'), (3, null); update t set tenant = 'a' where v = 2; delete from t where v <> 1")
        .await?;
    read.timeline.record(Action::new("a.b", ActorRef::anonymous())).await?;
    assert_eq!(ops(&deletes.poll().await?.entries), ["delete", "delete"]);
    assert!(of_table.poll().await?.entries.is_empty());
    // A row that came from elsewhere was not the tenant's before.
    assert_eq!(ops(&tenant.poll().await?.entries), ["insert", "delete"]);
    assert!(nothing.poll().await?.entries.is_empty());
    Ok(())
}

/// The changes have been read when the table of actions cannot be.
#[tokio::test]
async fn of_much_that_is_new_the_newest_is_read_and_none_of_it_comes_again() -> anyhow::Result<()> {
    let mut read = host().await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    for value in 1..=5 {
        let insert = format!("insert into t (v) values ({value})");
        read.connection.execute(AssertSqlSafe(insert)).await?;
    }
    write(&mut read.connection, 4).await?;
    let in_order: Vec<Uuid> = sqlx::query_scalar(
        "select id from (select c.id, t.txid from audit_changes c join audit_transactions t on t.id = c.transaction_id
                         union all select id, txid from audit_actions) rows order by txid",
    )
    .fetch_all(&mut read.connection)
    .await?;
    assert_eq!(in_order.len(), 6);
    let ids = |entries: &[Entry]| entries.iter().map(Entry::id).collect::<Vec<_>>();
    let mut all = tail.clone();
    let newest = tail.newest(3).await?;
    assert_eq!((ids(&newest.entries), newest.has_more), (in_order[3..].to_vec(), true));
    let newest = all.newest(6).await?;
    assert_eq!((ids(&newest.entries), newest.has_more), (in_order, false));
    let newest = tail.newest(3).await?;
    assert_eq!((newest.entries.len(), newest.has_more), (0, false));
    write(&mut read.connection, 0).await?;
    let newest = tail.newest(3).await?;
    assert_eq!(ops(&newest.entries), ["insert"]);
    assert!(!newest.has_more);
    Ok(())
}

#[tokio::test]
async fn what_was_read_before_an_error_comes_again() -> anyhow::Result<()> {
    let mut read = host().await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    read.connection.execute("insert into t (v) values (1), (2)").await?;
    read.connection.execute("alter table audit_actions rename column reason to another").await?;
    assert!(tail.poll().await.is_err());
    read.connection.execute("alter table audit_actions rename column another to reason").await?;
    assert_eq!(tail.poll().await?.entries.len(), 2);
    assert!(tail.poll().await?.entries.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_long_transaction_brings_hides_nothing_that_is_newer() -> anyhow::Result<()> {
    let mut read = host().await?;
    let mut held = read.database.connect().await?;
    held.execute("begin; insert into t (v) select -1 from generate_series(1, 10)").await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    let mut all = tail.clone();
    read.connection.execute("insert into t (v) values (1)").await?;
    // More transactions than the first look goes back.
    for _ in 0..300 {
        read.connection.execute("select pg_current_xact_id()").await?;
    }
    read.connection.execute("insert into t (v) values (2)").await?;
    held.execute("commit").await?;
    let values = |entries: &[Entry]| {
        let value = |entry: &Entry| match entry {
            Entry::Change(change) => change.data_after.as_ref().map(|after| after.get().to_owned()),
            _ => None,
        };
        let row = |entry| serde_json::from_str::<serde_json::Value>(&value(entry).unwrap_or_default());
        entries.iter().map(|entry| row(entry).unwrap()["v"].to_string()).collect::<Vec<_>>()
    };
    let newest = tail.newest(4).await?;
    assert_eq!(
        (values(&newest.entries), newest.has_more),
        (["-1", "-1", "1", "2"].map(str::to_owned).to_vec(), true)
    );
    let newest = all.newest(12).await?;
    assert_eq!((newest.entries.len(), newest.has_more), (12, false));
    Ok(())
}

/// As after a restore: numbers that this cluster gives out next.
#[tokio::test]
async fn transactions_of_another_cluster_are_never_new() -> anyhow::Result<()> {
    let mut read = host().await?;
    let next: i64 = sqlx::query_scalar("select txid_current()").fetch_one(&mut read.connection).await?;
    let restored = format!(
        "insert into audit_transactions (txid, occurred_at) select {next} + n, '2020-01-01Z' from generate_series(2, 400) n;
         insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op)
         select id, 'public', 't', '{{}}', 'insert' from audit_transactions;
         insert into audit_actions (name, actor_ref, status, txid) select 'old', '{{}}', 'ok', {next} + n from generate_series(2, 400) n"
    );
    read.connection.execute(AssertSqlSafe(restored)).await?;
    let mut tail = read.reader().tail(&Filter::default()).await?;
    // Its own transactions run through these numbers.
    let mut seen = BTreeMap::new();
    for _ in 0..300 {
        read.connection.execute("insert into t (v) values (1)").await?;
        drain(&mut tail, &mut seen).await?;
    }
    assert_eq!(seen.len(), 300);
    assert!(seen.values().all(|times| *times == 1));
    Ok(())
}

#[tokio::test]
async fn a_tail_says_that_the_projection_was_rebuilt_and_repeats_nothing_of_it() -> anyhow::Result<()> {
    let mut read = host().await?;
    for _ in 0..3 {
        read.timeline.record(Action::new("a.b", ActorRef::anonymous())).await?;
    }
    let mut tail = read.reader().tail(&Filter::default()).await?;
    let mut newest = [tail.clone(), read.reader().tail(&"table:t".parse()?).await?];
    read.connection
        .execute(
            "begin; alter table audit_actions rename to replaced;
             create table audit_actions (like replaced including all); insert into audit_actions select * from replaced; commit",
        )
        .await?;
    let batch = tail.poll().await?;
    assert!(batch.was_rebuilt && batch.entries.is_empty(), "{batch:?}");
    for (tail, may_miss) in newest.iter_mut().zip([true, false]) {
        let newest = tail.newest(3).await?;
        assert_eq!((newest.entries.len(), newest.has_more), (0, may_miss), "changes are all there");
    }
    read.timeline.record(Action::new("a.c", ActorRef::anonymous())).await?;
    let batch = tail.poll().await?;
    assert!(!batch.was_rebuilt && batch.entries.len() == 1, "{batch:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_of_a_long_absence_are_found_however_rare_they_are() -> anyhow::Result<()> {
    let mut read = host().await?;
    let filter: Filter = "table:public.t".parse()?;
    let mut first = read.reader().tail(&filter).await?;
    let (mut second, mut third) = (first.clone(), read.reader().tail(&filter).await?);
    for v in 1..=3 {
        read.connection.execute(AssertSqlSafe(format!("insert into t (v) values ({v})"))).await?;
    }
    // More transactions than the first look goes back.
    for _ in 0..300 {
        read.connection.execute("select pg_current_xact_id()").await?;
    }
    let ids = |entries: &[Entry]| entries.iter().map(Entry::id).collect::<Vec<_>>();
    let newest = first.newest(2).await?;
    assert!(newest.has_more && ops(&newest.entries) == ["insert", "insert"], "{newest:?}");
    let all = second.newest_up_to(first.position(), 3).await?;
    assert!(!all.has_more && ids(&all.entries)[1..] == ids(&newest.entries), "{all:?}");
    assert_eq!(second.position(), first.position());
    assert!(first.newest(2).await?.entries.is_empty(), "nothing comes twice");

    // Nobody goes back to where another one is.
    let early = third.position().clone();
    assert_eq!(third.newest(3).await?.entries.len(), 3);
    let at = third.position().clone();
    assert!(third.newest_up_to(&early, 3).await?.entries.is_empty());
    assert_eq!(third.position(), &at);
    Ok(())
}

/// Such as the changes of one transaction that wrote millions: who tried that again and again would never get past it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_found_in_time_is_passed_and_said_to_be_more() -> anyhow::Result<()> {
    let mut read = host().await?;
    let options: PgConnectOptions = read.database.url.parse()?;
    let pool = PgPoolOptions::new().connect_lazy_with(options.options([("statement_timeout", "300ms")]));
    let reader = Timeline::new(pool, StorageSchema::default()).reader(Scope::everything());
    let mut tail = reader.tail(&Filter::default()).await?;
    read.connection.execute("insert into t (v) values (1)").await?;
    read.connection.execute("begin; lock table audit_changes in access exclusive mode").await?;
    let newest = tail.newest(3).await?;
    assert!(newest.has_more && newest.entries.is_empty(), "{newest:?}");
    read.connection.execute("commit; insert into t (v) values (2)").await?;
    let newest = tail.newest(3).await?;
    assert!(!newest.has_more && ops(&newest.entries) == ["insert"], "{newest:?}");
    Ok(())
}
