//! Dispatch `sync`: from the log straight into a forwarder, without any broker.
//!
//! The same relay loop as the publisher's, with the forwarder as its sink and a reader of its own. Failed events wait
//! in `outbox.failures`; the leader sweeps those that are due.

use std::{sync::Arc, time::Duration};

use common::{
    database::Database,
    failures,
    outbox::{
        maintenance::{self, retention::AtRiskGauge},
        reader::{
            entries::Entry,
            readers,
            rounds::{PublishedPosition, Round},
        },
        relay::{Relay, RelayError, RelayOptions, Sink, SinkError, StreamContinuity},
    },
    process::health::Progress,
    service::tasks::Tasks,
    session::Session,
    settings::{RelaySettings, SourceSettings},
};
use tokio_util::sync::CancellationToken;

use crate::{
    engine::dispatcher::{Dispatched, Dispatcher, ForwarderRuntime},
    engine::work_item::{Instruction, Origin, WorkItem},
};

/// How often failed events are looked through for those that are due.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Forwards from the log to one destination until `shutdown`, leading or standing by.
///
/// # Errors
/// Only what waiting cannot fix.
pub(crate) async fn run(
    runtime: Arc<ForwarderRuntime>,
    settings: RelaySettings,
    source: SourceSettings,
    progress: Progress,
    retrying: Progress,
    tasks: Tasks,
    shutdown: CancellationToken,
) -> Result<(), RelayError> {
    let page_rows = runtime.settings.batch_rows;
    let mut options = RelayOptions::new(readers::reader_name(&runtime.route.id), &settings);
    options.page_rows = page_rows;
    // Each page costs its forwarder more than a row here does.
    options.progress_rows = page_rows;
    let sink = ForwardSink {
        dispatcher: Dispatcher::new(runtime.clone()),
        runtime: runtime.clone(),
        progress: progress.clone(),
        shutdown: shutdown.clone(),
        repeated: false,
    };
    let relay = Relay::new(runtime.database.clone(), options, sink, progress);
    let running = relay.run(shutdown, move |leading| {
        tasks.spawn(retry_loop(runtime.clone(), retrying.clone(), leading.clone()));
        tasks.spawn(maintenance_loop(runtime.clone(), settings.clone(), source.clone(), leading));
    });
    Box::pin(running).await
}

/// A forwarder as a relay's sink.
struct ForwardSink {
    runtime: Arc<ForwarderRuntime>,
    dispatcher: Dispatcher,
    progress: Progress,
    shutdown: CancellationToken,
    /// The next page may have been handed over before by a process that did not live to say so.
    repeated: bool,
}

impl ForwardSink {
    fn item(&self, entry: &Entry) -> Option<WorkItem> {
        let (event, target) = entry.addressed()?;
        let instruction = self.runtime.route.classify(target, event);
        let wanted = instruction != Instruction::Skip;
        let origin = Origin::Log(entry.position);
        wanted.then(|| WorkItem::from_log(instruction, origin, self.repeated, &self.runtime.tracer))
    }
}

impl Sink for ForwardSink {
    async fn begin(&mut self, _: &mut Session, head: &Round) -> Result<StreamContinuity, SinkError> {
        self.repeated = !head.is_closed();
        Ok(StreamContinuity::Intact)
    }

    async fn deliver(&mut self, page: &[Entry], _: i32) -> Result<Option<PublishedPosition>, SinkError> {
        let items: Vec<WorkItem> = page.iter().filter_map(|entry| self.item(entry)).collect();
        self.repeated = false;
        let dispatched = self.dispatcher.dispatch(&items, &self.progress, &self.shutdown).await;
        if matches!(dispatched, Dispatched::Settle(_)) {
            Ok(None)
        } else {
            self.dispatcher.release().await;
            Err(SinkError::Stopped)
        }
    }
}

/// Tries again what failed before and is due, while this process leads.
async fn retry_loop(runtime: Arc<ForwarderRuntime>, progress: Progress, leading: CancellationToken) {
    // Should this task end by a panic, the leadership ends with it, and both begin again.
    let _ends_with_it = leading.clone().drop_guard();
    let mut dispatcher = Dispatcher::new(runtime.clone());
    let mut connection = None;
    while !leading.is_cancelled() {
        let items = due(&runtime, &mut connection).await.unwrap_or_else(|error| {
            connection = None;
            tracing::debug!(error = errors::line(&error), "could not query events that are due");
            Vec::new()
        });
        // Here alone: the relay's own component hears nothing of it while no new entry comes.
        progress.fault(runtime.deliveries.fault());
        if items.is_empty() {
            progress.idle();
            tokio::select! {
                () = leading.cancelled() => {}
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
            continue;
        }
        progress.busy();
        tokio::select! {
            () = leading.cancelled() => {}
            _ = dispatcher.dispatch(&items, &progress, &leading) => {}
        }
        dispatcher.release().await;
    }
}

async fn due(
    runtime: &ForwarderRuntime,
    connection: &mut Option<Session>,
) -> Result<Vec<WorkItem>, sqlx::Error> {
    if connection.is_none() {
        *connection = Some(runtime.database.connect().await?);
    }
    let connection = connection.as_mut().expect("connected above");
    let limit = i64::try_from(runtime.settings.batch_rows).unwrap_or(i64::MAX);
    let due = runtime.database.with_timeout(failures::due(connection, &runtime.route.id, limit)).await?;
    let item =
        |(id, suspect)| WorkItem::from_log(Instruction::Forward(id), Origin::Retry, suspect, &runtime.tracer);
    Ok(due.into_iter().map(item).collect())
}

/// Where no publisher runs, nobody else prunes. Where one does, the horizon keeps what its stream still needs.
async fn maintenance_loop(
    runtime: Arc<ForwarderRuntime>,
    settings: RelaySettings,
    source: SourceSettings,
    leading: CancellationToken,
) {
    let _ends_with_it = leading.clone().drop_guard();
    let reader = readers::reader_name(&runtime.route.id);
    let watch = AtRiskGauge::new(&source);
    loop {
        let round = maintain_once(&runtime.database, &reader, settings.retention, &watch);
        tokio::select! {
            () = leading.cancelled() => return,
            maintained = tokio::time::timeout(maintenance::RUN_TIMEOUT, round) => match maintained {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = errors::line(&error), "maintenance did not finish; it is tried again");
                }
                Err(_) => tracing::warn!("maintenance took too long; it is tried again"),
            }
        }
        tokio::select! {
            () = leading.cancelled() => return,
            () = tokio::time::sleep(settings.maintenance_interval) => {}
        }
    }
}

async fn maintain_once(
    database: &Database,
    reader: &str,
    retention: Duration,
    watch: &AtRiskGauge,
) -> Result<(), sqlx::Error> {
    let mut connection = database.connect().await?;
    watch.update(&mut connection).await;
    maintenance::prune(&mut connection, None, retention).await?;
    maintenance::thin(&mut connection, reader, retention).await
}
