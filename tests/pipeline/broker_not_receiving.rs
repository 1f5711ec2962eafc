//! Subjects that a permission keeps from the broker: nobody answers on them, and it is told all the same.

use end_to_end::{DEADLINE, OwnedServer, Pipeline, samples};
use sandbox::{
    nats::{Configuration, Nats},
    rights, wait,
    work_dir::{WorkDir, free_port},
};
use serde_json::json;

use crate::{
    broker_settings::{self, create_durable, findings, set},
    operations::get,
};

/// On a broker whose users `publisher` and `consumer` may not publish on some subjects.
async fn denied(publisher: &[&str], consumer: &[&str]) -> anyhow::Result<Pipeline> {
    let work_dir = WorkDir::create()?;
    let pipeline = Pipeline::new().await?;
    let user = |name: &str, denied: &[&str]| {
        let denied: Vec<String> = denied
            .iter()
            .map(|subject| format!("{:?}", subject.replace("STREAM_NAME", &pipeline.name)))
            .collect();
        format!(
            "{{ user: {name}, password: {name}, permissions: {{ publish: {{ deny: [{}] }} }} }}",
            denied.join(", ")
        )
    };
    let text = format!(
        "no_auth_user: sandbox\nauthorization {{ users: [{}, {}, {{ user: operator, password: operator }}, \
         {{ user: sandbox, password: sandbox }}] }}",
        user("publisher", publisher),
        user("consumer", consumer)
    );
    let server = Nats::start_with(&work_dir, &Configuration { text, ..Configuration::default() })?;
    let mut pipeline = pipeline;
    server.url().clone_into(&mut pipeline.nats_url);
    pipeline.own_nats = Some(OwnedServer { server, work_dir });
    Ok(pipeline)
}

/// Of a doctor with the user of its service.
fn findings_as(pipeline: &mut Pipeline, binary: &str) -> anyhow::Result<Vec<(String, String)>> {
    let whoever = pipeline.nats_url.clone();
    pipeline.nats_url = rights::as_user(&whoever, binary);
    let found = findings(pipeline, binary);
    pipeline.nats_url = whoever;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_do_not_reach_the_broker_make_unready_and_are_named_with_the_permission()
-> anyhow::Result<()> {
    let mut pipeline = denied(&[], &["$JS.ACK.>"]).await?;
    let port = free_port()?;
    let listen = format!("consumer.listen=127.0.0.1:{port}");
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer_with(&["--set", &listen])?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    wait::until("the consumer to notice", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, body)| {
            status == 503
                && body.contains("acknowledgements do not reach the broker")
                && body.contains("$JS.ACK.")
        })
    })?;
    let found = findings_as(&mut pipeline, "consumer")?;
    assert!(
        found.iter().any(|(name, text)| name == "broker-not-receiving" && text.contains("$JS.ACK.")),
        "{found:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_finds_every_subject_that_its_user_may_not_use_and_changes_nothing() -> anyhow::Result<()> {
    let publisher = [
        "STREAM_NAME.events",
        "$JS.API.STREAM.PURGE.>",
        "$JS.API.STREAM.MSG.GET.>",
        "$JS.API.STREAM.UPDATE.>",
    ];
    let consumer = ["$JS.API.CONSUMER.MSG.NEXT.>", "$JS.API.STREAM.MSG.GET.>"];
    for (publisher, consumer) in [(&[][..], &[][..]), (&publisher[..], &consumer[..])] {
        let mut pipeline = denied(publisher, consumer).await?;
        let context = pipeline.context().await?;
        let name = pipeline.name.clone();
        let whole = broker_settings::stream(&pipeline, &json!({}));
        set(&context, &format!("STREAM.CREATE.{name}"), &whole).await?;
        create_durable(&context, &name, &json!({})).await?;
        context.publish(format!("{name}.events"), "x".into()).await?.await?;
        let client = async_nats::connect(&pipeline.nats_url).await?;
        let purges = client.is_server_compatible(2, 9, 15);
        for (binary, denied) in [("publisher", publisher), ("consumer", consumer)] {
            let found = findings_as(&mut pipeline, binary)?;
            let found_here: Vec<&String> = found
                .iter()
                .filter(|(name, _)| name == "broker-not-receiving")
                .map(|(_, text)| text)
                .collect();
            let expected = denied.iter().filter(|subject| purges || !subject.contains("PURGE"));
            assert_eq!(found_here.len(), expected.clone().count(), "{binary}: {found:?}");
            for subject in expected {
                let subject = subject.replace("STREAM_NAME", &name).replace(".>", ".");
                assert!(
                    found_here.iter().any(|text| text.contains(&subject)),
                    "{binary} {subject}: {found_here:?}"
                );
            }
        }
        let state = pipeline.stream().await?.cached_info().state.clone();
        assert_eq!((state.messages, state.last_sequence), (1, 1));
        let durable = pipeline.durable("timeline").await?;
        let info = durable.cached_info();
        assert_eq!((info.num_pending, info.num_ack_pending, info.delivered.consumer_sequence), (1, 0, 0));
    }
    Ok(())
}

/// As after an upgrade, where the permissions are still those of before.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_may_not_change_the_stream_sends_references_one_by_one_and_says_why()
-> anyhow::Result<()> {
    let pipeline = denied(&["$JS.API.STREAM.UPDATE.>"], &[]).await?;
    let publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(20);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.stream().await?.cached_info().state.last_sequence, 20);
    let said = publisher.log();
    let subject = format!("$JS.API.STREAM.UPDATE.{}", pipeline.name);
    assert!(said.contains("references travel one by one") && said.contains(&subject), "{said}");
    Ok(())
}
