//! From requests to settlements: reload the rows, forward them, commit what failed. Where the requests come from, a
//! stream or the log itself, makes no difference.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::AckKind;
use common::{
    database::Database,
    event::AuditEvent,
    failpoint,
    failures::{self, Earlier, Reason},
    health::Progress,
    identifier::{ForwarderId, TableName},
    outbox::forwarders,
    settings::ConsumerSettings,
    telemetry::traces::Tracer,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    absent::{self, Foreign},
    book::Book,
    breaker::Breaker,
    delivery::{Addressee, Item, Request},
    forwarder::{Configured, Verdict},
    guard::{Guarded, Judged, Pulse, Unavailable},
    patience::{Held, Patience},
    settle::Policy,
    source::{Loaded, Slice, Source, Unreadable},
};

/// How long a dispatcher that is given up may take to clean up behind itself.
const RELEASE_MAX: Duration = Duration::from_secs(1);

/// One forwarder with all that is needed to deliver to it; its workers share it.
#[derive(Clone)]
pub struct Destination {
    /// Who this is among the forwarders.
    pub addressee: Addressee,
    /// The forwarder.
    pub configured: Arc<dyn Configured>,
    /// Where rows are reloaded from.
    pub database: Database,
    /// The audit table.
    pub table: TableName,
    /// Batches, limits, waits.
    pub settings: ConsumerSettings,
    /// Attempts and their waits.
    pub policy: Policy,
    /// Dead letters a minute.
    pub breaker: Breaker,
    /// Whether the target answers at all.
    pub pulse: Pulse,
    /// Where deliveries are traced.
    pub tracer: Tracer,
    /// Shared by all forwarders of the process.
    pub suspects: Suspects,
}

/// The turn of suspects: in a whole process one at a time is forwarded. Otherwise a death would be charged to whatever
/// other forwarders and workers had just begun, besides the event that caused it.
#[derive(Debug, Clone, Default)]
pub struct Suspects(Arc<Mutex<()>>);

impl Destination {
    /// Waits for the source database, within its limit.
    pub(crate) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Unavailable> {
        self.database.within(answer).await.map_err(|error| away(&error))
    }
}

fn away(error: &sqlx::Error) -> Unavailable {
    Unavailable::new(format!("the source database: {}", errors::database(error)))
}

/// One worker's hands: a session with the source and a forwarder of its own.
pub struct Dispatcher {
    destination: Arc<Destination>,
    source: Option<Source>,
    forwarder: Guarded,
    /// The event whose start is on record and whose end is not.
    begun: Option<Uuid>,
}

/// What of a batch is in the target, while the rest is held: not to be sent there again at every probe.
type Done = HashMap<Uuid, Judged>;

/// What to tell the broker about each item, in order.
pub type Plan = Vec<AckKind>;

/// How the dispatch of a batch ended.
#[derive(Debug)]
pub enum Dispatched {
    /// Settle it like this.
    Settle(Plan),
    /// Given up at shutdown: nothing may be settled.
    Stopped,
    /// Something in it is another source's: nothing may be settled, and it is not to be kept from whoever it belongs to.
    Foreign(Foreign),
}

impl Dispatcher {
    /// Connects when first used.
    #[must_use]
    pub fn new(destination: Arc<Destination>) -> Self {
        // One connection at a time: a network that forgets it is noticed.
        let mut destination = Arc::unwrap_or_clone(destination);
        destination.database = destination.database.own();
        let destination = Arc::new(destination);
        let limit = destination.settings.forward_timeout;
        let forwarder = Guarded::new(
            destination.addressee.id.clone(),
            destination.configured.clone(),
            limit,
            destination.pulse.clone(),
        );
        Self { destination, source: None, forwarder, begun: None }
    }

    /// Tries until every server that is needed answers.
    ///
    /// Dropping the future is allowed: what was written is written again without effect.
    pub async fn dispatch(
        &mut self,
        items: &[Item],
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Dispatched {
        let mut patience = Patience::default();
        let mut done = Done::new();
        self.forwarder.begin();
        loop {
            match self.attempt(items, &mut done).await {
                Ok(plan) => {
                    patience.over(progress);
                    return Dispatched::Settle(plan);
                }
                Err(Held::Foreign(foreign)) => return Dispatched::Foreign(foreign),
                Err(held) => {
                    // The connection may be what is wrong, and the table may have changed meanwhile.
                    self.source = None;
                    if shutdown.is_cancelled() {
                        return Dispatched::Stopped;
                    }
                    patience.wait(&held, progress, shutdown).await;
                }
            }
        }
    }

    /// Waits, unready, until what was another source's is not so any more: its row has come to light. What it asks for is
    /// done then, and its message comes again.
    pub async fn hold(&mut self, foreign: &Foreign, progress: &Progress, shutdown: &CancellationToken) {
        let mut patience = Patience::default();
        let item = [foreign.item()];
        let mut held = Held::Foreign(foreign.clone());
        while !shutdown.is_cancelled() {
            patience.wait(&held, progress, shutdown).await;
            match self.attempt(&item, &mut Done::new()).await {
                Ok(_) => return patience.over(progress),
                Err(again) => {
                    self.source = None;
                    held = again;
                }
            }
        }
    }

    /// Takes back a start that is on record, after a [`Dispatcher::dispatch`] that was given up: this process lives. Best
    /// effort, and not for long.
    pub async fn release(&mut self) {
        self.source = None;
        let Some(event) = self.begun else { return };
        let destination = self.destination.clone();
        let ended = tokio::time::timeout(RELEASE_MAX, async {
            let mut connection = destination.database.connect().await?;
            failures::end(&mut connection, &destination.addressee.id, event).await
        });
        if let Ok(Ok(())) = ended.await {
            self.begun = None;
        }
    }

    /// One pass over the batch. Failures are committed before anything is settled.
    async fn attempt(&mut self, items: &[Item], done: &mut Done) -> Result<Plan, Held> {
        let destination = self.destination.clone();
        let Destination { addressee, breaker, .. } = &*destination;
        let mut events: HashMap<Uuid, bool> = HashMap::new();
        for item in items {
            if let Request::Forward(id) = item.request {
                *events.entry(id).or_default() |= item.suspect;
            }
        }
        let mut source = if let Some(source) = self.source.take() {
            source
        } else {
            let Destination { database, table, configured, settings, .. } = &*destination;
            let source = Source::connect(database, table, configured.clone(), settings.batch_bytes).await;
            source.map_err(|error| away(&error))?
        };
        if let Some(event) = self.begun {
            destination.within(failures::end(source.connection(), &addressee.id, event)).await?;
            self.begun = None;
        }
        let begun = Instant::now();
        let mut book = self.forward(&mut source, items, &events, done).await?;
        book.others(others(&destination, &mut source, items).await?);
        let plan = items.iter().map(|item| book.enter(&item.request)).collect();
        breaker.check(&book.deaths())?;
        refuse_too_many(&destination, &mut source, &book).await?;
        failpoint::reach("dispatch.forwarded");
        destination.within(book.write(source.connection(), &addressee.id)).await?;
        failpoint::reach("dispatch.recorded");
        breaker.count(&book.deaths());
        self.source = Some(source);
        book.tell(&addressee.id, begun.elapsed());
        book.trace(&addressee.id, items);
        Ok(plan)
    }

    /// Reloads and forwards, in chunks of bounded size; answers what became of each event.
    async fn forward(
        &mut self,
        source: &mut Source,
        items: &[Item],
        events: &HashMap<Uuid, bool>,
        done: &mut Done,
    ) -> Result<Book, Held> {
        let destination = self.destination.clone();
        let Destination { addressee, settings, breaker, .. } = &*destination;
        let mut book = Book::default();
        let mut open: Vec<Uuid> = events.keys().copied().collect();
        let mut gone = Vec::new();
        while !open.is_empty() {
            let slice = source.load(&addressee.id, &open, settings.batch_bytes).await;
            let Slice { loaded, mut absent } = slice.map_err(|error| away(&error))?;
            let seen: HashSet<Uuid> = loaded.iter().map(|row| row.id).chain(absent.iter().copied()).collect();
            open.retain(|id| !seen.contains(id));
            gone.append(&mut absent);
            self.forward_chunk(source, loaded, events, done, &mut book).await?;
            // One by one, rows that cannot be read take long.
            breaker.check(&book.deaths())?;
        }
        if !gone.is_empty() {
            absent::judge(&destination, source, &mut self.forwarder, &gone, items, &mut book).await?;
        }
        Ok(book)
    }

    /// First those that nothing speaks against, together; then each suspect alone.
    async fn forward_chunk(
        &mut self,
        source: &mut Source,
        loaded: Vec<Loaded>,
        suspects: &HashMap<Uuid, bool>,
        done: &mut Done,
        book: &mut Book,
    ) -> Result<(), Unavailable> {
        let policy = self.destination.policy;
        let mut together: (Vec<AuditEvent>, Vec<Option<Earlier>>) = Default::default();
        let mut alone = Vec::new();
        for Loaded { id, event, earlier } in loaded {
            match (event, earlier) {
                (Ok(event), earlier) if done.contains_key(&id) => {
                    book.judge(&event, &done[&id], earlier, policy);
                }
                (_, Some(Earlier { discarded: true, .. })) => book.leave(id),
                // Unless it died because its row was gone: here it is.
                (_, Some(Earlier { dead: true, gone: false, .. })) => book.keep_letter(id),
                (_, Some(Earlier { wait, .. })) if !wait.is_zero() => book.wait(id, wait),
                (Err(error), earlier) => {
                    book.refuse(id, unreadable(&error, earlier, policy), earlier, policy);
                }
                (Ok(event), earlier) if suspects.get(&id) == Some(&true) => alone.push((event, earlier)),
                (Ok(event), earlier) => {
                    together.0.push(event);
                    together.1.push(earlier);
                }
            }
        }
        let (events, earlier) = together;
        let verdicts = self.forwarder.forward(&events).await?;
        for ((event, earlier), judged) in events.iter().zip(earlier).zip(&verdicts) {
            remember(done, event.id, judged);
            book.judge(event, judged, earlier, policy);
        }
        for (event, earlier) in alone {
            self.forward_alone(source, event, earlier, done, book).await?;
        }
        Ok(())
    }

    /// Commits the start first: an event that kills its process leaves nothing else, and its neighbours must not be
    /// charged for it.
    async fn forward_alone(
        &mut self,
        source: &mut Source,
        event: AuditEvent,
        earlier: Option<Earlier>,
        done: &mut Done,
        book: &mut Book,
    ) -> Result<(), Unavailable> {
        let destination = self.destination.clone();
        let Destination { addressee, policy, suspects, .. } = &*destination;
        let _turn = suspects.0.lock().await;
        self.begun = Some(event.id);
        let started =
            destination.within(failures::start(source.connection(), &addressee.id, event.id)).await?;
        if started > policy.attempts {
            self.begun = None;
            book.bury(&event, started - 1);
            return Ok(());
        }
        let verdicts = self.forwarder.forward(std::slice::from_ref(&event)).await;
        destination.within(failures::end(source.connection(), &addressee.id, event.id)).await?;
        self.begun = None;
        for judged in verdicts? {
            remember(done, event.id, &judged);
            book.judge(&event, &judged, earlier, *policy);
        }
        Ok(())
    }
}

/// What becomes of an event whose row cannot be read.
fn unreadable(error: &Unreadable, earlier: Option<Earlier>, policy: Policy) -> Verdict {
    let words = error.to_string();
    let is_last = earlier.map_or(0, |earlier| earlier.attempts).saturating_add(1) >= policy.attempts;
    match error {
        Unreadable::TooLarge { .. } => Verdict::Cancel(Reason::AuditEventTooLarge, words),
        Unreadable::Costly(_) if !is_last => Verdict::Retry(words),
        Unreadable::Costly(_) | Unreadable::Broken(_) => Verdict::Cancel(Reason::AuditEventUnreadable, words),
    }
}

fn remember(done: &mut Done, event: Uuid, judged: &Judged) {
    if matches!(judged.verdict, Verdict::Delivered | Verdict::Present) {
        done.insert(event, judged.clone());
    }
}

/// Those forwarders, of the ones that messages are addressed to and nobody here has, that somebody else has or had.
async fn others(
    destination: &Destination,
    source: &mut Source,
    items: &[Item],
) -> Result<HashSet<String>, Unavailable> {
    let mut unknown: Vec<ForwarderId> = Vec::new();
    for item in items {
        if let Request::Unknown(forwarder, _) = &item.request
            && !unknown.contains(forwarder)
        {
            unknown.push(forwarder.clone());
        }
    }
    if unknown.is_empty() {
        return Ok(HashSet::new());
    }
    let known = destination.within(forwarders::known(source.connection(), &unknown)).await?;
    Ok(known.into_iter().collect())
}

/// When too many events wait for another attempt, the target is what fails. Delayed messages count as pending at
/// the broker, too, and would stop all delivery.
async fn refuse_too_many(
    destination: &Destination,
    source: &mut Source,
    book: &Book,
) -> Result<(), Unavailable> {
    let more = i64::try_from(book.new_retries()).unwrap_or(i64::MAX);
    if more == 0 {
        return Ok(());
    }
    let Destination { addressee, settings, .. } = destination;
    let most = (settings.max_ack_pending / 4).max(1);
    let waiting = destination.within(failures::retrying(source.connection(), &addressee.id, most)).await?;
    if waiting + more > most {
        return Err(Unavailable::new(format!(
            "the target: {} events wait for another attempt, more than a quarter of consumer.max_ack_pending",
            waiting + more
        )));
    }
    Ok(())
}
