//! After a broker's loss everything continues by itself: once, without false alarms, whatever has become of the rows since.

use end_to_end::{DEADLINE, Pipeline, samples};
use sandbox::{audit::AuditRow, nats::delete_stream, wait};
use sqlx::Executor as _;
use uuid::Uuid;

/// Looks often.
const BUSY_MAINTENANCE: [&str; 2] = ["--set", "relay.maintenance_interval=200ms"];

/// Waits until the leader has looked at the stream so often from now on.
async fn maintained(pipeline: &Pipeline, times: u32) -> anyhow::Result<()> {
    // It stores how far everything is settled in every round.
    let looked = "select at from outbox.settled where reader = 'jetstream'";
    let mut source = pipeline.source.connect().await?;
    for _ in 0..times {
        let before: Option<time::OffsetDateTime> =
            sqlx::query_scalar(looked).fetch_optional(&mut source).await?;
        wait::until_some("a round of maintenance", DEADLINE, async || {
            let now = sqlx::query_scalar(looked).fetch_optional(&mut source).await?;
            Ok((now > before).then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_filled_once_and_nobody_is_blamed_for_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(85);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    delete_stream(&pipeline.context().await?, &pipeline.name).await?;
    wait::until_some("the log to be published again", DEADLINE, async || {
        Ok((pipeline.generation().await? == Some(1)).then_some(()))
    })
    .await?;
    pipeline.references(85).await?;
    pipeline.settled("timeline").await?;
    maintained(&pipeline, 3).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 85, "filled once");
    assert_eq!(pipeline.generation().await?, Some(1));
    let log = publisher.log();
    assert!(!log.contains("the stream was purged"), "nobody did: {log}");
    assert!(!log.contains("source database answers again"), "it was never away: {log}");
    pipeline.charges_nobody().await?;
    Ok(())
}

/// A stream that was purged says where it begins, too: with what it will be given next.
#[tokio::test(flavor = "multi_thread")]
async fn a_purged_stream_is_filled_once() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?.sending_one_by_one()?;
    let publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    pipeline.stream().await?.purge().await?;
    pipeline.references(40).await?;
    pipeline.settled("timeline").await?;
    maintained(&pipeline, 3).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 40, "filled once");
    assert_eq!(publisher.log().matches("the stream was purged").count(), 1);
    Ok(())
}

/// What nobody can deliver is redelivered like everything else, and its dead letter says nothing of the settings as they are now.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_nobodys_and_has_its_dead_letter_is_not_counted_again_when_it_is_delivered_again()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let client = async_nats::connect(&pipeline.nats_url).await?;
    let stray = async |count: usize| {
        for _ in 0..count {
            let body = format!(
                r#"{{"forwarder":"nobody","audit_event_id":"{}","occurred_at":null}}"#,
                Uuid::new_v4()
            );
            client.publish(format!("{}.events", pipeline.name), body.into()).await?;
        }
        anyhow::Ok(client.flush().await?)
    };
    let dead_letters = async |count: usize| {
        wait::until_some("the dead letters", DEADLINE, async || {
            Ok((pipeline.failures().await?.len() == count).then_some(()))
        })
        .await
    };
    client.publish(format!("{}.events", pipeline.name), "no reference".into()).await?;
    stray(30).await?;
    dead_letters(31).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    common::broker::remove_durable(&pipeline.stream().await?, "forward-timeline").await?;
    let consumer = pipeline.consumer()?;
    pipeline.settled("timeline").await?;
    // Thirty again and thirty more would be too many for a minute.
    stray(30).await?;
    dead_letters(61).await?;
    assert_eq!(consumer.log().matches("an event was not delivered").count(), 30, "{}", consumer.log());
    Ok(())
}

/// A purge moves the floor of every durable beyond what it has removed: seen by a round that had looked at the stream before,
/// that would have counted as settled, and the trimming behind it would have hidden the purge.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_while_the_leader_looks_at_the_floors_is_published_again() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    // The first round lasts for as long as all of this takes.
    let slow = ["env", "FAILPOINTS=maintenance.floors_read=1*sleep(8000)"];
    let at_once = ["--set", "publisher.replay_window=0s"];
    let publisher = pipeline.start_behind(&slow, "publisher", &[&BUSY_MAINTENANCE[..], &at_once].concat())?;
    wait::until("the leader to look", DEADLINE, || publisher.log().contains("a test may wait here"))?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(5).await?;
    pipeline.stream().await?.purge().await?;
    let (rows, later) = samples(1);
    pipeline.commit(&rows).await?;
    // The continuous reconciliation would deliver them in the end.
    let _consumer = pipeline.consumer_with(&["--set", "consumer.reconcile.interval=0s"])?;
    pipeline.arrive(&later).await?;
    pipeline.arrive(&ids).await
}

/// nats-server 2.9 answers that there is no stream while it still removes its files, and then those of a new one, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_recreated_only_when_its_server_has_tidied_up() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let _publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let (rows, _) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.references(5).await?;
    let context = pipeline.context().await?;
    for _ in 0..2 {
        let before = pipeline.stream().await?.cached_info().created;
        let deleted = time::OffsetDateTime::now_utc();
        delete_stream(&context, &pipeline.name).await?;
        let created = wait::until_some("the stream to be recreated", DEADLINE, async || {
            let found = context.get_stream(&pipeline.name).await.ok();
            Ok(found.map(|stream| stream.cached_info().created).filter(|created| *created != before))
        })
        .await?;
        assert!(created - deleted >= time::Duration::SECOND, "deleted at {deleted}, recreated at {created}");
        pipeline.references(5).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_made_smaller_under_a_publisher_is_told_and_publishing_continues()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let context = pipeline.context().await?;
    let mut config = pipeline.stream().await?.cached_info().config.clone();
    config.max_bytes = 1 << 20;
    config.duplicate_window = std::time::Duration::from_secs(1);
    context.update_stream(config).await?;
    wait::until("the leader to notice", DEADLINE, || {
        let log = publisher.log();
        log.contains("the stream is smaller than the settings; publishing continues")
            && log.contains("max_bytes is 1048576, must be at least 67108864")
    })?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    // A leader that begins with it, and a consumer.
    assert!(!publisher.has_ended()?);
    publisher.terminate(DEADLINE)?;
    let mut publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let _second = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(!publisher.has_ended()? && publisher.log().contains("stream-smaller"), "{}", publisher.log());
    let (_, found) = pipeline.ask("publisher", &["doctor"])?;
    assert!(found.to_string().contains("stream-smaller"), "{found}");
    assert_eq!(pipeline.generation().await?, Some(0), "nothing was lost");
    Ok(())
}

/// Deletes audit rows behind the pipeline's back, as a clean-up does.
async fn delete(pipeline: &Pipeline, ids: &[Uuid]) -> anyhow::Result<()> {
    let mut application = pipeline.source.connect().await?;
    sqlx::query("delete from audit_events where id = any ($1)").bind(ids).execute(&mut application).await?;
    Ok(())
}

/// Deletes the stream, and waits until the log has been published again and settled.
async fn lose_the_stream(pipeline: &Pipeline, forwarders: &[&str], references: usize) -> anyhow::Result<()> {
    let before = pipeline.generation().await?;
    delete_stream(&pipeline.context().await?, &pipeline.name).await?;
    wait::until_some("the log to be published again", DEADLINE, async || {
        Ok((pipeline.generation().await? > before).then_some(()))
    })
    .await?;
    pipeline.references(references).await?;
    for forwarder in forwarders {
        pipeline.settled(forwarder).await?;
    }
    Ok(())
}

const HELD: &str = "within a minute would become dead letters";

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_neither_checked_nor_counted_again_after_a_loss() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let rule = "alter table audit_actions add constraint host_rule check (name <> 'test.refused')";
    sqlx::raw_sql(rule).execute(&mut pipeline.timeline.connect().await?).await?;
    let _publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    // Two processes, one after the other: what the first has counted the second has not.
    for batch in 1..=2 {
        let mut consumer = pipeline.consumer()?;
        let rows: Vec<_> = (0..40).map(|_| AuditRow::sample("test.refused")).collect();
        pipeline.commit(&rows).await?;
        wait::until_some("forty more dead letters", DEADLINE, async || {
            Ok((pipeline.failures().await?.len() == 40 * batch).then_some(()))
        })
        .await?;
        pipeline.settled("timeline").await?;
        consumer.terminate(DEADLINE)?;
    }
    let dead_letters = pipeline.failures().await?;
    let consumer = pipeline.consumer()?;
    lose_the_stream(&pipeline, &["timeline"], 80).await?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(!consumer.log().contains(HELD), "{}", consumer.log());
    assert_eq!(pipeline.failures().await?, dead_letters, "not one of them was touched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_target_is_there_although_its_row_was_deleted_before_the_loss() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let consumer = pipeline.consumer()?;
    let (rows, gone) = samples(120);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&gone).await?;
    pipeline.settled("timeline").await?;
    delete(&pipeline, &gone).await?;
    lose_the_stream(&pipeline, &["timeline"], 120).await?;
    pipeline.charges_nobody().await?;
    assert!(!consumer.log().contains(HELD));
    // One whose row went before it was delivered is a dead letter, as always.
    let mut timeline = pipeline.timeline.connect().await?;
    timeline.execute("begin; lock audit_actions in access exclusive mode").await?;
    let (rows, lost) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.references(121).await?;
    delete(&pipeline, &lost).await?;
    timeline.execute("rollback").await?;
    pipeline.settled("timeline").await?;
    let arrived = pipeline.projected().await? == 121;
    assert_eq!(pipeline.failures().await?.len(), usize::from(!arrived), "in the target, or a dead letter");
    assert_eq!(pipeline.generation().await?, Some(1), "{}", publisher.log());
    Ok(())
}

/// A target that cannot say what it has: what everybody had settled was the application's to delete.
#[tokio::test(flavor = "multi_thread")]
async fn what_all_had_settled_is_no_dead_letter_of_a_target_that_cannot_say() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[[forwarder]]\nid = \"nothing\"\nkind = \"noop\"").await?;
    let _publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let consumer = pipeline.consumer()?;
    let (rows, gone) = samples(120);
    pipeline.commit(&rows).await?;
    pipeline.references(120).await?;
    pipeline.settled("nothing").await?;
    let mut source = pipeline.source.connect().await?;
    wait::until_some("the clean-up to be let at them", DEADLINE, async || {
        let undelivered: i64 =
            sqlx::query_scalar("select count(*) from outbox.undelivered").fetch_one(&mut source).await?;
        Ok((undelivered == 0).then_some(()))
    })
    .await?;
    delete(&pipeline, &gone).await?;
    lose_the_stream(&pipeline, &["nothing"], 120).await?;
    pipeline.charges_nobody().await?;
    assert!(!consumer.log().contains(HELD));
    assert!(consumer.log().contains("nothing to deliver"), "{}", consumer.log());
    Ok(())
}

/// Its history is what was there when it came; rows of that which are gone are nobody's loss, and what went since is.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_forwarder_on_an_old_stream_is_neither_held_nor_given_false_dead_letters() -> anyhow::Result<()>
{
    let pipeline = Pipeline::with_settings("[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"").await?;
    let _publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let mut consumer = pipeline.consumer()?;
    let (rows, gone) = samples(120);
    pipeline.commit(&rows).await?;
    let (rows, kept) = samples(10);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&[&gone[..], &kept].concat()).await?;
    pipeline.settled("timeline").await?;
    consumer.terminate(DEADLINE)?;
    delete(&pipeline, &gone).await?;
    let (path, failing) = (pipeline.path("faulty"), pipeline.path("failing"));
    pipeline.configure(&format!(
        "[[forwarder]]\nid = \"faulty\"\nkind = \"faulty\"\npath = {path:?}\nfailing = {failing:?}"
    ))?;
    let mut host = pipeline.custom_consumer()?;
    pipeline.settled("faulty").await?;
    pipeline.charges_nobody().await?;
    assert!(!host.log().contains(HELD), "{}", host.log());
    let taken = std::fs::read_to_string(&path)?;
    assert!(taken.lines().count() == 10 && kept.iter().all(|id| taken.contains(&id.to_string())), "{taken}");
    // What is committed from now on is owed to it.
    host.terminate(DEADLINE)?;
    let (rows, lost) = samples(1);
    pipeline.commit(&rows).await?;
    pipeline.references(131).await?;
    delete(&pipeline, &lost).await?;
    let _host = pipeline.custom_consumer()?;
    pipeline.settled("faulty").await?;
    pipeline.settled("timeline").await?;
    let failures = pipeline.failures().await?;
    assert_eq!(failures.len(), 2, "each of the two forwarders was owed it: {failures:?}");
    assert!(failures.iter().all(|failure| failure["reason"] == "audit_event_not_found"), "{failures:?}");
    Ok(())
}

/// What has been pruned from the log was settled by everybody who was there.
#[tokio::test(flavor = "multi_thread")]
async fn history_that_the_log_has_pruned_is_nobodys_loss() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (rows, gone) = samples(60);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&gone).await?;
    pipeline.settled("timeline").await?;
    publisher.terminate(DEADLINE)?;
    consumer.terminate(DEADLINE)?;
    let mut source = pipeline.source.connect().await?;
    source.execute("update outbox.rounds set at = at - interval '2 days'").await?;
    let (done, said) = pipeline.command("publisher", &["prune"])?;
    assert!(done && said.contains("removed 60 entries"), "{said}");
    delete(&pipeline, &gone).await?;
    // A target that has lost them as well, and starts over.
    sqlx::query("delete from audit_actions").execute(&mut pipeline.timeline.connect().await?).await?;
    common::broker::remove_durable(&pipeline.stream().await?, "forward-timeline").await?;
    let consumer = pipeline.consumer()?;
    pipeline.settled("timeline").await?;
    pipeline.charges_nobody().await?;
    assert!(consumer.log().contains("nothing to deliver"), "{}", consumer.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_addressed_to_a_forwarder_that_somebody_has_or_had_is_left_alone() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[[forwarder]]\nid = \"old\"\nkind = \"noop\"").await?;
    let _publisher = pipeline.publisher_with(&BUSY_MAINTENANCE)?;
    let mut consumer = pipeline.consumer()?;
    let (rows, ids) = samples(120);
    pipeline.commit(&rows).await?;
    pipeline.references(120).await?;
    pipeline.settled("old").await?;
    consumer.terminate(DEADLINE)?;
    let addressed =
        "insert into outbox.entries (audit_event_id, forwarder) select id, $2 from unnest($1::uuid[]) id";
    let mut source = pipeline.source.connect().await?;
    sqlx::query(addressed).bind(&ids).bind("old").execute(&mut source).await?;
    pipeline.references(240).await?;
    // Another settings file, which does not know the old one, and then nobody does any more.
    let other = Pipeline::sharing(&pipeline, "[[forwarder]]\nid = \"new\"\nkind = \"noop\"")?;
    let mut consumer = other.consumer()?;
    other.settled("new").await?;
    pipeline.charges_nobody().await?;
    consumer.terminate(DEADLINE)?;
    let drop_durable = ["drop-durable", "old", "--reason", "out of use"];
    let (done, said) = other.command("consumer", &drop_durable)?;
    assert!(!done && said.contains("120 message(s) wait for forwarder old"), "{said}");
    let (done, said) = other.command("consumer", &[&drop_durable[..], &["--lose-work"]].concat())?;
    assert!(done, "{said}");
    sqlx::query(addressed).bind(&ids[..2]).bind("old").execute(&mut source).await?;
    // One that nobody ever had.
    sqlx::query(addressed).bind(&ids[..1]).bind("nobody").execute(&mut source).await?;
    pipeline.references(243).await?;
    let _consumer = other.consumer()?;
    other.settled("new").await?;
    let failures = pipeline.failures().await?;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(
        (&failures[0]["forwarder"], &failures[0]["reason"]),
        (&"nobody".into(), &"unknown_forwarder".into())
    );
    Ok(())
}
