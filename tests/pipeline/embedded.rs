//! The services in the process of a host: here, the test itself.

use std::{fs, future::Future, time::Duration};

use common::service::{ServiceError, ServiceErrorKind};
use consumer::{CancellationToken, Registry};
use end_to_end::{DEADLINE, Pipeline, address, samples};
use sandbox::{
    process::Process,
    proxy::{Flow, Proxy},
    wait,
    work_dir::free_port,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};

use crate::operations::get;

/// Two publishers and two consumers in this process, until it is told otherwise.
struct Embedded {
    shutdown: CancellationToken,
    services: Vec<JoinHandle<Result<(), ServiceError>>>,
}

fn publisher(pipeline: &Pipeline) -> anyhow::Result<publisher::Service> {
    Ok(publisher::Service::new(pipeline.settings("publisher")?))
}

fn consumer(pipeline: &Pipeline) -> anyhow::Result<consumer::Service> {
    Ok(consumer::Service::new(pipeline.settings("consumer")?, Registry::with_built_in()))
}

impl Embedded {
    fn start(pipeline: &Pipeline) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let services = vec![
            tokio::spawn(publisher(pipeline)?.run(shutdown.clone())),
            tokio::spawn(publisher(pipeline)?.run(shutdown.clone())),
            tokio::spawn(consumer(pipeline)?.run(shutdown.clone())),
            tokio::spawn(consumer(pipeline)?.run(shutdown.clone())),
        ];
        Ok(Self { shutdown, services })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        for service in self.services {
            service.await??;
        }
        Ok(())
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// The clients of the servers have tasks of their own, which end when they see that nobody is left.
fn no_more_tasks_than(before: usize) -> anyhow::Result<()> {
    wait::until("the tasks of the services to be gone", DEADLINE, || tasks() <= before)
}

async fn arrives_in_this_process(settings: &str) -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(settings).await?;
    let before = tasks();
    let embedded = Embedded::start(&pipeline)?;
    let (rows, ids) = samples(50);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert!(tasks() > before, "services run in tasks");
    embedded.stop().await?;
    no_more_tasks_than(before)?;

    // What stopped can be started again, in the same process.
    let embedded = Embedded::start(&pipeline)?;
    let (rows, ids) = samples(50);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    assert_eq!(pipeline.projected().await?, 100);
    embedded.stop().await?;
    no_more_tasks_than(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_the_hosts_own_process_deliver_and_leave_no_task_behind() -> anyhow::Result<()> {
    arrives_in_this_process("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_without_a_broker_leaves_no_task_of_its_leadership_behind() -> anyhow::Result<()> {
    arrives_in_this_process(
        "[[forwarder]]\nid = \"timeline\"\nkind = \"threadline\"\ndispatch = \"sync\"\n[[forwarder]]\nid = \"nothing\"\nkind = \"noop\"",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_dropped_leaves_no_task_behind() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let before = tasks();
    let embedded = Embedded::start(&pipeline)?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    for service in &embedded.services {
        service.abort();
    }
    drop(embedded);
    no_more_tasks_than(before)
}

/// Runs a service beside the test's own look at its endpoint.
async fn while_running<F>(
    service: impl FnOnce(CancellationToken) -> F,
    look: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), ServiceError>> + Send + 'static,
{
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(service(shutdown.clone()));
    look()?;
    shutdown.cancel();
    Ok(running.await??)
}

fn ready(port: u16) -> anyhow::Result<()> {
    wait::until("readiness", DEADLINE, || get(port, "/readyz").is_some_and(|(status, _)| status == 200))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_sees_the_metrics_where_it_passes_a_handle_and_a_sentence_where_it_does_not()
-> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // Their settings say `off`: the listener counts.
    let bare = publisher(&pipeline)?.listener(listener);
    while_running(
        |shutdown| bare.run(shutdown),
        || {
            ready(port)?;
            assert_eq!(get(port, "/healthz").map(|(status, _)| status), Some(200));
            let (status, said) = get(port, "/metrics").expect("an answer");
            assert!(status == 404 && said.contains("without a metrics handle"), "{status} {said}");
            Ok(())
        },
    )
    .await?;

    // The only test of this process that installs a recorder: nothing of the services does.
    let metrics = consumer::metrics_builder()?.install_recorder()?;
    let mut settings = pipeline.settings("consumer")?;
    let port = free_port()?;
    settings.consumer.listen = format!("127.0.0.1:{port}").try_into().map_err(anyhow::Error::msg)?;
    let measured = consumer::Service::new(settings, Registry::with_built_in()).metrics(metrics);
    while_running(
        |shutdown| measured.run(shutdown),
        || {
            ready(port)?;
            let (status, text) = get(port, "/metrics").expect("an answer");
            assert!(status == 200 && text.contains("# HELP audit_forward_events_total"), "{status} {text}");
            assert!(text.contains("forwarder=\"timeline\""), "{text}");
            Ok(())
        },
    )
    .await
}

/// Which signals a process has handlers for, as a set of bits.
fn caught(process: &Process) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    Ok(u64::from_str_radix(line.unwrap_or_default().trim(), 16)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_publisher_leaves_the_signals_to_its_host() -> anyhow::Result<()> {
    const INTERRUPT: u64 = 1 << (2 - 1);
    const TERMINATE: u64 = 1 << (15 - 1);
    let pipeline = Pipeline::new().await?;
    let mut host = pipeline.spawn("embed_publisher", &[&pipeline.config().display().to_string()])?;
    let port = wait::until_some("the example to say where it is", DEADLINE, async || {
        let said = host.log();
        let address = said.split("http://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next());
        Ok(address.and_then(|port| port.parse().ok()))
    })
    .await?;
    ready(port)?;
    let text = get(port, "/metrics").map(|(_, text)| text).unwrap_or_default();
    assert!(text.contains("audit_publish_sent_total"), "{text}");
    let caught = caught(&host)?;
    assert_eq!(caught & TERMINATE, 0, "{caught:x}");
    // The example's own.
    assert_ne!(caught & INTERRUPT, 0, "{caught:x}");
    let status = host.interrupt(DEADLINE)?;
    assert!(status.success(), "{}", host.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_an_error_says_whether_a_restart_is_in_vain() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let before = tasks();
    let kind =
        async |change: fn(&mut common::settings::Settings)| -> anyhow::Result<(ServiceErrorKind, String)> {
            let mut settings = pipeline.settings("publisher")?;
            change(&mut settings);
            let ended = publisher::Service::new(settings).run(CancellationToken::new()).await;
            let error = ended.expect_err("it cannot start");
            Ok((error.kind(), errors::line(&error)))
        };
    let (found, said) = kind(|settings| settings.source.url = None).await?;
    assert!(found == ServiceErrorKind::Misconfigured && said.contains("source.url"), "{said}");
    let (found, said) = kind(|settings| settings.relay.page_rows = 0).await?;
    assert!(found == ServiceErrorKind::Misconfigured && said.contains("relay.page_rows"), "{said}");
    let away = |settings: &mut common::settings::Settings| {
        settings.broker.url = Some(publisher::ConnectionUrl::new("nats://127.0.0.1:9"));
    };
    let (found, said) = kind(away).await?;
    assert!(found == ServiceErrorKind::Failed && said.contains("cannot connect to NATS"), "{said}");

    let mut settings = pipeline.settings("consumer")?;
    settings.forwarder[0].kind = "telegraph".to_owned();
    let ended =
        consumer::Service::new(settings, Registry::with_built_in()).run(CancellationToken::new()).await;
    let error = ended.expect_err("there is no such kind");
    assert_eq!(error.kind(), ServiceErrorKind::Misconfigured, "{error}");
    no_more_tasks_than(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stops_in_time_while_a_server_hangs_and_no_task_waits_for_it() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut behind = Pipeline::sharing(&pipeline, "")?;
    let server = address(&pipeline.source.url)?;
    let proxy = Proxy::start(server).await?;
    behind.source.url = behind.source.url.replace(&server.to_string(), &proxy.address().to_string());
    let before = tasks();
    let embedded = Embedded::start(&behind)?;
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    proxy.set(Flow::HoldBoth);
    let (rows, ids) = samples(5);
    pipeline.commit(&rows).await?;
    tokio::time::timeout(Duration::from_secs(10), embedded.stop()).await??;
    proxy.set(Flow::Open);
    no_more_tasks_than(before)?;
    let embedded = Embedded::start(&pipeline)?;
    pipeline.arrive(&ids).await?;
    embedded.stop().await
}
