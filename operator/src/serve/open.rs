//! Nobody is asked who they are: whoever reaches this machine's own address, or the socket, is let in.

use std::net::IpAddr;

use axum::http::{header, request::Parts, uri::Authority};
use common::{
    service::ServiceError,
    settings::{OperatorSettings, Place},
};
use threadline::query::Scope;

use super::{
    auth::{actor, capabilities, misused},
    refused::Refused,
};
use crate::Grant;

/// Headers that proxies add.
const OF_PROXIES: [&str; 10] = [
    "cf-connecting-ip",
    "forwarded",
    "true-client-ip",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
];

/// Everybody is one actor, who sees everything.
#[derive(Debug)]
pub(super) struct Open {
    grant: Grant,
    /// Whether it is reached by an address, and not through a socket that the file system guards.
    is_address: bool,
}

impl Open {
    pub(super) fn of(operator: &OperatorSettings) -> Result<Self, ServiceError> {
        let settings = &operator.auth.none;
        let Some(actor) = actor(&settings.actor) else {
            return Err(misused(format!(
                "operator.auth.none.actor: {:?} is no actor such as admin:anna, and not anonymous",
                settings.actor
            )));
        };
        let allowed = capabilities("operator.auth.none.capabilities", &settings.capabilities)?;
        let grant = allowed.into_iter().fold(Grant::new(actor, Scope::everything()), Grant::allow);
        Ok(Self { grant, is_address: matches!(operator.listen, Place::Address(_)) })
    }

    pub(super) fn grant(&self, parts: &Parts) -> Result<Grant, Refused> {
        if self.is_address && !is_of_this_machine(parts) {
            return Err(Refused::NotLocal);
        }
        Ok(self.grant.clone())
    }
}

/// Whether it came from a browser or program of this machine, which calls it by its own address. A page of somebody else's site can make a
/// browser ask here under a name that leads to this machine; and a proxy brings everybody.
fn is_of_this_machine(parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().filter(|host| !host.contains('@'));
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let is_local = authority.is_some_and(|authority| {
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    });
    is_local && !OF_PROXIES.iter().any(|name| parts.headers.contains_key(*name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use axum::http::Request;
    use common::settings::Settings;

    use super::*;

    fn open(listen: &str) -> Open {
        let text = format!("[operator]\nlisten = \"{listen}\"\n[operator.auth]\nkind = \"none\"");
        Open::of(&Settings::from_toml(&text).unwrap().operator).unwrap()
    }

    fn asked(headers: &[(&str, &str)]) -> Parts {
        let request =
            headers.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_this_machine_gets_in_without_being_asked_who_it_is() {
        let open = open("127.0.0.1:4180");
        for host in ["127.0.0.1:4180", "localhost", "LocalHost:1", "[::1]:4180"] {
            open.grant(&asked(&[("host", host)])).unwrap();
        }
        for headers in [
            // A name that somebody else has made lead here.
            &[("host", "evil.example")][..],
            &[("host", "localhost.evil.example")],
            &[("host", "192.0.2.1")],
            &[],
            &[("host", "127.0.0.1:4180"), ("x-forwarded-for", "203.0.113.9")],
            &[("host", "127.0.0.1:4180"), ("forwarded", "for=203.0.113.9")],
            &[("host", "127.0.0.1:4180"), ("via", "1.1 proxy")],
            &[("host", "127.0.0.1:4180"), ("x-real-ip", "203.0.113.9")],
            &[("host", "127.0.0.1:4180"), ("host", "evil.example")],
            &[("host", "user@127.0.0.1")],
        ] {
            assert_eq!(open.grant(&asked(headers)).unwrap_err(), Refused::NotLocal, "{headers:?}");
        }
    }

    #[test]
    fn whoever_reaches_a_socket_gets_in() {
        open("unix:/run/operator.sock")
            .grant(&asked(&[("host", "audit.example"), ("x-forwarded-for", "::1")]))
            .unwrap();
    }

    #[test]
    fn who_everybody_is_and_what_they_may_is_checked() {
        for (keys, part) in [
            ("actor = \"robot:7\"", "operator.auth.none.actor: \"robot:7\""),
            ("capabilities = [\"all\"]", "operator.auth.none.capabilities: \"all\" is none of read, views"),
        ] {
            let text = format!("[operator.auth]\nkind = \"none\"\n[operator.auth.none]\n{keys}");
            let error = Open::of(&Settings::from_toml(&text).unwrap().operator).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
