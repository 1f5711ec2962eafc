//! `publisher rebase`: takes stored positions and the stream over for this database.

use common::{
    broker::{self, SourceIdentity},
    outbox::{
        self,
        relay::rewind::{self, Move, RebaseError, Rebased},
    },
    process::{
        console,
        operator_log::{self, ActionKind, OperatorAction},
    },
    settings::Settings,
};

use crate::commands::APPLICATION;

/// Makes stored positions and stream this cluster's own.
///
/// # Errors
/// When there is nothing to rebase, it would be wrong, or a server is away; nothing is half done.
pub(crate) async fn run(settings: &Settings, upgraded: bool, json: bool) -> anyhow::Result<()> {
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
            "{readers} position(s) belong to this cluster now, {entries} entries were written again{ours}\n"
        )
    });
    Ok(())
}
