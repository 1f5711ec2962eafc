//! The relay with a sink that remembers: leadership, crashes, load.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use common::{
    outbox::{
        reader::{
            entries::Entry,
            rounds::{PublishedPosition, Round},
        },
        relay::{Relay, RelayOptions, Sink, SinkError, StreamContinuity},
    },
    process::health::Health,
    session::Session,
    settings::RelaySettings,
};
use sandbox::{
    fixture::{TestDatabase, audit_events, source_database},
    load::{Load, LoadCounter},
    wait,
};
use sqlx::Executor as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::reader::{committed, insert, read_all, sorted};

const DEADLINE: Duration = Duration::from_secs(60);

/// Late commits, but not for longer than a test may take.
const HOLD_MAX: Duration = Duration::from_millis(300);

/// Remembers what it was handed.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<Entry>>>);

impl Memory {
    fn ids(&self) -> Vec<Uuid> {
        self.0.lock().unwrap().iter().map(|entry| entry.audit_event_id.unwrap()).collect()
    }

    fn distinct(&self) -> Vec<Uuid> {
        let mut ids = sorted(self.ids());
        ids.dedup();
        ids
    }

    async fn await_all(&self, ids: &[Uuid]) -> anyhow::Result<()> {
        let wanted = sorted(ids.to_vec());
        wait::until_some("all committed rows", DEADLINE, async || {
            let seen = self.distinct();
            Ok(wanted.iter().all(|id| seen.binary_search(id).is_ok()).then_some(()))
        })
        .await
    }
}

impl Sink for Memory {
    async fn begin(&mut self, _: &mut Session, _: &Round) -> Result<StreamContinuity, SinkError> {
        Ok(StreamContinuity::Intact)
    }

    async fn deliver(&mut self, page: &[Entry], _: i32) -> Result<Option<PublishedPosition>, SinkError> {
        self.0.lock().unwrap().extend_from_slice(page);
        Ok(None)
    }
}

struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.task.await?
    }

    /// As kill -9: nothing is closed, the lease is not given back.
    fn crash(self) {
        self.task.abort();
    }
}

fn start(database: &TestDatabase, sink: impl Sink + 'static, page_rows: usize) -> Running {
    start_with(database, sink, page_rows, Duration::from_secs(1))
}

/// One that nobody takes over from, however little a busy machine lets it do.
fn start_alone(database: &TestDatabase, sink: impl Sink + 'static, page_rows: usize) -> Running {
    start_with(database, sink, page_rows, Duration::from_secs(300))
}

fn start_with(
    database: &TestDatabase,
    sink: impl Sink + 'static,
    page_rows: usize,
    lease: Duration,
) -> Running {
    let shutdown = CancellationToken::new();
    let mut options = RelayOptions::new("test", &RelaySettings::default());
    options.page_rows = page_rows;
    options.poll_min = Duration::from_millis(1);
    options.poll_max = Duration::from_millis(20);
    options.lease = lease;
    let progress = Health::default().component("relay", DEADLINE);
    let relay = Relay::new(database.database(), options, sink, progress);
    let token = shutdown.clone();
    let task = tokio::spawn(async move { Ok(relay.run(token, |_| {}).await?) });
    Running { shutdown, task }
}

fn load(database: &TestDatabase, seed: u64) -> Load {
    Load {
        url: database.url.clone(),
        table: audit_events(),
        writers: 8,
        rate: None,
        seed,
        hold_max: HOLD_MAX,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realistic_load_is_handed_over_completely_and_in_order() -> anyhow::Result<()> {
    let database = source_database().await?;
    let memory = Memory::default();
    let relay = start(&database, memory.clone(), 50);
    let written = load(&database, 1).run(4_000, &LoadCounter::default(), &CancellationToken::new()).await?;
    memory.await_all(&written.committed).await?;
    relay.stop().await?;

    assert_eq!(
        sorted(memory.ids()),
        sorted(written.committed),
        "each once, and nothing that was rolled back"
    );
    assert!(!written.rolled_back.is_empty());
    let entries = memory.0.lock().unwrap();
    for xid in entries.iter().map(|entry| entry.position.xid) {
        let seqs: Vec<_> = entries.iter().filter(|e| e.position.xid == xid).map(|e| e.position.seq).collect();
        assert!(seqs.is_sorted(), "the rows of one transaction keep their order");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_crash_under_load_repeat_but_lose_nothing() -> anyhow::Result<()> {
    let database = source_database().await?;
    let memory = Memory::default();
    let stop = CancellationToken::new();
    let writing = tokio::spawn({
        let (load, stop) = (load(&database, 2), stop.clone());
        async move { load.run(6_000, &LoadCounter::default(), &stop).await }
    });
    for round in 0..6 {
        let relay = start(&database, memory.clone(), 7 + round);
        let before = memory.ids().len();
        wait::until_some("some progress", DEADLINE, async || {
            Ok((memory.ids().len() > before || writing.is_finished()).then_some(()))
        })
        .await?;
        relay.crash();
    }
    let written = writing.await??;
    let relay = start(&database, memory.clone(), 500);
    memory.await_all(&written.committed).await?;
    relay.stop().await?;
    assert_eq!(memory.distinct(), sorted(written.committed));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_relays_one_leads_and_the_other_takes_over() -> anyhow::Result<()> {
    let database = source_database().await?;
    let (first_memory, second_memory) = (Memory::default(), Memory::default());
    let first = start(&database, first_memory.clone(), 10);
    let mut connection = database.session().await?;
    let ids = insert(&mut connection, 25).await?;
    first_memory.await_all(&ids).await?;
    let second = start(&database, second_memory.clone(), 10);
    let more = insert(&mut connection, 25).await?;
    first_memory.await_all(&more).await?;
    assert!(second_memory.ids().is_empty(), "a standby reads nothing");
    first.crash();
    let late = insert(&mut connection, 25).await?;
    second_memory.await_all(&late).await?;
    second.stop().await?;
    Ok(())
}

/// The lease merely saves work. With it out of the way the fence alone must keep two readers from losing anything.
#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_at_once_are_wasteful_and_harmless() -> anyhow::Result<()> {
    let database = source_database().await?;
    let memory = Memory::default();
    let first = start(&database, memory.clone(), 5);
    let mut connection = database.session().await?;
    let ids = insert(&mut connection, 5).await?;
    memory.await_all(&ids).await?;
    // Rob the first one of its lease without its noticing, again and again.
    let thief = tokio::spawn({
        let database = database.clone();
        async move {
            let mut connection = database.session().await?;
            loop {
                connection.execute("delete from outbox.leases").await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            #[expect(unreachable_code, reason = "names the type of the block")]
            anyhow::Ok(())
        }
    });
    let second = start(&database, memory.clone(), 7);
    let written = load(&database, 3).run(2_000, &LoadCounter::default(), &CancellationToken::new()).await?;
    memory.await_all(&written.committed).await?;
    thief.abort();
    first.stop().await?;
    second.stop().await?;
    let mut expected = written.committed;
    expected.extend(ids);
    assert_eq!(memory.distinct(), sorted(expected));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_in_the_middle_of_a_round_repeats_nothing() -> anyhow::Result<()> {
    /// Stops the relay from inside, with a page in flight.
    #[derive(Clone)]
    struct Stopping(Memory, CancellationToken);
    impl Sink for Stopping {
        async fn begin(
            &mut self,
            connection: &mut Session,
            head: &Round,
        ) -> Result<StreamContinuity, SinkError> {
            self.0.begin(connection, head).await
        }

        async fn deliver(
            &mut self,
            page: &[Entry],
            generation: i32,
        ) -> Result<Option<PublishedPosition>, SinkError> {
            self.1.cancel();
            self.0.deliver(page, generation).await
        }
    }
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let ids = insert(&mut connection, 40).await?;
    let memory = Memory::default();
    while memory.ids().len() < ids.len() {
        let shutdown = CancellationToken::new();
        let relay = start(&database, Stopping(memory.clone(), shutdown.clone()), 10);
        shutdown.cancelled().await;
        relay.stop().await?;
    }
    assert_eq!(sorted(memory.ids()), sorted(ids), "four pages, four stops, no row twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_of_a_hundred_thousand_rows_comes_through_in_pages() -> anyhow::Result<()> {
    let database = source_database().await?;
    let mut connection = database.session().await?;
    let ids = insert(&mut connection, 100_000).await?;
    let memory = Memory::default();
    let relay = start_alone(&database, memory.clone(), 1_000);
    memory.await_all(&ids).await?;
    relay.stop().await?;
    assert_eq!(memory.ids().len(), 100_000);
    assert!(read_all(&mut connection, 1_000).await?.is_empty(), "the position was closed");
    Ok(())
}

/// No page may cost more for where it lies: paging over a list of late transactions with one statement read and sorted all the
/// rest for every page, and a second lower bound passed over everything read before. Either visits the log's blocks hundreds of
/// times as often.
#[tokio::test(flavor = "multi_thread")]
async fn reading_a_million_late_rows_stays_linear() -> anyhow::Result<()> {
    const ROWS: i64 = 1_000_000;
    #[derive(Clone)]
    struct Counter(Arc<AtomicI64>);
    impl Sink for Counter {
        async fn begin(&mut self, _: &mut Session, _: &Round) -> Result<StreamContinuity, SinkError> {
            Ok(StreamContinuity::Intact)
        }

        async fn deliver(&mut self, page: &[Entry], _: i32) -> Result<Option<PublishedPosition>, SinkError> {
            self.0.fetch_add(page.len().try_into().unwrap(), Ordering::Relaxed);
            Ok(None)
        }
    }
    let counted = Arc::new(AtomicI64::new(0));
    let database = source_database().await?;
    let mut first = database.session().await?;
    let mut second = database.session().await?;
    for connection in [&mut first, &mut second] {
        connection.execute("begin").await?;
        // Straight into the log: what is measured is reading it.
        connection
            .execute("insert into outbox.entries (audit_event_id) select gen_random_uuid() from generate_series(1, 500000)")
            .await?;
    }
    // Both transactions run while a round is taken, so that both are late in the next.
    let mut connection = database.session().await?;
    insert(&mut connection, 1).await?;
    read_all(&mut connection, 10).await?;
    first.execute("commit").await?;
    second.execute("commit").await?;
    drop((first, second, connection));
    let before = visited_blocks(&database).await?;
    let relay = start_alone(&database, Counter(counted.clone()), 1_000);
    wait::until_some("a million rows", Duration::from_secs(300), async || {
        Ok((counted.load(Ordering::Relaxed) >= ROWS).then_some(()))
    })
    .await?;
    relay.stop().await?;
    assert_eq!(counted.load(Ordering::Relaxed), ROWS);
    let visited = visited_blocks(&database).await? - before;
    assert!(visited > ROWS / 1_000, "they were read: {visited}");
    assert!(visited < ROWS / 2, "{visited} blocks were visited for {ROWS} rows");
    Ok(())
}

/// How often blocks of the log and its indexes were visited. A session reports it at its end at the latest.
async fn visited_blocks(database: &TestDatabase) -> anyhow::Result<i64> {
    let mut connection = database.connect().await?;
    wait::until_some("all other sessions to end", Duration::from_secs(60), async || {
        let others: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok((others == 0).then_some(()))
    })
    .await?;
    Ok(sqlx::query_scalar(
        "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::int8
         from pg_statio_user_tables where schemaname = 'outbox' and relname = 'entries'",
    )
    .fetch_one(&mut connection)
    .await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_held_open_delays_only_its_own_rows() -> anyhow::Result<()> {
    let database = source_database().await?;
    let memory = Memory::default();
    let relay = start(&database, memory.clone(), 100);
    let mut holder = database.session().await?;
    holder.execute("begin").await?;
    let held = insert(&mut holder, 3).await?;
    let mut connection = database.session().await?;
    for _ in 0..20 {
        let others = insert(&mut connection, 5).await?;
        memory.await_all(&others).await?;
    }
    assert!(held.iter().all(|id| !memory.ids().contains(id)), "not committed, not handed over");
    holder.execute("commit").await?;
    memory.await_all(&held).await?;
    relay.stop().await?;
    assert_eq!(sorted(memory.ids()), committed(&mut connection).await?);
    Ok(())
}
