//! A token that a proxy passes on, and the keys of whoever issued it.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode as Status, routing::get};
use reqwest::StatusCode;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{Alone, shared};

const SAMPLE: &str = include_str!("../../../../threadline/tests/query/sample.sql");
const WHOSE: &str = "listen = \"127.0.0.1:0\"\n[operator.auth]\nkind = \"jwt\"\n[operator.auth.jwt]\nissuer = \"https://id.example\"\n\
                     audience = \"threadline\"\neverything = [\"audit\"]\nscope_claim = \"org\"\nlabel_claim = \"email\"\n";

struct Key {
    kid: String,
    pair: Ed25519KeyPair,
}

impl Key {
    fn new(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { kid: kid.to_owned(), pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap() }
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": base64(self.pair.public_key().as_ref())})
    }

    /// A token for ten minutes, with these claims besides.
    fn token(&self, claims: &Value) -> String {
        let mut all = json!({"iss": "https://id.example", "aud": "threadline", "sub": "u1", "email": "anna@example.com",
                             "exp": OffsetDateTime::now_utc().unix_timestamp() + 600});
        all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let header = json!({"alg": "EdDSA", "kid": self.kid});
        let signed =
            format!("{}.{}", base64(header.to_string().as_bytes()), base64(all.to_string().as_bytes()));
        format!("{signed}.{}", base64(self.pair.sign(signed.as_bytes()).as_ref()))
    }
}

/// For URLs, and without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits =
            chunk.iter().chain([&0; 2]).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        (0..=chunk.len()).map(move |index| char::from(DIGITS[bits >> (18 - 6 * index) & 63]))
    });
    digits.collect()
}

/// What an issuer answers, and how often it was asked.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn serve(&self) -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let answer = |State(issuer): State<Self>| async move {
            issuer.asked.fetch_add(1, Ordering::SeqCst);
            let answer = issuer.answer.lock().unwrap().clone();
            answer.ok_or(Status::SERVICE_UNAVAILABLE)
        };
        let router = Router::new().route("/keys", get(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(url)
    }

    fn has(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        *self.answer.lock().unwrap() = Some(json!({"keys": keys}).to_string());
    }
}

async fn status(alone: &Alone, authorization: &str) -> anyhow::Result<StatusCode> {
    Ok(alone.get("timeline", &[("authorization", authorization)]).await?.status())
}

#[tokio::test]
async fn a_token_of_the_issuer_says_who_asks_and_what_they_see() -> anyhow::Result<()> {
    let key = Key::new("a");
    let file = shared().work_dir.path().join(format!("{}.json", Uuid::new_v4()));
    fs::write(&file, json!({"keys": [key.jwk()]}).to_string())?;
    let alone = Alone::over(SAMPLE, &format!("{WHOSE}jwks_file = \"{}\"\n", file.display())).await?;
    let admin = format!("Bearer {}", key.token(&json!({"roles": ["audit"]})));
    let response = alone.get("timeline", &[("authorization", &admin)]).await?;
    let html = response.error_for_status()?.text().await?;
    assert!(html.contains("public.posts") && html.contains("anna@example.com"), "{html}");
    let tenant = format!("Bearer {}", key.token(&json!({"org": "nobody"})));
    let html = alone.get("timeline", &[("authorization", &tenant)]).await?.error_for_status()?.text().await?;
    assert!(!html.contains("<td>public.posts"), "{html}");
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for token in [
        key.token(&json!({})),
        key.token(&json!({"roles": ["audit"], "exp": now - 61})),
        key.token(&json!({"roles": ["audit"], "aud": "another"})),
        Key::new("a").token(&json!({"roles": ["audit"]})),
        Key::new("b").token(&json!({"roles": ["audit"]})),
    ] {
        assert_eq!(status(&alone, &format!("Bearer {token}")).await?, StatusCode::FORBIDDEN, "{token}");
    }
    for other in [admin.trim_start_matches("Bearer "), &admin.replace("Bearer", "Basic"), "Bearer", ""] {
        assert_eq!(status(&alone, other).await?, StatusCode::FORBIDDEN, "{other}");
    }
    let twice = alone.get("timeline", &[("authorization", &admin), ("authorization", &admin)]).await?;
    assert_eq!(twice.status(), StatusCode::FORBIDDEN);
    let bare = alone
        .get("timeline", &[("x-forwarded-user", "u1"), ("x-forwarded-email", "anna@example.com")])
        .await?;
    assert_eq!(bare.status(), StatusCode::FORBIDDEN);
    // Nothing of a token is in the log.
    assert!(!alone.process.log().contains("eyJ"), "{}", alone.process.log());
    Ok(())
}

#[tokio::test]
async fn keys_are_asked_for_once_and_again_for_one_that_is_new_but_not_for_each_that_is_made_up()
-> anyhow::Result<()> {
    let (first, second, made_up) = (Key::new("first"), Key::new("second"), Key::new("made-up"));
    let issuer = Issuer::default();
    issuer.has(&[&first]);
    let url = issuer.serve().await?;
    let alone = Alone::start(&format!("{WHOSE}jwks_url = \"{url}\"\n")).await?;
    let bearer = |key: &Key| format!("Bearer {}", key.token(&json!({"roles": ["audit"]})));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 0, "no server is asked before the first token");
    for _ in 0..5 {
        assert_eq!(status(&alone, &bearer(&first)).await?, StatusCode::OK);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    // So many that nobody has: they make no requests of their own.
    for _ in 0..20 {
        assert_eq!(status(&alone, &bearer(&made_up)).await?, StatusCode::FORBIDDEN);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1);
    // A new key counts once the pause is over, and so does the old one for as long as it is there.
    issuer.has(&[&first, &second]);
    sandbox::wait::until_some("the new key", super::DEADLINE, async || {
        Ok((status(&alone, &bearer(&second)).await? == StatusCode::OK).then_some(()))
    })
    .await?;
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    // An issuer that is away locks out nobody whose key is known.
    *issuer.answer.lock().unwrap() = None;
    assert_eq!(status(&alone, &bearer(&made_up)).await?, StatusCode::FORBIDDEN);
    assert_eq!(status(&alone, &bearer(&first)).await?, StatusCode::OK);
    assert_eq!(status(&alone, &bearer(&second)).await?, StatusCode::OK);
    Ok(())
}
