//! `consumer replay`: delivers a part of the stream again to one forwarder, during live traffic and without touching its
//! durable.
//!
//! A durable of its own (`replay-<id>`) remembers how far it has come, and its description what was requested: the same
//! command continues where it was interrupted.

mod replay_consumer;

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::jetstream::stream::Stream;
use clap::Args;
use common::{
    broker::{self, SourceIdentity},
    database::Database,
    identifier::ForwarderId,
    outbox::{self, reconcile_cursor},
    process::{
        console::{self, ProgressBar},
        health::Health,
        operator_log::{self, ActionKind, OperatorAction},
        shutdown::{self, Interrupted},
        telemetry::traces::Tracer,
    },
    rate_limit::rate_limit,
    session::Session,
    settings::{Settings, UsageError},
    time_arg::TimeArg,
};
use serde::Serialize;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    engine::{
        dispatcher::{Dispatched, Dispatcher, ForwarderRuntime},
        disposition::Disposition,
        source::{Source, UnfitSource},
        work_item::{Instruction, WorkItem},
    },
    forwarder::{ForwarderFactory, Forwarders, MissingKinds, Registry},
    service,
    stream::delivery::Delivery,
};
use replay_consumer::{ReplayConsumer, acknowledge};

/// How often the table's columns are read while a batch is in work, which seldom takes so long.
const COLUMNS_CHECKED_EVERY: Duration = Duration::from_secs(3);

const WHICH: &str = "Which messages";
const HOW: &str = "How they are replayed";

/// What is replayed, and how.
#[derive(Debug, Clone, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Replay {
    /// To which forwarder.
    #[arg(long, help_heading = WHICH)]
    forwarder: ForwarderId,
    #[command(flatten)]
    begin: Begin,
    /// Up to this sequence of the stream. Without it up to its end when the replay begins.
    #[arg(long, value_name = "N", help_heading = WHICH, value_parser = clap::value_parser!(u64).range(1..))]
    until_sequence: Option<u64>,
    /// Overwrites actions that are there already: this applies a changed mapping to rows that have arrived. Only for
    /// forwarders of kind threadline.
    #[arg(long, help_heading = HOW)]
    overwrite: bool,
    /// Most references a second. Without it as many as the forwarder takes.
    #[arg(long, value_name = "N", help_heading = HOW, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Only says what would be replayed.
    #[arg(long, help_heading = HOW)]
    dry_run: bool,
    /// Discards a replay that was interrupted before, and starts this one.
    #[arg(long, help_heading = HOW)]
    restart: bool,
    /// Prints a JSON object instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Where it begins.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
struct Begin {
    /// At the start of the stream.
    #[arg(long = "from-start", help_heading = WHICH)]
    start: bool,
    /// At this sequence.
    #[arg(long = "from-sequence", value_name = "N", help_heading = WHICH, value_parser = clap::value_parser!(u64).range(1..))]
    sequence: Option<u64>,
    /// At the first message that the broker stored at or after this time: RFC 3339, a date (in UTC), or so long ago, such as `2h`.
    #[arg(long = "from-time", value_name = "TIME", help_heading = WHICH)]
    time: Option<TimeArg>,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct ReplayOutcome {
    /// Messages of the range.
    messages: u64,
    /// References in these.
    references: u64,
    /// Of these, those for this forwarder.
    ours: u64,
    /// Of these, those whose audit row is gone: there is nothing to deliver.
    gone: u64,
    /// Of these, those that ended as delivered, now or before.
    settled: u64,
    /// Of these, those that failed: `consumer failures list` shows them.
    failed: u64,
    /// Up to which sequence.
    until_sequence: u64,
    /// Whether all of the range was replayed.
    done: bool,
    dry_run: bool,
}

/// Replays.
///
/// # Errors
/// When a server is away, the arguments do not fit, or another replay of this forwarder was interrupted.
pub(crate) async fn run(
    settings: Settings,
    registry: &Registry,
    missing: MissingKinds,
    asked: Replay,
) -> anyhow::Result<()> {
    const LEFT: &str = "what has been replayed is remembered; the same command continues behind it";
    require_range(&asked)?;
    let shutdown = shutdown::on_signal()?;
    let work = Box::pin(replay(settings, registry, missing, asked, &shutdown));
    match shutdown::bounded(&shutdown, work).await {
        Some(Ok(true)) => Ok(()),
        Some(Err(error)) if !shutdown.is_cancelled() => Err(error),
        _ => Err(Interrupted(LEFT).into()),
    }
}

/// Returns whether it came to the end of its range.
async fn replay(
    settings: Settings,
    registry: &Registry,
    missing: MissingKinds,
    asked: Replay,
    shutdown: &CancellationToken,
) -> anyhow::Result<bool> {
    let forwarders = registry.configure(&settings, missing)?;
    let (database, mut connection) = outbox::open(&settings.source, "audit-consumer-replay").await?;
    let identity = SourceIdentity::read(&mut connection, &settings.source.table).await?;
    let identity = identity.named(settings.source.name.as_deref());
    let client = broker::connect(&settings.broker, "audit-consumer-replay").await?;
    let stream =
        broker::ensure_stream(&broker::context(&client, &settings.broker), &settings.broker, &identity)
            .await?;
    let runtime = build_runtime(&settings, forwarders, &asked, &database, &stream)?;
    columns_fit(&runtime).await??;
    let last = stream.cached_info().state.last_sequence;
    let until = asked.until_sequence.unwrap_or(last).min(last);
    let consumer = ReplayConsumer::find(&stream, &asked, until, settings.consumer.ack_wait).await?;
    let Some(mut consumer) = consumer else {
        print_outcome(
            &asked,
            &ReplayOutcome { dry_run: asked.dry_run, done: true, ..ReplayOutcome::default() },
        );
        return Ok(true);
    };
    if !asked.dry_run {
        let (actor, description) = (operator_log::operator(), consumer.description.clone());
        let action = OperatorAction {
            actor: &actor,
            kind: ActionKind::Replay,
            filter: &description,
            count: 0,
            reason: None,
        };
        operator_log::record(&mut connection, &action).await?;
    }
    drop(connection);
    let outcome = Box::pin(replay_batches(&mut consumer, &asked, &settings, runtime, shutdown)).await?;
    if asked.dry_run || outcome.done {
        // Best effort: what is left of it is removed by the broker after a day.
        let _ = stream.delete_consumer(&consumer.durable).await;
    }
    print_outcome(&asked, &outcome);
    Ok(outcome.done)
}

/// Refuses a range that no message can be in, whatever the stream holds.
fn require_range(asked: &Replay) -> Result<(), UsageError> {
    if let (Some(from), Some(until)) = (asked.begin.sequence, asked.until_sequence)
        && until < from
    {
        return Err(UsageError(format!(
            "nothing can be in the range: it ends (--until-sequence {until}) before it begins (--from-sequence {from}). Exchange \
             the two, or leave --until-sequence out"
        )));
    }
    if let Some(time) = asked.begin.time.as_ref().filter(|time| time.at > OffsetDateTime::now_utc()) {
        return Err(UsageError(format!("nothing can be in the range: --from-time {time} is in the future")));
    }
    Ok(())
}

fn build_runtime(
    settings: &Settings,
    mut forwarders: Forwarders,
    asked: &Replay,
    database: &Database,
    stream: &Stream,
) -> anyhow::Result<Arc<ForwarderRuntime>> {
    let index = forwarders
        .iter()
        .position(|(forwarder, _)| forwarder.id == asked.forwarder)
        .ok_or_else(|| UsageError(format!("no forwarder {} is configured", asked.forwarder)))?;
    if asked.overwrite {
        let over = overwriting(settings, &asked.forwarder)?;
        forwarders[index].1 = over;
    }
    let created = Some(stream.cached_info().created);
    let mut runtimes = service::build_runtimes(settings, &forwarders, database, created, &Tracer::default())?;
    Ok(runtimes.swap_remove(index))
}

#[cfg(feature = "threadline")]
fn overwriting(settings: &Settings, id: &ForwarderId) -> anyhow::Result<Arc<dyn ForwarderFactory>> {
    let forwarder = crate::projection::threadline_forwarder(settings, Some(id))?;
    Ok(Arc::new(crate::kinds::TimelineForwarder::of(forwarder, settings)?.overwriting()))
}

#[cfg(not(feature = "threadline"))]
fn overwriting(_: &Settings, _: &ForwarderId) -> anyhow::Result<Arc<dyn ForwarderFactory>> {
    anyhow::bail!(UsageError("--overwrite needs a binary with the cargo feature threadline".to_owned()))
}

/// Batch after batch, each settled before the next is requested.
async fn replay_batches(
    consumer: &mut ReplayConsumer,
    asked: &Replay,
    settings: &Settings,
    runtime: Arc<ForwarderRuntime>,
    shutdown: &CancellationToken,
) -> anyhow::Result<ReplayOutcome> {
    let progress = Health::default().component("replay", settings.consumer.unready_after);
    let mut dispatcher = Dispatcher::new(runtime.clone());
    let mut source = runtime.database.connect().await?;
    let mut outcome = ReplayOutcome { dry_run: asked.dry_run, ..ReplayOutcome::default() };
    let bar = ProgressBar::new("replaying", consumer.pending);
    let most = u32::try_from(settings.consumer.batch_rows).unwrap_or(u32::MAX);
    let tick_rows = asked.rate.map_or(most, |rate| rate.min(most));
    let mut ticker = asked.rate.map(|rate| rate_limit(tick_rows, rate));
    let rows = usize::try_from(tick_rows).unwrap_or(usize::MAX);
    // A pack may hold many times what a tick is for.
    let mut ticks = 1;
    while !outcome.done && !shutdown.is_cancelled() {
        if let Some(ticker) = &mut ticker {
            for _ in 0..ticks {
                ticker.tick().await;
            }
        }
        let messages = consumer.pull(rows).await?;
        outcome.until_sequence = outcome.until_sequence.max(messages.last);
        let deliveries: Vec<Delivery> =
            messages.of_range.into_iter().map(|message| Delivery::new(message, &runtime.route)).collect();
        bar.advance(deliveries.len() as u64);
        outcome.messages += deliveries.len() as u64;
        let items: Vec<WorkItem> =
            deliveries.iter().flat_map(|delivery| delivery.items(&runtime.tracer)).collect();
        outcome.references += items.len() as u64;
        ticks = items.len().div_ceil(rows).max(1);
        outcome.ours += items.iter().filter(|item| event(item).is_some()).count() as u64;
        if !asked.dry_run {
            let items = existing(&mut source, &runtime, items, &mut outcome).await?;
            let ended = tokio::select! {
                ended = dispatcher.dispatch(&items, &progress, shutdown) => ended,
                unfit = columns_unfit(&runtime) => {
                    dispatcher.release().await;
                    return Err(unfit).context("interrupted: the same command continues behind what has been replayed");
                }
            };
            let Dispatched::Settle(dispositions) = ended else {
                dispatcher.release().await;
                break;
            };
            count(&items, &dispositions, &mut outcome);
        }
        for delivery in &deliveries {
            acknowledge(&delivery.message).await?;
        }
        if deliveries.is_empty() || outcome.until_sequence >= consumer.until {
            outcome.done = consumer.is_done().await?;
        }
    }
    bar.finish();
    Ok(outcome)
}

/// Whether the audit table has what the forwarder needs. A service that runs waits for that; a command says so and ends.
///
/// # Errors
/// When the source database is away.
async fn columns_fit(runtime: &ForwarderRuntime) -> Result<Result<(), UnfitSource>, sqlx::Error> {
    let ForwarderRuntime { database, table, factory, settings, route, columns, .. } = runtime;
    let source = Source::connect(database, table, factory.clone(), settings.batch_bytes).await?;
    Ok(source.check_columns(&route.id, columns))
}

/// Ends when the table lacks what the forwarder needs while a batch is in work.
async fn columns_unfit(runtime: &ForwarderRuntime) -> UnfitSource {
    loop {
        tokio::time::sleep(COLUMNS_CHECKED_EVERY).await;
        // A server that is away is waited for.
        if let Ok(Err(unfit)) = columns_fit(runtime).await {
            return unfit;
        }
    }
}

/// The event that is to be forwarded.
fn event(item: &WorkItem) -> Option<Uuid> {
    match item.instruction {
        Instruction::Forward(event) => Some(event),
        _ => None,
    }
}

/// Without those whose audit row was deleted since: they were delivered when they came first, or are dead letters.
async fn existing(
    source: &mut Session,
    runtime: &ForwarderRuntime,
    items: Vec<WorkItem>,
    outcome: &mut ReplayOutcome,
) -> anyhow::Result<Vec<WorkItem>> {
    let events: Vec<Uuid> = items.iter().filter_map(event).collect();
    let there: HashSet<Uuid> =
        reconcile_cursor::existing(source, &runtime.table, &events).await?.into_iter().collect();
    let (kept, gone): (Vec<WorkItem>, Vec<WorkItem>) =
        items.into_iter().partition(|item| event(item).is_none_or(|event| there.contains(&event)));
    outcome.gone += gone.len() as u64;
    Ok(kept)
}

fn count(items: &[WorkItem], dispositions: &[Disposition], outcome: &mut ReplayOutcome) {
    for (item, disposition) in items.iter().zip(dispositions) {
        if event(item).is_some() {
            match disposition {
                Disposition::Delivered
                | Disposition::Discarded
                | Disposition::Obsolete
                | Disposition::Skipped => outcome.settled += 1,
                // What is not due yet waits for the attempt that `consumer run` makes.
                Disposition::Retry { .. }
                | Disposition::Deferred(_)
                | Disposition::Dead { .. }
                | Disposition::AlreadyDead => outcome.failed += 1,
            }
        }
    }
}

fn print_outcome(asked: &Replay, outcome: &ReplayOutcome) {
    console::print(&if asked.json {
        format!("{}\n", serde_json::json!(outcome))
    } else {
        let ReplayOutcome { messages, references, ours, gone, settled, failed, .. } = outcome;
        if asked.dry_run {
            format!(
                "{references} references in {messages} messages would be replayed, {ours} of them for forwarder {}\n",
                asked.forwarder
            )
        } else {
            format!(
                "{references} references in {messages} messages replayed, {ours} for forwarder {}: {settled} delivered, {failed} \
                 failed, {gone} without an audit row\n",
                asked.forwarder
            )
        }
    });
}
