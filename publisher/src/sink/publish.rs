//! Pipelined publishes: the broker has work while the rest of the page is still being written.

use std::sync::PoisonError;

use async_nats::jetstream::{context::PublishError, publish::PublishAck};
use common::{broker, failpoint, outbox::reader::entries::Entry, process::telemetry::names};
use futures::{StreamExt as _, stream::FuturesOrdered};
use metrics::counter;

use super::{
    JetStreamSink,
    acknowledgement::PublishOutcome,
    message::{self, Outgoing},
};

impl JetStreamSink {
    /// Publishes once and returns an outcome per message, in order. What was sent on a connection that is lost since is in doubt at
    /// once: it will not be acknowledged any more, and there is no need to wait for its time-out.
    pub(super) async fn publish(&self, messages: &[&[Entry]], generation: i32) -> Vec<PublishOutcome> {
        let connection = broker::ConnectionEpoch::of(&self.client);
        let mut outcomes = Vec::with_capacity(messages.len());
        tokio::select! {
            biased;
            () = self.publish_all(messages, generation, &mut outcomes) => {}
            () = connection.ended() => {}
        }
        outcomes.resize(messages.len(), PublishOutcome::Unknown);
        outcomes
    }

    /// At most `max_in_flight` at a time; after the first doubt nothing more is sent.
    async fn publish_all(&self, messages: &[&[Entry]], generation: i32, outcomes: &mut Vec<PublishOutcome>) {
        let stream = &self.stream.cached_info().config.name;
        let mut in_flight = FuturesOrdered::new();
        for message in messages {
            if in_flight.len() >= self.settings.max_in_flight {
                outcomes.extend(in_flight.next().await);
            }
            if outcomes.last() == Some(&PublishOutcome::Unknown) {
                break;
            }
            let outgoing = Outgoing::new(message, generation, stream, &self.broker.subject, &self.tracer);
            in_flight.push_back(self.send(outgoing).await);
        }
        let sent = &messages[..outcomes.len() + in_flight.len()];
        counter!(names::PUBLISH_MESSAGES).increment(sent.len() as u64);
        counter!(names::PUBLISH_SENT).increment(references(sent));
        while let Some(outcome) = in_flight.next().await {
            outcomes.push(outcome);
        }
    }

    /// Sends, and returns the wait for the outcome.
    async fn send(&self, outgoing: Option<Outgoing>) -> impl Future<Output = PublishOutcome> {
        let sent = match outgoing {
            Some(Outgoing { message, id, span }) => {
                let sent = self.context.send_publish(self.broker.subject.clone(), message).await;
                Some((sent, id, span))
            }
            None => None,
        };
        failpoint::reach("publish.message_sent");
        async move {
            let Some((sent, id, span)) = sent else {
                return PublishOutcome::Unnamed;
            };
            let acknowledged = match sent {
                Ok(acknowledgement) => acknowledgement.await,
                Err(error) => Err(error),
            };
            let stream = &self.stream.cached_info().config.name;
            let outcome = PublishOutcome::of(&acknowledged, stream);
            self.report(&acknowledged, stream);
            if let Some(span) = span {
                message::end_span(&span, id, outcome);
            }
            outcome
        }
    }

    /// Reports an acknowledgement that should not be, and keeps the broker's message about a publish that failed.
    fn report(&self, acknowledged: &Result<PublishAck, PublishError>, stream: &str) {
        match acknowledged {
            Ok(ack) if ack.stream != stream => {
                tracing::error!(stream = %ack.stream, "another stream acknowledged our subject");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a publish has an unknown outcome");
                self.progress.waiting(format!("broker: {error}"));
                *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
            }
        }
    }
}

/// How many references these messages hold.
pub(super) fn references<'m>(messages: impl IntoIterator<Item = &'m &'m [Entry]>) -> u64 {
    messages.into_iter().map(|message| message.len() as u64).sum()
}
