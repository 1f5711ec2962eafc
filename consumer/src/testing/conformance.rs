//! What every forwarder must do, checked against a target that works.

use std::collections::HashSet;

use common::event::{AuditEvent, TEXT_COLUMNS};
use futures::FutureExt as _;
use uuid::Uuid;

use crate::forwarder::{ForwardError, Forwarder, ForwarderFactory, Preflight, Verdict};

/// What a forwarder may do or leave out. A test of a forwarder that does it should say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Forwarder::find_delivered`] names what was delivered. Without it an event whose audit row is gone becomes a dead letter
    /// although it has arrived.
    pub finds_delivered: bool,
    /// [`Forwarder::is_serving`] says that the target works. Without it an event that looks like an outage holds its batch.
    pub tells_serving: bool,
}

/// What a forwarder does that it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The suite was called with something that shows nothing.
    #[error("give at least two events with different ids, one of which the target takes")]
    Input,
    /// The columns that it declares are not those of an event, or it requires one that it does not read.
    #[error("column {0:?} is not one of an event, or is required without being read")]
    Column(String),
    /// The preflight finds something, at a target that works.
    #[error("the preflight reports: {0}")]
    Preflight(String),
    /// It has no verdicts, at a target that works.
    #[error("{call}: {error}")]
    Failed {
        /// What was called.
        call: &'static str,
        /// The forwarder's own error.
        error: ForwardError,
    },
    /// Not one verdict for each event.
    #[error("{call}: {verdicts} verdict(s) for {events} event(s)")]
    Count {
        /// What was called.
        call: &'static str,
        /// How many events.
        events: usize,
        /// How many verdicts.
        verdicts: usize,
    },
    /// The verdict on an event depends on its place in the batch, or on how often it came: the verdicts are not in the order of the
    /// events, or a repeat has a second effect.
    #[error("{call}: event {event} is {then:?}, and was {before:?} in the first batch")]
    Changed {
        /// What was called.
        call: &'static str,
        /// Which event.
        event: Uuid,
        /// Its first verdict.
        before: Verdict,
        /// Its later verdict.
        then: Verdict,
    },
    /// It calls events delivered that were not, or that it was not asked for.
    #[error("find_delivered names {0}, which was not delivered")]
    FoundTooMuch(Uuid),
    /// It names some of what was delivered, and not this one; or this one more than once.
    #[error("find_delivered names {event}, which was delivered, {times} times")]
    FoundWrongly {
        /// Which event.
        event: Uuid,
        /// How often it is named.
        times: usize,
    },
    /// It said that the target works, and later that it does not.
    #[error("is_serving was true before the target was used, and false after it")]
    StoppedServing,
}

/// Runs the suite. The target must work and know none of the `events`, which are in it afterwards; at least one must be one that
/// it takes. Two workers are built and used by turns, as redeliveries would.
///
/// # Errors
/// The first thing that the forwarder does and must not.
pub async fn check(factory: &dyn ForwarderFactory, events: &[AuditEvent]) -> Result<Capabilities, Violation> {
    let ids: HashSet<Uuid> = events.iter().map(|event| event.id).collect();
    if events.len() < 2 || ids.len() < events.len() {
        return Err(Violation::Input);
    }
    columns(factory)?;
    let Preflight { checks, .. } = factory.preflight().await;
    if let Some(problem) = checks.into_iter().find_map(|(_, found)| found) {
        return Err(Violation::Preflight(problem.what));
    }
    let (mut one, mut other) = (factory.build(), factory.build());
    let tells_serving = one.is_serving().await;
    found(&mut *one, events, &HashSet::new()).await?;
    forward(&mut *one, "an empty batch", &[]).await?;

    let first = forward(&mut *one, "a batch", events).await?;
    let delivered: HashSet<Uuid> = events
        .iter()
        .zip(&first)
        .filter(|(_, verdict)| verdict.is_delivered())
        .map(|(event, _)| event.id)
        .collect();
    if delivered.is_empty() {
        return Err(Violation::Input);
    }
    let finds_delivered = found(&mut *one, events, &delivered).await?;

    let again = forward(&mut *other, "the same batch, by another worker", events).await?;
    unchanged("the same batch, by another worker", events, &first, &again)?;
    let mut backwards = events.to_vec();
    backwards.reverse();
    let mut again = forward(&mut *one, "the batch in another order", &backwards).await?;
    again.reverse();
    unchanged("the batch in another order", events, &first, &again)?;

    // As a time-out or a shutdown does.
    drop(other.forward(events).now_or_never());
    let again = forward(&mut *other, "a batch after one that was dropped", events).await?;
    unchanged("a batch after one that was dropped", events, &first, &again)?;
    for worker in [&mut one, &mut other] {
        if found(&mut **worker, events, &delivered).await? != finds_delivered {
            return Err(Violation::FoundWrongly { event: events[0].id, times: 0 });
        }
        if tells_serving && !worker.is_serving().await {
            return Err(Violation::StoppedServing);
        }
    }
    Ok(Capabilities { finds_delivered, tells_serving })
}

fn columns(factory: &dyn ForwarderFactory) -> Result<(), Violation> {
    let read = factory.columns();
    let stray = read.iter().find(|column| !TEXT_COLUMNS.contains(column));
    match stray.or_else(|| factory.required_columns().iter().find(|column| !read.contains(column))) {
        Some(column) => Err(Violation::Column((*column).to_owned())),
        None => Ok(()),
    }
}

async fn forward(
    worker: &mut dyn Forwarder,
    call: &'static str,
    events: &[AuditEvent],
) -> Result<Vec<Verdict>, Violation> {
    let verdicts = worker.forward(events).await.map_err(|error| Violation::Failed { call, error })?;
    if verdicts.len() != events.len() {
        return Err(Violation::Count { call, events: events.len(), verdicts: verdicts.len() });
    }
    Ok(verdicts)
}

fn unchanged(
    call: &'static str,
    events: &[AuditEvent],
    first: &[Verdict],
    again: &[Verdict],
) -> Result<(), Violation> {
    for ((event, before), then) in events.iter().zip(first).zip(again) {
        // Which of the two it is, and with which words, is the forwarder's to say.
        if before.is_delivered() != then.is_delivered() {
            let (before, then) = (before.clone(), then.clone());
            return Err(Violation::Changed { call, event: event.id, before, then });
        }
    }
    Ok(())
}

/// Whether the forwarder can say what was delivered; what it says must be true.
async fn found(
    worker: &mut dyn Forwarder,
    events: &[AuditEvent],
    delivered: &HashSet<Uuid>,
) -> Result<bool, Violation> {
    let stranger = Uuid::new_v4();
    let asked: Vec<Uuid> = events.iter().map(|event| event.id).chain([stranger]).collect();
    let call = "find_delivered";
    let named = worker.find_delivered(&asked).await.map_err(|error| Violation::Failed { call, error })?;
    if let Some(stray) = named.iter().find(|event| !delivered.contains(event)) {
        return Err(Violation::FoundTooMuch(*stray));
    }
    if named.is_empty() {
        return Ok(false);
    }
    for event in delivered {
        let times = named.iter().filter(|named| *named == event).count();
        if times != 1 {
            return Err(Violation::FoundWrongly { event: *event, times });
        }
    }
    Ok(true)
}
