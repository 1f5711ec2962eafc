//! Messages with many references.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use async_nats::HeaderMap;
use common::{
    failures::Reason,
    reference::{Body, Pack, REFERENCES_HEADER, Target},
    settings::ConsumerSettings,
};
use consumer::forwarder::{ForwardError, Verdict};
use sandbox::{
    audit::{self, AuditRow},
    fixture::audit_events,
    wait,
};
use uuid::Uuid;

use super::{DEADLINE, Running, Scripted, jetstream, retry};

impl Running {
    /// Commits rows of these actions.
    async fn rows(&self, actions: &[&str]) -> anyhow::Result<Vec<Uuid>> {
        let rows: Vec<AuditRow> = actions.iter().copied().map(AuditRow::sample).collect();
        audit::insert(&mut self.database.connect().await?, &audit_events(), &rows).await?;
        Ok(rows.iter().map(|row| row.id).collect())
    }

    /// Publishes so many packs of the same references.
    async fn publish_packs(&self, count: usize, events: &[Uuid]) -> anyhow::Result<()> {
        let pack = Pack {
            forwarder: Target::Every,
            events: events
                .iter()
                .map(|event| (*event, Some("2026-05-15T12:00:00.000000Z".to_owned())))
                .collect(),
        };
        let context = jetstream::new(async_nats::connect(&self.url).await?);
        let mut headers = HeaderMap::new();
        headers.insert(REFERENCES_HEADER, events.len().to_string());
        for _ in 0..count {
            let body = serde_json::to_vec(&pack)?.into();
            context.publish_with_headers(self.subject.clone(), headers.clone(), body).await?.await?;
        }
        Ok(())
    }

    /// Entries of the log that are for this forwarder.
    async fn addressed(&self) -> anyhow::Result<Vec<Uuid>> {
        let entries = "select audit_event_id from outbox.entries where forwarder = 'scripted'";
        Ok(sqlx::query_scalar(entries).fetch_all(&mut self.database.connect().await?).await?)
    }

    /// How many messages are delivered and not settled, and how many are not delivered.
    async fn pending(&self) -> anyhow::Result<(usize, u64)> {
        let found = self.stream.get_consumer("forward-scripted").await;
        let mut durable: jetstream::consumer::PullConsumer = found.map_err(|error| anyhow::anyhow!(error))?;
        let info = durable.info().await?;
        Ok((info.num_ack_pending, info.num_pending))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_is_settled_whatever_became_of_each_and_what_is_tried_again_was_taken_out()
-> anyhow::Result<()> {
    let forwarder = Scripted::new(|action, _| {
        Ok(match action {
            "test.retry" => retry(),
            "test.dead" => Verdict::DeadLetter(Reason::SchemaMismatch, "too odd".into()),
            _ => Verdict::Delivered,
        })
    });
    let worker = Running::start(&forwarder).await?;
    let ids = worker.rows(&["test.fine", "test.retry", "test.dead", "test.fine"]).await?;
    worker.publish_packs(1, &ids).await?;
    worker.settled().await?;
    assert_eq!(worker.addressed().await?, [ids[1]]);
    let mut failures = worker.failures().await?;
    failures.sort();
    let dead = ("dead".to_owned(), Some("schema_mismatch".to_owned()), 1);
    assert_eq!(failures, [dead.clone(), ("retrying".to_owned(), None, 1)]);
    // Delivered again, as after a lost acknowledgement: what is not due is owed, and the rest has ended.
    worker.publish_packs(1, &ids).await?;
    wait::until("the pack to come again", DEADLINE, || forwarder.times(ids[0]).len() == 2)?;
    worker.settled().await?;
    assert!(worker.failures().await?.contains(&dead));
    assert_eq!(forwarder.times(ids[2]).len(), 1, "a dead letter is not tried again");
    worker.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_held_at_shutdown_is_given_back_as_a_whole() -> anyhow::Result<()> {
    let forwarder = Scripted::new(|_, _| Err(ForwardError::unavailable("connection refused")));
    let worker = Running::with_ack_wait(&forwarder, DEADLINE).await?;
    let ids = worker.rows(&["test.held"; 8]).await?;
    worker.publish_packs(1, &ids).await?;
    wait::until("the first attempt", DEADLINE, || !forwarder.times(ids[0]).is_empty())?;
    let (stream, database, stopped) = (worker.stream.clone(), worker.database.clone(), Instant::now());
    worker.stop().await?;
    let durable: jetstream::consumer::PullConsumer =
        stream.get_consumer("forward-scripted").await.map_err(|error| anyhow::anyhow!(error))?;
    let messages = durable.batch().max_messages(1).expires(DEADLINE).messages().await?;
    let messages: Vec<_> = futures::StreamExt::collect(messages).await;
    assert!(stopped.elapsed() < DEADLINE / 2, "sooner than the ack wait: {:?}", stopped.elapsed());
    let [Ok(message)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(Body::read(&message.payload)?.events().collect::<Vec<_>>(), ids);
    let entries: i64 = sqlx::query_scalar("select count(*) from outbox.entries where forwarder is not null")
        .fetch_one(&mut database.connect().await?)
        .await?;
    assert_eq!(entries, 0, "nothing was tried, and nothing taken out");
    Ok(())
}

/// A batch is ten references here: so few packs are in hand and so few are waiting, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_worker_is_bounded_in_references() -> anyhow::Result<()> {
    static OPEN: AtomicBool = AtomicBool::new(false);
    let forwarder = Scripted::new(|_, _| {
        if OPEN.load(Ordering::SeqCst) {
            Ok(Verdict::Delivered)
        } else {
            Err(ForwardError::unavailable("closed"))
        }
    });
    let mut settings = ConsumerSettings::default();
    settings.batch_rows = 10;
    let worker = Running::with_settings(&forwarder, settings).await?;
    let ids = worker.rows(&["test.row"; 8]).await?;
    worker.publish_packs(30, &ids).await?;
    // A worker that asks again and again asks for no more.
    wait::until("the worker to be held", DEADLINE, || forwarder.times(ids[0]).len() >= 3)?;
    let (in_hand, waiting) = worker.pending().await?;
    // One in work; and behind it two, of which a batch is one.
    assert!(in_hand <= 4, "{in_hand} packs of eight");
    assert_eq!(in_hand as u64 + waiting, 30);
    OPEN.store(true, Ordering::SeqCst);
    worker.settled().await?;
    assert_eq!(worker.failures().await?, []);
    worker.stop().await
}

/// A request that was made among single references is for many messages: of packs it brings a megabyte, and the next one is for few.
#[tokio::test(flavor = "multi_thread")]
async fn packs_behind_single_references_are_bounded_in_bytes_and_all_arrive() -> anyhow::Result<()> {
    static OPEN: AtomicBool = AtomicBool::new(false);
    let forwarder = Scripted::new(|action, _| {
        if action == "test.single" || OPEN.load(Ordering::SeqCst) {
            return Ok(Verdict::Delivered);
        }
        Err(ForwardError::unavailable("closed"))
    });
    let worker = Running::start(&forwarder).await?;
    for _ in 0..6 {
        worker.send("test.single").await?;
    }
    worker.settled().await?;
    let ids = worker.rows(&["test.row"; 256]).await?;
    // A pack has some 18 kB.
    worker.publish_packs(120, &ids).await?;
    wait::until("the worker to be held", DEADLINE, || forwarder.times(ids[0]).len() >= 3)?;
    let (in_hand, waiting) = worker.pending().await?;
    assert!(in_hand < 80, "{in_hand} packs");
    assert_eq!(in_hand as u64 + waiting, 120);
    OPEN.store(true, Ordering::SeqCst);
    worker.settled().await?;
    assert_eq!(worker.failures().await?, []);
    worker.stop().await
}
