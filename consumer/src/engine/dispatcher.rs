//! From requests to settlements: reload the rows, forward them, commit what failed. Where the requests come from, a
//! stream or the log itself, makes no difference.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    database::Database,
    event::AuditEvent,
    failpoint,
    failures::{self, PriorAttempts, Reason},
    identifier::{ForwarderId, TableName},
    outbox::forwarders,
    process::{health::Progress, telemetry::traces::Tracer},
    settings::ConsumerSettings,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    engine::work_item::{Instruction, Route, WorkItem},
    engine::{
        batch_outcome::{BatchOutcome, dead_letter_of},
        breaker::DeadLetterBreaker,
        column_watch::ColumnWatch,
        delivery_watch::DeliveryWatch,
        disposition::{Disposition, RetryPolicy},
        isolation::{Attempt, IsolatedForwarder, PoisonTurn, TargetLiveness, Unavailable},
        missing_rows::{self, ForeignMessage},
        outage::{HoldReason, OutageBackoff},
        source::{LoadedRow, ReadHistory, Slice, Source, Unreadable},
    },
    forwarder::{ForwarderFactory, Verdict},
};

/// How long a dispatcher that is given up may take to clean up behind itself.
const RELEASE_MAX: Duration = Duration::from_secs(1);

/// One forwarder with all that is needed to deliver to it; its workers share it.
#[derive(Clone)]
pub struct ForwarderRuntime {
    /// Which messages are for it.
    pub route: Route,
    /// The forwarder.
    pub factory: Arc<dyn ForwarderFactory>,
    /// Where rows are reloaded from.
    pub database: Database,
    /// The audit table.
    pub table: TableName,
    /// Batches, limits, waits.
    pub settings: ConsumerSettings,
    /// Attempts and their waits.
    pub policy: RetryPolicy,
    /// Dead letters a minute.
    pub breaker: DeadLetterBreaker,
    /// Whether the target answers at all.
    pub liveness: TargetLiveness,
    /// Whether anything is delivered.
    pub deliveries: DeliveryWatch,
    /// Columns that have gone.
    pub columns: ColumnWatch,
    /// What is known of earlier reads.
    pub reads: ReadHistory,
    /// Where deliveries are traced.
    pub tracer: Tracer,
    /// Shared by all forwarders of the process.
    pub poison_turn: PoisonTurn,
}

impl ForwarderRuntime {
    /// Waits for the source database, within its limit.
    pub(crate) async fn with_timeout<T>(
        &self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Unavailable> {
        self.database.with_timeout(answer).await.map_err(|error| source_unavailable(&error))
    }
}

fn source_unavailable(error: &sqlx::Error) -> Unavailable {
    Unavailable::new(format!("the source database: {}", errors::database(error)))
}

/// What one worker delivers with: a session with the source and a forwarder of its own.
pub struct Dispatcher {
    runtime: Arc<ForwarderRuntime>,
    source: Option<Source>,
    forwarder: IsolatedForwarder,
    /// The event whose start is on record and whose end is not.
    unfinished_start: Option<Uuid>,
}

/// What of a batch is in the target, while the rest is held: not to be sent there again at every probe.
type AlreadyDelivered = HashMap<Uuid, Attempt>;

/// How the dispatch of a batch ended.
#[derive(Debug)]
pub enum Dispatched {
    /// What became of each item, in order. All that must be known of it is committed.
    Settle(Vec<Disposition>),
    /// Given up at shutdown: nothing may be settled.
    Stopped,
    /// Something in it is another source's: nothing may be settled, and its own consumer must get it.
    Foreign(ForeignMessage),
}

impl Dispatcher {
    /// Connects when first used.
    #[must_use]
    pub fn new(runtime: Arc<ForwarderRuntime>) -> Self {
        // One connection at a time: a network that forgets it is noticed.
        let mut runtime = Arc::unwrap_or_clone(runtime);
        runtime.database = runtime.database.with_dead_peer_detection();
        let runtime = Arc::new(runtime);
        let limit = runtime.settings.forward_timeout;
        let forwarder = IsolatedForwarder::new(
            runtime.route.id.clone(),
            runtime.factory.clone(),
            limit,
            runtime.liveness.clone(),
        );
        Self { runtime, source: None, forwarder, unfinished_start: None }
    }

    /// Tries until every server that is needed answers.
    ///
    /// Dropping the future is allowed: what was written is written again without effect.
    pub async fn dispatch(
        &mut self,
        items: &[WorkItem],
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> Dispatched {
        let mut backoff = OutageBackoff::default();
        let mut already_delivered = AlreadyDelivered::new();
        self.forwarder.begin_batch();
        loop {
            match self.attempt(items, &mut already_delivered).await {
                Ok(dispositions) => {
                    backoff.recovered(progress);
                    return Dispatched::Settle(dispositions);
                }
                Err(HoldReason::Foreign(foreign)) => return Dispatched::Foreign(foreign),
                Err(reason) => {
                    // The connection may be what is wrong, and the table may have changed meanwhile.
                    self.source = None;
                    if shutdown.is_cancelled() {
                        return Dispatched::Stopped;
                    }
                    backoff.wait(&reason, progress, shutdown).await;
                }
            }
        }
    }

    /// Waits, unready, until what was another source's is so no more: its row was found. What it asks for is
    /// done then, and its message is redelivered.
    pub async fn hold_foreign(
        &mut self,
        foreign: &ForeignMessage,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) {
        let mut backoff = OutageBackoff::default();
        let item = [foreign.item()];
        let mut reason = HoldReason::Foreign(foreign.clone());
        while !shutdown.is_cancelled() {
            backoff.wait(&reason, progress, shutdown).await;
            match self.attempt(&item, &mut AlreadyDelivered::new()).await {
                Ok(_) => return backoff.recovered(progress),
                Err(again) => {
                    self.source = None;
                    reason = again;
                }
            }
        }
    }

    /// Takes back a start that is on record, after a [`Dispatcher::dispatch`] that was given up: this process lives. Best
    /// effort, and not for long.
    pub async fn release(&mut self) {
        self.source = None;
        let Some(event) = self.unfinished_start else { return };
        let runtime = self.runtime.clone();
        let ended = tokio::time::timeout(RELEASE_MAX, async {
            let mut connection = runtime.database.connect().await?;
            failures::end(&mut connection, &runtime.route.id, event).await
        });
        if let Ok(Ok(())) = ended.await {
            self.unfinished_start = None;
        }
    }

    /// One pass over the batch. Failures are committed before anything is settled.
    async fn attempt(
        &mut self,
        items: &[WorkItem],
        already_delivered: &mut AlreadyDelivered,
    ) -> Result<Vec<Disposition>, HoldReason> {
        let runtime = self.runtime.clone();
        let ForwarderRuntime { route, breaker, columns, reads, .. } = &*runtime;
        let mut events: HashMap<Uuid, bool> = HashMap::new();
        for item in items {
            if let Instruction::Forward(id) = item.instruction {
                *events.entry(id).or_default() |= item.suspect;
            }
        }
        let mut source = if let Some(source) = self.source.take().filter(|source| !source.is_stale(columns)) {
            source
        } else {
            let ForwarderRuntime { database, table, factory, settings, reads, .. } = &*runtime;
            let source = Source::connect(database, table, factory.clone(), settings.batch_bytes).await;
            source.map_err(|error| source_unavailable(&error))?.with_history(reads.clone())
        };
        if let Some(event) = self.unfinished_start {
            runtime.with_timeout(failures::end(source.connection(), &route.id, event)).await?;
            self.unfinished_start = None;
        }
        let started = Instant::now();
        let mut outcome = self.forward(&mut source, items, &events, already_delivered).await?;
        if outcome.has_failed() {
            // What one of them has crashed may be the source's server too.
            runtime.with_timeout(source.revive()).await?;
        }
        outcome.set_known_elsewhere(known_elsewhere(&runtime, &mut source, items).await?);
        outcome.set_ended_before(ended_before(&runtime, &mut source, items).await?);
        for item in items {
            outcome.record_undeliverable(&route.id, &item.instruction);
        }
        breaker.check(&outcome.dead_letters())?;
        refuse_too_many(&runtime, &mut source, &outcome).await?;
        failpoint::reach("dispatch.forwarded");
        runtime.with_timeout(outcome.commit(source.connection(), &route.id)).await?;
        failpoint::reach("dispatch.recorded");
        breaker.record(&outcome.dead_letters());
        reads.settled(events.into_keys());
        outcome.report(&runtime.deliveries);
        self.source = Some(source);
        outcome.emit(&route.id, started.elapsed());
        outcome.end_spans(&route.id, items);
        Ok(items.iter().map(|item| outcome.disposition(&route.id, &item.instruction)).collect())
    }

    /// Reloads and forwards, in chunks of bounded size; returns what became of each event.
    async fn forward(
        &mut self,
        source: &mut Source,
        items: &[WorkItem],
        events: &HashMap<Uuid, bool>,
        already_delivered: &mut AlreadyDelivered,
    ) -> Result<BatchOutcome, HoldReason> {
        let runtime = self.runtime.clone();
        let ForwarderRuntime { route, settings, breaker, columns, .. } = &*runtime;
        let mut outcome = BatchOutcome::of(items);
        let mut open: Vec<Uuid> = events.keys().copied().collect();
        let mut missing = Vec::new();
        while !open.is_empty() {
            // A pack alone may hold more than a batch.
            let some = &open[..open.len().min(settings.batch_rows)];
            let slice = source.load(&route.id, some, settings.batch_bytes).await;
            let Slice { loaded, mut absent } = slice.map_err(|error| source_unavailable(&error))?;
            source.check_columns(&route.id, columns)?;
            let seen: HashSet<Uuid> = loaded.iter().map(|row| row.id).chain(absent.iter().copied()).collect();
            open.retain(|id| !seen.contains(id));
            missing.append(&mut absent);
            self.forward_chunk(source, loaded, events, already_delivered, &mut outcome).await?;
            // One by one, rows that cannot be read take long.
            breaker.check(&outcome.dead_letters())?;
        }
        if !missing.is_empty() {
            missing_rows::resolve(&runtime, source, &mut self.forwarder, &missing, items, &mut outcome)
                .await?;
        }
        Ok(outcome)
    }

    /// First the events that nothing speaks against, together; then each one that may be a poison event, alone.
    async fn forward_chunk(
        &mut self,
        source: &mut Source,
        loaded: Vec<LoadedRow>,
        suspects: &HashMap<Uuid, bool>,
        already_delivered: &mut AlreadyDelivered,
        outcome: &mut BatchOutcome,
    ) -> Result<(), Unavailable> {
        let policy = self.runtime.policy;
        let mut together: (Vec<AuditEvent>, Vec<Option<PriorAttempts>>) = Default::default();
        let mut alone = Vec::new();
        for LoadedRow { id, event, earlier } in loaded {
            match (event, earlier) {
                (Ok(event), earlier) if already_delivered.contains_key(&id) => {
                    outcome.record_attempt(&event, &already_delivered[&id], earlier, policy);
                }
                (_, Some(PriorAttempts { discarded: true, .. })) => outcome.record_discarded(id),
                // Unless it died because its row was gone: here it is.
                (_, Some(PriorAttempts { dead: true, gone: false, .. })) => outcome.keep_dead_letter(id),
                (_, Some(PriorAttempts { wait, .. })) if !wait.is_zero() => outcome.defer(id, wait),
                (Err(error), earlier) => {
                    outcome.record_unforwarded(id, unreadable(&error, earlier, policy), earlier, policy);
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
        for ((event, earlier), attempt) in events.iter().zip(earlier).zip(&verdicts) {
            remember_delivered(already_delivered, event.id, attempt);
            outcome.record_attempt(event, attempt, earlier, policy);
        }
        for (event, earlier) in alone {
            self.forward_alone(source, event, earlier, already_delivered, outcome).await?;
        }
        Ok(())
    }

    /// Commits the start first: an event that kills its process leaves nothing else, and its neighbours must not be
    /// charged for it.
    async fn forward_alone(
        &mut self,
        source: &mut Source,
        event: AuditEvent,
        earlier: Option<PriorAttempts>,
        already_delivered: &mut AlreadyDelivered,
        outcome: &mut BatchOutcome,
    ) -> Result<(), Unavailable> {
        let runtime = self.runtime.clone();
        let ForwarderRuntime { route, policy, poison_turn, .. } = &*runtime;
        let _turn = poison_turn.take().await;
        self.unfinished_start = Some(event.id);
        let started = runtime.with_timeout(failures::start(source.connection(), &route.id, event.id)).await?;
        if started > policy.max_attempts {
            self.unfinished_start = None;
            outcome.dead_letter_crashed(&event, started - 1);
            return Ok(());
        }
        let verdicts = self.forwarder.forward(std::slice::from_ref(&event)).await;
        if !verdicts.as_ref().is_ok_and(|attempts| attempts.iter().all(Attempt::is_delivered)) {
            // What it has crashed may be the source's server too.
            runtime.with_timeout(source.revive()).await?;
        }
        runtime.with_timeout(failures::end(source.connection(), &route.id, event.id)).await?;
        self.unfinished_start = None;
        for attempt in verdicts? {
            remember_delivered(already_delivered, event.id, &attempt);
            outcome.record_attempt(&event, &attempt, earlier, *policy);
        }
        Ok(())
    }
}

/// What becomes of an event whose row cannot be read.
fn unreadable(error: &Unreadable, earlier: Option<PriorAttempts>, policy: RetryPolicy) -> Attempt {
    let words = error.to_string();
    let is_last = earlier.map_or(0, |earlier| earlier.attempts).saturating_add(1) >= policy.max_attempts;
    let (verdict, counts) = match error {
        Unreadable::TooLarge { .. } => (Verdict::DeadLetter(Reason::AuditEventTooLarge, words), true),
        Unreadable::Unclear { counts, .. } if !counts || !is_last => (Verdict::Retry(words), *counts),
        Unreadable::Unclear { .. } | Unreadable::Broken(_) => {
            (Verdict::DeadLetter(Reason::AuditEventUnreadable, words), true)
        }
    };
    Attempt { counts, ..verdict.into() }
}

fn remember_delivered(already_delivered: &mut AlreadyDelivered, event: Uuid, attempt: &Attempt) {
    if attempt.is_delivered() {
        already_delivered.insert(event, attempt.clone());
    }
}

/// Those forwarders, of the ones that messages are addressed to and this process does not have, that another one has or had.
async fn known_elsewhere(
    runtime: &ForwarderRuntime,
    source: &mut Source,
    items: &[WorkItem],
) -> Result<HashSet<String>, Unavailable> {
    let mut unknown: Vec<ForwarderId> = Vec::new();
    for item in items {
        if let Instruction::Unknown(forwarder, _) = &item.instruction
            && !unknown.contains(forwarder)
        {
            unknown.push(forwarder.clone());
        }
    }
    if unknown.is_empty() {
        return Ok(HashSet::new());
    }
    let known = runtime.with_timeout(forwarders::known(source.connection(), &unknown)).await?;
    Ok(known.into_iter().collect())
}

/// Those messages that cannot be delivered here and that have their dead letters: a broker that lost its place delivers them again.
async fn ended_before(
    runtime: &ForwarderRuntime,
    source: &mut Source,
    items: &[WorkItem],
) -> Result<HashSet<(String, String)>, Unavailable> {
    let dead_letters: Vec<(String, String)> =
        items.iter().filter_map(|item| dead_letter_of(&runtime.route.id, &item.instruction)).collect();
    if dead_letters.is_empty() {
        return Ok(HashSet::new());
    }
    runtime.with_timeout(failures::ended(source.connection(), &dead_letters)).await
}

/// When too many events wait for another attempt, the target is what fails. Delayed messages count as pending at
/// the broker, too, and would stop all delivery. Packs are settled as one: what fails of those of one batch may wait all together, or a batch
/// that is larger than the limit would never pass.
async fn refuse_too_many(
    runtime: &ForwarderRuntime,
    source: &mut Source,
    outcome: &BatchOutcome,
) -> Result<(), Unavailable> {
    let more = i64::try_from(outcome.new_retries()).unwrap_or(i64::MAX);
    if more == 0 {
        return Ok(());
    }
    let ForwarderRuntime { route, settings, .. } = runtime;
    let most = (settings.max_ack_pending / 4).max(1).max(outcome.packed());
    let waiting = runtime.with_timeout(failures::retrying(source.connection(), &route.id, most)).await?;
    if waiting + more > most {
        return Err(Unavailable::new(format!(
            "the target: {} events wait for another attempt, more than a quarter of consumer.max_ack_pending",
            waiting + more
        )));
    }
    Ok(())
}
