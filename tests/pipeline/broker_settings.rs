//! What somebody sets on the stream and its durables, and what the broker's own limits refuse: found, told by name, and no
//! reason to lose or skip anything.

use async_nats::jetstream::Context;
use end_to_end::{DEADLINE, OwnedServer, Pipeline, samples};
use sandbox::{
    nats::{Configuration, Nats, delete_stream},
    wait,
    work_dir::{WorkDir, free_port},
};
use serde_json::{Map, Value, json};

use crate::operations::get;

/// Asks JetStream's API, as an administrator's tool would; answers the configuration that the server has stored then.
pub(crate) async fn set(
    context: &Context,
    subject: &str,
    payload: &Value,
) -> anyhow::Result<Map<String, Value>> {
    let answer: Value = context.request(subject.to_owned(), payload).await?;
    anyhow::ensure!(answer.get("error").is_none(), "{subject}: {answer}");
    Ok(answer["config"].as_object().cloned().unwrap_or_default())
}

pub(crate) async fn create_durable(
    context: &Context,
    stream: &str,
    more: &Value,
) -> anyhow::Result<Map<String, Value>> {
    let mut config = json!({
        "durable_name": "forward-timeline", "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant",
        "max_deliver": -1, "ack_wait": 2_000_000_000_u64, "max_ack_pending": 20_000,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let subject = format!("CONSUMER.DURABLE.CREATE.{stream}.forward-timeline");
    set(context, &subject, &json!({ "stream_name": stream, "config": config })).await
}

pub(crate) fn stream(pipeline: &Pipeline, more: &Value) -> Value {
    let mut config = json!({
        "name": pipeline.name, "subjects": [format!("{}.events", pipeline.name)], "retention": "limits", "discard": "new",
        "storage": "file", "max_bytes": 67_108_864, "duplicate_window": 120_000_000_000_u64, "num_replicas": 1,
        "max_msgs": -1, "max_msgs_per_subject": -1, "max_age": 0, "max_consumers": -1,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// The findings of a doctor, each as text.
pub(crate) fn findings(pipeline: &Pipeline, binary: &str) -> anyhow::Result<Vec<(String, String)>> {
    let (_, answer) = pipeline.ask(binary, &["doctor"])?;
    let findings = answer["findings"].as_array().unwrap();
    Ok(findings
        .iter()
        .map(|finding| (finding["name"].as_str().unwrap().to_owned(), finding.to_string()))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_a_durable_that_withholds_something_is_found_and_a_start_is_refused()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let context = pipeline.context().await?;
    let name = &pipeline.name;
    set(&context, &format!("STREAM.CREATE.{name}"), &stream(&pipeline, &json!({}))).await?;
    let subject = format!("{name}.events");
    let mut checked = 0;
    for (finding, field, more) in [
        ("durable-unfit", "filter_subject", json!({ "filter_subject": subject })),
        (
            "durable-unfit",
            "filter_subjects",
            json!({ "filter_subjects": [subject.clone(), format!("{name}.other")] }),
        ),
        ("durable-unfit", "max_batch", json!({ "max_batch": 999 })),
        ("durable-unfit", "max_expires", json!({ "max_expires": 999_999_999_u64 })),
        ("durable-unfit", "max_bytes", json!({ "max_bytes": 100 })),
        ("durable-unfit", "inactive_threshold", json!({ "inactive_threshold": 3_600_000_000_000_u64 })),
        ("durable-unfit", "mem_storage", json!({ "mem_storage": true })),
        ("durable-unfit", "headers_only", json!({ "headers_only": true })),
        ("durable-unfit", "replay_policy", json!({ "replay_policy": "original" })),
        ("durable-unfit", "max_deliver", json!({ "max_deliver": 3 })),
        ("durable-unfit", "backoff", json!({ "max_deliver": 3, "backoff": [1_000_000_000_u64] })),
        ("durable-unfit", "deliver_policy", json!({ "deliver_policy": "new" })),
        (
            "durable-unfit",
            "priority_groups",
            json!({ "priority_groups": ["a"], "priority_policy": "overflow" }),
        ),
        ("durable-unusual", "max_waiting", json!({ "max_waiting": 2 })),
        ("durable-paused", "paused until 2099", json!({ "pause_until": "2099-01-01T00:00:00Z" })),
    ] {
        let stored = create_durable(&context, name, &more).await?;
        // A server that does not know a field drops it.
        if more.as_object().unwrap().keys().all(|key| stored.contains_key(key)) {
            let found = findings(&pipeline, "consumer")?;
            let told = |(name, text): &(String, String)| name == finding && text.contains(field);
            assert!(found.iter().any(told), "{finding} {field}: {found:?}");
            if finding == "durable-unfit" && checked % 4 == 0 {
                let (done, said) = pipeline.command("consumer", &["run"])?;
                assert!(!done && said.contains("durable-unfit: ") && said.contains(field), "{said}");
            }
            checked += 1;
        }
        set(&context, &format!("CONSUMER.DELETE.{name}.forward-timeline"), &json!({})).await?;
    }
    assert!(checked >= 11, "{checked}");
    let sound = create_durable(&context, name, &json!({})).await?;
    let found = findings(&pipeline, "consumer")?;
    assert!(!found.iter().any(|(name, _)| name.starts_with("durable-")), "{sound:?}: {found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_a_stream_that_withholds_something_is_found_by_both() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let context = pipeline.context().await?;
    let name = &pipeline.name;
    let other = format!("{name}_OTHER");
    let others = json!({ "name": other, "subjects": [format!("{name}.others")], "max_bytes": 1 << 20 });
    set(&context, &format!("STREAM.CREATE.{other}"), &others).await?;
    let subject = format!("{name}.events");
    let mut checked = 0;
    for (finding, field, more) in [
        ("stream-unfit", "max_msg_size", json!({ "max_msg_size": 1_023 })),
        ("stream-unfit", "max_msgs", json!({ "max_msgs": 5 })),
        (
            "stream-unfit",
            "max_age",
            json!({ "max_age": 3_600_000_000_000_u64, "duplicate_window": 1_000_000_000 }),
        ),
        ("stream-unfit", "subjects", json!({ "subjects": [subject.clone(), format!("{name}.more")] })),
        ("stream-unfit", "storage", json!({ "storage": "memory" })),
        ("stream-unfit", "discard", json!({ "discard": "old" })),
        ("stream-unfit", "retention", json!({ "retention": "workqueue" })),
        ("stream-unfit", "mirror", json!({ "mirror": { "name": other }, "subjects": [] })),
        ("stream-unfit", "sources", json!({ "sources": [{ "name": other }] })),
        (
            "stream-unfit",
            "subject_transform",
            json!({ "subject_transform": { "src": subject, "dest": format!("{name}.x") } }),
        ),
        (
            "stream-unfit",
            "inactive_threshold",
            json!({ "consumer_limits": { "inactive_threshold": 1_000_000_000 } }),
        ),
        ("stream-unfit", "persist_mode", json!({ "persist_mode": "async" })),
        ("stream-unfit", "allow_msg_counter", json!({ "allow_msg_counter": true, "discard": "old" })),
        (
            "stream-unusual",
            "republish",
            json!({ "republish": { "src": subject, "dest": format!("{name}_COPY.x") } }),
        ),
        ("stream-unusual", "max_consumers", json!({ "max_consumers": 3 })),
        // Which of the two trims depends on the version of the server.
        ("stream-untrimmable", "deny_", json!({ "deny_purge": true, "deny_delete": true })),
        ("stream-smaller", "max_bytes", json!({ "max_bytes": 67_108_863 })),
    ] {
        let subject = format!("STREAM.CREATE.{name}");
        let Ok(stored) = set(&context, &subject, &stream(&pipeline, &more)).await else {
            continue;
        };
        if more.as_object().unwrap().keys().all(|key| stored.contains_key(key)) {
            for binary in ["publisher", "consumer"] {
                let found = findings(&pipeline, binary)?;
                let told = |(name, text): &(String, String)| name == finding && text.contains(field);
                assert!(found.iter().any(told), "{binary}: {finding} {field}: {found:?}");
            }
            checked += 1;
        }
        delete_stream(&context, name).await?;
    }
    assert!(checked >= 12, "{checked}");
    set(&context, &format!("STREAM.CREATE.{name}"), &stream(&pipeline, &json!({}))).await?;
    set(&context, &format!("STREAM.UPDATE.{name}"), &stream(&pipeline, &json!({ "sealed": true }))).await?;
    let found = findings(&pipeline, "publisher")?;
    assert!(found.iter().any(|(name, text)| name == "stream-unfit" && text.contains("sealed")), "{found:?}");
    delete_stream(&context, name).await?;
    set(&context, &format!("STREAM.CREATE.{name}"), &stream(&pipeline, &json!({}))).await?;
    let found = findings(&pipeline, "publisher")?;
    assert!(!found.iter().any(|(name, _)| name.starts_with("stream-")), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_and_a_stream_that_somebody_changes_under_running_services_hold_them_until_it_is_fixed()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let (publisher_port, consumer_port) = (free_port()?, free_port()?);
    let listen = |side: &str, port| format!("{side}.listen=127.0.0.1:{port}");
    let (publisher_at, consumer_at) =
        (listen("publisher", publisher_port), listen("consumer", consumer_port));
    let mut publisher =
        pipeline.publisher_with(&["--set", &publisher_at, "--set", "relay.maintenance_interval=200ms"])?;
    let mut consumer = pipeline.consumer_with(&["--set", &consumer_at])?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let unready = |port: u16, word: &str| {
        get(port, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains(word))
    };
    let ready = |port: u16| get(port, "/readyz").is_some_and(|(status, _)| status == 200);

    let context = pipeline.context().await?;
    create_durable(&context, &pipeline.name, &json!({ "max_batch": 5 })).await?;
    wait::until("the consumer to notice", DEADLINE, || {
        unready(consumer_port, "max_batch is 5, must be at least")
    })?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    create_durable(&context, &pipeline.name, &json!({})).await?;
    pipeline.arrive(&ids).await?;
    wait::until("the consumer to be ready", DEADLINE, || ready(consumer_port))?;

    let update = format!("STREAM.UPDATE.{}", pipeline.name);
    set(&context, &update, &stream(&pipeline, &json!({ "max_msgs": 1_000_000 }))).await?;
    wait::until("the publisher to notice", DEADLINE, || {
        unready(publisher_port, "max_msgs is 1000000, must be")
    })?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    set(&context, &update, &stream(&pipeline, &json!({}))).await?;
    pipeline.arrive(&ids).await?;
    wait::until("the publisher to be ready", DEADLINE, || ready(publisher_port))?;
    assert!(!publisher.has_ended()? && !consumer.has_ended()?);

    // What the broker says about a publish that it refuses is in the log.
    set(&context, &update, &stream(&pipeline, &json!({ "max_msg_size": 50 }))).await?;
    let (rows, ids) = samples(1);
    pipeline.commit(&rows).await?;
    wait::until("the broker's words", DEADLINE, || {
        let log = publisher.log();
        log.contains("message size exceeds maximum allowed") || log.contains("max_msg_size is 50")
    })?;
    set(&context, &update, &stream(&pipeline, &json!({}))).await?;
    pipeline.arrive(&ids).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_durable_makes_unready_and_is_named_everywhere() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let _publisher = pipeline.publisher()?;
    let arguments =
        ["--set", &listen, "--set", "consumer.unready_after=1s", "--set", "consumer.forward_timeout=900ms"];
    let consumer = pipeline.consumer_with(&arguments)?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    let context = pipeline.context().await?;
    let stored =
        create_durable(&context, &pipeline.name, &json!({ "pause_until": "2099-01-01T00:00:00Z" })).await?;
    if !stored.contains_key("pause_until") {
        // Servers before 2.11 know no pause.
        return Ok(());
    }
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    wait::until("the consumer to be unready", DEADLINE, || {
        get(port, "/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains("paused until 2099-01-01"))
    })?;
    assert!(consumer.log().contains("1 message(s) wait in the stream"), "{}", consumer.log());
    let found = findings(&pipeline, "consumer")?;
    assert!(
        found.iter().any(|(name, text)| name == "durable-paused" && text.contains("resume")),
        "{found:?}"
    );
    create_durable(&context, &pipeline.name, &json!({})).await?;
    pipeline.arrive(&ids).await?;
    wait::until("the consumer to be ready", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, _)| status == 200)
    })
}

/// On a broker with limits of its own.
async fn limited(text: &str) -> anyhow::Result<Pipeline> {
    let work_dir = WorkDir::create()?;
    let configuration =
        Configuration { text: format!("no_auth_user: sandbox\n{text}"), ..Configuration::default() };
    let server = Nats::start_with(&work_dir, &configuration)?;
    let mut pipeline = Pipeline::new().await?;
    server.url().clone_into(&mut pipeline.nats_url);
    pipeline.own_nats = Some(OwnedServer { server, work_dir });
    Ok(pipeline)
}

const USERS: &str = "[{ user: publisher, password: publisher }, { user: consumer, password: consumer }, \
                     { user: operator, password: operator }, { user: sandbox, password: sandbox }]";

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_broker_is_told_with_the_setting_to_change_and_is_no_outage() -> anyhow::Result<()> {
    let small = format!(
        "jetstream {{ max_file_store: 256M, limits {{ duplicate_window: \"60s\" }} }}\nauthorization {{ users: {USERS} }}"
    );
    let pipeline = limited(&small).await?;
    let fits = ["broker.max_bytes=2000000", "broker.duplicate_window=60s"];
    for (key, settings) in [
        ("broker.max_bytes", ["broker.max_bytes=1073741824", fits[1]].as_slice()),
        ("broker.duplicate_window", &["broker.max_bytes=2000000", "broker.duplicate_window=61s"]),
        ("broker.replicas", &[fits[0], fits[1], "broker.replicas=3"]),
    ] {
        let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        for binary in ["publisher", "consumer"] {
            let (done, said) = pipeline.command(binary, &[&["run"], &*set].concat())?;
            assert!(!done && said.contains("broker-refuses: ") && said.contains(key), "{key}: {said}");
            assert!(!said.contains("unreachable"), "{said}");
        }
    }
    // What is said works.
    let (_, said) =
        pipeline.command("publisher", &["run", "--set", "broker.max_bytes=1073741824", "--set", fits[1]])?;
    assert!(said.contains("set broker.max_bytes = 67108864"), "{said}");
    let advised = ["--set", "broker.max_bytes=67108864", "--set", fits[1]];
    let _publisher = pipeline.publisher_with(&advised)?;
    pipeline.stream().await?;

    let account = format!(
        "jetstream {{ max_file_store: 256M }}\n\
         accounts {{ A {{ jetstream: {{ max_file: 100M, max_streams: 1, max_consumers: 1 }}, users: {USERS} }} }}"
    );
    let pipeline = limited(&account).await?;
    let (_, answer) = pipeline.ask("publisher", &["doctor", "--set", "broker.max_bytes=200000000"])?;
    assert!(answer.to_string().contains("set broker.max_bytes = 100000000 or less"), "{answer}");
    let (_, answer) = pipeline.ask("publisher", &["doctor"])?;
    assert!(!answer.to_string().contains("broker-refuses\",\"severity"), "{answer}");
    assert!(answer.to_string().contains("nothing else is to be done"), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_no_messages_as_large_as_ours_is_told_with_its_limit() -> anyhow::Result<()> {
    let text = format!("max_payload: 512\njetstream {{}}\nauthorization {{ users: {USERS} }}");
    let pipeline = limited(&text).await?;
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done && said.contains("max_payload is 512") && said.contains("to 1024 or more"), "{said}");
        assert!(!said.contains("unreachable"), "{said}");
        let (_, answer) = pipeline.ask(binary, &["doctor"])?;
        let found = answer["findings"].to_string();
        assert!(found.contains("broker-refuses") && found.contains("max_payload is 512"), "{found}");
        assert!(!found.contains("broker-unreachable"), "{found}");
    }
    Ok(())
}
