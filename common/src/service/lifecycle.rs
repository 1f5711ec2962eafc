//! From start to end of a service, in a binary or embedded: connect, check the servers, listen, work, give everything back.
//!
//! Nothing here installs a signal handler, a metrics recorder or a log subscriber, ends the process, or leaves a task behind.

use tokio_util::sync::CancellationToken;

use crate::{
    database::Database,
    outbox::{self, OutboxError},
    process::{
        health::Health,
        shutdown,
        telemetry::{names, traces::Tracer},
    },
    service::{
        endpoint::{Endpoint, ListenError},
        tasks::Tasks,
    },
    session::Session,
    settings::{Listen, Settings},
};

/// In what one service differs from another.
pub trait Steps: Send + Sized {
    /// What its steps fail with.
    type Error: From<sqlx::Error> + From<OutboxError> + From<ListenError> + Send;
    /// What the preflight has found in order.
    type Ready: Send;

    /// Its section of the settings, such as `publisher`.
    const SECTION: &'static str;
    /// What its connection to the source is called there.
    const APPLICATION: &'static str;
    /// The service of its spans.
    const TRACED_AS: &'static str;

    /// What it is run with.
    fn settings(&self) -> &Settings;

    /// Where its section says that the operational endpoint is.
    fn listen(&self) -> Listen;

    /// Shows its counters at zero.
    fn begin_counters(&self);

    /// Makes the checks that a start waits for, and connects to everything else.
    ///
    /// # Errors
    /// When a server is away or does not fit.
    fn preflight(
        &mut self,
        database: &Database,
        connection: &mut Session,
    ) -> impl Future<Output = Result<Self::Ready, Self::Error>> + Send;

    /// Works until the service is to end, and gives back what is not settled.
    ///
    /// # Errors
    /// What waiting does not fix.
    fn work(
        self,
        ready: Self::Ready,
        connection: Session,
        running: &Running,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What a service that runs has in common with the others.
#[derive(Debug)]
pub struct Running {
    /// The source.
    pub database: Database,
    /// Its parts report to it.
    pub health: Health,
    /// Ends with the service, whatever ended it.
    pub shutdown: CancellationToken,
    /// Everything that runs alongside it.
    pub tasks: Tasks,
    /// Where its spans go.
    pub tracer: Tracer,
}

impl Running {
    /// Starts something that never ends by itself; it is dropped when the service ends.
    pub fn spawn_alongside(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled_owned(task).await;
        });
    }
}

/// Runs a service until `shutdown`, and no longer than its limit after that. No task is left when it returns.
///
/// # Errors
/// Those of its steps; when the source is away at the start, or the address of the endpoint is taken.
pub async fn run<S: Steps>(
    steps: S,
    endpoint: Endpoint,
    shutdown: &CancellationToken,
) -> Result<(), S::Error> {
    let shutdown = shutdown.child_token();
    let tasks = Tasks::default();
    let _dropped_with_it = tasks.drop_guard();
    let serving = Box::pin(serve(steps, endpoint, shutdown.clone(), tasks.clone()));
    let ended = shutdown::bounded(&shutdown, serving).await.unwrap_or(Ok(()));
    tasks.abort().await;
    ended
}

async fn serve<S: Steps>(
    mut steps: S,
    endpoint: Endpoint,
    shutdown: CancellationToken,
    tasks: Tasks,
) -> Result<(), S::Error> {
    names::describe();
    steps.begin_counters();
    let settings = steps.settings();
    let tracer = Tracer::of(&settings.traces, S::TRACED_AS);
    let database = Database::source(&settings.source, S::APPLICATION)?;
    let mut connection = outbox::reach(&database).await?;
    let ready = Box::pin(steps.preflight(&database, &mut connection)).await?;
    let running = Running { database, health: Health::default(), shutdown, tasks, tracer };
    let Running { health, shutdown, tasks, .. } = &running;
    endpoint.start(&format!("{}.listen", S::SECTION), steps.listen(), health, shutdown, tasks).await?;
    let ended = Box::pin(steps.work(ready, connection, &running)).await;
    // What ran alongside it ends with it.
    running.shutdown.cancel();
    running.tasks.finish().await;
    running.tracer.flush().await;
    ended?;
    tracing::info!("stopped");
    Ok(())
}
