//! Every way of getting settings wrong, and what the message names.

/// One way to get it wrong.
pub(super) struct Mistake {
    /// What the file holds; `{}` stands for a folder.
    pub(super) file: &'static str,
    /// Variables besides the URLs of the sandbox; one of these without a value takes it away.
    pub(super) variables: &'static [(&'static str, &'static str)],
    pub(super) arguments: &'static [&'static str],
    /// Whose mistake it is.
    pub(super) binaries: &'static [&'static str],
    /// What the message names.
    pub(super) says: &'static str,
}

pub(super) const ALL: &[&str] = &["publisher", "consumer", "threadline"];
pub(super) const SERVICES: &[&str] = &["publisher", "consumer"];
const CONSUMER: &[&str] = &["consumer"];

const fn mistake(
    binaries: &'static [&'static str],
    file: &'static str,
    variables: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    says: &'static str,
) -> Mistake {
    Mistake { file, variables, arguments, binaries, says }
}

const WEBHOOK: &str = "[[forwarder]]\nid = \"siem\"\nkind = \"webhook\"\nurl = \"http://localhost/in\"\n";

pub(super) const MISTAKES: &[Mistake] = &[
    // Files.
    mistake(ALL, "", &[], &["--config", "/nowhere/audit.toml"], "/nowhere/audit.toml"),
    mistake(ALL, "", &[("AUDIT_CONFIG", "/")], &[], "cannot read the settings file /"),
    mistake(ALL, "[publisher", &[], &[], "unclosed table"),
    mistake(SERVICES, "[relay]\npage_rows = ", &[], &[], "is not valid TOML, line 2"),
    mistake(SERVICES, "[publisher]\nmax_in_flight = 1\nmax_in_flight = 2", &[], &[], "is not valid TOML"),
    mistake(SERVICES, "[broker]\ncredentials_file = \"/nowhere/creds\"", &[], &[], "broker.credentials_file"),
    mistake(SERVICES, "[broker]\ncredentials_file = \"/etc/hostname\"", &[], &[], "broker.credentials_file"),
    mistake(SERVICES, "[broker]\ncredentials_file = \"/\"", &[], &[], "broker.credentials_file"),
    // Keys and values.
    mistake(SERVICES, "[publisher]\npage_sise = 1", &[], &[], "publisher.page_sise"),
    mistake(ALL, "[threadline]\ncolour = \"red\"", &[], &[], "colour"),
    mistake(SERVICES, "publisher = 5", &[], &[], "publisher"),
    mistake(SERVICES, "[relay]\nlease = \"-1s\"", &[], &[], "relay.lease"),
    mistake(SERVICES, "[publisher]\nlisten = \"localhost\"", &[], &[], "publisher.listen"),
    mistake(SERVICES, "[consumer]\nworkers = 1.5", &[], &[], "consumer.workers"),
    mistake(SERVICES, "[source]\ntable = \"a.b.c\"", &[], &[], "source.table"),
    mistake(SERVICES, "[log]\nformat = \"xml\"", &[], &[], "log.format"),
    mistake(SERVICES, "[log]\nfilter = \"a=b=c\"", &[], &[], "log.filter"),
    mistake(ALL, "[threadline]\nschema = \"Not A Name\"", &[], &[], "schema"),
    mistake(SERVICES, "[broker]\nsubject = \"a..b\"", &[], &[], "broker.subject"),
    mistake(SERVICES, "[broker]\nsubject = \".a\"", &[], &[], "broker.subject"),
    mistake(SERVICES, "[broker]\nsubject = \"a.>\"", &[], &[], "broker.subject"),
    mistake(SERVICES, "[broker]\nsubject = \"$JS.API.events\"", &[], &[], "belongs to the server"),
    mistake(SERVICES, "[broker]\nsubject = \"a\\fb\"", &[], &[], "broker.subject"),
    mistake(SERVICES, "[broker]\nstream = \"a/b\"", &[], &[], "broker.stream"),
    mistake(SERVICES, "[broker]\nstream = \"a\tb\"", &[], &[], "broker.stream"),
    mistake(SERVICES, "[broker]\nstream = \"\"", &[], &[], "broker.stream"),
    mistake(SERVICES, "[broker]\njetstream_domain = \"a.b\"", &[], &[], "broker.jetstream_domain"),
    mistake(SERVICES, "[broker]\napi_prefix = \"JS..API\"", &[], &[], "broker.api_prefix"),
    // The environment.
    mistake(SERVICES, "", &[("AUDIT__CONSUMER__WORKERS", "many")], &[], "AUDIT__CONSUMER__WORKERS"),
    mistake(SERVICES, "", &[("AUDIT__CONSUMER__WROKERS", "1")], &[], "AUDIT__CONSUMER__WROKERS"),
    mistake(SERVICES, "", &[("AUDIT__LOG__FILTER", "=,=")], &[], "AUDIT__LOG__FILTER"),
    mistake(
        SERVICES,
        "",
        &[("AUDIT__FORWARDER__0__KIND", "noop")],
        &[],
        "there is no [[forwarder]] number 0",
    ),
    mistake(SERVICES, "", &[("SOURCE_DATABASE_URL", "hunter2")], &[], "source.url"),
    mistake(SERVICES, "", &[("SOURCE_DATABASE_URL", "")], &[], "no source database is configured"),
    mistake(SERVICES, "", &[("SOURCE_DATABASE_URL", "postgres://h:99999999/hunter2")], &[], "source.url"),
    mistake(SERVICES, "", &[("SOURCE_DATABASE_URL", "postgres://h/d?sslmode=perhaps")], &[], "source.url"),
    // Files that a URL names.
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://h/d?sslmode=verify-full&sslrootcert=/nowhere/ca.pem")],
        &[],
        "sslrootcert: /nowhere/ca.pem",
    ),
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://h/d?sslrootcert=/etc/hostname")],
        &[],
        "sslrootcert: /etc/hostname: it is not PEM",
    ),
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://h/d?sslmode=require&sslcert=/etc/hostname")],
        &[],
        "sslcert: /etc/hostname: a certificate and its key go together",
    ),
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://h/d?sslmode=require"), ("PGSSLROOTCERT", "/nowhere/ca.pem")],
        &[],
        "it names no sslrootcert, and the environment variable PGSSLROOTCERT does not count",
    ),
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://u@h/d"), ("PGSSLMODE", "verify-full")],
        &[],
        "the environment variable PGSSLMODE does not count",
    ),
    mistake(
        SERVICES,
        "",
        &[("SOURCE_DATABASE_URL", "postgres://h/d"), ("PGUSER", "other")],
        &[],
        "the environment variable PGUSER does not count",
    ),
    mistake(
        &["threadline"],
        "",
        &[("THREADLINE_DATABASE_URL", "postgres://u@/d"), ("PGHOST", "other")],
        &[],
        "the environment variable PGHOST does not count",
    ),
    mistake(ALL, "", &[("PGOPTIONS", "-c jit=on")], &[], "the environment variable PGOPTIONS does not count"),
    mistake(
        &["consumer", "threadline"],
        "",
        &[("THREADLINE_DATABASE_URL", "postgres://h/d?sslmode=verify-ca&sslrootcert=/")],
        &[],
        "sslrootcert: /: ",
    ),
    mistake(
        &["consumer", "threadline"],
        "",
        &[("THREADLINE_DATABASE_URL", "postgres://h/d?sslmode=require&sslcert=/nowhere/a&sslkey=/nowhere/b")],
        &[],
        "sslcert: /nowhere/a",
    ),
    mistake(SERVICES, "", &[("NATS_URL", "hunter2")], &[], "broker.url"),
    mistake(&["publisher"], "", &[("NATS_URL", "")], &[], "no broker is configured"),
    mistake(&["threadline"], "", &[("THREADLINE_DATABASE_URL", "")], &[], "no timeline database"),
    mistake(&["threadline"], "", &[("THREADLINE_DATABASE_URL", "hunter2")], &[], "threadline.url"),
    mistake(
        &["threadline"],
        "",
        &[("AUDIT__THREADLINE__URL", "postgres://hunter2:port/x")],
        &[],
        "threadline.url",
    ),
    mistake(&["threadline"], "", &[("AUDIT__THREADLINE__SCHEMA", "Not A Name")], &[], "schema"),
    // Forwarders.
    mistake(CONSUMER, "", &[("THREADLINE_DATABASE_URL", "")], &[], "no timeline database"),
    mistake(CONSUMER, "[[forwarder]]\nid = \"a\"\nkind = \"threadlin\"", &[], &[], "no kind \"threadlin\""),
    mistake(SERVICES, "[[forwarder]]\nid = \"a b\"\nkind = \"noop\"", &[], &[], "forwarder[0]"),
    mistake(SERVICES, "[[forwarder]]\nid = \"a\"", &[], &[], "missing field `kind`"),
    mistake(CONSUMER, "[[forwarder]]\nid = \"a\"\nkind = \"noop\"\nx = 1", &[], &[], "unknown field `x`"),
    mistake(
        CONSUMER,
        "[[forwarder]]\nid = \"a\"\nkind = \"noop\"\ndispatch = \"async\"",
        &[("NATS_URL", "")],
        &[],
        "needs a broker",
    ),
    mistake(CONSUMER, WEBHOOK, &[], &[], "secret: missing"),
    mistake(
        CONSUMER,
        "[[forwarder]]\nid = \"a\"\nkind = \"threadline\"\nprofile = \"best\"",
        &[],
        &[],
        "profile",
    ),
    mistake(
        CONSUMER,
        "[[forwarder]]\nid = \"a\"\nkind = \"webhook\"\nurl = \"http://localhost\"\nsecret_file = \"/nowhere/key\"",
        &[],
        &[],
        "/nowhere/key",
    ),
    // Flags.
    mistake(SERVICES, "", &[], &["--set", "consumer.workers"], "expected KEY=VALUE"),
    mistake(SERVICES, "", &[], &["--set", "consumer.workers=0"], "must be 1 to 64"),
    mistake(SERVICES, "", &[], &["--set", "broker.url=nats://hunter2@h"], "process lists"),
    mistake(ALL, "", &[], &["--colour"], "--colour"),
];
