//! Ranges, and rules between keys.

use std::time::Duration;

use crate::reference::PACK_MAX;

use super::{
    BrokerSettings, ConnectionUrl, Settings,
    bounds::{Refusal, name, number, path, refuse, stated, within},
    nats_names, operator_rules,
};

/// Checks every bound; the first violation comes back as key path and message.
pub(super) fn validate(settings: &Settings) -> Result<(), Refusal> {
    let Settings { source, threadline, broker, relay, publisher, consumer, log, traces, forwarder, operator } =
        settings;
    let second = Duration::from_secs(1);
    let day = 86_400 * second;

    for (key, url) in [("source.url", &source.url), ("threadline.url", &threadline.url)] {
        if let Some(Err(error)) = url.as_ref().map(ConnectionUrl::postgres) {
            return refuse(key, error.to_string());
        }
    }

    within("source.statement_timeout", source.statement_timeout, second, 3_600 * second)?;
    if let Some(retention) = source.retention {
        within("source.retention", retention, 3_600 * second, 36_600 * day)?;
    }
    if let Some(called) = &source.name {
        name("source.name", called, ['/', ' ', '\t', '\n'])?;
    }
    let before_that = source.retention.unwrap_or(36_600 * day);
    within("source.retention_margin", source.retention_margin, Duration::ZERO, before_that)?;

    // As the crate of that name has it, which is not to be asked here.
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let schema = threadline.schema.as_str();
    if !(1..=63).contains(&schema.len())
        || !schema.chars().all(sound)
        || schema.starts_with(|c: char| c.is_ascii_digit())
    {
        let message =
            format!("{schema:?} is not 1 to 63 letters, digits and underscores, not starting with a digit");
        return refuse("threadline.schema", message);
    }
    of_broker(broker)?;
    path("consumer.reconcile.receipt_key_file", consumer.reconcile.receipt_key_file.as_deref())?;

    number("relay.page_rows", relay.page_rows, 1, 10_000)?;
    number("publisher.max_in_flight", publisher.max_in_flight, 1, 4_000)?;
    number("publisher.pack_rows", publisher.pack_rows, 2, PACK_MAX)?;
    within("publisher.ack_timeout", publisher.ack_timeout, second / 10, 60 * second)?;
    within("relay.poll_min", relay.poll_min, second / 10_000, second)?;
    within("relay.poll_max", relay.poll_max, relay.poll_min, 10 * second)?;
    within("relay.lease", relay.lease, second, 300 * second)?;
    within("relay.retention", relay.retention, second, 366 * day)?;
    within("publisher.replay_window", publisher.replay_window, Duration::ZERO, 366 * day)?;
    within("relay.maintenance_interval", relay.maintenance_interval, second / 10, 3_600 * second)?;
    within("publisher.unready_after", publisher.unready_after, second, day)?;

    number("consumer.workers", consumer.workers, 1, 64)?;
    number("consumer.batch_rows", consumer.batch_rows, 1, 10_000)?;
    number("consumer.batch_bytes", consumer.batch_bytes, 64 << 10, 256 << 20)?;
    within("consumer.linger", consumer.linger, Duration::ZERO, second)?;
    within("consumer.ack_wait", consumer.ack_wait, second, 3_600 * second)?;
    within("consumer.forward_timeout", consumer.forward_timeout, second / 10, 600 * second)?;
    number("consumer.max_attempts", consumer.max_attempts, 1, 100)?;
    number("consumer.max_dead_letters_per_minute", consumer.max_dead_letters_per_minute, 0, 1_000_000)?;
    within("consumer.reconcile.interval", consumer.reconcile.interval, Duration::ZERO, day)?;
    within("consumer.unready_after", consumer.unready_after, second, day)?;
    let in_hand = i64::try_from(consumer.workers * consumer.batch_rows).unwrap_or(i64::MAX);
    number("consumer.max_ack_pending", consumer.max_ack_pending, in_hand, 1_000_000)?;
    within("consumer.backoff.first", consumer.backoff.first, second / 1_000, 3_600 * second)?;
    within("consumer.backoff.max", consumer.backoff.max, consumer.backoff.first, day)?;
    if consumer.backoff.backoff().is_none() {
        return refuse("consumer.backoff.profile", "must be \"sigra\" or \"exponential\"");
    }

    if let Err(error) = log.filter() {
        return refuse(
            "log.filter",
            format!("not a filter such as info or info,common::outbox=debug: {error}"),
        );
    }

    number("traces.sample", traces.sample, 0.0, 1.0)?;
    if traces.url.as_ref().is_some_and(|url| !is_collector(url.expose())) {
        let message = "must be one http:// or https:// address without user, password and query: what a collector asks for goes \
                       into OTEL_EXPORTER_OTLP_HEADERS";
        return refuse("traces.url", message);
    }

    operator_rules::validate(operator)?;

    for (index, one) in forwarder.iter().enumerate() {
        if forwarder[..index].iter().any(|earlier| earlier.id == one.id) {
            let key = format!("forwarder[{index}].id");
            return Err((key, format!("the id {:?} is taken by an earlier forwarder", one.id.as_str())));
        }
    }
    Ok(())
}

fn of_broker(broker: &BrokerSettings) -> Result<(), Refusal> {
    let second = Duration::from_secs(1);
    if let Some(Err(error)) = broker.url.as_ref().map(ConnectionUrl::nats) {
        return refuse("broker.url", error.to_string());
    }
    for (key, file) in [
        ("broker.credentials_file", &broker.credentials_file),
        ("broker.nkey_seed_file", &broker.nkey_seed_file),
        ("broker.tls_ca_file", &broker.tls_ca_file),
        ("broker.tls_cert_file", &broker.tls_cert_file),
        ("broker.tls_key_file", &broker.tls_key_file),
    ] {
        path(key, file.as_deref())?;
    }
    let servers = broker.url.as_ref().and_then(|url| url.nats().ok()).unwrap_or_default();
    let login = servers.iter().any(|server| server.login.is_some());
    if login && (broker.credentials_file.is_some() || broker.nkey_seed_file.is_some()) {
        return refuse(
            "broker.url",
            "names a user or a token, and broker.credentials_file or broker.nkey_seed_file another one: keep one of them",
        );
    }
    if broker.credentials_file.is_some() && broker.nkey_seed_file.is_some() {
        return refuse(
            "broker.nkey_seed_file",
            "not together with broker.credentials_file, which holds a key too",
        );
    }
    if broker.tls_cert_file.is_some() != broker.tls_key_file.is_some() {
        return refuse("broker.tls_cert_file", "a certificate and its key (broker.tls_key_file) go together");
    }
    if let Some(domain) = &broker.jetstream_domain {
        stated("broker.jetstream_domain", nats_names::asset(domain))?;
        if broker.api_prefix.is_some() {
            return refuse(
                "broker.api_prefix",
                "not together with broker.jetstream_domain, which is a prefix too",
            );
        }
    }
    if let Some(prefix) = &broker.api_prefix
        && let Err(why) = nats_names::subject(prefix)
    {
        let message = format!("{why}; it is the part before .STREAM.INFO, such as JS.audit.API");
        return refuse("broker.api_prefix", message);
    }
    stated("broker.stream", nats_names::asset(&broker.stream))?;
    stated("broker.subject", nats_names::stream_subject(&broker.subject))?;
    number("broker.replicas", broker.replicas, 1, 5)?;
    number("broker.max_bytes", broker.max_bytes, 1 << 20, i64::MAX)?;
    within("broker.duplicate_window", broker.duplicate_window, second, 86_400 * second)
}

/// Nothing in it is a secret, and nothing would be ignored.
fn is_collector(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        let one = !text.contains(',') && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && plain && one
    })
}
