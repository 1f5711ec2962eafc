//! URLs of PostgreSQL, as libpq reads them. The driver's own reader takes an IPv6 address with its brackets for a name, several
//! hosts for one, and logs parameters that it does not know with their values.

use std::{collections::BTreeSet, str::FromStr as _};

use percent_encoding::percent_decode_str;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

use crate::{
    UrlError, environment,
    parameters::{self, Use},
    parts::{self, Parts},
};

const SEVERAL_HOSTS: &str = "it names several hosts, which is not supported: name one, or put a pooler, a virtual address or a \
                             name of the current primary before them";

pub(crate) fn options(text: &str) -> Result<PgConnectOptions, UrlError> {
    let parts = Parts::of(text)
        .filter(|parts| matches!(parts.scheme, "postgres" | "postgresql"))
        .ok_or_else(|| {
            UrlError::new(
                "not the URL of a PostgreSQL database: it must begin with postgres:// or postgresql://",
            )
        })?;
    if !parts.user.is_none_or(parts::is_encoded) {
        return Err(UrlError::new(parts::NOT_ENCODED));
    }
    if parts.hosts.contains(',') {
        return Err(UrlError::new(SEVERAL_HOSTS));
    }
    if parts.path().contains('@') || parts.tail.contains('#') {
        return Err(UrlError::new("a / ? # or @ in user, password or database is written %2F %3F %23 %40"));
    }
    // Without user and password, which libpq allows before an empty host, and which do not belong in an error.
    let mut url = Url::parse(&format!("{}://{}{}", parts.scheme, parts.hosts, parts.tail)).map_err(|_| {
        UrlError::new(
            "host or port of it cannot be understood; an IPv6 address stands in [ ], and a / ? or # in user or password is \
             written %2F %3F %23",
        )
    })?;
    let parameters = parameters(&url, parts.tail.contains('@'))?;
    let host = parameters.iter().find(|(key, _)| key == "host" || key == "hostaddr");
    let host = host.map(|(_, host)| host.clone());
    let system_roots = parameters.iter().any(|(key, value)| is_root(key) && value == "system");
    let verified = parameters.iter().any(|(key, _)| is_root(key));
    let insists = parameters.iter().any(|(key, _)| key == "sslmode" || key == "ssl-mode");
    url.set_query(None);
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let names_port = url.port().is_some();
    for (key, value) in environment::DEFAULTS.iter().filter(|(key, _)| !(names_port && *key == "port")) {
        url.query_pairs_mut().append_pair(key, value);
    }
    if let Some((user, password)) = parts.user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        for (key, value) in
            [("user", user), ("password", password)].iter().filter(|(_, value)| !value.is_empty())
        {
            url.query_pairs_mut().append_pair(key, &decoded(value));
        }
    }
    // A parameter counts more than what stands before the host.
    for (key, value) in parameters.iter().filter(|(key, value)| !(is_root(key) && value == "system")) {
        url.query_pairs_mut().append_pair(key, value);
    }
    environment::refuse(&url)?;
    // Not the driver's own words: they may repeat a value.
    let options = PgConnectOptions::from_str(url.as_str()).map_err(|_| {
        UrlError::new("one of its parameters has a value that cannot be used; see sslmode, port and hostaddr")
    })?;
    let options = if environment::says(&url, "user") { options } else { options.username(&system_user()?) };
    let options = match options.get_database() {
        Some(_) if !environment::says(&url, "database") => options.clone().database(options.get_username()),
        _ => options,
    };
    let host = host.or_else(|| {
        let host = url.host_str().filter(|host| !host.is_empty())?;
        Some(decoded(host))
    });
    let options = match host {
        Some(host) if !host.starts_with('/') => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            options.host(bare.unwrap_or(&host))
        }
        _ => options,
    };
    // As in libpq: naming an authority means that it is to be checked.
    Ok(match options.get_ssl_mode() {
        _ if system_roots && !insists => options.ssl_mode(PgSslMode::VerifyFull),
        PgSslMode::Require if verified => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    })
}

fn is_root(key: &str) -> bool {
    matches!(key, "sslrootcert" | "ssl-root-cert" | "ssl-ca")
}

/// Those that the driver is to be told. `unclear` when a separator may stand in a password that was not encoded: then nothing
/// of it may be named.
fn parameters(url: &Url, unclear: bool) -> Result<Vec<(String, String)>, UrlError> {
    let mut parameters = Vec::new();
    let mut seen = BTreeSet::new();
    // An & in a password is one too.
    let unclear = unclear || url.query_pairs().any(|(key, _)| key.contains("password"));
    for (key, value) in url.query_pairs() {
        let (key, value) = (key.into_owned(), value.into_owned());
        let session = key.starts_with("options[") && key.ends_with(']');
        match parameters::find(&key).map(|known| known.usage) {
            Some(Use::Driver) => {}
            Some(Use::Ignored(values)) if values.is_empty() || values.contains(&&*value) => continue,
            Some(Use::Ignored(_)) => {
                return Err(UrlError::new(format!("the parameter {key} is not supported with this value")));
            }
            Some(Use::Refused(remedy)) => {
                return Err(UrlError::new(format!("the parameter {key} is not supported: {remedy}")));
            }
            None if session => {}
            None => {
                let name = key.chars().all(|c| c.is_ascii_alphabetic() || c == '_') && !unclear;
                let name = if name { format!(" {key}") } else { String::new() };
                return Err(UrlError::new(format!(
                    "it has a parameter{name} that is not supported (docs/configuration.md lists those that are): leave it out"
                )));
            }
        }
        if matches!(&*key, "host" | "hostaddr" | "port") && value.contains(',') {
            return Err(UrlError::new(SEVERAL_HOSTS));
        }
        if !session && !seen.insert(key.clone()) {
            return Err(UrlError::new(format!("it has the parameter {key} twice")));
        }
        parameters.push((key, value));
    }
    if seen.contains("host") && seen.contains("hostaddr") {
        return Err(UrlError::new("host and hostaddr together are not supported: give one of them"));
    }
    Ok(parameters)
}

/// Who runs this process: libpq's user where a URL names none. The driver would ask as `anonymous`, unless something turns a feature of its
/// dependency on.
fn system_user() -> Result<String, UrlError> {
    let unknown = || {
        UrlError::new(
            "it names no user, and the system has no name for who runs this: name the user in the URL",
        )
    };
    whoami::username().map_err(|_| unknown())
}
