//! Whether the broker receives what this client sends. A client that may not publish on a subject, or lacks its import from
//! JetStream's account, gets no error: there is no response. So one request is sent to each subject, in a form that the server
//! responds to and that changes nothing.

use std::time::Duration;

use async_nats::{Client, HeaderMap, client::RequestErrorKind, connection::State};

use super::{durable, stored::Stored};
use crate::{
    doctor::{Problem, Report, Service, checks::BROKER_NOT_RECEIVING},
    settings::{BrokerSettings, Packing, Settings},
};

/// How long a response may take.
const RESPONSE_MAX: Duration = Duration::from_secs(2);

/// No delivery has this sequence, so that no deadline is renewed.
const NO_SEQUENCE: u64 = (1 << 62) - 1;

/// The subject and payload of a renewal of no delivery, which every server since 2.9 responds to.
fn acknowledgement(stream: &str, durable: &str) -> String {
    format!("$JS.ACK.{stream}.{durable}.1.{NO_SEQUENCE}.1.0.0")
}

/// Whether acknowledgements reach the durable.
///
/// # Errors
/// When they do not, with the remedy; a connection that is lost is no such case.
pub async fn check_acknowledgements(client: &Client, stream: &str, durable: &str) -> Result<(), String> {
    let Err(why) = ask(client, acknowledgement(stream, durable), None, "+WPI").await else {
        return Ok(());
    };
    Err(format!(
        "acknowledgements do not reach the broker ({why}), so that everything is delivered again after each consumer.ack_wait. {}",
        acknowledgement_remedy(stream)
    ))
}

fn acknowledgement_remedy(stream: &str) -> String {
    format!(
        "Allow this user to publish on $JS.ACK.{stream}.> (deploy/nats/permissions.conf); where JetStream is imported from another \
         account, export and import $JS.ACK.> as well"
    )
}

/// Subjects that this service uses and on which the broker receives nothing from it.
pub(super) async fn check(
    report: &mut Report,
    settings: &Settings,
    service: Service,
    client: &Client,
    purges: bool,
    found: &[Stored],
) {
    let questions = match service {
        Service::Publisher => of_publisher(settings, purges),
        Service::Consumer => {
            let names: Vec<String> =
                settings.forwarder.iter().map(|forwarder| durable::durable_name(&forwarder.id)).collect();
            let there = found.iter().map(Stored::name).filter(|name| names.iter().any(|ours| ours == name));
            of_consumer(&settings.broker, there)
        }
    };
    let problems = futures::future::join_all(questions.into_iter().map(|question| question.problem(client)));
    let problems = problems.await.into_iter().flatten();
    report.record(BROKER_NOT_RECEIVING, problems.map(|(what, remedy)| Problem::new(what, remedy)));
}

/// What a doctor checks about one subject.
struct Question {
    subject: String,
    payload: &'static str,
    headers: Option<HeaderMap>,
    /// What it is used for.
    purpose: &'static str,
    remedy: Option<String>,
}

/// What a publisher sends, except what other checks send.
fn of_publisher(settings: &Settings, purges: bool) -> Vec<Question> {
    let Settings { broker: settings, publisher, .. } = settings;
    let BrokerSettings { stream, subject, .. } = settings;
    // For another stream: it is refused before it is stored.
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_EXPECTED_STREAM, "-");
    let publish = Question {
        headers: Some(headers),
        ..question(subject.clone(), "", "references are published on it")
    };
    let mut questions = vec![publish, get(settings)];
    if purges {
        let subject = api(settings, &format!("STREAM.PURGE.{stream}"));
        // Two limits are refused.
        let nothing = r#"{"filter":"none","seq":1,"keep":1}"#;
        questions.push(question(subject, nothing, "the stream is trimmed with it"));
    }
    if publisher.pack == Packing::Auto {
        let subject = api(settings, &format!("STREAM.UPDATE.{stream}"));
        // No name: it is refused.
        let nothing = r#"{"name":0}"#;
        questions.push(question(
            subject,
            nothing,
            "the stream is marked with it as one that holds packs (publisher.pack)",
        ));
    }
    questions
}

/// What a consumer sends, except what other checks send.
fn of_consumer<'a>(settings: &BrokerSettings, durables: impl Iterator<Item = &'a str>) -> Vec<Question> {
    let BrokerSettings { stream, .. } = settings;
    let mut questions = vec![get(settings)];
    for durable in durables {
        let subject = api(settings, &format!("CONSUMER.MSG.NEXT.{stream}.{durable}"));
        // No number of messages: it is refused.
        questions.push(question(subject, r#"{"batch":"none"}"#, "messages are asked for on it"));
        let settled =
            question(acknowledgement(stream, durable), "+WPI", "what is delivered is settled on it");
        questions.push(Question { remedy: Some(acknowledgement_remedy(stream)), ..settled });
    }
    questions
}

fn get(settings: &BrokerSettings) -> Question {
    let subject = api(settings, &format!("STREAM.MSG.GET.{}", settings.stream));
    question(subject, r#"{"seq":0}"#, "messages of the stream are read with it")
}

fn question(subject: String, payload: &'static str, purpose: &'static str) -> Question {
    Question { subject, payload, headers: None, purpose, remedy: None }
}

fn api(settings: &BrokerSettings, call: &str) -> String {
    match (&settings.jetstream_domain, &settings.api_prefix) {
        (Some(domain), _) => format!("$JS.{domain}.API.{call}"),
        (None, Some(prefix)) => format!("{prefix}.{call}"),
        (None, None) => format!("$JS.API.{call}"),
    }
}

impl Question {
    /// What is wrong, and what to do about it.
    async fn problem(self, client: &Client) -> Option<(String, String)> {
        let Self { subject, payload, headers, purpose, remedy } = self;
        let why = ask(client, subject.clone(), headers, payload).await.err()?;
        let remedy = remedy.unwrap_or_else(|| {
            format!(
                "allow this user to publish on {subject} (deploy/nats/permissions.conf); where JetStream is imported from another \
                 account, export and import it"
            )
        });
        Some((format!("the broker receives nothing from this user on {subject} ({why}): {purpose}"), remedy))
    }
}

/// Why there is no response; that the connection is lost is reported elsewhere.
async fn ask(
    client: &Client,
    subject: String,
    headers: Option<HeaderMap>,
    payload: &'static str,
) -> Result<(), String> {
    let request = client.send_request(
        subject,
        async_nats::Request::new()
            .payload(payload.into())
            .headers(headers.unwrap_or_default())
            .timeout(Some(RESPONSE_MAX)),
    );
    let why = match request.await.map_err(|error| error.kind()) {
        Err(RequestErrorKind::NoResponders) => "no responders",
        Err(RequestErrorKind::TimedOut) => "no response",
        Ok(_) | Err(_) => return Ok(()),
    };
    if client.connection_state() == State::Connected { Err(why.to_owned()) } else { Ok(()) }
}
