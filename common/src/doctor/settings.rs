//! Checks of settings alone. Ranges are refused earlier, by `settings::validate`; these are rules between keys, and about
//! the world around them.

use std::{net::IpAddr, time::Duration};

use humantime::format_duration;

use super::{
    Problem, Report,
    checks::{
        CONNECTION_UNENCRYPTED, DUPLICATE_WINDOW_SHORT, ENDPOINT_EXPOSED, FORWARD_TIMEOUT_LONG,
        LOG_RETENTION_LONG, LOG_RETENTION_SHORT, PENDING_LIMIT_LOW, REPLAY_WINDOW_LONG, TRACES_NOT_BUILT,
    },
};
use crate::settings::{ConnectionUrl, Dispatch, Listen, Settings};

/// How often in a row an acknowledgement is waited for in an outage that ends by itself.
const REPEATS: u32 = 3;

/// By how much the clocks of the servers of a broker may differ.
const CLOCK_SLACK: Duration = Duration::from_secs(10);

/// nats-server's `sync_interval`, as it comes: what it acknowledged since may be lost in a power cut.
const FLUSH_INTERVAL: Duration = Duration::from_secs(120);

/// What `publisher` makes of its settings.
pub fn publisher(report: &mut Report, settings: &Settings) {
    let Settings { source, broker, relay, publisher, .. } = settings;
    let connections = [
        ("source.url", source.url.as_ref()),
        ("broker.url", broker.url.as_ref().filter(|_| !broker.insists_on_tls())),
        ("traces.url", settings.traces.url.as_ref()),
    ];
    report.record(CONNECTION_UNENCRYPTED, unencrypted_of(connections));
    if !report.is_at_boot() {
        report.record(ENDPOINT_EXPOSED, exposed("publisher.listen", publisher.listen));
    }
    report.record(TRACES_NOT_BUILT, not_built(settings, cfg!(feature = "traces")));

    let needed = relay.lease + publisher.ack_timeout * REPEATS + CLOCK_SLACK;
    let short = broker.duplicate_window < needed;
    report.record(DUPLICATE_WINDOW_SHORT, short.then(|| {
        Problem::new(
            format!(
                "broker.duplicate_window is {}; a publish may be repeated up to {} later (relay.lease {}, {REPEATS} \
                 times publisher.ack_timeout {}, and {} for clocks), and then travels twice",
                format_duration(broker.duplicate_window),
                format_duration(needed),
                format_duration(relay.lease),
                format_duration(publisher.ack_timeout),
                format_duration(CLOCK_SLACK),
            ),
            format!("set broker.duplicate_window = \"{}\" or more", format_duration(needed)),
        )
    }));

    let short = relay.retention <= FLUSH_INTERVAL;
    report.record(LOG_RETENTION_SHORT, short.then(|| {
        Problem::new(
            format!(
                "relay.retention is {}, and the broker writes to its disk every {}: what a power cut takes from it \
                 could not be published again",
                format_duration(relay.retention),
                format_duration(FLUSH_INTERVAL),
            ),
            "set relay.retention above 2m, such as \"1day\"",
        )
    }));

    let Some(deleted_after) = source.retention else {
        // The application keeps its rows permanently.
        report.record(LOG_RETENTION_LONG, None);
        report.record(REPLAY_WINDOW_LONG, None);
        return;
    };
    let long = relay.retention >= deleted_after;
    report.record(LOG_RETENTION_LONG, long.then(|| {
        Problem::new(
            format!(
                "relay.retention is {}, and the application deletes its rows after {} (source.retention): a stream \
                 that is filled again would make dead letters of delivered events whose rows are gone",
                format_duration(relay.retention),
                format_duration(deleted_after),
            ),
            "set relay.retention below source.retention",
        )
    }));
    let long = publisher.replay_window >= deleted_after;
    report.record(REPLAY_WINDOW_LONG, long.then(|| {
        Problem::new(
            format!(
                "publisher.replay_window is {}, and the application deletes its rows after {} (source.retention): a new \
                 forwarder would be given references whose rows are gone, as dead letters",
                format_duration(publisher.replay_window),
                format_duration(deleted_after),
            ),
            "set publisher.replay_window below source.retention",
        )
    }));
}

/// What `consumer` makes of its settings. Targets check their own URLs.
pub fn consumer(report: &mut Report, settings: &Settings) {
    let Settings { source, broker, consumer, forwarder, .. } = settings;
    let on_stream =
        broker.url.is_some() && forwarder.iter().any(|forwarder| forwarder.dispatch != Dispatch::Sync);
    let broker_url = broker.url.as_ref().filter(|_| on_stream && !broker.insists_on_tls());
    let connections = [
        ("source.url", source.url.as_ref()),
        ("broker.url", broker_url),
        ("traces.url", settings.traces.url.as_ref()),
    ];
    report.record(CONNECTION_UNENCRYPTED, unencrypted_of(connections));
    if !report.is_at_boot() {
        report.record(ENDPOINT_EXPOSED, exposed("consumer.listen", consumer.listen));
    }
    report.record(TRACES_NOT_BUILT, not_built(settings, cfg!(feature = "traces")));

    if on_stream {
        let batches = consumer.workers + 2;
        let in_hand = i64::try_from(consumer.batch_rows * batches).unwrap_or(i64::MAX);
        let low = consumer.max_ack_pending < in_hand;
        report.record(PENDING_LIMIT_LOW, low.then(|| {
            Problem::new(
                format!(
                    "consumer.max_ack_pending is {}; one process alone has up to {in_hand} unsettled references \
                     (consumer.batch_rows {} × (consumer.workers {} + 2)), and what it has, others wait for",
                    consumer.max_ack_pending, consumer.batch_rows, consumer.workers,
                ),
                format!("set consumer.max_ack_pending to {in_hand} times the number of processes, or more"),
            )
        }));
    }

    let long = consumer.forward_timeout >= consumer.unready_after;
    report.record(FORWARD_TIMEOUT_LONG, long.then(|| {
        Problem::new(
            format!(
                "consumer.forward_timeout is {}: a target that takes so long makes the process unready after {} \
                 (consumer.unready_after), and its supervisor may end it in the middle of its work",
                format_duration(consumer.forward_timeout),
                format_duration(consumer.unready_after),
            ),
            "set consumer.forward_timeout below consumer.unready_after",
        )
    }));
}

fn exposed(key: &str, listen: Listen) -> Option<Problem> {
    let Listen::At(address) = listen else {
        return None;
    };
    (!address.ip().is_loopback()).then(|| {
        Problem::new(
            format!("{key} is {address}: everyone who can reach it can read metrics and health, without a password"),
            format!("set {key} to an address on 127.0.0.1, or let a firewall decide who reaches it"),
        )
    })
}

fn not_built(settings: &Settings, built: bool) -> Option<Problem> {
    (settings.traces.url.is_some() && !built).then(|| {
        Problem::new(
            "traces.url is set, and this binary was built without traces: it sends none",
            "build it with --features traces, or leave traces.url out",
        )
    })
}

fn unencrypted_of<const N: usize>(connections: [(&str, Option<&ConnectionUrl>); N]) -> Vec<Problem> {
    connections.iter().filter_map(|(key, url)| unencrypted(key, (*url)?)).collect()
}

/// Whether a connection would leave this machine without insisting on TLS.
#[must_use]
pub fn unencrypted(key: &str, url: &ConnectionUrl) -> Option<Problem> {
    let open: Vec<url::Url> =
        url.addresses().into_iter().filter(|url| !insists_on_tls(url) && !is_local(url)).collect();
    let first = open.first()?;
    // Neither user nor password.
    let hosts: Vec<String> = open.iter().map(host).collect();
    let remedy = match first.scheme() {
        _ if is_postgres(first) => format!("add ?sslmode=verify-full to {key}"),
        "http" => format!("begin {key} with https://"),
        _ => format!("begin {key} with tls://"),
    };
    let what = format!(
        "{key} leads to {} without insisting on TLS: what is sent, passwords included, can be read on the way",
        hosts.join(", ")
    );
    Some(Problem::new(what, remedy))
}

fn is_postgres(url: &url::Url) -> bool {
    matches!(url.scheme(), "postgres" | "postgresql")
}

fn insists_on_tls(url: &url::Url) -> bool {
    if !is_postgres(url) {
        return matches!(url.scheme(), "tls" | "wss" | "https");
    }
    // Both spellings are the driver's. Without the key it tries TLS, and does without when that is refused.
    url.query_pairs().any(|(key, mode)| {
        matches!(&*key, "sslmode" | "ssl-mode") && matches!(&*mode, "require" | "verify-ca" | "verify-full")
    })
}

/// Of the two places where PostgreSQL's URLs may have it, the one that counts.
fn host(url: &url::Url) -> String {
    let parameter =
        url.query_pairs().find(|(key, _)| is_postgres(url) && matches!(&**key, "host" | "hostaddr"));
    parameter.map_or_else(|| url.host_str().unwrap_or_default().to_owned(), |(_, host)| host.into_owned())
}

fn is_local(url: &url::Url) -> bool {
    let host = host(url).to_ascii_lowercase();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    // A folder is a socket's.
    host.is_empty()
        || host == "localhost"
        || host.starts_with(['/', '@'])
        || host.starts_with("%2f")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{super::RunMode, *};
    use crate::settings::Layers;

    type Checks = fn(&mut Report, &Settings);

    fn found(check: Checks, text: &str) -> Vec<&'static str> {
        let (settings, _) = Layers::default().text(text, "audit.toml").expect("TOML").build().expect("valid");
        let mut report = Report::new(RunMode::Command);
        check(&mut report, &settings);
        for finding in report.findings() {
            assert!(!finding.what.contains("hunter2") && !finding.remedy.contains("hunter2"), "{finding:?}");
        }
        report.findings().iter().map(|finding| finding.name).collect()
    }

    #[test]
    fn the_defaults_are_sound() {
        let text = "[source]\nurl = \"postgres://a@localhost/app\"\nretention = \"90days\"\n\
                    [broker]\nurl = \"nats://127.0.0.1\"";
        assert!(found(publisher, text).is_empty() && found(consumer, text).is_empty());
    }

    #[test]
    fn each_rule_between_settings_is_noticed_on_its_edge() {
        let broker = "[broker]\nurl = \"nats://127.0.0.1\"";
        let table: [(Checks, String, &[&str]); 14] = [
            (publisher, "[broker]\nduplicate_window = \"40s\"".into(), &[]),
            (publisher, "[broker]\nduplicate_window = \"39s\"".into(), &["duplicate-window-short"]),
            (publisher, "[relay]\nretention = \"121s\"".into(), &[]),
            (publisher, "[relay]\nretention = \"2m\"".into(), &["log-retention-short"]),
            (publisher, "[source]\nretention = \"7days 1s\"".into(), &[]),
            (publisher, "[source]\nretention = \"7days\"".into(), &["replay-window-long"]),
            (
                publisher,
                "[source]\nretention = \"1day\"".into(),
                &["log-retention-long", "replay-window-long"],
            ),
            (publisher, "[publisher]\nlisten = \"0.0.0.0:1\"".into(), &["endpoint-exposed"]),
            (consumer, "[consumer]\nlisten = \"[::]:1\"".into(), &["endpoint-exposed"]),
            (consumer, format!("{broker}\n[consumer]\nmax_ack_pending = 4000"), &[]),
            (consumer, format!("{broker}\n[consumer]\nmax_ack_pending = 3999"), &["pending-limit-low"]),
            // Nothing is pending anywhere.
            (consumer, "[consumer]\nmax_ack_pending = 3999".into(), &[]),
            (consumer, "[consumer]\nforward_timeout = \"59s\"".into(), &[]),
            (consumer, "[consumer]\nforward_timeout = \"1m\"".into(), &["forward-timeout-long"]),
        ];
        for (check, text, expected) in table {
            assert_eq!(found(check, &text), expected, "{text}");
        }
    }

    #[test]
    fn traces_that_are_asked_for_and_not_built_are_noticed() {
        let (asked, _) = Layers::default()
            .text("[traces]\nurl = \"http://127.0.0.1:4318\"", "audit.toml")
            .expect("TOML")
            .build()
            .expect("valid");
        assert!(not_built(&asked, false).is_some() && not_built(&asked, true).is_none());
        assert!(not_built(&Settings::default(), false).is_none());
    }

    #[test]
    fn connections_beyond_loopback_that_do_not_insist_on_tls_are_found_and_show_no_password() {
        let open = ["connection-unencrypted"];
        for (key, url, expected) in [
            ("source", "postgres://app:hunter2@db/prod", &open[..]),
            ("source", "postgres://app:hunter2@10.0.0.7/prod?sslmode=prefer", &open),
            ("source", "postgres://app:hunter2@localhost/prod?host=db", &open),
            ("source", "postgres://app:hunter2@db/prod?sslmode=verify-full", &[]),
            ("source", "postgresql://app:hunter2@db/prod?ssl-mode=require", &[]),
            ("source", "postgres://app:hunter2@127.0.0.2/prod", &[]),
            ("source", "postgres://app:hunter2@[::1]/prod", &[]),
            ("source", "postgres://app:hunter2@%2Fvar%2Frun%2Fpostgresql/prod", &[]),
            ("source", "postgres://app:hunter2@db/prod?host=/var/run/postgresql", &[]),
            ("broker", "nats://hunter2@one:4222", &open),
            ("broker", "tls://app:hunter2@one,nats://app:hunter2@two", &open),
            ("broker", "tls://app:hunter2@one,nats://app:hunter2@localhost", &[]),
            ("traces", "http://collector:4318", &open),
            ("traces", "https://collector:4318", &[]),
            ("traces", "http://localhost:4318", &[]),
        ] {
            let text = format!("[{key}]\nurl = \"{url}\"");
            assert_eq!(found(publisher, &text), expected, "{url}");
            assert_eq!(found(consumer, &text), expected, "{url}");
        }
        let sync =
            "[broker]\nurl = \"nats://one\"\n[[forwarder]]\nid = \"a\"\nkind = \"noop\"\ndispatch = \"sync\"";
        assert!(found(consumer, sync).is_empty(), "nothing connects there");
    }
}
