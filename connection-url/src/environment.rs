//! libpq's environment variables, which the driver reads where a URL leaves something open. They do not count: what a shell says for
//! `psql` is no setting of a service, and what a service connects to is in its settings as a whole.

use std::env;

use url::Url;

use crate::UrlError;

/// Parameters with what they are when nobody says anything: told so, the driver asks neither the environment nor a password
/// file.
pub(crate) const DEFAULTS: [(&str, &str); 2] = [("port", "5432"), ("password", "")];

/// Variables that the driver cannot be kept from reading, or that somebody relies on to be safe; with what a URL says in their
/// place.
const REFUSED: [(&str, &str); 8] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "host"),
    // The driver looks for a socket of this port.
    ("PGPORT", "host"),
    ("PGUSER", "user"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
];

/// Refuses a variable that would decide what a URL leaves open.
///
/// # Errors
/// Names the variable, and never its value.
pub(crate) fn refuse(url: &Url) -> Result<(), UrlError> {
    if let Some((variable, what)) =
        REFUSED.iter().find(|(variable, what)| env::var_os(variable).is_some() && !says(url, what))
    {
        return Err(UrlError::new(format!(
            "it names no {what}, and the environment variable {variable} does not count: name the {what} in the URL, or unset the \
             variable"
        )));
    }
    if env::var_os("PGOPTIONS").is_some_and(|options| !options.is_empty()) {
        return Err(UrlError::new(
            "the environment variable PGOPTIONS does not count: write what it holds into the URL as options=…, and unset it",
        ));
    }
    Ok(())
}

/// Whether a URL says what this is. User and password are among its parameters, as the driver is given it.
pub(crate) fn says(url: &Url, what: &str) -> bool {
    let last = |names: &[&str]| {
        url.query_pairs().filter(|(key, _)| names.contains(&&**key)).last().map(|(_, value)| value)
    };
    let mode = last(&["sslmode", "ssl-mode"]);
    // Then none of the files is read.
    let without_tls = mode.as_deref().is_some_and(|mode| matches!(mode, "disable" | "allow"));
    match what {
        "host" => {
            last(&["host", "hostaddr"]).is_some() || url.host_str().is_some_and(|host| !host.is_empty())
        }
        "database" => last(&["dbname"]).is_some() || !matches!(url.path(), "" | "/"),
        "sslmode" => mode.is_some(),
        "sslrootcert" => without_tls || last(&["sslrootcert", "ssl-root-cert", "ssl-ca"]).is_some(),
        "sslcert" => without_tls || last(&["sslcert", "ssl-cert"]).is_some(),
        "sslkey" => without_tls || last(&["sslkey", "ssl-key"]).is_some(),
        parameter => last(&[parameter]).is_some(),
    }
}
