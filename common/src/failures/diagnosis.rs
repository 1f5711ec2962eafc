//! What keeps an event from the timeline, made of what the source and the timelines say of it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{FailureState, Reason, admin::FailureRecord};
use crate::outbox::admin::event_status::{EventStatus, ReadState};

/// What a timeline says of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimelineState {
    /// It is there, as it should be.
    Equal,
    /// It is there, and was not compared.
    Present,
    /// It is there, and not as it should be.
    Differs,
    /// It is there, and its audit row is gone.
    RowGone,
    /// It is there, and its audit row cannot be read or is no action.
    RowUnreadable,
    /// Another forwarder has brought it in, and that counts.
    Adopted,
    /// Another forwarder's action has its correlation id, and that does not count.
    Elsewhere,
    /// It is not there.
    Absent,
    /// The timeline could not be queried.
    Unknown(String),
}

impl fmt::Display for TimelineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "as it should be",
            Self::Present => "there",
            Self::Differs => "differs",
            Self::RowGone => "there, and its audit row is gone",
            Self::RowUnreadable => "there, and nothing can be made of its audit row as it is",
            Self::Adopted => "adopted: another forwarder has brought it in under an id of its own",
            Self::Elsewhere => "absent, but the action of another system has its correlation id",
            Self::Absent => "absent",
            Self::Unknown(error) => return write!(f, "unknown: {error}"),
        })
    }
}

impl Serialize for TimelineState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The event in one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InTimeline {
    /// Whose timeline it is.
    pub forwarder: String,
    /// What it says.
    pub state: TimelineState,
    /// The columns that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<&'static str>,
    /// The number of the receipt that covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<i64>,
}

/// What an operator should know first.
#[must_use]
pub fn diagnose(status: &EventStatus, failures: &[FailureRecord], timelines: &[InTimeline]) -> String {
    if let Some(failure) = failures.iter().find(|failure| failure.state != FailureState::Queued) {
        if failure.state == FailureState::Dead
            && failure.reason.as_deref() == Some(Reason::AuditEventNotFound.as_str())
            && status.row.is_some()
        {
            return format!(
                "forwarder {}: its dead letter says that the row was gone, and the row is there: the continuous reconciliation, or at \
                 once `consumer failures redrive --id {}`, delivers it",
                failure.forwarder, failure.reference
            );
        }
        let reason = failure.reason.as_deref().or(failure.error.as_deref()).unwrap_or("no reason is known");
        return format!(
            "it is a failure of forwarder {} in state {} ({reason}): `consumer failures show {}`",
            failure.forwarder, failure.state, failure.reference
        );
    }
    if let Some(one) = timelines.iter().find(|one| one.state == TimelineState::Differs) {
        return format!("forwarder {}: the action was changed: `consumer reconcile --repair`", one.forwarder);
    }
    let elsewhere = timelines.iter().find(|one| one.state == TimelineState::Elsewhere);
    let absent = elsewhere.is_some() || timelines.iter().any(|one| one.state == TimelineState::Absent);
    if status.row.is_none() && status.entries.is_empty() {
        return match status.blockers.first() {
            Some(blocker) => format!(
                "no such row is committed; if it was written, its transaction still runs: process {} for {:.0} s ({})",
                blocker.pid, blocker.seconds, blocker.state
            ),
            None => "no such row is committed, and no transaction that writes is running: it was rolled back, deleted, or \
                     never written"
                .to_owned(),
        };
    }
    if !absent {
        return "it has arrived".to_owned();
    }
    if let (Some(one), true) = (elsewhere, status.entries.is_empty()) {
        return format!(
            "forwarder {}: the action of another system has its correlation id: if Sigra's own forwarder wrote it, `publisher \
             backfill --accept-foreign-ids` remembers that it is there (docs/switching.md); if not, `publisher backfill` enters it",
            one.forwarder
        );
    }
    if status.entries.is_empty() {
        return "the row was never captured, or its entry was pruned after delivery: `publisher backfill` or `consumer \
                reconcile --repair` enters it"
            .to_owned();
    }
    match status.entries.iter().flat_map(|entry| &entry.readers).find(|reader| reader.state != ReadState::HandedOver) {
        Some(reader) => match &status.leader(&reader.reader) {
            Some(_) => format!("reader {} has not handed it over yet, but is at work", reader.reader),
            None => format!("no process reads the log for {}: is the publisher running?", reader.reader),
        },
        None if status.readers.is_empty() => "no process has ever read the log: is the publisher running?".to_owned(),
        None => "it was handed over and is on its way, or its message was lost: the continuous reconciliation enters it again"
            .to_owned(),
    }
}
