//! What is wrong with the stream and its durables; and removing positions in stream and log.

use std::net::SocketAddr;

use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{Config, DiscardPolicy},
};
use end_to_end::{DEADLINE, Pipeline, address, samples, sandbox};
use sandbox::{
    fixture,
    nats::{NatsCluster, delete_stream},
    wait,
    work_dir::WorkDir,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::doctor;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_stream_and_its_durables_is_found() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let context = async_nats::jetstream::new(async_nats::connect(&pipeline.nats_url).await?);
    let other = format!("{}_OTHER", pipeline.name);
    let config = Config {
        name: other.clone(),
        subjects: vec![format!("{}.>", pipeline.name)],
        max_bytes: 1 << 20,
        ..Config::default()
    };
    context.create_stream(config).await?;
    doctor(&pipeline, "publisher", &[])?
        .has("subject-taken", &[&format!("the stream {other} takes the subject")]);
    delete_stream(&context, &other).await?;

    let config = Config {
        name: pipeline.name.clone(),
        subjects: vec![format!("{}.events", pipeline.name)],
        max_bytes: 67_108_864,
        discard: DiscardPolicy::New,
        duplicate_window: std::time::Duration::from_secs(120),
        // The one matters to old servers, the other to new ones.
        deny_delete: true,
        deny_purge: true,
        max_messages_per_subject: 1_000,
        ..Config::default()
    };
    let stream = context.create_stream(config.clone()).await?;
    let durable = |name: &str, ack_policy| pull::Config {
        durable_name: Some(name.to_owned()),
        ack_policy,
        ..pull::Config::default()
    };
    for (name, policy) in [
        ("forward-timeline", AckPolicy::All),
        ("forward-gone", AckPolicy::Explicit),
        ("somebody-elses", AckPolicy::None),
    ] {
        stream.create_consumer(durable(name, policy)).await?;
    }
    let answer = doctor(&pipeline, "consumer", &[])?;
    answer.has("stream-unfit", &["max_msgs_per_subject is 1000, must be without limit", "nats stream edit"]);
    answer.has("stream-untrimmable", &["deny_delete true"]);
    answer.has(
        "durable-unfit",
        &["consumer forward-timeline does not fit: ack_policy is \"all\", must be \"explicit\""],
    );
    answer.has("durable-differs", &["the settings 2s and 20000"]);
    answer.has("durable-unused", &["forward-gone", "consumer drop-durable gone --reason"]);
    assert!(!answer.json.to_string().contains("somebody-elses"), "{}", answer.json);
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done && said.contains("stream-unfit: "), "{said}");
    }
    let found = stream.get_info().await?.config;
    assert!(found.deny_delete && found.max_messages_per_subject == 1_000, "nothing was adjusted");

    // One that was this source's, before the source got another name.
    delete_stream(&context, &pipeline.name).await?;
    let config = Config { deny_delete: false, deny_purge: false, max_messages_per_subject: -1, ..config };
    context.create_stream(config).await?;
    let full = vec![b'x'; 900_000];
    for _ in 0..61 {
        context.publish(format!("{}.events", pipeline.name), full.clone().into()).await?.await?;
    }
    doctor(&pipeline, "publisher", &[])?
        .has("stream-nearly-full", &["of 67108864 bytes (8", "consumer status"]);
    doctor(&pipeline, "publisher", &["--set", "broker.max_bytes=134217728"])?
        .has("stream-smaller", &["max_bytes is 67108864, must be at least 134217728", "nats stream edit"]);
    delete_stream(&context, &pipeline.name).await?;
    let mut publisher = pipeline.publisher()?;
    pipeline.stream().await?;
    publisher.terminate(DEADLINE)?;
    pipeline.source = fixture::source_database().await?;
    doctor(&pipeline, "publisher", &[])?
        .has("stream-foreign", &["references of another source", "publisher rebase"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_one_copy_in_a_cluster_is_found() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let cluster = NatsCluster::start(&work_dir, 3).await?;
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = cluster.urls().join(",");
    doctor(&pipeline, "publisher", &[])?
        .has("stream-single-copy", &["in the cluster sandbox", "broker.replicas = 3"]);
    doctor(&pipeline, "publisher", &["--set", "broker.replicas=3"])?.misses(&["stream-single-copy"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn places_that_nobody_reads_from_any_more_are_let_go_with_a_reason() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\n[[forwarder]]\nid = \"siem\"\nkind = \"noop\"",
    )
    .await?;
    let mut publisher = pipeline.publisher()?;
    let mut consumer = pipeline.consumer()?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("siem").await?;
    let config = std::fs::read_to_string(sandbox().work_dir.path().join(format!("{}.toml", pipeline.name)))?;
    let without = config.replace("[[forwarder]]\nid = \"siem\"\nkind = \"noop\"", "");
    let (done, said) = pipeline.command("consumer", &["drop-durable", "siem", "--reason", "replaced"])?;
    assert!(!done && said.contains("forwarder siem is in use by these settings"), "{said}");
    std::fs::write(sandbox().work_dir.path().join(format!("{}.toml", pipeline.name)), without)?;
    let (done, said) = pipeline.command("consumer", &["drop-durable", "siem", "--reason", "replaced"])?;
    assert!(!done && said.contains("some process pulls from forward-siem now"), "{said}");
    consumer.terminate(DEADLINE)?;
    wait::until("the durable to be let go", DEADLINE, || {
        let dropped = pipeline.command("consumer", &["drop-durable", "siem", "--reason", "replaced"]);
        dropped.is_ok_and(|(done, _)| done)
    })?;
    let (done, said) = pipeline.command("consumer", &["drop-durable", "siem", "--reason", "replaced"])?;
    assert!(!done && said.contains("there is no durable forward-siem"), "{said}");
    doctor(&pipeline, "consumer", &[])?.misses(&["durable-unused"]);

    // The same for a reader of the log, here the publisher's own.
    let drop = ["drop-reader", "jetstream", "--reason", "no broker any more"];
    let (done, said) = pipeline.command("publisher", &drop)?;
    assert!(!done && said.contains("the reader jetstream is in use by these settings"), "{said}");
    let mut without_broker = pipeline;
    without_broker.nats_url = String::new();
    let (done, said) = without_broker.command("publisher", &drop)?;
    assert!(
        !done
            && said.contains("error: publisher (process ")
            && said.contains("reads as jetstream now: stop it first"),
        "{said}"
    );
    publisher.terminate(DEADLINE)?;
    let (done, said) = without_broker.command("publisher", &drop)?;
    assert!(done, "{said}");
    let (done, said) = without_broker.command("publisher", &drop)?;
    assert!(!done && said.contains("there is no reader jetstream"), "{said}");
    let mut source = without_broker.source.connect().await?;
    let left: i64 = sqlx::query_scalar(
        "select (select count(*) from outbox.rounds) + (select count(*) from outbox.settled)",
    )
    .fetch_one(&mut source)
    .await?;
    assert_eq!(left, 0);
    let acts: Vec<(String, String, String)> =
        sqlx::query_as("select kind, filter, reason from outbox.acts order by id")
            .fetch_all(&mut source)
            .await?;
    let kinds: Vec<_> = acts.iter().map(|(kind, _, reason)| (kind.as_str(), reason.as_str())).collect();
    assert_eq!(kinds, [("drop_durable", "replaced"), ("drop_reader", "no broker any more")], "{acts:?}");
    Ok(())
}

/// The server, which says that it is older than it is.
async fn disguised(server: SocketAddr, version: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = BufReader::new(TcpStream::connect(server).await?);
                let mut greeting = String::new();
                server.read_line(&mut greeting).await?;
                let info: Value = serde_json::from_str(greeting.trim_start_matches("INFO "))?;
                let (real, claimed) = (info["version"].to_string(), format!("{version:?}"));
                client.write_all(greeting.replace(&real, &claimed).as_bytes()).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await?;
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_too_old_is_found_and_nothing_starts_on_it() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let old = disguised(address(&pipeline.nats_url)?, "2.8.4").await?;
    let server = address(&pipeline.nats_url)?;
    pipeline.nats_url = pipeline.nats_url.replace(&server.to_string(), &old.to_string());
    for binary in ["publisher", "consumer"] {
        doctor(&pipeline, binary, &[])?.has("broker-too-old", &["nats-server is 2.8.4", "2.9 or later"]);
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done && said.contains("broker-too-old: "), "{said}");
    }
    doctor(&pipeline, "publisher", &[])?.has("broker-trims-slowly", &["message by message"]);
    Ok(())
}
