#![allow(clippy::unwrap_used, reason = "tests")]

use axum::http::Request;
use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::Capability;

const SECRET: &str = "a secret of the tests, with 32 characters";
const OLD: &str = "an older secret, with 32 characters as well";
const NOW: i64 = 1_800_000_000;
/// The SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn signed() -> Signed {
    let secrets = Secrets::parsed(&format!("k2 {SECRET}\nk1 {OLD}")).unwrap();
    Signed { header: HeaderName::from_static("x-threadline-grant"), secrets, nonces: Nonces::default() }
}

fn sign(payload: &Value, secret: &str) -> String {
    let text = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload.to_string()));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    format!("{text}.{}", hex::encode(mac))
}

/// What a host says of a request for `/timeline`, with these keys changed; null takes one out.
fn payload(changed: &Value) -> Value {
    let mut payload = json!({
        "kid": "k2", "method": "GET", "path": "/timeline", "query": EMPTY, "actor": "admin:a 1", "label": "Anna",
        "scope": {"tenant": "t1"}, "capabilities": ["views", "export"], "expires": NOW + 30
    });
    let object = payload.as_object_mut().unwrap();
    for (key, value) in changed.as_object().unwrap() {
        if value.is_null() {
            object.remove(key)
        } else {
            object.insert(key.clone(), value.clone())
        };
    }
    payload
}

fn asked(method: &str, uri: &str, headers: &[&str]) -> Parts {
    let request = headers.iter().fold(Request::builder().method(method).uri(uri), |request, value| {
        request.header("X-Threadline-Grant", *value)
    });
    request.body(()).unwrap().into_parts().0
}

fn at(signed: &Signed, parts: &Parts, now: i64) -> Result<Grant, Refused> {
    signed.grant_at(parts, OffsetDateTime::from_unix_timestamp(now).unwrap())
}

fn get(header: &str) -> Result<Grant, Refused> {
    at(&signed(), &asked("GET", "/timeline", &[header]), NOW)
}

#[test]
fn a_signed_header_says_who_asks_and_what_they_may() {
    let grant = get(&sign(&payload(&json!({})), SECRET)).unwrap();
    assert_eq!((grant.actor().to_string().as_str(), grant.name()), ("admin:a 1", "Anna"));
    assert_eq!(grant.scope(), &Scope::of_context("tenant", "t1"));
    // What is good until 30 s from a time that has passed long ago allows nothing now.
    assert_eq!(grant.ends_at().map(OffsetDateTime::unix_timestamp), Some(NOW + 30));
    let plain = json!({"label": null, "capabilities": null, "scope": "everything", "kid": "k1", "actor": "anonymous"});
    let grant = get(&sign(&payload(&plain), OLD)).unwrap();
    assert!(grant.scope().is_everything() && grant.name() == "anonymous");
    // Both ends of the time in which it counts.
    for expires in [NOW + 1, NOW + 60] {
        get(&sign(&payload(&json!({"expires": expires})), SECRET)).unwrap();
    }
    let query = "table=posts&key=%7B%22id%22%3A%201%7D";
    let digest = hex::encode(digest::digest(&digest::SHA256, query.as_bytes()));
    let header = sign(&payload(&json!({"query": digest, "path": "/row"})), SECRET);
    at(&signed(), &asked("GET", &format!("/row?{query}"), &[&header]), NOW).unwrap();
}

#[test]
fn capabilities_count_as_long_as_the_header_does() {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let header = sign(&payload(&json!({"expires": now + 30})), SECRET);
    let grant = at(&signed(), &asked("GET", "/timeline", &[&header]), now).unwrap();
    assert!(
        grant.allows(Capability::Views)
            && grant.allows(Capability::Export)
            && !grant.allows(Capability::Verify)
    );
}

#[test]
fn whatever_was_changed_or_signed_for_something_else_is_refused() {
    let table = [
        (json!({"expires": NOW}), Refused::Expired),
        (json!({"expires": NOW - 3_600}), Refused::Expired),
        (json!({"expires": NOW + 61}), Refused::NotYet),
        (json!({"method": "POST"}), Refused::OtherRequest),
        (json!({"method": "get"}), Refused::OtherRequest),
        (json!({"path": "/help"}), Refused::OtherRequest),
        (json!({"path": "/timeline/"}), Refused::OtherRequest),
        (json!({"path": "/audit/timeline"}), Refused::OtherRequest),
        (json!({"query": ""}), Refused::OtherRequest),
        (json!({"query": "00"}), Refused::OtherRequest),
        (json!({"kid": "k1"}), Refused::Key),
        (json!({"kid": "k3"}), Refused::Key),
        (json!({"actor": "a1"}), Refused::Actor),
        (json!({"actor": "admin:"}), Refused::Actor),
        (json!({"actor": "robot:1"}), Refused::Actor),
        (json!({"scope": "all"}), Refused::Scope),
        (json!({"scope": {}}), Refused::Scope),
        (json!({"scope": {"tenant": ""}}), Refused::Scope),
        (json!({"scope": {"": "t1"}}), Refused::Scope),
        (json!({"scope": {"tenant": "t1\0"}}), Refused::Scope),
        (json!({"actor": "user:a\0"}), Refused::Actor),
        (json!({"scope": {"tenant": "t1", "team": "a"}}), Refused::Scope),
        (json!({"scope": {"tenant": null}}), Refused::Unreadable),
        (json!({"scope": null}), Refused::Unreadable),
        (json!({"capabilities": ["everything"]}), Refused::Capability),
        (json!({"expires": "soon"}), Refused::Unreadable),
        (json!({"expires": null}), Refused::Unreadable),
        (json!({"method": null}), Refused::Unreadable),
        (json!({"admin": true}), Refused::Unreadable),
    ];
    for (changed, refused) in table {
        assert_eq!(get(&sign(&payload(&changed), SECRET)).unwrap_err(), refused, "{changed}");
    }
    let header = sign(&payload(&json!({})), SECRET);
    let (begin, mac) = header.rsplit_once('.').unwrap();
    let other = sign(&payload(&json!({"actor": "admin:a2"})), SECRET);
    let of_other = other.rsplit_once('.').unwrap().0;
    for (header, refused) in [
        (sign(&payload(&json!({})), "a secret of somebody else, 32 characters"), Refused::Signature),
        (format!("{of_other}.{mac}"), Refused::Signature),
        (format!("{begin}.{}", "0".repeat(64)), Refused::Signature),
        (format!("{begin}.{}", &mac[..62]), Refused::Signature),
        (format!("{begin}."), Refused::Signature),
        (format!("{begin}.xyz"), Refused::Unreadable),
        (begin.replacen("v1.", "", 1), Refused::Unreadable),
        (header.replacen("v1.", "", 1), Refused::Algorithm),
        (header.replacen("v1", "v2", 1), Refused::Algorithm),
        (String::new(), Refused::Unreadable),
        ("admin:a1".to_owned(), Refused::Unreadable),
        (format!("v1.{}.{mac}", "A".repeat(BYTES_MAX)), Refused::Unreadable),
    ] {
        assert_eq!(get(&header).unwrap_err(), refused, "{header}");
    }
}

#[test]
fn a_header_that_is_missing_or_there_twice_is_refused_and_a_bare_name_counts_for_nothing() {
    let header = sign(&payload(&json!({})), SECRET);
    assert_eq!(at(&signed(), &asked("GET", "/timeline", &[]), NOW).unwrap_err(), Refused::Missing);
    let twice = asked("GET", "/timeline", &[&header, &header]);
    assert_eq!(at(&signed(), &twice, NOW).unwrap_err(), Refused::Twice);
    let mut bare = asked("GET", "/timeline", &[]);
    bare.headers.insert("x-forwarded-user", "admin:a1".parse().unwrap());
    assert_eq!(at(&signed(), &bare, NOW).unwrap_err(), Refused::Missing);
}

#[test]
fn what_is_sent_needs_a_nonce_and_counts_once() {
    let signed = signed();
    let post = |changed: Value| {
        let mut all = json!({"method": "POST", "path": "/preferences"});
        all.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        asked("POST", "/preferences", &[&sign(&payload(&all), SECRET)])
    };
    let first = post(json!({"nonce": "0123456789abcdef"}));
    at(&signed, &first, NOW).unwrap();
    assert_eq!(at(&signed, &first, NOW).unwrap_err(), Refused::Replayed);
    // The same nonce under another time is the same.
    let later = post(json!({"nonce": "0123456789abcdef", "expires": NOW + 55}));
    assert_eq!(at(&signed, &later, NOW + 20).unwrap_err(), Refused::Replayed);
    at(&signed, &post(json!({"nonce": "fedcba9876543210"})), NOW).unwrap();
    for without in [json!({}), json!({"nonce": "short"}), json!({"nonce": "x".repeat(129)})] {
        assert_eq!(at(&signed, &post(without.clone()), NOW).unwrap_err(), Refused::Unreadable, "{without}");
    }
    // What only reads may be asked for again, such as by a browser's reload.
    let header = sign(&payload(&json!({})), SECRET);
    for _ in 0..2 {
        at(&signed, &asked("GET", "/timeline", &[&header]), NOW).unwrap();
    }
}

/// The example of docs/operator-hosts.md, which other implementations are compared with.
#[test]
fn the_known_answer_of_the_documentation_is_accepted() {
    let page = include_str!("../../../../docs/operator-hosts.md");
    let of_vector = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    let secrets = Secrets::parsed(&of_vector("secret file")).unwrap();
    let signed =
        Signed { header: HeaderName::from_static("x-threadline-grant"), secrets, nonces: Nonces::default() };
    let (method, uri) =
        of_vector("request").split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let header = of_vector("header");
    let grant = at(&signed, &asked(&method, &uri, &[&header]), NOW).unwrap();
    assert_eq!((grant.actor().to_string().as_str(), grant.name()), ("admin:a1", "Anna Ønskov"));
    let payload = of_vector("payload");
    let secret = of_vector("secret file").split_once(' ').unwrap().1.to_owned();
    let text = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload));
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes());
    assert_eq!(header, format!("{text}.{}", hex::encode(mac)));
}
