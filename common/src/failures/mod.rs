//! `outbox.failures`: attempts, waits and dead letters.
//!
//! Attempts live here and nowhere else: the broker's delivery count also counts prefetch, restarts and neighbours,
//! and is forgotten when the broker crashes. [`admin`] is what operators do with them, [`diagnosis`] what keeps an event from a timeline.

pub mod admin;
mod attempts;
pub mod diagnosis;

pub use attempts::{
    clear, due, end, ended, prior_attempts, record, requeue_overdue, retrying, start, states,
};

use std::{fmt, time::Duration};

use uuid::Uuid;

use crate::text_enum::text_enum;

text_enum! {
    /// What `outbox.failures` says of an event.
    FailureState {
        /// It waits for its next attempt.
        Retrying = "retrying",
        /// It has been appended to the log again and waits for that delivery.
        Queued = "queued",
        /// A dead letter: it waits for an operator.
        Dead = "dead",
        /// An operator has decided that it is not to be delivered.
        Discarded = "discarded",
    }
}

text_enum! {
    /// How an attempt failed.
    FailureKind {
        /// The forwarder or its target returned an error.
        Error = "error",
        /// The forwarder panicked.
        Panic = "panic",
        /// The forwarder did not finish in time.
        Timeout = "timeout",
        /// The process died.
        Crash = "crash",
    }
}

/// Why an event will not be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The audit row is gone: retention came first, or it was deleted by hand.
    AuditEventNotFound,
    /// Addressed to a forwarder that no process has configured.
    UnknownForwarder,
    /// The target refuses the data itself.
    SchemaMismatch,
    /// The message cannot be read as a reference.
    MalformedReference,
    /// The target holds something else under this id.
    IdConflict,
    /// All attempts failed.
    AttemptsExhausted,
    /// The source cannot hand its audit row over.
    AuditEventUnreadable,
    /// Its audit row is larger than one may be.
    AuditEventTooLarge,
    /// The target took it and did not keep it.
    NotWritten,
}

impl Reason {
    /// The name in tables, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuditEventNotFound => "audit_event_not_found",
            Self::UnknownForwarder => "unknown_forwarder",
            Self::SchemaMismatch => "schema_mismatch",
            Self::MalformedReference => "malformed_reference",
            Self::IdConflict => "id_conflict",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::AuditEventUnreadable => "audit_event_unreadable",
            Self::AuditEventTooLarge => "audit_event_too_large",
            Self::NotWritten => "not_written",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one failed event leaves behind.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The event id, or `stream:<created>:<sequence>` for a message that cannot be read.
    pub reference: String,
    /// The event, where it is known.
    pub audit_event_id: Option<Uuid>,
    /// The last error, as whatever refused it said.
    pub error: String,
    /// Failed attempts, this one included.
    pub attempts: u32,
    /// What happens next.
    pub outcome: NextStep,
    /// The first bytes of a message that cannot be read.
    pub excerpt: Option<Vec<u8>>,
}

/// What happens to a failed event next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Tried again after this long.
    Retry(Duration),
    /// The same, and it enters the log for that: the message that it came in ends, for the sake of the others in it.
    RetryAlone(Duration),
    /// Never again by itself.
    Dead(Reason),
}

/// The attempts that an event has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorAttempts {
    /// Failed attempts so far.
    pub attempts: u32,
    /// How long until the next one is due; zero when it is.
    pub wait: Duration,
    /// Whether an operator has decided that it is not to be delivered.
    pub discarded: bool,
    /// Whether it is a dead letter of this forwarder's own judgement: it waits for a person, and is not judged again.
    pub dead: bool,
    /// Whether it is one because its row was gone.
    pub gone: bool,
}
