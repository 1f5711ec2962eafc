#![allow(clippy::unwrap_used, reason = "tests")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::settings::Settings;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{
    super::keys::{Key, parsed},
    *,
};

const NOW: i64 = 1_800_000_000;

/// A key whose other half nobody has any more, and a token that it signed: good until 2100.
const RSA_N: &str = "zzgqkAT-7ZreG91WipTFr0JRGydITUPpu5IDrQqWDAE0unJLAgi5Jy6P4FrylYSSc7mQMHjjGzJI1B9N3GFrKv2jLIUILggHaj7dmKOJkJiBlE\
    Ha2L1kEQBk25VsSU0UEYPrQvz1wsCI3-nl41qSeJWsPvM2EEI_mYwK1EympHezUQv81FM42RkiWrF8rpd7-F8VSe9JnIT9W0mtK6U2wMxA4Ocv\
    MJEW4xM-tOaBbfO3KmkonFVRyEAXmMSAaoAc3j-agMDGts3AD_LcrWpN4MJWvWbPZHASLpP9CsFkyU4QDJpEBkm3SaLa1mZIc5c9eE40qQlfnb\
    77xFjwn814sQ";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJ0aHJlYWRsa\
    W5lIiwic3ViIjoidTEiLCJleHAiOjQxMDI0NDQ4MDB9.PTKX5GOR6b_PfkUCn_s_lu2rzo9T_KC4Y2SjGR4CPQS2is8nXjzWXeop0LofVgnOH7\
    nuve4ko9tU_Y8t6UebesQ6kt94M_fccucJ4u8SnZhPTUB4SWAvwky7GA5fOXAum4f99007h4GT_l8GUVuQCfCJ0W8ZHBUp04z5Pm-C3WJhZIDT\
    KQWbieYbidkh4P1gNTPIBHd0TUvznNQaItowFJC1i5AmtqjbbptSJuY4N-DVt5EfeAV98ZOp8UJDfxsj859YJNk5EeflPSnAtoCiNcBJT7fMCQ\
    VXy647nJzMVZ3eQwsHzUzR91Gp-iQkL6X-ji8bnxje2ZcOv5UFklfyzA";

fn rules(keys: &str) -> Rules {
    let text = format!(
        "[operator.auth]\nkind = \"jwt\"\n[operator.auth.jwt]\njwks_file = \"/k\"\nissuer = \"https://id.example\"\n\
         audience = \"threadline\"\neverything = [\"*\"]\n{keys}"
    );
    Rules::of(&Settings::from_toml(&text).unwrap().operator.auth.jwt)
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self {
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            p256: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, p256.as_ref(), &random).unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": base64(self.ed25519.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": base64(&point[1..33]), "y": base64(&point[33..])},
            {"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"},
            // None of these can sign anything here.
            {"kty": "OKP", "crv": "Ed25519", "kid": "enc", "use": "enc", "x": base64(self.ed25519.public_key())},
            {"kty": "oct", "kid": "shared", "k": base64("a secret that both sides have, of 32 characters")},
            {"kty": "EC", "crv": "P-521", "kid": "large", "x": "AA", "y": "AA"},
            {"kty": "EC", "crv": "P-256", "kid": "short", "x": "AA", "y": "AA"},
            "no key at all",
        ]})
    }

    fn keys(&self) -> Vec<Key> {
        parsed(&self.jwks().to_string()).unwrap()
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = match header["alg"].as_str() {
            Some("ES256") => base64(self.p256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap()),
            _ => base64(self.ed25519.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}")
    }
}

fn claims(changed: &Value) -> Value {
    let mut claims = json!({"iss": "https://id.example", "aud": "threadline", "sub": "u1", "exp": NOW + 300, "nbf": NOW, "iat": NOW});
    let object = claims.as_object_mut().unwrap();
    for (key, value) in changed.as_object().unwrap() {
        if value.is_null() {
            object.remove(key)
        } else {
            object.insert(key.clone(), value.clone())
        };
    }
    claims
}

fn verified(rules: &Rules, text: &str, keys: &[Key]) -> Result<Claims, Refused> {
    let token = rules.read(text)?;
    rules.verified(&token, keys, OffsetDateTime::from_unix_timestamp(NOW).unwrap())
}

#[test]
fn a_token_of_each_algorithm_counts() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    assert_eq!(keys.len(), 3, "{keys:?}");
    let of = |header: Value, changed: Value| issuer.token(&header, &claims(&changed));
    for token in [
        of(json!({"alg": "EdDSA", "kid": "ed"}), json!({})),
        of(json!({"alg": "ES256", "kid": "ec", "typ": "JWT"}), json!({})),
        RSA_TOKEN.to_owned(),
        // No key is named, and there is one only that it could be.
        of(json!({"alg": "EdDSA"}), json!({})),
        of(
            json!({"alg": "EdDSA", "kid": "ed"}),
            json!({"aud": ["other", "threadline"], "nbf": null, "iat": null}),
        ),
        // A clock that is not quite right, and a fraction of a second.
        of(
            json!({"alg": "EdDSA", "kid": "ed"}),
            json!({"exp": NOW - 59, "nbf": NOW + 60, "iat": 1_800_000_059.5}),
        ),
    ] {
        assert_eq!(verified(&rules(""), &token, &keys).unwrap().all["sub"], "u1", "{token}");
    }
    let until =
        verified(&rules(""), &of(json!({"alg": "EdDSA", "kid": "ed"}), json!({})), &keys).unwrap().ends_at;
    assert_eq!(until.unix_timestamp(), NOW + 360);
}

#[test]
fn whatever_should_not_count_is_refused() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    let ed = json!({"alg": "EdDSA", "kid": "ed"});
    let table = [
        // How it is signed.
        (json!({"alg": "none"}), json!({}), Refused::Algorithm),
        (json!({"alg": "HS256", "kid": "ed"}), json!({}), Refused::Algorithm),
        (json!({"alg": "HS256", "kid": "shared"}), json!({}), Refused::Algorithm),
        (json!({"alg": "RS384", "kid": "rsa"}), json!({}), Refused::Algorithm),
        (json!({"alg": "PS256", "kid": "rsa"}), json!({}), Refused::Algorithm),
        (json!({"alg": "eddsa", "kid": "ed"}), json!({}), Refused::Algorithm),
        (json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false}), json!({}), Refused::Algorithm),
        // With what.
        (json!({"alg": "EdDSA", "kid": "other"}), json!({}), Refused::Key),
        (json!({"alg": "EdDSA", "kid": "enc"}), json!({}), Refused::Key),
        (json!({"alg": "RS256", "kid": "ed"}), json!({}), Refused::Key),
        (json!({"alg": "ES256", "kid": "ed"}), json!({}), Refused::Key),
        (json!({"alg": "RS256", "kid": "rsa"}), json!({}), Refused::Signature),
        (json!({"kid": "ed"}), json!({}), Refused::Unreadable),
        (json!({"alg": ["EdDSA"], "kid": "ed"}), json!({}), Refused::Unreadable),
        // By whom, for whom.
        (ed.clone(), json!({"iss": "https://id.example/"}), Refused::Issuer),
        (ed.clone(), json!({"iss": null}), Refused::Issuer),
        (ed.clone(), json!({"iss": ["https://id.example"]}), Refused::Issuer),
        (ed.clone(), json!({"aud": "threadline2"}), Refused::Audience),
        (ed.clone(), json!({"aud": ["a", "b"]}), Refused::Audience),
        (ed.clone(), json!({"aud": []}), Refused::Audience),
        (ed.clone(), json!({"aud": null}), Refused::Audience),
        // When.
        (ed.clone(), json!({"exp": NOW - 60}), Refused::Expired),
        (ed.clone(), json!({"exp": 0}), Refused::Expired),
        (ed.clone(), json!({"exp": null}), Refused::Expired),
        (ed.clone(), json!({"exp": "never"}), Refused::Unreadable),
        (ed.clone(), json!({"exp": 1e300}), Refused::Unreadable),
        (ed.clone(), json!({"nbf": NOW + 61}), Refused::NotYet),
        (ed.clone(), json!({"iat": NOW + 61}), Refused::NotYet),
    ];
    for (header, changed, refused) in table {
        let token = issuer.token(&header, &claims(&changed));
        assert_eq!(verified(&rules(""), &token, &keys).unwrap_err(), refused, "{header} {changed}");
    }
    let good = issuer.token(&ed, &claims(&json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let admin = base64(claims(&json!({"sub": "admin"})).to_string());
    let none = base64(json!({"alg": "none"}).to_string());
    for (token, refused) in [
        (format!("{}.{admin}.{}", parts[0], parts[2]), Refused::Signature),
        (format!("{}.{}.", parts[0], parts[1]), Refused::Signature),
        (format!("{}.{}.{}", parts[0], parts[1], base64([0; 64])), Refused::Signature),
        (format!("{none}.{admin}."), Refused::Algorithm),
        (format!("{}.{}", parts[0], parts[1]), Refused::Unreadable),
        (format!("{good}.{}", parts[2]), Refused::Signature),
        (format!("{good}="), Refused::Unreadable),
        (good.replace('.', " . "), Refused::Unreadable),
        (String::new(), Refused::Unreadable),
        ("a".repeat(TOKEN_BYTES_MAX + 1), Refused::Unreadable),
    ] {
        assert_eq!(verified(&rules(""), &token, &keys).unwrap_err(), refused, "{token}");
    }
    let other = Issuer::new();
    let forged = other.token(&ed, &claims(&json!({})));
    assert_eq!(verified(&rules(""), &forged, &keys).unwrap_err(), Refused::Signature);
}

#[test]
fn an_algorithm_that_the_settings_leave_out_does_not_count() {
    let issuer = Issuer::new();
    let strict = rules("algorithms = [\"ES256\"]\nleeway = \"0s\"");
    let of = |header: Value, changed: Value| issuer.token(&header, &claims(&changed));
    verified(&strict, &of(json!({"alg": "ES256", "kid": "ec"}), json!({})), &issuer.keys()).unwrap();
    let token = of(json!({"alg": "EdDSA", "kid": "ed"}), json!({}));
    assert_eq!(verified(&strict, &token, &issuer.keys()).unwrap_err(), Refused::Algorithm);
    let token = of(json!({"alg": "ES256", "kid": "ec"}), json!({"exp": NOW}));
    assert_eq!(verified(&strict, &token, &issuer.keys()).unwrap_err(), Refused::Expired);
}

#[test]
fn a_token_that_names_no_key_counts_only_where_one_could_have_signed_it() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let both = [issuer.keys(), other.keys()].concat();
    let token = issuer.token(&json!({"alg": "EdDSA"}), &claims(&json!({})));
    assert_eq!(verified(&rules(""), &token, &both).unwrap_err(), Refused::Key);
    verified(&rules(""), &token, &issuer.keys()).unwrap();
}

#[test]
fn a_set_without_a_key_that_can_be_used_is_an_error_that_says_so() {
    for (text, part) in [
        ("", "is no JSON Web Key Set"),
        ("{}", "is no JSON Web Key Set"),
        ("{\"keys\": []}", "has no key"),
        ("{\"keys\": [{\"kty\": \"oct\", \"k\": \"AA\"}]}", "has no key"),
    ] {
        let error = parsed(text).unwrap_err();
        assert!(error.starts_with(part), "{text}: {error}");
    }
}
