//! The options of a webhook, checked once.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use common::settings::{ForwarderSettings, Settings};
use hmac::{Hmac, KeyInit as _};
use reqwest::{
    Certificate, Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect, retry,
};
use serde::Deserialize;
use serde_json::Value;

use super::Hook;
use crate::forwarder::{self, ConfigureError};

const MAX_EVENTS: usize = 1_000;
const MIN_BYTES: usize = 1 << 10;
const MAX_BYTES: usize = 16 << 20;

/// Shorter keys can be guessed.
const SECRET_BYTES: usize = 16;

/// Headers that the forwarder or the connection sets.
const OURS: [&str; 8] = [
    "audit-forwarder",
    "audit-signature",
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// As written. What may hold a secret is read untyped: an error about its type would show it. No `Debug` either.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Where events are posted to.
    url: Option<Value>,
    /// Plain HTTP, to another host.
    #[serde(default)]
    insecure: bool,
    /// The key of the signature.
    secret: Option<Value>,
    /// A file that holds it.
    secret_file: Option<PathBuf>,
    /// Without a signature.
    #[serde(default)]
    unsigned: bool,
    /// More headers.
    headers: Option<Value>,
    /// Trusted roots besides those of the system.
    ca_file: Option<PathBuf>,
    /// Most events of a POST.
    max_events: Option<usize>,
    /// Most bytes of a POST.
    max_bytes: Option<usize>,
    /// Longest time of a POST.
    timeout: Option<String>,
}

/// Checks the options and makes the client that all workers share.
pub(super) fn hook(forwarder: &ForwarderSettings, settings: &Settings) -> Result<Hook, ConfigureError> {
    let options: Options = forwarder::options(forwarder)?;
    checked(&options, forwarder, settings).map_err(|message| ConfigureError::new(forwarder, message))
}

fn checked(options: &Options, forwarder: &ForwarderSettings, settings: &Settings) -> Result<Hook, String> {
    let url = url(options)?;
    let limit = settings.consumer.forward_timeout;
    let timeout = timeout(options.timeout.as_deref().unwrap_or("10s"), limit)?;
    let mut headers = headers(options)?;
    let id = HeaderValue::from_str(forwarder.id.as_str()).map_err(|error| format!("id: {error}"))?;
    headers.insert("audit-forwarder", id);
    Ok(Hook {
        client: client(options, &url, timeout)?,
        // Neither user name, password, path nor query.
        place: url.origin().ascii_serialization(),
        url,
        headers,
        key: key(options)?.map(|key| Hmac::new_from_slice(&key).expect("a key of any length")),
        max_events: within("max_events", options.max_events.unwrap_or(100), 1, MAX_EVENTS)?,
        max_bytes: within("max_bytes", options.max_bytes.unwrap_or(1 << 20), MIN_BYTES, MAX_BYTES)?,
        timeout,
        // The webhook gives up first: that says that the receiver is slow, the worker's time-out would blame the events.
        total_timeout: limit.mul_f64(0.8),
    })
}

fn url(options: &Options) -> Result<Url, String> {
    let text = text("url", options.url.as_ref())?.ok_or("url: missing; the address that takes the events")?;
    // The parser's own message is about the form; the text may be a secret with a typing error around it.
    let url =
        Url::parse(text).map_err(|error| format!("url: not a URL such as https://host/path: {error}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if options.insecure || is_loopback(&url) => Ok(url),
        "http" => {
            Err("url: plain http would show the events to the network; use https, or insecure = true"
                .to_owned())
        }
        _ => Err("url: must begin with https:// or http://".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn key(options: &Options) -> Result<Option<Vec<u8>>, String> {
    let secret = text("secret", options.secret.as_ref())?;
    let (name, key) = match (secret, &options.secret_file) {
        (Some(_), Some(_)) => return Err("secret: set together with secret_file; one of them".to_owned()),
        (None, None) if options.unsigned => return Ok(None),
        (None, None) => {
            return Err("secret: missing; set secret or secret_file, or unsigned = true".to_owned());
        }
        _ if options.unsigned => {
            return Err("unsigned: set together with a secret; one of them".to_owned());
        }
        (Some(secret), None) => ("secret", secret.as_bytes().to_vec()),
        (None, Some(path)) => {
            let mut key = read("secret_file", path)?;
            // What editors and `echo` leave behind is not part of the key.
            for ending in [b'\n', b'\r'] {
                key.pop_if(|last| *last == ending);
            }
            ("secret_file", key)
        }
    };
    if key.len() < SECRET_BYTES {
        return Err(format!("{name}: must hold at least {SECRET_BYTES} bytes"));
    }
    Ok(Some(key))
}

fn headers(options: &Options) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let table = match &options.headers {
        None => return Ok(headers),
        Some(Value::Object(table)) => table,
        Some(_) => return Err("headers: must be a table of names and texts".to_owned()),
    };
    for (name, value) in table {
        let key = format!("headers.{name}");
        let name: HeaderName = name.parse().map_err(|_| format!("{key}: not the name of a header"))?;
        if OURS.contains(&name.as_str()) {
            return Err(format!("{key}: is set by the webhook itself"));
        }
        let mut value = text(&key, Some(value))?
            .and_then(|value| HeaderValue::from_str(value).ok())
            .ok_or_else(|| format!("{key}: not the value of a header"))?;
        value.set_sensitive(true);
        if headers.insert(name, value).is_some() {
            return Err(format!("{key}: set twice; upper and lower case are the same"));
        }
    }
    Ok(headers)
}

fn timeout(text: &str, limit: Duration) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text)
        .map_err(|error| format!("timeout: {text:?} is not a duration such as 10s: {error}"))?;
    if timeout.is_zero() || timeout >= limit {
        return Err(format!(
            "timeout: must be above zero and below consumer.forward_timeout ({limit:?}), is {timeout:?}"
        ));
    }
    Ok(timeout)
}

fn client(options: &Options, url: &Url, timeout: Duration) -> Result<Client, String> {
    // What the binaries do at start; a host's own may not have, and the client panics without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("audit-consumer/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        // The worker repeats, and says so.
        .retry(retry::never())
        .timeout(timeout);
    let roots = match &options.ca_file {
        None => Vec::new(),
        Some(path) => roots(&read("ca_file", path)?)?,
    };
    let builder = match url.scheme() {
        // A machine without any roots can still reach its own loopback.
        "http" => builder.tls_certs_only(roots),
        _ => builder.tls_certs_merge(roots),
    };
    builder.build().map_err(|error| {
        let error = super::answer::unreachable(error, timeout);
        format!("ca_file: the roots to trust, of the system and of this file, cannot be used: {error}")
    })
}

fn roots(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(pem) {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        _ => Err("ca_file: holds no certificates in PEM form".to_owned()),
    }
}

fn text<'a>(name: &str, value: Option<&'a Value>) -> Result<Option<&'a str>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: must be a text")),
    }
}

fn read(name: &str, path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{name}: cannot read {}: {error}", path.display()))
}

fn within(name: &str, value: usize, least: usize, most: usize) -> Result<usize, String> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!("{name}: must be {least} to {most}, is {value}"))
}

#[cfg(test)]
mod tests {
    use common::settings::Layers;

    use super::*;

    const SIGNED: &str = "url = \"https://siem.example/in\"\nsecret = \"sixteen bytes ok\"\n";

    fn configure(options: &str) -> Result<Hook, String> {
        let file = format!("[[forwarder]]\nid = \"siem\"\nkind = \"webhook\"\n{options}");
        let (settings, _) =
            Layers::default().text(&file, "audit.toml").expect("TOML").build().expect("valid");
        hook(&settings.forwarder[0], &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_documentation() {
        let hook = configure("url = \"http://localhost/in\"\nsecret = \"sixteen bytes ok\"").expect("valid");
        assert_eq!((hook.max_events, hook.max_bytes), (100, 1 << 20));
        assert_eq!((hook.timeout, hook.total_timeout), (Duration::from_secs(10), Duration::from_secs(24)));
    }

    #[test]
    fn options_that_cannot_be_used_are_refused_by_name_and_without_their_secrets() {
        for (options, expected) in [
            ("unsigned = true", "url: missing"),
            ("unsigned = true\nurl = \"hunter2\"", "url: not a URL"),
            ("unsigned = true\nurl = 7531", "url: must be a text"),
            ("unsigned = true\nurl = \"ftp://hunter2@siem\"", "url: must begin with"),
            ("unsigned = true\nurl = \"http://hunter2@siem/in\"", "url: plain http"),
            ("url = \"https://siem\"", "secret: missing"),
            ("url = \"https://siem\"\nsecret = \"hunter2\"", "secret: must hold at least 16 bytes"),
            ("url = \"https://siem\"\nsecret = 7531753175317531", "secret: must be a text"),
            (
                "url = \"https://siem\"\nsecret_file = \"/nowhere/key\"",
                "secret_file: cannot read /nowhere/key",
            ),
            (&format!("{SIGNED}secret_file = \"/nowhere/key\""), "secret: set together"),
            (&format!("{SIGNED}unsigned = true"), "unsigned: set together"),
            (&format!("{SIGNED}headers = \"hunter2\""), "headers: must be a table"),
            (&format!("{SIGNED}headers = {{ x = 7531 }}"), "headers.x: must be a text"),
            (&format!("{SIGNED}headers = {{ x = \"hunter2\\n\" }}"), "headers.x: not the value"),
            (&format!("{SIGNED}headers = {{ \"a b\" = \"c\" }}"), "headers.a b: not the name"),
            (&format!("{SIGNED}headers = {{ Host = \"c\" }}"), "headers.Host: is set by"),
            (&format!("{SIGNED}headers = {{ X = \"c\", x = \"d\" }}"), "headers.x: set twice"),
            (&format!("{SIGNED}ca_file = \"/nowhere/ca\""), "ca_file: cannot read /nowhere/ca"),
            (&format!("{SIGNED}ca_file = \"/dev/null\""), "ca_file: holds no certificates"),
            (
                "url = \"https://siem\"\nsecret_file = \"/dev/null\"",
                "secret_file: must hold at least 16 bytes",
            ),
            (&format!("{SIGNED}max_events = 0"), "max_events: must be 1 to 1000, is 0"),
            (&format!("{SIGNED}max_events = 1001"), "max_events: must be 1 to 1000"),
            (&format!("{SIGNED}max_bytes = 1023"), "max_bytes: must be 1024 to 16777216"),
            (&format!("{SIGNED}max_bytes = 16777217"), "max_bytes: must be 1024 to 16777216"),
            (&format!("{SIGNED}timeout = \"soon\""), "timeout: \"soon\" is not a duration"),
            (&format!("{SIGNED}timeout = \"0s\""), "timeout: must be above zero"),
            (&format!("{SIGNED}timeout = \"30s\""), "timeout: must be above zero and below consumer"),
            (&format!("{SIGNED}colour = 1"), "colour: unknown field"),
        ] {
            let error = configure(options).err().unwrap_or_else(|| panic!("accepted: {options}"));
            assert!(error.starts_with(&format!("forwarder siem: {expected}")), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("7531"), "{error}");
        }
    }

    #[test]
    fn plain_http_stays_on_the_machine_unless_it_is_wanted() {
        for (url, allowed) in [
            ("http://localhost:1/in", true),
            ("http://127.8.8.8/in", true),
            ("http://[::1]:8080/in", true),
            ("http://localhost.example/in", false),
            ("http://10.0.0.1/in", false),
            ("http://10.0.0.1/in\"\ninsecure = true #", true),
        ] {
            let found = configure(&format!("unsigned = true\nurl = \"{url}\""));
            assert_eq!(found.is_ok(), allowed, "{url}: {:?}", found.err());
        }
    }
}
