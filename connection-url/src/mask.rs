//! What may be shown of a URL.

use percent_encoding::percent_decode_str;

use crate::{parameters, parts, parts::Parts};

const HIDDEN: &str = "***";

/// In others the place of a secret is unknown: `user:password` may look like one.
const SCHEMES: [&str; 8] = ["postgres", "postgresql", "nats", "tls", "ws", "wss", "http", "https"];

/// Every address of the list without its secrets.
pub(crate) fn mask(text: &str) -> String {
    parts::addresses(text).iter().map(|one| address(one)).collect::<Vec<_>>().join(",")
}

fn address(text: &str) -> String {
    let Some(parts) = Parts::of(text).filter(|parts| SCHEMES.contains(&parts.scheme)) else {
        return HIDDEN.to_owned();
    };
    let Parts { scheme, user, hosts, tail } = parts;
    let is_postgres = matches!(scheme, "postgres" | "postgresql");
    // A / or ? or # in a password ends the authority early: what is taken for host and path is the secret then.
    if tail.contains(['@', '#']) || url::Url::parse(&format!("{scheme}://{hosts}")).is_err() {
        return HIDDEN.to_owned();
    }
    let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        None => String::new(),
        // A NATS token stands where the user name stands: without a password, it is the secret.
        Some((user, "")) if is_postgres => format!("{user}@"),
        Some((_, "")) => format!("{HIDDEN}@"),
        Some((user, _)) => format!("{user}:{HIDDEN}@"),
    };
    let query = parts.query().map_or_else(String::new, |query| {
        format!("?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{user}{hosts}{}{query}", parts.path())
}

fn parameter(pair: &str) -> String {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decoded = percent_decode_str(name).decode_utf8_lossy();
    match parameters::find(&decoded) {
        Some(known) if known.shown => format!("{name}={value}"),
        Some(_) => format!("{name}={HIDDEN}"),
        // It may be a part of a secret too.
        None => HIDDEN.to_owned(),
    }
}
