//! Events whose audit row is not there: what is in the target is there all the same, what has its letter keeps it, and what
//! everybody had settled is nobody's loss. The rest are letters; but what the log itself has never held is not this
//! source's, and not ours to settle.

use std::collections::{HashMap, HashSet};

use common::{
    failures::{self, Earlier, Reason},
    outbox::past::{self, Past, Published},
    settings::UnknownEvents,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    book::Book,
    delivery::{Item, Origin, Request},
    dispatcher::Destination,
    forwarder::Verdict,
    guard::{Guarded, Unavailable},
    patience::Held,
    source::Source,
};

/// A message that refers to nothing this source has or had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "message {sequence} of the stream names the event {event}, which neither the audit table nor the log has ever held: it is \
     another source's, and nothing is settled. If this database is a copy of the one that the stream belongs to (a snapshot, a \
     base backup), stop this consumer, and give the copy a broker.stream and broker.subject of its own and another source.name; \
     if another process publishes on broker.subject, stop it. If this is the source itself, and it came back from a standby or \
     a backup that lacked its last rows, set consumer.unknown_events = \"letters\" until they are dead letters"
)]
pub struct Foreign {
    /// The event.
    pub event: Uuid,
    /// Where its message stands.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Option<OffsetDateTime>,
}

impl Foreign {
    /// What to ask again: whether it is still so.
    pub(crate) fn item(&self) -> Item {
        let origin = Origin::Stream { sequence: self.sequence, published: self.published };
        Item { request: Request::Forward(self.event), origin, suspect: false, span: None }
    }
}

/// Enters what becomes of events without a row.
///
/// # Errors
/// When a server is away, or one of them is not this source's: then nothing of the batch may be settled.
pub(crate) async fn judge(
    destination: &Destination,
    source: &mut Source,
    forwarder: &mut Guarded,
    gone: &[Uuid],
    items: &[Item],
    book: &mut Book,
) -> Result<(), Held> {
    if destination.within(source.is_standby()).await? {
        return Err(
            Unavailable::new("the source database: a standby, which may not have the rows yet").into()
        );
    }
    let id = &destination.addressee.id;
    let known = destination.within(failures::earlier(source.connection(), id, gone)).await?;
    let there: HashSet<Uuid> = forwarder.present(gone).await?.into_iter().collect();
    let mut open = Vec::new();
    for event in gone.iter().copied() {
        let earlier = known.get(&event).copied();
        match earlier {
            Some(Earlier { discarded: true, .. }) => book.leave(event),
            _ if there.contains(&event) => book.refuse(event, Verdict::Present, earlier, destination.policy),
            Some(Earlier { dead: true, .. }) => book.keep_letter(event),
            // It waits for another attempt: whatever its message is, it is owed.
            Some(_) => bury(book, event, earlier, destination),
            None => open.push(event),
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let past = of(destination, source, &open, items).await?;
    let mut settled = 0_usize;
    for event in open {
        match past.get(&event).copied().unwrap_or((Past::Owed, None)) {
            (Past::Settled, _) => {
                settled += 1;
                book.pass(event);
            }
            (Past::Unknown, Some(Published { sequence, at, .. }))
                if destination.settings.unknown_events == UnknownEvents::Hold =>
            {
                return Err(Foreign { event, sequence, published: at }.into());
            }
            _ => bury(book, event, None, destination),
        }
    }
    if settled > 0 {
        tracing::info!(
            forwarder = %id,
            events = settled,
            "rows are gone of events that everybody had settled, or that are older than this forwarder: nothing to deliver"
        );
    }
    Ok(())
}

fn bury(book: &mut Book, event: Uuid, earlier: Option<Earlier>, destination: &Destination) {
    let error = "the audit row does not exist any more".to_owned();
    let verdict = Verdict::Cancel(Reason::AuditEventNotFound, error);
    book.refuse(event, verdict, earlier, destination.policy);
}

/// What the log knows of these events, by where each came from; with its message where that is a stream.
async fn of(
    destination: &Destination,
    source: &mut Source,
    open: &[Uuid],
    items: &[Item],
) -> Result<HashMap<Uuid, (Past, Option<Published>)>, Unavailable> {
    let wanted: HashSet<Uuid> = open.iter().copied().collect();
    let mut messages = Vec::new();
    let mut entries = Vec::new();
    for item in items {
        match (&item.request, item.origin) {
            (Request::Forward(event), origin) if wanted.contains(event) => match origin {
                Origin::Stream { sequence, published } => {
                    messages.push(Published { event: *event, sequence, at: published });
                }
                Origin::Log(position) => entries.push((*event, position.xid)),
                Origin::Retry => {}
            },
            _ => {}
        }
    }
    let addressee = &destination.addressee;
    let mut past = HashMap::new();
    if !messages.is_empty() {
        let created = common::broker::microseconds(addressee.stream_created);
        let found = past::of_messages(source.connection(), &addressee.id, created, &messages);
        let found = destination.within(found).await?;
        let known = messages.iter().filter_map(|message| Some((message, *found.get(&message.event)?)));
        past.extend(known.map(|(message, known)| (message.event, (known, Some(*message)))));
    }
    if !entries.is_empty() {
        let found = past::of_entries(source.connection(), &addressee.id, &entries);
        let found = destination.within(found).await?;
        past.extend(found.into_iter().map(|(event, known)| (event, (known, None))));
    }
    Ok(past)
}
