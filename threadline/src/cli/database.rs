//! The connection to the timeline database that a command works on.

use anyhow::Context as _;
use errors::Place;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::answer::{Answer, Failure};

/// Does something on a connection to the timeline database.
pub(crate) fn on_timeline<T: Into<Answer>>(
    options: &PgConnectOptions,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> Result<Answer, Failure> {
    let connected = async {
        let mut connection = connect(options).await?;
        let answer = work(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    let runtime = runtime().map_err(Failure::Failed)?;
    Ok(runtime.block_on(unless_interrupted(connected))?.into())
}

/// Connects, and says where it cannot.
pub(crate) async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    PgConnection::connect_with(options)
        .await
        .map_err(|error| Place::of(options, error))
        .context("cannot connect to the timeline database (threadline.url)")
}

/// What a command runs on: one thread is enough for one connection.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// SIGINT and SIGTERM, which end a command in its own way.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// From now on.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for one.
    pub(crate) async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ends the work where it stands when SIGINT or SIGTERM comes, and says what is left of it.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = Interrupt::new()?;
    tokio::select! {
        done = work => return done,
        () = interrupt.come() => {}
    }
    anyhow::bail!(
        "interrupted: steps that were finished stay, and a step that was not leaves nothing; the same command completes what is \
         missing"
    )
}
