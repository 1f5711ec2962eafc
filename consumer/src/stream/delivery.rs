//! One message as it was delivered: what it refers to, and whether that is ours.

use async_nats::jetstream::{AckKind, Message};
use common::process::telemetry::traces::{self, Attributes, Kind, Traceparent, Tracer};
use time::OffsetDateTime;

use crate::engine::{
    disposition::Disposition,
    work_item::{Instruction, Origin, Route, WorkItem},
};

/// From this delivery of one message on it is forwarded alone, in case it is what kills its process.
const SUSPECT_FROM: i64 = 3;

/// A message that was received and not settled.
#[derive(Debug)]
pub struct Delivery {
    /// To settle it.
    pub message: Message,
    /// What it requests.
    pub instruction: Instruction,
    /// How often the broker has delivered it: more than once in a redelivery. Says nothing about attempts.
    pub delivered: i64,
    /// Where it stands in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub published: Option<OffsetDateTime>,
}

impl Delivery {
    /// Reads a message.
    #[must_use]
    pub fn new(message: Message, route: &Route) -> Self {
        let (sequence, delivered, published) = message
            .info()
            .map_or((0, 1, None), |info| (info.stream_sequence, info.delivered, Some(info.published)));
        let instruction = route.instruction(&message.payload, sequence);
        Self { message, instruction, delivered, sequence, published }
    }

    /// What is to be done for it.
    #[must_use]
    pub fn item(&self, tracer: &Tracer) -> WorkItem {
        let span = match self.instruction {
            Instruction::Forward(event) => {
                tracer.begin(Kind::Consumer, &self.message.subject, event, || self.traceparent())
            }
            _ => None,
        };
        let span = span.map(|span| span.with(self.attributes()));
        let origin = Origin::Stream { sequence: self.sequence, published: self.published };
        WorkItem {
            instruction: self.instruction.clone(),
            origin,
            suspect: self.delivered >= SUSPECT_FROM,
            span,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        Some(self.message.headers.as_ref()?.get(name)?.as_str())
    }

    /// What a trace knows of the message.
    fn attributes(&self) -> Attributes {
        let mut attributes = vec![("audit.delivery", self.delivered.into())];
        let id = self.header("Nats-Msg-Id").map(str::to_owned);
        attributes.extend(id.map(|id| ("messaging.message.id", id.into())));
        let sequence = self.message.info().map(|info| info.stream_sequence).ok();
        attributes.extend(sequence.map(|sequence| ("audit.stream_sequence", sequence.into())));
        attributes
    }

    /// The trace that its publish is part of.
    fn traceparent(&self) -> Option<Traceparent> {
        self.header(traces::HEADER)?.parse().ok()
    }
}

/// How the outcome of a message is reported to the broker.
#[must_use]
pub fn ack_kind(disposition: Disposition) -> AckKind {
    match disposition {
        Disposition::Delivered | Disposition::Discarded | Disposition::Obsolete | Disposition::Skipped => {
            AckKind::Ack
        }
        Disposition::Retry { delay, .. } => AckKind::Nak(Some(delay)),
        Disposition::Deferred(delay) => AckKind::Nak(delay),
        Disposition::Dead { .. } | Disposition::AlreadyDead => AckKind::Term,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::failures::Reason;

    use super::*;

    #[test]
    fn every_disposition_has_its_acknowledgement() {
        let second = Duration::from_secs(1);
        let table = [
            (Disposition::Delivered, AckKind::Ack),
            (Disposition::Discarded, AckKind::Ack),
            (Disposition::Obsolete, AckKind::Ack),
            (Disposition::Skipped, AckKind::Ack),
            (Disposition::Retry { attempts: 1, delay: second }, AckKind::Nak(Some(second))),
            (Disposition::Deferred(Some(second)), AckKind::Nak(Some(second))),
            (Disposition::Deferred(None), AckKind::Nak(None)),
            (Disposition::Dead { attempts: 1, reason: Reason::IdConflict }, AckKind::Term),
            (Disposition::AlreadyDead, AckKind::Term),
        ];
        for (disposition, expected) in table {
            let kind = ack_kind(disposition);
            assert_eq!(format!("{kind:?}"), format!("{expected:?}"), "{disposition:?}");
        }
    }
}
