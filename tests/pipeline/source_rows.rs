//! Rows that an application changes, removes, doubles or brings in sideways: what becomes of each, and what a comparison says.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::wait;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use uuid::Uuid;

/// Two rows delivered, one changed behind it by `change`, where `ID` is its id; what a comparison says then: missing, extra and
/// differing.
async fn after(change: &str) -> anyhow::Result<(Pipeline, Vec<Uuid>, [i64; 3])> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let (rows, ids) = samples(2);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let change = change.replace("ID", &ids[0].to_string());
    pipeline.source.connect().await?.execute(AssertSqlSafe(change)).await?;
    let counted = counted(&pipeline).await?;
    Ok((pipeline, ids, counted))
}

/// When nothing is on its way any more.
async fn counted(pipeline: &Pipeline) -> anyhow::Result<[i64; 3]> {
    let found: Value = wait::until_some("nothing to be pending", DEADLINE, async || {
        let (_, found) = pipeline.ask("consumer", &["reconcile"])?;
        Ok((found["pending"] == 0).then_some(found))
    })
    .await?;
    Ok(["missing", "extra", "differing"].map(|finding| found[finding].as_i64().unwrap_or(-1)))
}

const INSERT: &str = "insert into audit_events (id, occurred_at, action, outcome, inserted_at)
     values ('ID', now(), 'other.action', 'failure', now())";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_updated_after_its_delivery_differs_until_it_is_repaired() -> anyhow::Result<()> {
    let (pipeline, _, found) = after("update audit_events set action = 'changed' where id = 'ID'").await?;
    assert_eq!(found, [0, 0, 1]);
    let (_, repaired) = pipeline.ask("consumer", &["reconcile", "--repair"])?;
    assert_eq!(repaired["repaired"], 1, "{repaired}");
    assert_eq!(counted(&pipeline).await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_used_again_with_other_content_differs_and_is_never_overwritten_by_itself()
-> anyhow::Result<()> {
    let again = format!("delete from audit_events where id = 'ID'; {INSERT}");
    let (pipeline, ids, found) = after(&again).await?;
    assert_eq!(found, [0, 0, 1]);
    let name: String = sqlx::query_scalar("select name from audit_actions where id = $1")
        .bind(ids[0])
        .fetch_one(&mut pipeline.timeline.connect().await?)
        .await?;
    assert_eq!(name, "test.row");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_changed_is_missing_under_the_new_one_and_extra_under_the_old_one() -> anyhow::Result<()>
{
    let (pipeline, _, found) =
        after("update audit_events set id = gen_random_uuid() where id = 'ID'").await?;
    assert_eq!(found, [1, 1, 0]);
    let _consumer = pipeline.consumer()?;
    let _publisher = pipeline.publisher()?;
    let (_, repaired) = pipeline.ask("consumer", &["reconcile", "--repair"])?;
    assert_eq!(repaired["repaired"], 1, "{repaired}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_inserted_and_deleted_in_one_transaction_is_a_dead_letter_and_no_difference()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let id = Uuid::new_v4().to_string();
    let insert = INSERT.replace("ID", &id);
    let short = format!("begin; {insert}; delete from audit_events where id = '{id}'; commit");
    pipeline.source.connect().await?.execute(AssertSqlSafe(short)).await?;
    let failures = wait::until_some("its dead letter", DEADLINE, async || {
        let failures = pipeline.failures().await?;
        Ok((!failures.is_empty()).then_some(failures))
    })
    .await?;
    assert_eq!(failures[0]["reason"], "audit_event_not_found", "{failures:?}");
    assert_eq!(counted(&pipeline).await?, [0, 0, 0]);
    Ok(())
}

/// Within the duplicate window the broker takes the second message for the first one, whose dead letter is there.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_inserted_again_after_its_first_row_was_gone_arrives_by_the_comparison()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let id = Uuid::new_v4();
    let insert = INSERT.replace("ID", &id.to_string());
    let mut source = pipeline.source.connect().await?;
    let short = format!("begin; {insert}; delete from audit_events where id = '{id}'; commit");
    source.execute(AssertSqlSafe(short)).await?;
    wait::until_some("its dead letter", DEADLINE, async || {
        Ok((!pipeline.failures().await?.is_empty()).then_some(()))
    })
    .await?;
    source.execute(AssertSqlSafe(insert)).await?;
    // The publisher has handed it over, and nothing more has come of it.
    wait::until_some("the row to be missing", DEADLINE, async || {
        Ok((counted(&pipeline).await? == [1, 0, 0]).then_some(()))
    })
    .await?;
    assert_eq!(pipeline.projected().await?, 0);
    let (_, said) = pipeline.command("consumer", &["explain", &id.to_string()])?;
    assert!(said.contains("the row is there"), "{said}");
    drop(consumer);
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=1s"])?;
    pipeline.arrive(&[id]).await?;
    pipeline.settled("timeline").await?;
    pipeline.charges_nobody().await?;
    assert_eq!(counted(&pipeline).await?, [0, 0, 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_of_one_id_are_warned_of_and_one_of_them_is_delivered() -> anyhow::Result<()> {
    let (pipeline, ids, _) = after(
        "alter table audit_events drop constraint audit_events_pkey; create index on audit_events (id)",
    )
    .await?;
    let (_, doctor) = pipeline.ask("consumer", &["doctor"])?;
    assert!(doctor.to_string().contains("no unique index keeps two rows from having one id"), "{doctor}");
    let mut source = pipeline.source.connect().await?;
    source.execute(AssertSqlSafe(INSERT.replace("ID", &ids[0].to_string()))).await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, more) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&more).await?;
    assert_eq!(pipeline.projected().await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_partition_that_is_attached_are_missing_until_a_backfill() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut source = pipeline.source.connect().await?;
    let (rows, mut ids) = samples(2);
    pipeline.commit(&rows).await?;
    // As one partitions a table that is in use: the old one becomes the first partition of a new parent.
    source
        .execute(
            "alter table audit_events rename to first;
             create table audit_events (like first including defaults) partition by range (occurred_at);
             alter table audit_events add primary key (id, occurred_at);
             alter table first drop constraint audit_events_pkey, add primary key (id, occurred_at);
             alter table audit_events attach partition first for values from ('2000-01-01') to ('2100-01-01');
             create table older (like first including all);
             insert into older (id, occurred_at, action, outcome, inserted_at)
             values (gen_random_uuid(), '1999-12-31', 'older.row', 'success', '1999-12-31');
             grant select on audit_events to audit_consumer, audit_decider",
        )
        .await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(done, "{said}");
    source
        .execute("alter table audit_events attach partition older for values from ('1999-01-01') to ('2000-01-01')")
        .await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    let (rows, more) = samples(2);
    pipeline.commit(&rows).await?;
    ids.extend(more);
    pipeline.arrive(&ids).await?;
    assert_eq!(counted(&pipeline).await?, [1, 0, 0]);
    let (done, said) = pipeline.ask("publisher", &["backfill"])?;
    assert!(done, "{said}");
    let all: Vec<Uuid> = sqlx::query_scalar("select id from audit_events").fetch_all(&mut source).await?;
    assert_eq!(all.len(), 5);
    pipeline.arrive(&all).await?;
    Ok(())
}
