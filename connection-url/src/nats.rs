//! Addresses of NATS servers.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{UrlError, parts, parts::Parts};

/// One server, and who is to log in there.
#[derive(Clone)]
pub struct Server {
    /// `nats://host:4222` or `tls://host:4222`, without user and password.
    pub address: String,
    /// A user with its password, or a token alone; percent-encoding undone.
    pub login: Option<(String, Option<String>)>,
}

/// Without the login.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.address).finish()
    }
}

pub(crate) fn servers(text: &str) -> Result<Vec<Server>, UrlError> {
    if text.trim_end().contains(char::is_whitespace) {
        return Err(UrlError::new(
            "it has a blank: servers are separated by a comma alone, and a blank in a password is written %20",
        ));
    }
    parts::addresses(text).iter().map(|one| server(one)).collect()
}

fn server(text: &str) -> Result<Server, UrlError> {
    let parts = Parts::of(text).ok_or_else(|| UrlError::new("not a URL such as nats://host:4222"))?;
    if !parts.user.is_none_or(parts::is_encoded) {
        return Err(UrlError::new(parts::NOT_ENCODED));
    }
    match parts.scheme {
        "nats" | "tls" => {}
        "ws" | "wss" => {
            return Err(UrlError::new(
                "WebSocket is not supported: begin the URL with nats:// or tls://, and use the port of NATS clients",
            ));
        }
        _ => return Err(UrlError::new("not the URL of a NATS server: it must begin with nats:// or tls://")),
    }
    // one:4222,user:password@two looks like a user called one.
    let ambiguous = parts.user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| {
        password.split_once(',').is_some_and(|(port, _)| port.chars().all(|c| c.is_ascii_digit()))
    });
    if ambiguous {
        return Err(UrlError::new(
            "a comma in it may separate two servers or be a part of the password: write nats:// before each server, or %2C \
             for a comma in the password",
        ));
    }
    if !matches!(parts.tail, "" | "/") {
        return Err(UrlError::new(
            "a NATS URL ends with its port: a / ? # or @ in user, password or token is written %2F %3F %23 %40, and \
             parameters are not supported",
        ));
    }
    let url = Url::parse(&format!("{}://{}", parts.scheme, parts.hosts))
        .ok()
        .filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
        .ok_or_else(|| {
            UrlError::new("host or port of it cannot be understood; an IPv6 address stands in [ ]")
        })?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let login = parts.user.filter(|user| !user.is_empty()).map(|user| match user.split_once(':') {
        Some((user, password)) => (decoded(user), Some(decoded(password))),
        None => (decoded(user), None),
    });
    Ok(Server { address: url.to_string(), login })
}
