//! The parameters of a PostgreSQL URL: what becomes of each, and whether its value may be shown.

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The driver understands it.
    Driver,
    /// libpq understands it; here it has no effect, or is so whatever it says. Only these values; none means any.
    Ignored(&'static [&'static str]),
    /// Known, and refused with this remedy.
    Refused(&'static str),
}

/// A parameter that is known. Of those that are not, neither name nor value may be shown: both may be parts of a secret.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) usage: Use,
    /// Whether its value is no secret.
    pub(crate) shown: bool,
}

const fn driver(name: &'static str) -> Parameter {
    Parameter { name, usage: Use::Driver, shown: true }
}

const fn ignored(name: &'static str, values: &'static [&'static str]) -> Parameter {
    Parameter { name, usage: Use::Ignored(values), shown: true }
}

const fn secret(name: &'static str, usage: Use) -> Parameter {
    Parameter { name, usage, shown: false }
}

static TABLE: [Parameter; 31] = [
    driver("sslmode"),
    driver("ssl-mode"),
    driver("sslrootcert"),
    driver("ssl-root-cert"),
    driver("ssl-ca"),
    driver("sslcert"),
    driver("ssl-cert"),
    driver("sslkey"),
    driver("ssl-key"),
    driver("host"),
    driver("hostaddr"),
    driver("port"),
    driver("dbname"),
    driver("user"),
    driver("application_name"),
    driver("statement-cache-capacity"),
    secret("password", Use::Driver),
    secret("options", Use::Driver),
    secret("sslpassword", Use::Refused("keep the key of sslkey without a password")),
    ignored("connect_timeout", &[]),
    ignored("keepalives", &[]),
    ignored("keepalives_idle", &[]),
    ignored("keepalives_interval", &[]),
    ignored("keepalives_count", &[]),
    ignored("tcp_user_timeout", &[]),
    ignored("fallback_application_name", &[]),
    ignored("client_encoding", &["auto", "utf8", "UTF8", "utf-8", "UTF-8"]),
    ignored("gssencmode", &["disable", "prefer"]),
    ignored("channel_binding", &["disable", "prefer"]),
    ignored("load_balance_hosts", &["disable"]),
    // A standby is refused by the doctor.
    ignored("target_session_attrs", &["any", "read-write", "primary"]),
];

/// What is known of a parameter.
pub(crate) fn find(name: &str) -> Option<&'static Parameter> {
    TABLE.iter().find(|parameter| parameter.name == name)
}
