//! The forwarder `webhook` against receivers that answer in every way.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod receiver;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use common::{event::AuditEvent, failures::Reason, settings::Layers};
use consumer::{
    forwarder::{ForwardError, Forwarder, ForwarderFactory, ForwarderKind as _, Verdict},
    kinds::Webhook,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use receiver::{Post, Receiver};
use sha2::Sha256;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};
use uuid::Uuid;

const SECRET: &str = "a secret of the test";

/// Takes the time there is for a batch: a POST leaves too little for another.
const NO_SECOND_POST: &str = "timeout = \"29s\"";

fn configured(options: &str) -> Arc<dyn ForwarderFactory> {
    let file = format!("[[forwarder]]\nid = \"siem\"\nkind = \"webhook\"\n{options}");
    let (settings, _) = Layers::default().text(&file, "audit.toml").unwrap().build().unwrap();
    Webhook.configure(&settings.forwarder[0], &settings).map_err(|error| error.to_string()).unwrap()
}

fn worker(receiver: &Receiver, options: &str) -> Box<dyn Forwarder> {
    let url = format!("http://user:hunter2@{}/in?token=hunter2", receiver.address);
    configured(&format!("url = \"{url}\"\nsecret = \"{SECRET}\"\n{options}")).build()
}

fn events(actions: &[&str]) -> Vec<AuditEvent> {
    actions.iter().map(|action| AuditEvent::new(Uuid::new_v4(), *action)).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "what a script answers")]
fn answer(status: u16, body: &'static str) -> Option<Response> {
    Some(Response::builder().status(status).body(Body::from(body)).unwrap())
}

fn refuse_bad(_: usize, post: &Post) -> Option<Response> {
    let bad = post.actions().iter().any(|action| action == "bad");
    if bad { answer(422, "no such\naction") } else { answer(204, "") }
}

/// The error of a target that is away, without any secret, and when it wants to be called again.
async fn away(worker: &mut dyn Forwarder, events: &[AuditEvent]) -> (String, Option<Duration>) {
    let Err(ForwardError::Unavailable { error, retry_after }) = worker.forward(events).await else {
        panic!("the target is not away");
    };
    assert!(!error.contains("hunter2") && !error.contains(SECRET), "{error}");
    (error, retry_after)
}

/// A file of this test alone.
fn file(name: &str, content: &str) -> anyhow::Result<PathBuf> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", Uuid::new_v4()));
    std::fs::write(&path, content)?;
    Ok(path)
}

#[tokio::test]
async fn a_batch_arrives_in_order_in_several_posts_each_signed_over_its_bytes() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(200, "thank you")).await?;
    let options = "max_events = 2\nheaders = { Authorization = \"Bearer hunter2\" }";
    let sent = events(&["a", "b", "c", "d", "e"]);
    assert_eq!(worker(&receiver, options).forward(&sent).await?, vec![Verdict::Delivered; 5]);
    assert_eq!(receiver.actions(), [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    for post in receiver.posts() {
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?.chain_update(&post.body).finalize();
        let expected = [
            ("audit-signature", format!("sha256={}", hex::encode(mac.into_bytes()))),
            ("audit-forwarder", "siem".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("user-agent", format!("audit-consumer/{}", env!("CARGO_PKG_VERSION"))),
            ("authorization", "Bearer hunter2".to_owned()),
        ];
        for (name, value) in expected {
            assert_eq!(post.headers[name].to_str()?, value);
        }
        assert_eq!(post.path, "/in?token=hunter2");
    }
    assert_eq!(receiver.posts()[0].json()["events"][1]["id"], sent[1].id.to_string());
    Ok(())
}

#[tokio::test]
async fn a_key_from_a_file_is_used_without_the_newline_at_its_end() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(200, "")).await?;
    let path = file("key", &format!("{SECRET}\r\n"))?;
    let options = format!("url = \"http://{}\"\nsecret_file = {path:?}", receiver.address);
    configured(&options).build().forward(&events(&["a"])).await?;
    let post = receiver.posts().remove(0);
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?.chain_update(&post.body).finalize();
    let expected = format!("sha256={}", hex::encode(mac.into_bytes()));
    assert_eq!(post.headers["audit-signature"].to_str()?, expected);
    Ok(())
}

#[cfg(feature = "testing")]
#[tokio::test]
async fn it_conforms_and_does_not_ask_its_receiver_about_events() -> anyhow::Result<()> {
    let receiver = Receiver::start(refuse_bad).await?;
    let factory =
        configured(&format!("url = \"http://{}\"\nunsigned = true\nmax_events = 2", receiver.address));
    let found = consumer::testing::conformance::check(&*factory, &events(&["a", "bad", "c", "d"])).await?;
    assert!(!found.finds_delivered && !found.tells_serving, "{found:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_key_there_is_no_signature() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(200, "")).await?;
    let options = format!("url = \"http://{}\"\nunsigned = true", receiver.address);
    configured(&options).build().forward(&events(&["a"])).await?;
    assert!(receiver.posts()[0].headers.get("audit-signature").is_none());
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_busy_says_when_to_call_again_and_is_not_sent_twice_what_it_took()
-> anyhow::Result<()> {
    let receiver = Receiver::start(|number, _| match number {
        2 => Some(Response::builder().status(429).header("Retry-After", "7").body(Body::empty()).unwrap()),
        _ => answer(200, ""),
    })
    .await?;
    let mut worker = worker(&receiver, "max_events = 2");
    let sent = events(&["a", "b", "c"]);
    let (error, retry_after) = away(&mut *worker, &sent).await;
    let expected = format!("webhook http://{}: answered 429 Too Many Requests", receiver.address);
    assert_eq!((error, retry_after), (expected, Some(Duration::from_secs(7))));
    assert_eq!(worker.forward(&sent).await?, vec![Verdict::Delivered; 3]);
    assert_eq!(receiver.actions(), [vec!["a", "b"], vec!["c"], vec!["c"]]);
    // Delivered again on purpose, it is sent again.
    worker.forward(&sent[..1]).await?;
    assert_eq!(receiver.actions().last(), Some(&vec!["a".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_broken_charges_nobody() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(503, "hunter2 is not repeated")).await?;
    let (error, retry_after) = away(&mut *worker(&receiver, ""), &events(&["a", "b"])).await;
    assert!(error.ends_with("answered 503 Service Unavailable"), "{error}");
    assert_eq!(retry_after, None);
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| {
        Some(Response::builder().status(308).header("Location", "/hunter2").body(Body::empty()).unwrap())
    })
    .await?;
    let (error, _) = away(&mut *worker(&receiver, ""), &events(&["a"])).await;
    assert!(error.contains("answered 308 Permanent Redirect") && error.contains("set url"), "{error}");
    assert_eq!(receiver.posts().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_refused_event_is_found_wherever_it_is_and_its_neighbours_are_delivered_once() -> anyhow::Result<()>
{
    for place in 0..5 {
        let receiver = Receiver::start(refuse_bad).await?;
        let mut actions = ["fine"; 5];
        actions[place] = "bad";
        let mut expected = vec![Verdict::Delivered; 5];
        let words = "the webhook answered 422: no such action".to_owned();
        expected[place] = Verdict::DeadLetter(Reason::SchemaMismatch, words);
        assert_eq!(worker(&receiver, "max_events = 4").forward(&events(&actions)).await?, expected);
        let accepted = receiver.actions().into_iter().filter(|post| !post.contains(&"bad".to_owned()));
        assert_eq!(accepted.flatten().count(), 4, "each once");
    }
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_too_large_alone_is_not_sent_and_the_others_are() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(200, "")).await?;
    let large = "x".repeat(1_024);
    let verdicts =
        worker(&receiver, "max_bytes = 1024").forward(&events(&["fine", &large, "fine", "fine"])).await?;
    let Verdict::DeadLetter(Reason::SchemaMismatch, error) = &verdicts[1] else { panic!("{verdicts:?}") };
    assert!(error.contains("more than max_bytes (1024)"), "{error}");
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Delivered).count(), 3);
    assert!(receiver.posts().iter().all(|post| post.body.len() <= 1_024));
    assert_eq!(receiver.actions().concat(), ["fine"; 3]);
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_away() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| None).await?;
    let (error, _) = away(&mut *worker(&receiver, "timeout = \"200ms\""), &events(&["a"])).await;
    assert!(error.ends_with("no answer within 200ms"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_for_a_batch_gets_on_with_every_call() -> anyhow::Result<()> {
    let receiver = Receiver::start(|_, _| answer(200, "")).await?;
    let mut worker = worker(&receiver, &format!("max_events = 1\n{NO_SECOND_POST}"));
    let sent = events(&["a", "b", "c"]);
    for settled in 1..=2 {
        let (error, _) = away(&mut *worker, &sent).await;
        assert!(error.contains(&format!("too slow for a batch, {settled} of 3 events")), "{error}");
    }
    assert_eq!(worker.forward(&sent).await?, vec![Verdict::Delivered; 3]);
    assert_eq!(receiver.actions(), [["a"], ["b"], ["c"]]);
    Ok(())
}

#[tokio::test]
async fn a_refused_event_is_found_even_when_there_is_time_for_one_post_a_call() -> anyhow::Result<()> {
    let receiver = Receiver::start(refuse_bad).await?;
    let mut worker = worker(&receiver, NO_SECOND_POST);
    let sent = events(&["fine", "fine", "bad", "fine", "fine"]);
    let mut calls = 1;
    let verdicts = loop {
        match worker.forward(&sent).await {
            Ok(verdicts) => break verdicts,
            Err(error) => assert!(calls < 10, "{error}"),
        }
        calls += 1;
    };
    let delivered: Vec<bool> = verdicts.iter().map(|verdict| *verdict == Verdict::Delivered).collect();
    assert_eq!(delivered, [true, true, false, true, true]);
    Ok(())
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_away() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let options = format!("url = \"http://{}/\"\nunsigned = true", listener.local_addr()?);
    drop(listener);
    let (error, _) = away(&mut *configured(&options).build(), &events(&["a"])).await;
    assert!(error.contains("Connection refused"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named_and_not_otherwise() -> anyhow::Result<()> {
    let (authority, acceptor) = private_authority()?;
    let receiver = Receiver::start_tls(acceptor, |_, _| answer(200, "")).await?;
    let url = format!("url = \"https://localhost:{}\"\nunsigned = true", receiver.address.port());
    let ca = format!("{url}\nca_file = {:?}", file("ca.pem", &authority)?);
    assert_eq!(configured(&ca).build().forward(&events(&["a"])).await?, [Verdict::Delivered]);

    let (stranger, _) = private_authority()?;
    let other = format!("{url}\nca_file = {:?}", file("other.pem", &stranger)?);
    for options in [url, other] {
        let (error, _) = away(&mut *configured(&options).build(), &events(&["a"])).await;
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
    assert_eq!(receiver.posts().len(), 1);
    Ok(())
}

/// The root of an authority of its own, as PEM, and a server for `localhost` that it vouches for.
fn private_authority() -> anyhow::Result<(String, TlsAcceptor)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let root = params.self_signed(&key)?;
    let server_key = KeyPair::generate()?;
    let issuer = Issuer::new(params, key);
    let server = CertificateParams::new(["localhost".to_owned()])?.signed_by(&server_key, &issuer)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![server.der().clone()],
            PrivatePkcs8KeyDer::from(server_key.serialize_der()).into(),
        )?;
    Ok((root.pem(), TlsAcceptor::from(Arc::new(config))))
}
