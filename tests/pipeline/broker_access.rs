//! Ways into the broker: TLS with an authority of one's own, client certificates, nkeys, credentials files, JetStream in another
//! domain or behind a prefix.

use std::path::Path;

use async_nats::jetstream::stream::Config;
use common::{
    broker::{self, BrokerError},
    settings::{BrokerSettings, ConnectionUrl},
};
use end_to_end::{Pipeline, samples};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use sandbox::{
    nats::{Configuration, Nats},
    rights,
    work_dir::WorkDir,
};
use serde_json::{Value, json};

fn path(work_dir: &WorkDir, name: &str) -> String {
    work_dir.path().join(name).display().to_string()
}

/// An authority, and a server and a client that it vouches for, each with its key, in the folder.
fn authority(work_dir: &WorkDir) -> anyhow::Result<()> {
    let write = |name: &str, text: String| std::fs::write(work_dir.path().join(name), text);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    write("ca.pem", params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate()?;
        let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
    }
    Ok(())
}

fn tls(work_dir: &WorkDir, more: &str) -> String {
    let (certificate, key) = (path(work_dir, "server.pem"), path(work_dir, "server.key"));
    format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, {more} }}\n",
        path(work_dir, "ca.pem")
    )
}

/// At the check of the settings, with the setting's name, and status 2.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_found_by_the_check_of_the_settings() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    authority(&work_dir)?;
    let write = |name: &str, text: &str| std::fs::write(work_dir.path().join(name), text);
    let whole = std::fs::read_to_string(work_dir.path().join("ca.pem"))?;
    write("half.pem", &whole[..whole.len() / 2])?;
    write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )?;
    write("seed", "SUABC")?;
    let (ca, certificate, key) = ("tls_ca_file", "tls_cert_file", "tls_key_file");
    let pipeline = Pipeline::new().await?;
    for (files, said) in [
        (&[(ca, "half.pem")][..], "broker.tls_ca_file"),
        (&[(ca, "client.key")], "it holds no certificate"),
        (&[(certificate, "client.pem"), (key, "locked.key")], "its key is encrypted"),
        (&[(certificate, "client.pem"), (key, "server.key")], "its key is not that of the certificate"),
        (&[(certificate, "client.key"), (key, "client.pem")], "broker.tls_cert_file"),
        (&[("nkey_seed_file", "seed")], "the seed in it is not whole"),
    ] {
        let set: Vec<String> =
            files.iter().map(|(key, name)| format!("broker.{key}={}", path(&work_dir, name))).collect();
        let mut arguments = vec!["config", "check"];
        arguments.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
        for binary in ["publisher", "consumer"] {
            let (done, answer) = pipeline.command(binary, &arguments)?;
            assert!(!done && answer.contains(said), "{binary} {files:?}: {answer}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_works_through_tls_with_a_private_authority_and_client_certificates()
-> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    authority(&work_dir)?;
    let mut configuration = rights::of_broker();
    configuration.text = tls(&work_dir, "verify: true") + &configuration.text;
    let server = Nats::start_with(&work_dir, &configuration)?;
    let mut pipeline = Pipeline::new().await?;
    server.url().clone_into(&mut pipeline.nats_url);
    let set = |key: &str, file: &str| format!("broker.{key}={}", path(&work_dir, file));
    let ca = set("tls_ca_file", "ca.pem");
    let (certificate, key) = (set("tls_cert_file", "client.pem"), set("tls_key_file", "client.key"));
    let arguments = ["--set", &ca, "--set", &certificate, "--set", &key];

    // Without the one, the server is a stranger's; without the other, the client is.
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done && said.contains("broker-unreachable: "), "{said}");
    let (done, said) = pipeline.command("publisher", &["run", "--set", &ca])?;
    assert!(!done && said.contains("broker-unreachable: "), "{said}");
    let missing = format!("broker.tls_ca_file={}", path(&work_dir, "none.pem"));
    let (done, said) = pipeline.command("publisher", &["doctor", "--set", &missing])?;
    assert!(!done && said.contains("broker.tls_ca_file cannot be used"), "{said}");
    let wrong = set("tls_ca_file", "nats.conf");
    let (done, said) = pipeline.command("publisher", &["doctor", "--set", &wrong])?;
    assert!(!done && said.contains("it is not PEM"), "{said}");

    let _publisher = pipeline.publisher_with(&arguments)?;
    let _consumer = pipeline.consumer_with(&arguments)?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    drop(server);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_an_authority_is_set() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    authority(&work_dir)?;
    let server = Nats::start(&work_dir)?;
    let mut settings = at(&server);
    settings.tls_ca_file = Some(path(&work_dir, "ca.pem"));
    let error = broker::connect(&settings, "test").await.expect_err("there is no TLS").to_string();
    assert!(error.contains("does not speak TLS"), "{error}");
    Ok(())
}

fn at(server: &Nats) -> BrokerSettings {
    let mut settings = BrokerSettings::default();
    settings.url = Some(ConnectionUrl::new(server.url()));
    settings.stream = "ACCESS".into();
    settings.subject = "access.events".into();
    settings.max_bytes = 1 << 20;
    settings
}

/// Connects and uses JetStream.
async fn used(settings: &BrokerSettings) -> anyhow::Result<()> {
    let client = broker::connect(settings, "test").await?;
    let context = broker::context(&client, settings);
    let config = Config {
        name: settings.stream.clone(),
        subjects: vec![settings.subject.clone()],
        max_bytes: settings.max_bytes,
        ..Config::default()
    };
    context.get_or_create_stream(config).await?;
    context.publish(settings.subject.clone(), "x".into()).await?.await?;
    let found = broker::find_stream(&context, settings).await?;
    anyhow::ensure!(found.is_some(), "the stream that was made is not found");
    Ok(())
}

fn write(work_dir: &WorkDir, name: &str, text: &str) -> anyhow::Result<Option<String>> {
    std::fs::write(work_dir.path().join(name), text)?;
    Ok(Some(path(work_dir, name)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_nkey_opens_the_broker_and_its_file_must_hold_the_seed_of_a_user() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let key = KeyPair::new_user();
    let text = format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key());
    let server = Nats::start_with(&work_dir, &Configuration { text, ..Configuration::default() })?;
    assert!(broker::connect(&at(&server), "test").await.is_err());
    let mut settings = at(&server);
    settings.nkey_seed_file = write(&work_dir, "user.nk", &format!("# of a test\n{}\n", key.seed()?))?;
    used(&settings).await?;
    settings.nkey_seed_file = write(&work_dir, "account.nk", &KeyPair::new_account().seed()?)?;
    let error = broker::connect(&settings, "test").await.expect_err("no user's").to_string();
    assert!(error.contains("broker.nkey_seed_file") && error.contains("the seed of a user"), "{error}");
    let seed = std::fs::read_to_string(Path::new(&path(&work_dir, "account.nk")))?;
    assert!(!error.contains(&seed), "{error}");
    Ok(())
}

fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |digit| char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]))
    });
    digits.collect()
}

/// A token of the kind that nats-server takes, about `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> anyhow::Result<String> {
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats,
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed =
        format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
    let signature = issuer.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", encoded(&signature)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_opens_the_broker() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": 1 << 26, "disk_storage": 1 << 26, "streams": -1, "consumer": -1,
    });
    let none = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let of_operator = token(
        &operator,
        &operator,
        &json!({ "type": "operator", "version": 2, "system_account": system.public_key() }),
    )?;
    let of_system = token(&operator, &system, &json!({ "type": "account", "version": 2, "limits": none }))?;
    let of_account =
        token(&operator, &account, &json!({ "type": "account", "version": 2, "limits": limits }))?;
    let of_user = token(
        &account,
        &user,
        &json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }),
    )?;
    let text = format!(
        "operator: {of_operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}: {of_system}\n{}: {of_account}\n}}",
        system.public_key(),
        system.public_key(),
        account.public_key(),
    );
    let server = Nats::start_with(&work_dir, &Configuration { text, ..Configuration::default() })?;
    assert!(broker::connect(&at(&server), "test").await.is_err());
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed()?
    );
    let mut settings = at(&server);
    settings.credentials_file = write(&work_dir, "user.creds", &credentials)?;
    used(&settings).await?;
    settings.credentials_file = Some(path(&work_dir, "none.creds"));
    let error = broker::connect(&settings, "test").await.expect_err("there is no file");
    assert!(matches!(&error, BrokerError::File { key, .. } if *key == "broker.credentials_file"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jetstream_is_found_in_its_domain_and_behind_its_prefix() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let text = "jetstream { domain: hub }".to_owned();
    let server = Nats::start_with(&work_dir, &Configuration { text, ..Configuration::default() })?;
    let mut hub = at(&server);
    hub.jetstream_domain = Some("hub".into());
    used(&hub).await?;
    let mut elsewhere = at(&server);
    elsewhere.jetstream_domain = Some("elsewhere".into());
    let client = broker::connect(&elsewhere, "test").await?;
    let error = broker::find_stream(&broker::context(&client, &elsewhere), &elsewhere).await.err();
    assert!(matches!(&error, Some(BrokerError::NoJetStream { .. })), "{error:?}");
    let said = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("broker.jetstream_domain = \"elsewhere\""), "{said}");

    let work_dir = WorkDir::create()?;
    let text = "accounts {\n\
                JS { jetstream: enabled, users: [{ user: js, password: js }],\n\
                     exports: [{ service: \"$JS.API.>\" }, { service: \"access.events\" }] }\n\
                APP { users: [{ user: app, password: app }],\n\
                      imports: [{ service: { account: JS, subject: \"$JS.API.>\" }, to: \"JS.audit.API.>\" },\n\
                                { service: { account: JS, subject: \"access.events\" } }] } }";
    let server =
        Nats::start_with(&work_dir, &Configuration { text: text.to_owned(), ..Configuration::default() })?;
    let mut imported = at(&server);
    imported.url = Some(ConnectionUrl::new(server.url().replace("://", "://app:app@")));
    imported.api_prefix = Some("JS.audit.API".into());
    used(&imported).await
}
