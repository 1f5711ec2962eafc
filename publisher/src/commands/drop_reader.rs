//! `publisher drop-reader`: removes a reader that is no longer used.

use anyhow::{bail, ensure};
use common::{
    outbox::{
        self, forwarders,
        reader::{lease, readers},
    },
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    settings::{Settings, UsageError},
};

use crate::commands::APPLICATION;

/// Removes a reader that is no longer used, and records why.
///
/// # Errors
/// When a process may still read as it, there is no such reader, or the server is away; nothing is half done.
pub(crate) async fn run(settings: &Settings, reader: &str, reason: &str) -> anyhow::Result<()> {
    ensure!(
        !readers::reader_names(settings).iter().any(|used| used == reader),
        UsageError(format!(
            "the reader {reader} is in use by these settings: remove the forwarder, or the broker, from them first. A reader \
             that begins again begins with what the log still holds"
        ))
    );
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let mut transaction = connection.begin().await?;
    if let Some(holder) = lease::holder(&mut transaction, reader).await? {
        bail!("{holder} reads as {reader} now: stop it first, and wait for the end of its lease");
    }
    let rows = readers::drop_reader(&mut transaction, reader).await?;
    ensure!(rows > 0, "there is no reader {reader}: `publisher doctor` names those that are out of use");
    readers::delete_settled(&mut transaction, reader).await?;
    if let Some(forwarder) = readers::forwarder_of(reader) {
        forwarders::drop(&mut transaction, forwarder).await?;
    }
    let (actor, filter) = (operator_log::operator(), format!("reader {reader}"));
    let action = OperatorAction {
        actor: &actor,
        kind: ActionKind::DropReader,
        filter: &filter,
        count: rows,
        reason: Some(reason),
    };
    operator_log::record(&mut transaction, &action).await?;
    transaction.commit().await?;
    console::print(&format!("the reader {reader} was removed and holds nothing back any more\n"));
    Ok(())
}
