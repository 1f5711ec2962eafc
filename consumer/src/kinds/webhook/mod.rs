//! Posts batches of events as JSON to a URL.

mod answer;
mod body;
mod options;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use common::{
    event::AuditEvent,
    failures::Reason,
    settings::{ForwarderSettings, Settings},
};
use futures::{FutureExt as _, future::BoxFuture};
use hmac::Hmac;
use reqwest::{Client, Url, header::HeaderMap};
use sha2::Sha256;
use tokio::time::Instant;
use uuid::Uuid;

use self::{answer::Meaning, body::Part};
use crate::forwarder::{ConfigureError, ForwardError, Forwarder, ForwarderFactory, ForwarderKind, Verdict};

/// The kind `webhook`.
#[derive(Debug, Clone, Copy)]
pub struct Webhook;

/// A target whose options have been checked. It holds secrets, so it has no `Debug`.
#[derive(Clone)]
struct Hook {
    client: Client,
    url: Url,
    /// What errors may show of the URL: no path, which can be a secret as well as the rest.
    place: String,
    /// Those of the settings, and `Audit-Forwarder`.
    headers: HeaderMap,
    /// `None` when unsigned on purpose.
    key: Option<Hmac<Sha256>>,
    max_events: usize,
    max_bytes: usize,
    /// For one POST.
    timeout: Duration,
    /// For all POSTs of a batch but the first.
    total_timeout: Duration,
}

impl ForwarderKind for Webhook {
    fn configure(
        &self,
        forwarder: &ForwarderSettings,
        settings: &Settings,
    ) -> Result<Arc<dyn ForwarderFactory>, ConfigureError> {
        Ok(Arc::new(options::hook(forwarder, settings)?))
    }
}

impl ForwarderFactory for Hook {
    fn build(&self) -> Box<dyn Forwarder> {
        Box::new(Worker { hook: self.clone(), settled: HashMap::new(), most: self.max_events })
    }
}

/// What became of a POST that was answered.
enum Answer {
    Accepted,
    Refused(String),
}

impl Hook {
    async fn post(&self, parts: &[Part]) -> Result<Answer, ForwardError> {
        let body = body::join(parts);
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("audit-signature", body::signature(key, &body));
        }
        let response = request.body(body).send().await.map_err(|error| {
            let error = answer::unreachable(error, self.timeout);
            ForwardError::unavailable(format!("webhook {}: {error}", self.place))
        })?;
        match answer::meaning(response.status()) {
            Meaning::Accepted => {
                // Only so that the connection can be used again.
                answer::excerpt(response).await;
                Ok(Answer::Accepted)
            }
            Meaning::Refused => {
                let status = response.status().as_u16();
                let words = answer::excerpt(response).await;
                let colon = if words.is_empty() { "" } else { ": " };
                Ok(Answer::Refused(format!("the webhook answered {status}{colon}{words}")))
            }
            Meaning::Away(error) => Err(ForwardError::Unavailable {
                error: format!("webhook {}: {error}", self.place),
                retry_after: answer::retry_after(response.headers(), SystemTime::now()),
            }),
        }
    }
}

/// One worker's forwarder.
struct Worker {
    hook: Hook,
    /// What is known of the events of a batch that came back without verdicts: the worker passes the same batch again,
    /// and what was accepted is not sent twice. Without it a receiver that is too slow for a whole batch would be sent
    /// the beginning of it for ever.
    settled: HashMap<Uuid, Verdict>,
    /// Most events of a POST: fewer than the settings say while a search for a refused event continues in the next call.
    most: usize,
}

impl Forwarder for Worker {
    fn forward<'a>(
        &'a mut self,
        events: &'a [AuditEvent],
    ) -> BoxFuture<'a, Result<Vec<Verdict>, ForwardError>> {
        self.deliver(events).boxed()
    }
}

impl Worker {
    async fn deliver(&mut self, events: &[AuditEvent]) -> Result<Vec<Verdict>, ForwardError> {
        let parts = self.parts(events);
        let begun = Instant::now();
        // The next one is at the end.
        let mut open = body::split(&parts, self.most, self.hook.max_bytes);
        open.reverse();
        let mut first = true;
        while let Some(range) = open.pop() {
            // Each has its whole time or is not begun: the worker's time-out would blame the events, and what a POST
            // that was cut short has done is not known.
            if !first && begun.elapsed() + self.hook.timeout > self.hook.total_timeout {
                self.most = range.len();
                return Err(self.too_slow(events));
            }
            first = false;
            let posted = &parts[range.clone()];
            match self.hook.post(posted).await? {
                Answer::Accepted => {
                    self.settled.extend(posted.iter().map(|part| (part.id, Verdict::Delivered)));
                }
                Answer::Refused(error) if range.len() == 1 => {
                    self.settled.insert(posted[0].id, Verdict::DeadLetter(Reason::SchemaMismatch, error));
                }
                // Halved here: as a whole, the batch would be sent again with what has been accepted of it.
                Answer::Refused(_) => {
                    let middle = range.start + range.len() / 2;
                    open.push(middle..range.end);
                    open.push(range.start..middle);
                }
            }
        }
        let verdicts = events.iter().map(|event| self.settled[&event.id].clone()).collect();
        for event in events {
            self.settled.remove(&event.id);
        }
        self.most = self.hook.max_events;
        Ok(verdicts)
    }

    /// What is still to be sent.
    fn parts(&mut self, events: &[AuditEvent]) -> Vec<Part> {
        let mut parts = Vec::with_capacity(events.len());
        for event in events {
            if self.settled.contains_key(&event.id) {
                continue;
            }
            let part = Part::of(event);
            if part.alone() <= self.hook.max_bytes {
                parts.push(part);
                continue;
            }
            let error = format!(
                "takes {} bytes, more than max_bytes ({}) of the webhook",
                part.alone(),
                self.hook.max_bytes
            );
            self.settled.insert(event.id, Verdict::DeadLetter(Reason::SchemaMismatch, error));
        }
        parts
    }

    fn too_slow(&self, events: &[AuditEvent]) -> ForwardError {
        let settled = events.iter().filter(|event| self.settled.contains_key(&event.id)).count();
        ForwardError::unavailable(format!(
            "webhook {}: too slow for a batch, {settled} of {} events are settled and the rest continues; lower \
             consumer.batch_rows or raise consumer.forward_timeout",
            self.hook.place,
            events.len()
        ))
    }
}
