//! The connection to the timeline database that a command works on.

use anyhow::Context as _;
use errors::Place;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::answer::{Answer, Failure};

/// Does something on a connection to the timeline database.
pub(crate) fn on_timeline<T: Into<Answer>>(
    options: &PgConnectOptions,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> Result<Answer, Failure> {
    let connected = async {
        let mut connection = PgConnection::connect_with(options)
            .await
            .map_err(|error| Place::of(options, error))
            .context("cannot connect to the timeline database (threadline.url)")?;
        let answer = work(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(error.into()))?;
    Ok(runtime.block_on(unless_interrupted(connected))?.into())
}

/// Ends the work where it stands when SIGINT or SIGTERM comes, and says what is left of it.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => return done,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow::bail!(
        "interrupted: steps that were finished stay, and a step that was not leaves nothing; the same command completes what is \
         missing"
    )
}
