//! One message as it was delivered: what it refers to, and whether that is ours.

use async_nats::jetstream::{AckKind, Message};
use common::process::telemetry::traces::{self, Attributes, Kind, Traceparent, Tracer};
use time::OffsetDateTime;

use crate::engine::{
    disposition::Disposition,
    work_item::{Instruction, Origin, Route, WorkItem},
};

/// From this delivery of one message on its events are forwarded alone, in case one of them is what kills its process.
const SUSPECT_FROM: i64 = 3;

/// A message that was received and not settled.
#[derive(Debug)]
pub struct Delivery {
    /// To settle it.
    pub message: Message,
    /// What it requests, one for each event that it names; one at least.
    pub instructions: Vec<Instruction>,
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
        let instructions = route.instructions(&message.payload, sequence);
        Self { message, instructions, delivered, sequence, published }
    }

    /// What is to be done for it.
    pub fn items(&self, tracer: &Tracer) -> impl Iterator<Item = WorkItem> {
        self.instructions.iter().enumerate().map(move |(place, instruction)| {
            // A pack is in the trace of its first event; the others are in their own.
            let parent = || if place == 0 { self.traceparent() } else { None };
            let span = match instruction {
                Instruction::Forward(event) => {
                    tracer.begin(Kind::Consumer, &self.message.subject, *event, parent)
                }
                _ => None,
            };
            WorkItem {
                instruction: instruction.clone(),
                origin: Origin::Stream { sequence: self.sequence, published: self.published },
                suspect: self.delivered >= SUSPECT_FROM,
                packed: self.instructions.len() > 1,
                span: span.map(|span| span.with(self.attributes())),
            }
        })
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

/// How the outcome of a message is reported to the broker, by what became of what it requests.
#[must_use]
pub fn ack_kind(dispositions: &[Disposition]) -> AckKind {
    match dispositions {
        [one] => ack_kind_of_one(*one),
        // Nothing was tried: another process may have it at once.
        all if all.contains(&Disposition::Deferred(None)) => AckKind::Nak(None),
        // What is to be tried again has its row in outbox.failures, and was taken out.
        _ => AckKind::Ack,
    }
}

fn ack_kind_of_one(disposition: Disposition) -> AckKind {
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
            let kind = ack_kind(&[disposition]);
            assert_eq!(format!("{kind:?}"), format!("{expected:?}"), "{disposition:?}");
        }
    }

    #[test]
    fn a_pack_is_acknowledged_unless_something_in_it_was_not_tried() {
        let second = Duration::from_secs(1);
        let retry = Disposition::Retry { attempts: 1, delay: second };
        let dead = Disposition::Dead { attempts: 1, reason: Reason::IdConflict };
        let waits = Disposition::Deferred(Some(second));
        for settled in [retry, dead, waits, Disposition::AlreadyDead, Disposition::Discarded] {
            let kind = ack_kind(&[Disposition::Delivered, settled]);
            assert!(matches!(kind, AckKind::Ack), "{settled:?}: {kind:?}");
        }
        let kind = ack_kind(&[Disposition::Delivered, Disposition::Deferred(None)]);
        assert!(matches!(kind, AckKind::Nak(None)), "{kind:?}");
    }
}
