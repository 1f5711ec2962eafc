//! Ranges of `[operator]`, and rules between its keys.

use std::time::Duration;

use super::{
    AuthKind, ConnectionUrl, OperatorAuthSettings, OperatorSettings,
    bounds::{Refusal, number, path, refuse, within},
};

/// The algorithms of tokens that can be verified. Those with a shared secret are none of them, nor is `none`.
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

pub(super) fn validate(operator: &OperatorSettings) -> Result<(), Refusal> {
    let second = Duration::from_secs(1);
    for (key, url) in
        [("operator.writer_url", &operator.writer_url), ("operator.redrive_url", &operator.redrive_url)]
    {
        if let Some(Err(error)) = url.as_ref().map(ConnectionUrl::postgres) {
            return refuse(key, error.to_string());
        }
    }
    path("operator.exports_directory", operator.exports_directory.as_deref())?;
    for (key, length) in
        [("operator.record_views", operator.record_views), ("operator.purges_every", operator.purges_every)]
    {
        if let Some(length) = length {
            within(key, length, 60 * second, 366 * 86_400 * second)?;
        }
    }
    if operator.writer_url.is_none() {
        for (key, needs_it) in [
            ("operator.exports_directory", operator.exports_directory.is_some()),
            ("operator.record_views", operator.record_views.is_some()),
        ] {
            if needs_it {
                return refuse(
                    key,
                    "needs operator.writer_url: what is done is recorded on a connection that may write",
                );
            }
        }
    }
    within("operator.unready_after", operator.unready_after, second, 86_400 * second)?;
    let limits = &operator.limits;
    number("operator.limits.connections", limits.connections, 1, 100)?;
    number("operator.limits.requests_per_actor", limits.requests_per_actor, 1, 100)?;
    number("operator.limits.tails", limits.tails, 0, 1_000)?;
    within("operator.limits.statement_timeout", limits.statement_timeout, second / 10, 60 * second)?;
    within("operator.limits.request_timeout", limits.request_timeout, second, 300 * second)?;
    match operator.auth.kind {
        Some(AuthKind::None) if !operator.listen.is_local() => refuse(
            "operator.auth.kind",
            format!(
                "\"none\" lets in everybody who reaches {}, so it goes with a loopback address or a unix socket only: set \
                 operator.listen to one, or operator.auth.kind to \"jwt\" or \"signed\"",
                operator.listen
            ),
        ),
        Some(AuthKind::Jwt) => of_jwt(&operator.auth),
        Some(AuthKind::Signed) => of_signed(&operator.auth),
        Some(AuthKind::None) | None => Ok(()),
    }
}

fn of_jwt(auth: &OperatorAuthSettings) -> Result<(), Refusal> {
    let jwt = &auth.jwt;
    header("operator.auth.jwt.header", &jwt.header)?;
    path("operator.auth.jwt.jwks_file", jwt.jwks_file.as_deref())?;
    match (&jwt.jwks_file, &jwt.jwks_url) {
        (None, None) => {
            return refuse(
                "operator.auth.jwt.jwks_url",
                "this or jwks_file says where the issuer's keys are",
            );
        }
        (Some(_), Some(_)) => {
            return refuse("operator.auth.jwt.jwks_url", "not together with jwks_file: keep one of them");
        }
        (None, Some(url)) if !is_of_keys(url.expose()) => {
            return refuse(
                "operator.auth.jwt.jwks_url",
                "must be an https:// address without user and password; http:// on loopback only: whoever changes the answer lets \
                 everybody in",
            );
        }
        _ => {}
    }
    for (key, value) in
        [("operator.auth.jwt.issuer", &jwt.issuer), ("operator.auth.jwt.audience", &jwt.audience)]
    {
        if value.as_deref().is_none_or(str::is_empty) {
            return refuse(key, "is required: a token for another application would be as good without it");
        }
    }
    if jwt.algorithms.is_empty() {
        return refuse("operator.auth.jwt.algorithms", "names no algorithm, so no token would count");
    }
    if let Some(other) = jwt.algorithms.iter().find(|one| !ALGORITHMS.contains(&one.as_str())) {
        return refuse(
            "operator.auth.jwt.algorithms",
            format!("{other:?} is none of {}", ALGORITHMS.join(", ")),
        );
    }
    within("operator.auth.jwt.leeway", jwt.leeway, Duration::ZERO, Duration::from_secs(300))?;
    for (key, claim) in [
        ("operator.auth.jwt.actor_claim", Some(&jwt.actor_claim)),
        ("operator.auth.jwt.roles_claim", Some(&jwt.roles_claim)),
        ("operator.auth.jwt.label_claim", jwt.label_claim.as_ref()),
        ("operator.auth.jwt.scope_claim", jwt.scope_claim.as_ref()),
        ("operator.auth.jwt.scope_key", Some(&jwt.scope_key)),
    ] {
        if claim.is_some_and(String::is_empty) {
            return refuse(key, "is empty");
        }
    }
    if jwt.scope_claim.is_none() && jwt.everything.is_empty() {
        return refuse(
            "operator.auth.jwt.scope_claim",
            "without it, and without roles in everything, nobody would see anything: name the claim that has the tenant, or set \
             everything = [\"*\"] where every token sees all",
        );
    }
    Ok(())
}

fn of_signed(auth: &OperatorAuthSettings) -> Result<(), Refusal> {
    header("operator.auth.signed.header", &auth.signed.header)?;
    path("operator.auth.signed.keys_file", auth.signed.keys_file.as_deref())?;
    if auth.signed.keys_file.is_none() {
        return refuse(
            "operator.auth.signed.keys_file",
            "is required: a file with a line of an id and a secret of at least 32 characters",
        );
    }
    Ok(())
}

fn header(key: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return refuse(key, format!("{name:?} is no name of a header"));
    }
    Ok(())
}

fn is_of_keys(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        let is_loopback = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        let plain = url.username().is_empty() && url.password().is_none();
        plain && (url.scheme() == "https" || url.scheme() == "http" && is_loopback)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Settings;

    fn refusal(operator: &str) -> String {
        Settings::from_toml(operator).map_or_else(|error| error.to_string(), |_| "valid".to_owned())
    }

    #[test]
    fn who_may_see_what_is_refused_where_it_would_let_everybody_in_or_nobody() {
        const JWT: &str = "[operator.auth]\nkind = \"jwt\"\n[operator.auth.jwt]\n";
        const WHOSE: &str = "issuer = \"https://id\"\naudience = \"threadline\"\n";
        let jwt = |keys: &str| format!("{JWT}{keys}");
        let with_keys = |keys: &str| jwt(&format!("{WHOSE}jwks_file = \"/keys.json\"\n{keys}"));
        for (text, part) in [
            (
                "[operator]\nlisten = \"0.0.0.0:4180\"\nauth.kind = \"none\"".to_owned(),
                "everybody who reaches 0.0.0.0:4180",
            ),
            (
                "[operator]\nlisten = \"unix:socket\"".to_owned(),
                "operator.listen from the text of the settings: \"unix:socket\" is not",
            ),
            (
                "[operator]\nrecord_views = \"1h\"".to_owned(),
                "operator.record_views from the text of the settings: needs operator.writer_url",
            ),
            (
                "[operator]\nrecord_views = \"1s\"\nwriter_url = \"postgres://h/d\"".to_owned(),
                "operator.record_views",
            ),
            ("[operator]\npurges_every = \"1s\"".to_owned(), "operator.purges_every"),
            ("[operator]\nexports_directory = \"/srv/exports\"".to_owned(), "operator.exports_directory"),
            (
                "[operator]\nrecord_views = \"1h\"\npurges_every = \"1day\"\nwriter_url = \"postgres://h/d\""
                    .to_owned(),
                "valid",
            ),
            ("[operator.auth]\nkind = \"basic\"".to_owned(), "operator.auth.kind from the text"),
            (
                "[operator.auth]\nkind = \"signed\"".to_owned(),
                "operator.auth.signed.keys_file from the default: is required",
            ),
            (jwt(WHOSE), "says where the issuer's keys are"),
            (jwt(&format!("{WHOSE}jwks_url = \"http://id.example/keys\"")), "must be an https:// address"),
            (
                jwt("jwks_file = \"/keys.json\"\nissuer = \"https://id\"\neverything = [\"*\"]"),
                "operator.auth.jwt.audience",
            ),
            (
                jwt("jwks_file = \"/keys.json\"\naudience = \"a\"\neverything = [\"*\"]"),
                "operator.auth.jwt.issuer",
            ),
            (
                with_keys("algorithms = [\"HS256\"]\neverything = [\"*\"]"),
                "\"HS256\" is none of RS256, ES256, EdDSA",
            ),
            (with_keys("algorithms = [\"none\"]\neverything = [\"*\"]"), "\"none\" is none of"),
            (with_keys("algorithms = []\neverything = [\"*\"]"), "names no algorithm"),
            (with_keys("leeway = \"1h\"\neverything = [\"*\"]"), "operator.auth.jwt.leeway"),
            (with_keys(""), "nobody would see anything"),
            (with_keys("header = \"X Y\"\neverything = [\"*\"]"), "is no name of a header"),
            (with_keys("everything = [\"*\"]"), "valid"),
            (jwt(&format!("{WHOSE}jwks_url = \"http://127.0.0.1:1/keys\"\nscope_claim = \"org\"")), "valid"),
            (
                "[operator]\nlisten = \"unix:/run/threadline/operator.sock\"\nauth.kind = \"none\""
                    .to_owned(),
                "valid",
            ),
        ] {
            let refused = refusal(&text);
            assert!(refused.contains(part), "{text}: {refused}");
        }
    }
}
