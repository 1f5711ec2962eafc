//! The books of one batch: what became of each event, and what has to be written about it.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::AckKind;
use common::{
    failures::{self, Failure, Outcome, Reason},
    identifier::ForwarderId,
    telemetry::names,
};
use metrics::counter;
use uuid::Uuid;

use crate::{
    delivery::Request,
    forwarder::Verdict,
    settle::{Policy, Settlement},
    source::Source,
};

/// What became of a batch, and what has to be written about it.
#[derive(Debug, Default)]
pub(crate) struct Book {
    settled: HashMap<Uuid, Settlement>,
    /// Not due yet, and how long until they are.
    pub(crate) early: HashMap<Uuid, Duration>,
    present: u64,
    failures: Vec<Failure>,
    /// Under ids that nobody has configured.
    unknown: Vec<(ForwarderId, Failure)>,
    /// Delivered after an earlier failure.
    cleared: Vec<Uuid>,
}

impl Book {
    /// Enters a verdict; answers which attempt it was if the event was not delivered.
    #[must_use]
    pub(crate) fn judge(
        &mut self,
        id: Uuid,
        verdict: &Verdict,
        earlier: Option<failures::Earlier>,
        policy: Policy,
    ) -> Option<u32> {
        let settlement = Settlement::of(verdict, earlier, policy, &mut rand::rng());
        if let Some((outcome, attempts)) = settlement.outcome() {
            let error = match verdict {
                Verdict::Retry(error) | Verdict::Cancel(_, error) => error.clone(),
                Verdict::Delivered | Verdict::Present => String::new(),
            };
            self.failures.push(Failure {
                reference: id.to_string(),
                audit_event_id: Some(id),
                error,
                attempts,
                outcome,
                excerpt: None,
            });
        } else if earlier.is_some() {
            self.cleared.push(id);
        }
        self.present += u64::from(*verdict == Verdict::Present);
        self.settled.insert(id, settlement);
        settlement.outcome().map(|(_, attempts)| attempts)
    }

    /// What the broker is told about one message.
    pub(crate) fn enter(&mut self, request: &Request) -> AckKind {
        match request {
            Request::Skip => AckKind::Ack,
            Request::Forward(id) => match (self.settled.get(id), self.early.get(id)) {
                (Some(settlement), _) => settlement.ack_kind(),
                (None, wait) => AckKind::Nak(wait.copied()),
            },
            Request::Unknown(forwarder, id) => {
                self.unknown.push((
                    forwarder.clone(),
                    Failure {
                        reference: id.to_string(),
                        audit_event_id: Some(*id),
                        error: "no forwarder of that id is configured".to_owned(),
                        attempts: 1,
                        outcome: Outcome::Dead(Reason::UnknownForwarder),
                        excerpt: None,
                    },
                ));
                AckKind::Term
            }
            Request::Malformed { reference, error, excerpt } => {
                self.failures.push(Failure {
                    reference: reference.clone(),
                    audit_event_id: None,
                    error: error.clone(),
                    attempts: 1,
                    outcome: Outcome::Dead(Reason::MalformedReference),
                    excerpt: Some(excerpt.clone()),
                });
                AckKind::Term
            }
        }
    }

    /// Commits what must be known before anything is settled.
    pub(crate) async fn write(
        &self,
        source: &mut Source,
        forwarder: &ForwarderId,
    ) -> Result<(), sqlx::Error> {
        if !self.failures.is_empty() {
            failures::record(source.connection(), forwarder, &self.failures).await?;
        }
        for (unknown, failure) in &self.unknown {
            failures::record(source.connection(), unknown, std::slice::from_ref(failure)).await?;
        }
        if !self.cleared.is_empty() {
            failures::clear(source.connection(), forwarder, &self.cleared).await?;
        }
        Ok(())
    }

    /// Counts and tells, once the failures are committed.
    pub(crate) fn count(&self, forwarder: &ForwarderId) {
        let forwarder = forwarder.to_string();
        let delivered =
            self.settled.values().filter(|settlement| **settlement == Settlement::Delivered).count();
        let failures = || self.failures.iter().chain(self.unknown.iter().map(|(_, failure)| failure));
        let dead = failures().filter(|failure| matches!(failure.outcome, Outcome::Dead(_))).count();
        for (verdict, count) in
            [("delivered", delivered), ("dead", dead), ("retry", failures().count() - dead)]
        {
            counter!(names::FORWARD_EVENTS, "forwarder" => forwarder.clone(), "verdict" => verdict)
                .increment(count as u64);
        }
        counter!(names::FORWARD_ALREADY, "forwarder" => forwarder.clone()).increment(self.present);
        tracing::debug!(event = names::FORWARD_OK, forwarder, events = delivered, "delivered a batch");
        for failure in failures() {
            if let Outcome::Dead(reason) = failure.outcome {
                tracing::error!(reference = %failure.reference, %reason, error = %failure.error, "a dead letter");
            }
        }
    }
}
