//! The event in a timeline: whether it is there, as it should be, and sealed.

use std::sync::Arc;

use anyhow::Context as _;
use common::{
    failures::diagnosis::{InTimeline, TimelineState},
    settings::{ForwarderSettings, Settings},
};
use sqlx::PgConnection;
use threadline::{Adoption, StoredAction, receipt, stored};
use uuid::Uuid;

use crate::{engine::source::Source, kinds::TimelineForwarder};

/// The event in every timeline that is configured.
pub(crate) async fn all(settings: &Settings, id: Uuid) -> Vec<InTimeline> {
    let mut found = Vec::new();
    for forwarder in settings.forwarder.iter().filter(|one| one.kind == "threadline") {
        let inspected = inspect(settings, forwarder, id).await;
        found.push(inspected.unwrap_or_else(|error| InTimeline {
            forwarder: forwarder.id.to_string(),
            state: TimelineState::Unknown(errors::line(error.as_ref())),
            columns: Vec::new(),
            receipt: None,
        }));
    }
    found
}

async fn inspect(settings: &Settings, forwarder: &ForwarderSettings, id: Uuid) -> anyhow::Result<InTimeline> {
    let timeline = TimelineForwarder::of(forwarder, settings)?;
    let mut connection =
        timeline.database().connect_directly().await.context("cannot connect to the timeline")?;
    let stored = stored::find(&mut connection, timeline.table(), &[id]).await?.pop();
    let mut columns = Vec::new();
    let state = match &stored {
        None => elsewhere(&timeline, forwarder, &mut connection, id).await?,
        Some(stored) => match expected(settings, forwarder, &timeline, id).await? {
            AuditRow::Gone => TimelineState::RowGone,
            AuditRow::Unreadable => TimelineState::RowUnreadable,
            AuditRow::Row(expected, timed) => {
                columns = expected.differences(&stored.clone().but_for_erasures(&expected));
                if !timed {
                    columns.retain(|column| *column != "inserted_at");
                }
                if columns.is_empty() { TimelineState::Equal } else { TimelineState::Differs }
            }
        },
    };
    let receipt = match &stored {
        None => None,
        // Without the table there are no receipts.
        Some(stored) => receipt::chain(&mut connection, timeline.schema(), forwarder.id.as_str())
            .await
            .unwrap_or_default()
            .iter()
            .find(|receipt| (receipt.since..receipt.until).contains(&stored.inserted_at))
            .map(|receipt| receipt.n),
    };
    Ok(InTimeline { forwarder: forwarder.id.to_string(), state, columns, receipt })
}

/// Where the event is when it is not there under its own id.
async fn elsewhere(
    timeline: &TimelineForwarder,
    forwarder: &ForwarderSettings,
    connection: &mut PgConnection,
    id: Uuid,
) -> anyhow::Result<TimelineState> {
    let adoption = Adoption::of(connection, timeline.schema(), forwarder.id.as_str()).await?;
    for (adoption, state) in [(adoption, TimelineState::Adopted), (Adoption::All, TimelineState::Elsewhere)] {
        if adoption.find(connection, timeline.table(), &[id]).await?.contains(&id) {
            return Ok(state);
        }
    }
    Ok(TimelineState::Absent)
}

/// What the source says.
enum AuditRow {
    Gone,
    /// It cannot be read, or has become something that is no action.
    Unreadable,
    /// What should be there, and whether its time is the event's.
    Row(Box<StoredAction>, bool),
}

async fn expected(
    settings: &Settings,
    forwarder: &ForwarderSettings,
    timeline: &TimelineForwarder,
    id: Uuid,
) -> anyhow::Result<AuditRow> {
    let database = common::database::Database::source(&settings.source, "audit-consumer-explain")?;
    let (wanted, batch_bytes) = (Arc::new(timeline.clone()), settings.consumer.batch_bytes);
    let mut source = Source::connect(&database, &settings.source.table, wanted, batch_bytes).await?;
    let slice = source.load(&forwarder.id, &[id], batch_bytes).await?;
    Ok(match slice.loaded.into_iter().next().map(|loaded| loaded.event) {
        None => AuditRow::Gone,
        Some(Err(_)) => AuditRow::Unreadable,
        Some(Ok(event)) => match timeline.action(&event) {
            Err(_) => AuditRow::Unreadable,
            Ok(action) => {
                let timed = timeline.keeps_time() && event.occurred_at.or(event.inserted_at).is_some();
                AuditRow::Row(Box::new(StoredAction::expected(&action)), timed)
            }
        },
    })
}
