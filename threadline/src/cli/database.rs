//! The connection to the timeline database that a command works on.

use std::error::Error;

use anyhow::{Context as _, anyhow};
use errors::Place;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    answer::{Answer, Failure},
    read::safe,
};

/// SQLSTATE of a right that a role lacks.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Who may do what a command does. It is said where the server refuses it to somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Of commands that read.
    Reader,
    /// Of exports.
    Exporter,
    /// Of what no role is granted.
    Owner,
    /// Of what makes the tables that roles are granted rights on.
    Installer,
}

impl Rights {
    fn remedy(self) -> &'static str {
        match self {
            Self::Reader => "deploy/postgres/timeline.sql grants audit_reader what commands that read need",
            Self::Exporter => "deploy/postgres/timeline.sql grants audit_exporter what exports need",
            Self::Owner => {
                "deploy/postgres/timeline.sql leaves this to the owner of the timeline and of the captured tables: connect as that role"
            }
            Self::Installer => {
                "connect as the owner of the timeline's tables, or, where there are none yet, as a role that may create tables in the schema; \
                 deploy/postgres/timeline.sql grants the other roles their rights afterwards"
            }
        }
    }
}

/// What happened, and why, in one line; with who may do it, where the role may not.
pub(crate) fn line(error: &(dyn Error + 'static), rights: Rights) -> String {
    let line = errors::line(error);
    if lacks_right(error) { format!("not_permitted: {line}; {}", rights.remedy()) } else { line }
}

fn lacks_right(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |cause| (*cause).source())
        .filter_map(|cause| cause.downcast_ref::<sqlx::Error>()?.as_database_error()?.code())
        .any(|code| code == INSUFFICIENT_PRIVILEGE)
}

/// Does something on a connection to the timeline database. `rights` are those that it takes.
pub(crate) fn on_timeline<T: Into<Answer>>(
    options: &PgConnectOptions,
    rights: Rights,
    work: impl AsyncFnOnce(&mut PgConnection) -> anyhow::Result<T>,
) -> Result<Answer, Failure> {
    let connected = async {
        let mut connection = connect(options).await?;
        let answer = work(&mut connection).await.map_err(|error| {
            if lacks_right(error.as_ref()) { anyhow!(safe(&line(error.as_ref(), rights))) } else { error }
        })?;
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
