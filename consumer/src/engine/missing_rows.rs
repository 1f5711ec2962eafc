//! Events whose audit row is not there: what is in the target is there all the same, what has its dead letter keeps it, and what
//! all forwarders had settled is no loss. The rest are dead letters; but what the log itself has never held is not this
//! source's, and not ours to settle. Nor is anything where the table is not the captured one.

use std::collections::{HashMap, HashSet};

use common::{
    failures::{self, PriorAttempts, Reason},
    outbox::{
        capture::absence::{self, Absence},
        history::{self, LogHistory, PublishedMessage},
    },
    settings::UnknownEvents,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    engine::work_item::{Instruction, Origin, WorkItem},
    engine::{
        batch_outcome::BatchOutcome,
        dispatcher::ForwarderRuntime,
        isolation::{IsolatedForwarder, Unavailable},
        outage::HoldReason,
        source::{Source, UnfitSource},
    },
    forwarder::Verdict,
};

/// A message that refers to nothing this source has or had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "message {sequence} of the stream names the event {event}, which neither the audit table nor the log has ever held: it is \
     another source's, and nothing is settled. If this database is a copy of the one that the stream belongs to (a snapshot, a \
     base backup), stop this consumer, and give the copy a broker.stream and broker.subject of its own and another source.name; \
     if another process publishes on broker.subject, stop it. If this is the source itself, and it came back from a standby or \
     a backup that lacked its last rows, set consumer.unknown_events = \"dead_letter\" until they are dead letters"
)]
pub struct ForeignMessage {
    /// The event.
    pub event: Uuid,
    /// Where its message stands.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Option<OffsetDateTime>,
    /// Whether others travelled with it.
    pub packed: bool,
}

impl ForeignMessage {
    /// What to ask again: whether it is still so.
    pub(crate) fn item(&self) -> WorkItem {
        let origin = Origin::Stream { sequence: self.sequence, published: self.published };
        WorkItem {
            instruction: Instruction::Forward(self.event),
            origin,
            suspect: false,
            packed: self.packed,
            span: None,
        }
    }
}

/// Decides what becomes of events without a row.
///
/// # Errors
/// When a server is away, or one of them is not this source's: then nothing of the batch may be settled.
pub(crate) async fn resolve(
    runtime: &ForwarderRuntime,
    source: &mut Source,
    forwarder: &mut IsolatedForwarder,
    missing: &[Uuid],
    items: &[WorkItem],
    outcome: &mut BatchOutcome,
) -> Result<(), HoldReason> {
    let away = |why: &str| Err(Unavailable::new(format!("the source database: {why}")).into());
    match runtime.with_timeout(absence::read(source.connection(), &runtime.table, missing)).await? {
        Absence::Gone => {}
        Absence::Standby => return away("a standby, which may not have the rows yet"),
        Absence::Late => return away("rows that were not there a moment ago"),
        Absence::Elsewhere { what, remedy } => return Err(UnfitSource { what, remedy }.into()),
    }
    let id = &runtime.route.id;
    let known = runtime.with_timeout(failures::prior_attempts(source.connection(), id, missing)).await?;
    let there: HashSet<Uuid> = forwarder.find_delivered(missing).await?.into_iter().collect();
    let mut open = Vec::new();
    for event in missing.iter().copied() {
        let earlier = known.get(&event).copied();
        match earlier {
            Some(PriorAttempts { discarded: true, .. }) => outcome.record_discarded(event),
            _ if there.contains(&event) => {
                outcome.record_unforwarded(event, Verdict::AlreadyDelivered, earlier, runtime.policy);
            }
            Some(PriorAttempts { dead: true, .. }) => outcome.keep_dead_letter(event),
            // It waits for another attempt: whatever its message is, it is owed.
            Some(_) => record_row_missing(outcome, event, earlier, runtime),
            None => open.push(event),
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let past = log_history(runtime, source, &open, items).await?;
    let mut settled = 0_usize;
    for event in open {
        match past.get(&event).copied().unwrap_or((LogHistory::Owed, None)) {
            (LogHistory::Settled, _) => {
                settled += 1;
                outcome.record_obsolete(event);
            }
            (LogHistory::Unknown, Some(PublishedMessage { sequence, at, .. }))
                if runtime.settings.unknown_events == UnknownEvents::Hold =>
            {
                let is_it = |item: &&WorkItem| item.instruction == Instruction::Forward(event);
                let packed = items.iter().find(is_it).is_some_and(|item| item.packed);
                return Err(ForeignMessage { event, sequence, published: at, packed }.into());
            }
            _ => record_row_missing(outcome, event, None, runtime),
        }
    }
    if settled > 0 {
        tracing::info!(
            forwarder = %id,
            events = settled,
            "rows are gone of events that all forwarders had settled, or that are older than this forwarder: nothing to deliver"
        );
    }
    Ok(())
}

fn record_row_missing(
    outcome: &mut BatchOutcome,
    event: Uuid,
    earlier: Option<PriorAttempts>,
    runtime: &ForwarderRuntime,
) {
    let error = "the audit row does not exist any more".to_owned();
    let verdict = Verdict::DeadLetter(Reason::AuditEventNotFound, error);
    outcome.record_unforwarded(event, verdict, earlier, runtime.policy);
}

/// What the log knows of these events, by where each came from; with its message where that is a stream.
async fn log_history(
    runtime: &ForwarderRuntime,
    source: &mut Source,
    open: &[Uuid],
    items: &[WorkItem],
) -> Result<HashMap<Uuid, (LogHistory, Option<PublishedMessage>)>, Unavailable> {
    let wanted: HashSet<Uuid> = open.iter().copied().collect();
    let mut messages = Vec::new();
    let mut entries = Vec::new();
    for item in items {
        match (&item.instruction, item.origin) {
            (Instruction::Forward(event), origin) if wanted.contains(event) => match origin {
                Origin::Stream { sequence, published } => {
                    messages.push(PublishedMessage { event: *event, sequence, at: published });
                }
                Origin::Log(position) => entries.push((*event, position.xid)),
                Origin::Retry => {}
            },
            _ => {}
        }
    }
    let route = &runtime.route;
    let mut past = HashMap::new();
    if !messages.is_empty() {
        let created = route.stream_created.get();
        let found = history::of_messages(source.connection(), &route.id, created, &messages);
        let found = runtime.with_timeout(found).await?;
        let known = messages.iter().filter_map(|message| Some((message, *found.get(&message.event)?)));
        past.extend(known.map(|(message, known)| (message.event, (known, Some(*message)))));
    }
    if !entries.is_empty() {
        let found = history::of_entries(source.connection(), &route.id, &entries);
        let found = runtime.with_timeout(found).await?;
        past.extend(found.into_iter().map(|(event, known)| (event, (known, None))));
    }
    Ok(past)
}
