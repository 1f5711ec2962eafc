//! The source moves: restored into another cluster, upgraded, failed over to a standby that lagged behind.

use common::outbox::{self, reader::rounds};
use end_to_end::{DEADLINE, OwnedServer, Pipeline, address, samples};
use sandbox::{
    fixture::{self, TestDatabase},
    postgres::{Postgres, Stop},
    proxy::Proxy,
    rights,
    work_dir::WorkDir,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

const REFUSED: &str = "run `publisher rebase`";

/// A cluster of its own for the source.
fn cluster() -> anyhow::Result<OwnedServer<Postgres>> {
    let work_dir = WorkDir::create()?;
    Ok(OwnedServer { server: Postgres::start(&work_dir, false)?, work_dir })
}

/// Uses up transaction ids, as years of work do.
async fn burn(connection: &mut PgConnection, count: u32) -> anyhow::Result<()> {
    let burn = format!(
        "do $$ begin for i in 1..{count} loop perform pg_current_xact_id(); commit; end loop; end $$"
    );
    connection.execute(AssertSqlSafe(burn)).await?;
    Ok(())
}

/// The highest transaction id of the log.
async fn last_xid(connection: &mut PgConnection) -> anyhow::Result<u64> {
    let xid = "select e.xid::text from outbox.entries e order by e.xid desc limit 1";
    Ok(sqlx::query_scalar::<_, String>(xid).fetch_one(connection).await?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_restored_into_another_cluster_continues_after_a_rebase() -> anyhow::Result<()> {
    let (old, new) = (cluster()?, cluster()?);
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = fixture::source_database_on(&old.server, "app").await?;
    let mut publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    // Of ids that the new cluster has passed already, when it is restored, and of ids it will reach after years.
    let (rows, delivered) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&delivered).await?;
    let mut application = pipeline.source.connect().await?;
    burn(&mut application, 20_000).await?;
    let (rows, also_delivered) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&also_delivered).await?;
    pipeline.settled("timeline").await?;
    publisher.terminate(DEADLINE)?;
    consumer.terminate(DEADLINE)?;
    let (rows, mut ids) = samples(20);
    pipeline.commit(&rows).await?;
    let before = last_xid(&mut application).await?;

    // The new cluster is a little ahead of the old one's beginning.
    let mut elsewhere = PgConnection::connect(&new.server.url("postgres")).await?;
    burn(&mut elsewhere, 500).await?;
    let dumped = rights::as_superuser(&pipeline.source.url);
    pipeline.source = TestDatabase::of_owner(&new.server.restore(&dumped, "app").await?);
    pipeline.source.hand_over().await?;
    let (rows, mut committed_here) = samples(20);
    pipeline.commit(&rows).await?;
    ids.append(&mut committed_here);
    let mut application = pipeline.source.connect().await?;
    let (past, future): (i64, i64) = sqlx::query_as(
        "select count(*) filter (where xid < pg_snapshot_xmax(pg_current_snapshot())),
                count(*) filter (where xid >= pg_snapshot_xmax(pg_current_snapshot())) from outbox.entries",
    )
    .fetch_one(&mut application)
    .await?;
    assert_eq!((past, future), (40, 40), "restored with old ids, and written under new and lower ones");

    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done && said.contains("references of another source") && said.contains(REFUSED), "{said}");
    }
    // A broker that knows nothing of the source is no way around it.
    let fresh = ["--set", "broker.stream=FRESH_OF_A_RESTORE", "--set", "broker.subject=fresh.of.a.restore"];
    let (done, said) = pipeline.command("publisher", &[&["run"], &fresh[..]].concat())?;
    assert!(!done && said.contains("transaction ids mean nothing here") && said.contains(REFUSED), "{said}");

    let (done, said) = pipeline.command("publisher", &["rebase", "--json"])?;
    assert!(done, "{said}");
    let answer: Value = serde_json::from_str(&said)?;
    assert_eq!((&answer["readers"], &answer["entries"]), (&1.into(), &40.into()));
    assert!(
        answer["stream_of"].as_str().is_some_and(|theirs| theirs.ends_with("public.audit_events")),
        "{answer}"
    );
    let acts: Vec<(String, i64)> =
        sqlx::query_as("select kind, count from outbox.acts order by id").fetch_all(&mut application).await?;
    assert_eq!(acts, [("rebase".to_owned(), 40), ("rebase".to_owned(), 0)], "the positions, and the stream");
    let (done, said) = pipeline.command("publisher", &["rebase"])?;
    assert!(!done && said.contains("there is nothing to rebase"), "{said}");

    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, mut after) = samples(20);
    pipeline.commit(&rows).await?;
    ids.append(&mut after);
    pipeline.arrive(&ids).await?;
    assert!(last_xid(&mut application).await? < before, "the new cluster counts from far below");
    pipeline.settled("timeline").await?;
    let verdict = pipeline.verdict().await?;
    assert!(verdict.holds() && verdict.committed == 80 + 20, "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebase_that_did_not_reach_the_stream_is_finished_by_the_next_one() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    publisher.terminate(DEADLINE)?;
    // Only its name changes, and so does what the stream calls it; the positions are this cluster's.
    let renamed = format!("{}_renamed", pipeline.source.name());
    let rename = format!("alter database {} rename to {renamed}", pipeline.source.name());
    pipeline.timeline.superuser().await?.execute(AssertSqlSafe(rename)).await?;
    pipeline.source = TestDatabase { url: pipeline.source.url.replace(&pipeline.source.name(), &renamed) };
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains(REFUSED), "{said}");
    let (done, said) = pipeline.command("publisher", &["rebase", "--json"])?;
    assert!(done, "{said}");
    let taken = serde_json::from_str::<Value>(&said)?["stream_of"].clone();
    assert!(taken.as_str().is_some_and(|theirs| theirs.ends_with("public.audit_events")), "{said}");
    let acts: i64 = sqlx::query_scalar("select count(*) from outbox.acts where kind = 'rebase'")
        .fetch_one(&mut pipeline.source.connect().await?)
        .await?;
    assert_eq!(acts, 1);
    let (done, said) = pipeline.command("publisher", &["rebase"])?;
    assert!(!done && said.contains("there is nothing to rebase"), "{said}");
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 1, "nothing was published again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_cluster_continues_where_it_was_and_publishes_nothing_again() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let (rows, _) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.references(20).await?;
    publisher.terminate(DEADLINE)?;
    let mut source = pipeline.source.connect().await?;
    // As `pg_upgrade` leaves it, seen from the other side.
    source.execute("update outbox.rounds set system_identifier = 7").await?;
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("after pg_upgrade, `publisher rebase --upgraded`"), "{said}");
    let upgraded = ["rebase", "--upgraded", "--json"];
    let (done, said) = pipeline.command("publisher", &upgraded)?;
    assert!(done, "{said}");
    assert_eq!(serde_json::from_str::<Value>(&said)?["entries"], 0);

    let _publisher = pipeline.publisher()?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&ids).await?;
    let last = pipeline.stream().await?.cached_info().state.last_sequence;
    assert_eq!(last, 2, "what was published before was not published again");
    assert_eq!(pipeline.generation().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_is_not_taken_for_an_upgraded_one() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut source = pipeline.source.session().await?;
    let identifier = outbox::system_identifier(&mut source).await?;
    rounds::head(&mut source, "jetstream", identifier).await?;
    let far = "update outbox.rounds set system_identifier = 7, s = '900000000:900000000:', t = '900000000:900000000:'";
    source.execute(far).await?;
    let (done, said) = pipeline.command("publisher", &["rebase", "--upgraded"])?;
    assert!(!done && said.contains("so this is no upgraded cluster"), "{said}");
    let stored: i64 =
        sqlx::query_scalar("select max(system_identifier) from outbox.rounds").fetch_one(&mut source).await?;
    assert_eq!(stored, 7, "nothing is half done");
    Ok(())
}

/// What the new primary never had is the documented exception: it was published before anybody could know.
#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_to_a_standby_that_lagged_loses_nothing_of_what_the_new_primary_has() -> anyhow::Result<()>
{
    let mut primary = cluster()?;
    let mut pipeline = Pipeline::new().await?;
    let direct = fixture::source_database_on(&primary.server, "app").await?;
    let proxy = Proxy::start(address(&direct.url)?).await?;
    pipeline.source.url = format!("postgres://{}@{}/app", rights::OWNER, proxy.address());
    let mut standby = primary.server.standby(&primary.work_dir, "standby")?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, kept) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&kept).await?;
    primary.server.await_replay(&standby).await?;

    standby.stop(Stop::Fast)?;
    let mut lost = Vec::new();
    for _ in 0..20 {
        let (rows, mut some) = samples(1);
        pipeline.commit(&rows).await?;
        lost.append(&mut some);
    }
    pipeline.arrive(&lost).await?;
    let reached = last_xid(&mut pipeline.source.connect().await?).await?;
    primary.server.stop(Stop::Kill)?;
    standby.restart()?;
    standby.promote().await?;
    let promoted = TestDatabase::of_owner(&standby.url("app"));
    proxy.aim(address(&promoted.url)?);

    let mut ids = Vec::new();
    let mut first = None;
    for _ in 0..40 {
        let (rows, mut some) = samples(1);
        pipeline.commit(&rows).await?;
        ids.append(&mut some);
        if first.is_none() {
            first = Some(last_xid(&mut promoted.connect().await?).await?);
        }
    }
    assert!(
        first < Some(reached),
        "ids of lost transactions are handed out again: {first:?} after {reached}"
    );
    pipeline.arrive(&ids).await?;
    pipeline.arrive(&kept).await?;
    let verdict = pipeline.verdict().await?;
    assert_eq!((verdict.missing, verdict.twice), (0, 0), "{verdict}");
    assert_eq!((verdict.committed, verdict.foreign), (60, lost.len()), "{verdict}");
    pipeline.charges_nobody().await?;
    Ok(())
}
