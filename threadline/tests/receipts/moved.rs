//! A timeline that moves: restored into another cluster, renamed, rebuilt, read on a standby.

use sandbox::{
    fixture::{TestDatabase, timeline_database_on},
    postgres::Postgres,
    rights::as_superuser,
    work_dir::WorkDir,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use threadline::{
    StorageSchema, Timeline,
    receipts::{ReceiptError, Trust, seal},
    shadow::{Shadow, State},
};

use super::{Host, terms};

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_restored_into_another_cluster_goes_on_with_its_chain() -> anyhow::Result<()> {
    let work_dirs = [WorkDir::create()?, WorkDir::create()?];
    let [old, new] = [Postgres::start(&work_dirs[0], false)?, Postgres::start(&work_dirs[1], false)?];
    let mut host = Host::of(timeline_database_on(&old, "app").await?).await?;
    // Numbers that the new cluster gives out later, or has given out.
    for _ in 0..50 {
        host.run("insert into t (v) values (1)").await?;
    }
    let first = host.seal().await?;
    host.run("insert into t (v) values (2); insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')").await?;
    let url = new.restore(&as_superuser(&host.database.url), "app").await?;
    let mut moved = Host::at(TestDatabase::of_owner(&url)).await?;
    let found = moved.verify(&Trust::nothing().kept(Some(first.hash.clone()))).await?;
    assert!(found.holds() && found.is_elsewhere, "{found:?}");
    assert_eq!((found.compared.changes, found.pending.changes, found.pending.actions), (50, 1, 1));
    moved.run("insert into t (v) values (3)").await?;
    let sealed = seal(&moved.timeline, None, |_| {}).await?;
    assert!(sealed.is_elsewhere);
    let second = sealed.receipt;
    assert_ne!(second.database, first.database);
    assert_eq!((second.n, second.transactions, second.changes, second.actions), (2, 2, 2, 1));
    for _ in 0..50 {
        moved.run("insert into t (v) values (4)").await?;
        let receipt = moved.seal().await?;
        assert_eq!((receipt.transactions, receipt.changes, receipt.actions), (1, 1, 0));
    }
    for found in moved.both(&Trust::nothing().kept(Some(first.hash))).await? {
        assert!(found.holds() && !found.is_elsewhere, "{found:?}");
        assert_eq!(found.compared.changes, 102);
    }
    // Where it came from, the chain is another one.
    let found = host.verify(&Trust::nothing().kept(Some(second.hash))).await?;
    assert_eq!(terms(&found), ["chain_cut"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_seals_nothing() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let primary = Postgres::start(&work_dir, false)?;
    let host = Host::of(timeline_database_on(&primary, "app").await?).await?;
    host.seal().await?;
    let standby = primary.standby(&work_dir, "standby")?;
    primary.await_replay(&standby).await?;
    let pool = sqlx::PgPool::connect(&standby.url("app")).await?;
    let timeline = Timeline::new(pool, StorageSchema::default());
    for refused in [
        seal(&timeline, None, |_| {}).await.map(drop).unwrap_err(),
        threadline::receipts::verify(&timeline, &Trust::nothing(), |_| {}).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(refused, ReceiptError::Read(_)), "{refused:?}");
        assert_eq!(refused.term(), Some("standby"));
    }
    Ok(())
}

/// A database that was renamed is another one by its name; what was sealed is not sealed again.
#[tokio::test]
async fn a_database_that_was_renamed_goes_on_with_its_chain() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into t (v) values (1)").await?;
    host.seal().await?;
    host.run("insert into t (v) values (2)").await?;
    let (name, url) = (host.database.name(), host.database.url.clone());
    let Host { connection, timeline, .. } = host;
    connection.close().await?;
    timeline.pool().close().await;
    let mut server = PgConnection::connect(&as_superuser(&url).replace(&name, "postgres")).await?;
    server.execute(AssertSqlSafe(format!("alter database {name} rename to {name}_later"))).await?;
    let renamed = Host::at(TestDatabase::of_owner(&url.replace(&name, &format!("{name}_later")))).await?;
    let sealed = seal(&renamed.timeline, None, |_| {}).await?;
    assert!(sealed.is_elsewhere);
    assert_eq!((sealed.receipt.transactions, sealed.receipt.changes), (1, 1));
    let found = renamed.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    Ok(())
}

/// The second table has the host's actions with their numbers, and writes events again.
#[tokio::test]
async fn a_rebuild_of_the_projection_seals_nothing_twice() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    let schema = StorageSchema::default();
    let action = "insert into audit_actions (name, actor_ref, status) values ('a.b', '{}', 'ok')";
    let event = "insert into audit_actions (id, name, actor_ref, status, correlation_id) select i, 'e.f', '{}', 'ok', i::text from gen_random_uuid() i";
    host.run(format!("{action}; {event}; {action}")).await?;
    assert_eq!(host.seal().await?.actions, 2);
    host.run(format!("{action}; {event}")).await?;
    let shadow = Shadow::of(&schema);
    shadow.create(&mut host.connection).await?;
    shadow.carry_over(&mut host.connection).await?;
    for index in shadow.lacking_indexes(&mut host.connection).await? {
        shadow.build_index(&mut host.connection, &index).await?;
    }
    let mut beside = host.database.connect().await?;
    beside.execute(action).await?;
    let mut carrying = host.database.connect().await?;
    let mut last = async || {
        shadow.carry_over(&mut carrying).await?;
        Ok(())
    };
    shadow.swap(&mut host.connection, State::Filling, &mut last).await?;
    host.run(action).await?;
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    assert_eq!((found.compared.actions, found.pending.actions), (2, 3));
    assert_eq!(host.seal().await?.actions, 3);
    shadow.swap(&mut host.connection, State::Kept, &mut last).await?;
    assert_eq!(host.seal().await?.actions, 0);
    let found = host.verify(&Trust::nothing()).await?;
    assert!(found.holds(), "{found:?}");
    Ok(())
}

/// Whoever copies the table by hand gives its rows numbers of their own: what is in a leaf is not new.
#[tokio::test]
async fn a_table_of_actions_that_somebody_has_copied_is_not_sealed_again() -> anyhow::Result<()> {
    let mut host = Host::new().await?;
    host.run("insert into audit_actions (name, actor_ref, status) select 'a.b', '{}', 'ok' from generate_series(1, 5)").await?;
    host.seal().await?;
    host.run(
        "begin; alter table audit_actions rename to replaced; alter table audit_transactions drop constraint audit_transactions_action_id_fkey;
         create table audit_actions (like replaced including all);
         insert into audit_actions (id, name, actor_ref, status, inserted_at) select id, name, actor_ref, status, inserted_at from replaced;
         insert into audit_actions (name, actor_ref, status) values ('a.c', '{}', 'ok'); commit",
    )
    .await?;
    assert_eq!(host.seal().await?.actions, 1);
    // That their numbers are others is a change all the same.
    let found = host.verify(&Trust::nothing()).await?;
    assert_eq!(terms(&found), ["row_changed"; 5]);
    Ok(())
}
