//! The short commands: attach, detach, prune, rebase, drop-reader.

mod adopted;
pub mod backfill;
pub mod status;

use anyhow::{Context as _, anyhow, bail, ensure};
use common::{
    broker::{self, SourceIdentity},
    database::Database,
    event::NEEDED_BY_THREADLINE,
    identifier::TableName,
    outbox::{
        self, OutboxError,
        capture::{self, columns, ownership, table_locks},
        forwarders, maintenance,
        reader::{lease, readers, rounds::StreamPosition},
        relay::rewind::{self, Move, RebaseError, Rebased},
    },
    service::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    session::Session,
    settings::{Settings, UsageError},
};

use crate::maintenance::lowest_ack_floor;

/// What the short commands are called at the servers.
pub(crate) const APPLICATION: &str = "audit-publisher-command";

/// Creates the outbox where it is missing and starts capture.
///
/// # Errors
/// When the table is not fit, or too busy; nothing is half done.
pub async fn attach(settings: &Settings) -> anyhow::Result<()> {
    let table = &settings.source.table;
    let mut connection = outbox::reach(&Database::source(&settings.source, APPLICATION)?).await?;
    let anew = outbox::migrate(&mut connection).await.context("cannot create the schema outbox")?;
    if let Err(error) = capture::attach(&mut connection, table).await {
        return Err(busy(&mut connection, table, error).await.context(format!("cannot attach {table}")));
    }
    if let Some((role, lacks)) = ownership::lacking(&mut connection).await? {
        let cause = capture::Cause::Powerless { role, lacks };
        let table = table.to_string();
        bail!("{}: {}", cause.what(&table), cause.remedy(&table));
    }
    for (what, remedy) in capture::warnings(&mut connection, table).await? {
        tracing::warn!(%table, remedy, "{what}");
    }
    // The log needs no more than it has insisted on. What other forwarders need, their binary knows.
    let columns = columns::of(&mut connection, table).await.context("cannot look at its columns")?;
    if settings.forwarder.iter().any(|one| one.kind == "threadline") {
        for name in NEEDED_BY_THREADLINE.into_iter().filter(|name| !columns.contains_key(*name)) {
            tracing::warn!(
                %table,
                column = name,
                "the table lacks a column without which the forwarder threadline can deliver nothing: the consumer will not \
                 start with it (docs/events.md)"
            );
        }
    }
    if !anew.is_empty() {
        let forgotten: Vec<&str> =
            std::iter::once("").chain(anew.iter().filter_map(|name| forgotten(name))).collect();
        console::print(&format!(
            "made anew what somebody had dropped from the schema outbox: {}{}. Grants on it are to be made again \
             (deploy/postgres/source.sql)\n",
            anew.join(", "),
            forgotten.join("; ")
        ));
    }
    console::print(&format!("every row inserted into {table} from now on is captured\n"));
    Ok(())
}

/// Who keeps us from the table's lock, where that is why something failed.
async fn busy(connection: &mut Session, table: &TableName, error: sqlx::Error) -> anyhow::Error {
    if !capture::is_lock_timeout(&error) {
        return error.into();
    }
    // Who it was may have gone meanwhile.
    let holders = table_locks::holders(connection, table).await.unwrap_or_default();
    let held =
        if holders.is_empty() { "by others".to_owned() } else { format!("by {}", holders.join("; by ")) };
    anyhow!(
        "the table was in use whenever it was tried, {held}: end these transactions (pg_stat_activity shows them), or run this \
         again when fewer long ones run"
    )
}

/// What is gone with a table, and what to do about it.
fn forgotten(table: &str) -> Option<&'static str> {
    match table {
        "entries" => Some(
            "what was captured and not delivered is not in the log any more: `publisher backfill` enters it",
        ),
        "failures" => Some("its letters are forgotten: `consumer reconcile` finds their events"),
        "rounds" => {
            Some("readers begin again with what the log holds: what had arrived has no second effect")
        }
        "acts" => Some("who did what is forgotten"),
        _ => None,
    }
}

/// Stops capture.
///
/// # Errors
/// When the table is too busy.
pub async fn detach(settings: &Settings) -> anyhow::Result<()> {
    let mut connection = outbox::reach(&Database::source(&settings.source, APPLICATION)?).await?;
    // Whatever the settings call the table: it is the outbox's that is let go.
    let required = outbox::require(&mut connection, &settings.source.table).await;
    if let Err(error @ (OutboxError::Missing | OutboxError::Database(_))) = required {
        return Err(error.into());
    }
    let tables = match capture::detach(&mut connection).await {
        Ok(tables) => tables,
        Err(error) => {
            let error = busy(&mut connection, &settings.source.table, error).await;
            return Err(error.context("cannot detach; nothing has changed"));
        }
    };
    let of = if tables.is_empty() {
        "was off already".to_owned()
    } else {
        format!("of {} is off", tables.join(", "))
    };
    console::print(&format!("capture {of}; what has been captured is still relayed\n"));
    Ok(())
}

/// Removes what every forwarder is past.
///
/// # Errors
/// When a server is away.
pub async fn prune(settings: &Settings, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let floor = floor(settings).await?;
    let pruned = maintenance::prune(&mut connection, floor, settings.relay.retention).await?;
    console::print(&if json {
        format!("{}\n", serde_json::json!({"pruned": pruned}))
    } else {
        format!("removed {pruned} entries\n")
    });
    Ok(())
}

/// Makes stored positions and stream this cluster's own.
///
/// # Errors
/// When there is nothing to rebase, it would be wrong, or a server is away; nothing is half done.
pub async fn rebase(settings: &Settings, upgraded: bool, json: bool) -> anyhow::Result<()> {
    let (_, mut connection) = outbox::open(&settings.source, APPLICATION).await?;
    let table = &settings.source.table;
    let how = if upgraded { Move::Upgraded } else { Move::Restored };
    // Before anything changes: a broker that is away must not leave the stream behind.
    let client = match &settings.broker.url {
        Some(_) => Some(broker::connect(&settings.broker, APPLICATION).await?),
        None => None,
    };
    let actor = operator_log::operator();
    let rebased = match rewind::rebase(&mut connection, how, &actor).await {
        // The stream may be another's all the same: an earlier rebase ended before it got there, or the database has
        // a new name.
        Err(RebaseError::Nothing) => None,
        rebased => Some(rebased?),
    };
    let stream = match client {
        Some(client) => {
            let identity = SourceIdentity::read(&mut connection, table).await?;
            let identity = identity.named(settings.source.name.as_deref());
            broker::adopt_stream(&broker::context(&client, &settings.broker), &settings.broker, &identity)
                .await?
        }
        None => None,
    };
    if let Some(theirs) = &stream {
        let filter = format!("took over the stream {} of {theirs}", settings.broker.stream);
        let action = OperatorAction {
            actor: &actor,
            kind: ActionKind::Rebase,
            filter: &filter,
            count: 0,
            reason: None,
        };
        operator_log::record(&mut connection, &action).await?;
    }
    let Rebased { readers, entries } = match (rebased, &stream) {
        (Some(rebased), _) => rebased,
        (None, Some(_)) => Rebased { readers: 0, entries: 0 },
        (None, None) => return Err(RebaseError::Nothing.into()),
    };
    console::print(&if json {
        format!("{}\n", serde_json::json!({"readers": readers, "entries": entries, "stream_of": stream}))
    } else {
        let ours = stream.map_or_else(String::new, |theirs| {
            format!("; the stream {}, which was of {theirs}, is this source's now", settings.broker.stream)
        });
        format!(
            "{readers} position(s) belong to this cluster now, {entries} entries were written anew{ours}\n"
        )
    });
    Ok(())
}

/// Lets go of a reader that is out of use, and records why.
///
/// # Errors
/// When somebody may still read as it, there is no such reader, or the server is away; nothing is half done.
pub async fn drop_reader(settings: &Settings, reader: &str, reason: &str) -> anyhow::Result<()> {
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
    console::print(&format!("the reader {reader} is gone and holds nothing back any more\n"));
    Ok(())
}

/// The lowest floor on the stream; `None` without a broker, a stream or a forwarder on it.
async fn floor(settings: &Settings) -> anyhow::Result<Option<StreamPosition>> {
    if settings.broker.url.is_none() {
        return Ok(None);
    }
    let client = broker::connect(&settings.broker, APPLICATION).await?;
    let stream = broker::context(&client, &settings.broker)
        .get_stream(&settings.broker.stream)
        .await
        .with_context(|| format!("cannot look at the stream {}", settings.broker.stream))?;
    Ok(lowest_ack_floor(&broker::ack_floors(&stream).await?, stream.cached_info().created))
}
