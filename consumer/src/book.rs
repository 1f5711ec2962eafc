//! The books of one batch: what became of each event, and what has to be written about it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::AckKind;
use common::{
    event::AuditEvent,
    failures::{self, Earlier, Failure, Outcome, Reason},
    identifier::ForwarderId,
    session::Session,
    telemetry::{names, traces::Status},
};
use metrics::counter;
use uuid::Uuid;

use crate::{
    delivery::{Item, Request},
    forwarder::Verdict,
    guard::Judged,
    settle::{Policy, Settlement},
};

/// What became of a batch, and what has to be written about it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    settled: HashMap<Uuid, Settled>,
    /// Not due yet, and how long until they are.
    early: HashMap<Uuid, Duration>,
    present: u64,
    /// For the log: the event, its action, and which attempt it was.
    delivered: Vec<(Uuid, Option<String>, u32)>,
    failed: Vec<Failed>,
    /// Delivered after an earlier failure.
    cleared: Vec<Uuid>,
    /// Forwarders of somebody else.
    others: HashSet<String>,
}

/// How one event is settled.
#[derive(Debug)]
struct Settled {
    settlement: Settlement,
    /// How its attempt failed if it did.
    kind: &'static str,
    /// From when to when its forwarder had it.
    asked: Option<Range<SystemTime>>,
}

/// One failed attempt, for the table and for the log.
#[derive(Debug)]
struct Failed {
    /// Another forwarder than the lane's own: an id that nobody has configured.
    nobody: Option<ForwarderId>,
    failure: Failure,
    kind: &'static str,
    action: Option<String>,
}

impl Book {
    /// Enters what an event's forwarder made of it.
    pub(crate) fn judge(
        &mut self,
        event: &AuditEvent,
        judged: &Judged,
        earlier: Option<Earlier>,
        policy: Policy,
    ) {
        self.settle(event.id, event.action.clone(), judged, earlier, policy);
    }

    /// Enters an event that no forwarder has seen: its row is gone, or cannot be read.
    pub(crate) fn refuse(&mut self, id: Uuid, verdict: Verdict, earlier: Option<Earlier>, policy: Policy) {
        self.settle(id, None, &verdict.into(), earlier, policy);
    }

    /// Enters an event in whose forwarding its process has died `starts` times.
    pub(crate) fn bury(&mut self, event: &AuditEvent, starts: u32) {
        let (reason, error) = (
            Reason::AttemptsExhausted,
            format!("{starts} processes have died while they forwarded this event alone"),
        );
        let settlement = Settlement::Dead { attempts: starts, reason };
        self.settled.insert(event.id, Settled { settlement, kind: "crash", asked: None });
        self.fail(event.id, event.action.clone(), "crash", error, Outcome::Dead(reason), starts);
    }

    /// Enters an event that waits for its next attempt. The broker forgets its delays in a crash; the row remembers.
    pub(crate) fn wait(&mut self, id: Uuid, wait: Duration) {
        self.early.insert(id, wait);
    }

    /// Enters an event that somebody has decided not to deliver.
    pub(crate) fn leave(&mut self, id: Uuid) {
        self.close(id, Settlement::Discarded);
    }

    /// Enters an event that has its letter: it is not judged again, and says nothing about the target of now.
    pub(crate) fn keep_letter(&mut self, id: Uuid) {
        self.close(id, Settlement::Letter);
    }

    /// Enters an event that nobody is owed.
    pub(crate) fn pass(&mut self, id: Uuid) {
        self.close(id, Settlement::Passed);
    }

    fn close(&mut self, id: Uuid, settlement: Settlement) {
        self.settled.insert(id, Settled { settlement, kind: "error", asked: None });
    }

    /// Notes forwarders that somebody else has or had: what is addressed to them is theirs to judge.
    pub(crate) fn others(&mut self, forwarders: HashSet<String>) {
        self.others = forwarders;
    }

    fn settle(
        &mut self,
        id: Uuid,
        action: Option<String>,
        judged: &Judged,
        earlier: Option<Earlier>,
        policy: Policy,
    ) {
        let settlement = Settlement::of(judged, earlier, policy, &mut rand::rng());
        self.settled.insert(id, Settled { settlement, kind: judged.kind, asked: judged.asked.clone() });
        match (&judged.verdict, settlement.outcome()) {
            (Verdict::Retry(error) | Verdict::Cancel(_, error), Some((outcome, attempts))) => {
                self.fail(id, action, judged.kind, error.clone(), outcome, attempts);
            }
            (verdict, _) => {
                self.delivered.push((id, action, earlier.map_or(0, |earlier| earlier.attempts) + 1));
                self.present += u64::from(*verdict == Verdict::Present);
                self.cleared.extend(earlier.map(|_| id));
            }
        }
    }

    fn fail(
        &mut self,
        id: Uuid,
        action: Option<String>,
        kind: &'static str,
        error: String,
        outcome: Outcome,
        attempts: u32,
    ) {
        let failure = Failure {
            reference: id.to_string(),
            audit_event_id: Some(id),
            error,
            attempts,
            outcome,
            excerpt: None,
        };
        self.failed.push(Failed { nobody: None, failure, kind, action });
    }

    /// What the broker is told about one message.
    pub(crate) fn enter(&mut self, request: &Request) -> AckKind {
        let (nobody, reference, audit_event_id, error, reason, excerpt) = match request {
            Request::Skip => return AckKind::Ack,
            Request::Forward(id) => {
                return match (self.settled.get(id), self.early.get(id)) {
                    (Some(settled), _) => settled.settlement.ack_kind(),
                    (None, wait) => AckKind::Nak(wait.copied()),
                };
            }
            Request::Unknown(forwarder, _) if self.others.contains(forwarder.as_str()) => {
                return AckKind::Ack;
            }
            Request::Unknown(forwarder, id) => {
                let error = "no forwarder of that id is configured".to_owned();
                let nobody = Some(forwarder.clone());
                (nobody, id.to_string(), Some(*id), error, Reason::UnknownForwarder, None)
            }
            Request::Malformed { reference, error, excerpt } => {
                let excerpt = Some(excerpt.clone());
                (None, reference.clone(), None, error.clone(), Reason::MalformedReference, excerpt)
            }
        };
        let outcome = Outcome::Dead(reason);
        let failure = Failure { reference, audit_event_id, error, attempts: 1, outcome, excerpt };
        self.failed.push(Failed { nobody, failure, kind: "error", action: None });
        AckKind::Term
    }

    /// The reasons of everything that ends here as a dead letter.
    pub(crate) fn deaths(&self) -> Vec<Reason> {
        let outcomes = self.failed.iter().map(|failed| failed.failure.outcome);
        outcomes
            .filter_map(|outcome| if let Outcome::Dead(reason) = outcome { Some(reason) } else { None })
            .collect()
    }

    /// How many events wait for another attempt that did not before.
    pub(crate) fn new_retries(&self) -> usize {
        let first = |failed: &&Failed| {
            matches!(failed.failure.outcome, Outcome::Retry(_)) && failed.failure.attempts <= 1
        };
        self.failed.iter().filter(first).count()
    }

    /// Commits what must be known before anything is settled.
    pub(crate) async fn write(
        &self,
        connection: &mut Session,
        forwarder: &ForwarderId,
    ) -> Result<(), sqlx::Error> {
        let (own, nobodys): (Vec<_>, Vec<_>) = self.failed.iter().partition(|failed| failed.nobody.is_none());
        if !own.is_empty() {
            let failures: Vec<Failure> = own.iter().map(|failed| failed.failure.clone()).collect();
            failures::record(connection, forwarder, &failures).await?;
        }
        for failed in nobodys {
            let nobody = failed.nobody.as_ref().unwrap_or(forwarder);
            failures::record(connection, nobody, std::slice::from_ref(&failed.failure)).await?;
        }
        if !self.cleared.is_empty() {
            failures::clear(connection, forwarder, &self.cleared).await?;
        }
        Ok(())
    }

    /// Counts and tells, once the failures are committed: each failed attempt once, refusals and exhaustion included.
    pub(crate) fn tell(&self, forwarder: &ForwarderId, took: Duration) {
        let name = forwarder.to_string();
        let count = |verdict: &'static str, events: usize| {
            counter!(names::FORWARD_EVENTS, "forwarder" => name.clone(), "verdict" => verdict)
                .increment(events as u64);
        };
        let of =
            |wanted: Settlement| self.settled.values().filter(|settled| settled.settlement == wanted).count();
        let delivered = of(Settlement::Delivered);
        count("delivered", delivered);
        count("discarded", of(Settlement::Discarded));
        count("left", of(Settlement::Letter) + of(Settlement::Passed));
        count("dead", self.deaths().len());
        count("retry", self.failed.len() - self.deaths().len());
        counter!(names::FORWARD_ALREADY, "forwarder" => name.clone()).increment(self.present);
        for (id, action, attempt) in &self.delivered {
            tracing::debug!(
                event = names::FORWARD_OK,
                %forwarder,
                audit_event_id = %id,
                action = action.as_deref(),
                attempt,
                duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "delivered"
            );
        }
        for Failed { nobody, failure, kind, action } in &self.failed {
            counter!(names::FORWARD_ERRORS, "forwarder" => name.clone(), "kind" => *kind).increment(1);
            let forwarder = nobody.as_ref().unwrap_or(forwarder);
            let (state, reason) = match failure.outcome {
                Outcome::Retry(_) => ("retrying", None),
                Outcome::Dead(reason) => ("dead", Some(reason.as_str())),
            };
            tracing::warn!(
                event = names::FORWARD_ERROR,
                %forwarder,
                kind,
                audit_event_id = %failure.reference,
                action = action.as_deref(),
                state,
                reason,
                error = %failure.error,
                attempt = failure.attempts,
                "an event was not delivered"
            );
        }
    }

    /// Ends the spans of what was delivered here, with the target's part in them.
    pub(crate) fn trace(&self, forwarder: &ForwarderId, items: &[Item]) {
        for item in items {
            let (Some(span), Request::Forward(id)) = (&item.span, &item.request) else { continue };
            let settled = self.settled.get(id);
            let (status, verdict) = match settled.map(|settled| (settled.settlement, settled.kind)) {
                Some((Settlement::Delivered, _)) => (Status::Unset, "delivered"),
                Some((Settlement::Discarded, _)) => (Status::Unset, "discarded"),
                Some((Settlement::Letter | Settlement::Passed, _)) => (Status::Unset, "left"),
                Some((Settlement::Retry { .. }, kind)) => (Status::Error(kind), "retry"),
                Some((Settlement::Dead { reason, .. }, _)) => (Status::Error(reason.as_str()), "dead"),
                None => (Status::Unset, "early"),
            };
            if let Some(asked) = settled.and_then(|settled| settled.asked.as_ref()) {
                span.child(format!("forward {forwarder}"), asked, status);
            }
            let known =
                vec![("audit.forwarder", forwarder.to_string().into()), ("audit.verdict", verdict.into())];
            span.end(status, known);
        }
    }
}
