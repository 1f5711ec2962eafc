//! What an operator does and sees.

use std::io::{Read as _, Write as _};

use end_to_end::{DEADLINE, Pipeline, sandbox};
use sandbox::{audit::AuditRow, wait, work_dir::free_port};
use serde_json::Value;
use sqlx::Executor as _;

pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n")?.1.to_owned();
    Some((status, body))
}

#[tokio::test]
async fn both_services_answer_health_readiness_and_metrics() -> anyhow::Result<()> {
    let (publisher_port, consumer_port) = (free_port()?, free_port()?);
    let pipeline = Pipeline::new().await?;
    let config = sandbox().work_dir.path().join(format!("{}.toml", pipeline.name));
    let text = std::fs::read_to_string(&config)?
        .replacen("listen = \"off\"", &format!("listen = \"127.0.0.1:{publisher_port}\""), 1)
        .replacen("listen = \"off\"", &format!("listen = \"127.0.0.1:{consumer_port}\""), 1);
    std::fs::write(&config, text)?;
    let publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    pipeline.arrive(&[row.id]).await?;
    for port in [publisher_port, consumer_port] {
        assert_eq!(get(port, "/healthz"), Some((200, "ok\n".to_owned())));
        let (status, body) = get(port, "/readyz").unwrap();
        assert_eq!(status, 200, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body)?["ready"], true);
    }
    wait::until("the counters to show the event", DEADLINE, || {
        let relayed = get(publisher_port, "/metrics").unwrap().1;
        let forwarded = get(consumer_port, "/metrics").unwrap().1;
        relayed.contains("audit_relay_entries_total{reader=\"jetstream\"} 1")
            && forwarded
                .contains("audit_forward_events_total{forwarder=\"timeline\",verdict=\"delivered\"} 1")
            // With buckets, as alerts and dashboard read it.
            && forwarded.contains("audit_forward_lag_seconds_bucket{forwarder=\"timeline\",le=\"")
    })?;

    // Readiness is progress: without the trigger nothing new would ever arrive.
    pipeline.source.connect().await?.execute("drop trigger outbox_capture on audit_events").await?;
    drop(publisher);
    let _unready = pipeline.publisher()?;
    wait::until("the publisher to be unready", DEADLINE, || {
        get(publisher_port, "/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains("publisher attach"))
    })?;
    Ok(())
}

#[tokio::test]
async fn counters_are_there_at_zero_before_anything_happens_and_an_orderly_end_warns_of_nothing()
-> anyhow::Result<()> {
    let (publisher_port, consumer_port) = (free_port()?, free_port()?);
    let pipeline = Pipeline::new().await?;
    let listen = |of: &str, port: u16| format!("{of}.listen=127.0.0.1:{port}");
    let mut publisher = pipeline.publisher_with(&["--set", &listen("publisher", publisher_port)])?;
    let mut consumer = pipeline.consumer_with(&["--set", &listen("consumer", consumer_port)])?;
    for port in [publisher_port, consumer_port] {
        wait::until("it to be ready", DEADLINE, || {
            get(port, "/readyz").is_some_and(|(status, _)| status == 200)
        })?;
    }
    let metrics = |port| get(port, "/metrics").unwrap_or_default().1;
    let (relayed, forwards) = (metrics(publisher_port), metrics(consumer_port));
    for series in [
        "audit_publish_duplicates_total 0",
        "audit_publish_unknown_total 0",
        "audit_outbox_pruned_total 0",
        "audit_relay_fenced_total{reader=\"jetstream\"} 0",
    ] {
        assert!(relayed.contains(series), "{series}: {relayed}");
    }
    for series in [
        "audit_forward_events_total{forwarder=\"timeline\",verdict=\"dead\"} 0",
        "audit_forward_events_total{forwarder=\"timeline\",verdict=\"discarded\"} 0",
        "audit_forward_errors_total{forwarder=\"timeline\",kind=\"crash\"} 0",
        "audit_forward_already_delivered_total{forwarder=\"timeline\"} 0",
        "audit_forward_unknown_outcomes_total 0",
        "audit_reconcile_repaired_total{forwarder=\"timeline\"} 0",
    ] {
        assert!(forwards.contains(series), "{series}: {forwards}");
    }
    for process in [&mut consumer, &mut publisher] {
        assert!(process.terminate(DEADLINE)?.success());
        assert!(!process.log().contains("\"WARN\"") && !process.log().contains("ERROR"), "{}", process.log());
    }
    Ok(())
}

#[tokio::test]
async fn a_publisher_without_an_outbox_says_what_to_do() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.source = sandbox::fixture::empty_database().await?;
    let (done, said) = pipeline.command("publisher", &["run"])?;
    assert!(!done);
    assert!(said.contains("run `publisher attach` first"), "{said}");
    Ok(())
}

#[tokio::test]
async fn services_without_a_broker_fail_at_boot_and_name_the_remedy() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.nats_url = format!("nats://user:hunter2@127.0.0.1:{}", free_port()?);
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done);
        assert!(said.contains("cannot connect to NATS at nats://user:***@127.0.0.1"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_of_another_source_is_refused() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    pipeline.stream().await?;
    publisher.terminate(DEADLINE)?;
    pipeline.source = sandbox::fixture::source_database().await?;
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["run"])?;
        assert!(!done);
        assert!(said.contains("references of another source"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn two_forwarders_into_one_place_are_refused() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings(
        "[[forwarder]]\nid = \"a\"\nkind = \"threadline\"\n[[forwarder]]\nid = \"b\"\nkind = \"threadline\"",
    )
    .await?;
    let (done, said) = pipeline.command("consumer", &["run"])?;
    assert!(!done);
    assert!(said.contains("forwarders a and b write to the same database and schema"), "{said}");
    Ok(())
}

#[tokio::test]
async fn prune_removes_what_has_arrived_and_nothing_else() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    let mut publisher = pipeline.publisher()?;
    let row = AuditRow::sample("test.row");
    pipeline.commit(std::slice::from_ref(&row)).await?;
    let stream = pipeline.stream().await?;
    wait::until_some("the message", DEADLINE, async || {
        Ok((stream.get_info().await?.state.messages == 1).then_some(()))
    })
    .await?;
    // Stopped, so that its position is closed and stored.
    publisher.terminate(DEADLINE)?;
    let prune = ["prune", "--json", "--set", "relay.retention=1s"];
    let pruned = |said: &str| serde_json::from_str::<Value>(said).ok().map(|value| value["pruned"].clone());
    let (done, said) = pipeline.command("publisher", &prune)?;
    assert!(done, "{said}");
    assert_eq!(pruned(&said), Some(0.into()), "no forwarder has it yet");
    let _consumer = pipeline.consumer()?;
    pipeline.arrive(&[row.id]).await?;
    wait::until_some("the entry to be old enough and settled", DEADLINE, async || {
        let (done, said) = pipeline.command("publisher", &prune)?;
        anyhow::ensure!(done, "{said}");
        Ok((pruned(&said) == Some(1.into())).then_some(()))
    })
    .await
}

#[tokio::test]
async fn settings_are_checked_and_printed_with_secrets_masked() -> anyhow::Result<()> {
    let pipeline = Pipeline::new().await?;
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["config", "check"])?;
        assert!(done && said.contains("the settings are valid"), "{said}");
        let (done, said) = pipeline.command(binary, &["config", "print", "--set", "consumer.workers=3"])?;
        assert!(done && said.contains("workers = 3 # --set"), "{said}");
        assert!(said.contains("# the environment variable SOURCE_DATABASE_URL"), "{said}");
        let (done, said) = pipeline.command(binary, &["config", "check", "--set", "consumer.wrokers=3"])?;
        assert!(!done && said.contains("consumer.wrokers from --set: unknown field"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn threadline_installs_twice_and_over_the_elixir_librarys_tables() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.timeline = sandbox::fixture::empty_database().await?;
    // As the Elixir library's three migrations leave it, in the parts that matter: names, types, constraints.
    pipeline
        .timeline
        .connect()
        .await?
        .execute(
            "create schema audit;
             create table audit.audit_transactions (id uuid primary key default gen_random_uuid(), txid bigint not null,
                 occurred_at timestamptz not null default now(), source text, meta jsonb,
                 constraint audit_transactions_txid_key unique (txid));
             create index audit_transactions_txid_idx on audit.audit_transactions (txid);
             create table audit.audit_changes (id uuid primary key default gen_random_uuid(),
                 transaction_id uuid not null references audit.audit_transactions (id) on delete cascade,
                 table_schema text not null, table_name text not null, table_pk jsonb not null,
                 op text not null, data_after jsonb, changed_fields text[], changed_from jsonb,
                 captured_at timestamptz not null default now());
             create table audit.audit_actions (id uuid primary key default gen_random_uuid(), name text not null,
                 actor_ref jsonb not null, status text not null check (status in ('ok', 'error')), verb text,
                 category text, reason text, comment text, correlation_id text, request_id text, job_id text,
                 inserted_at timestamptz not null default now());
             alter table audit.audit_transactions add column actor_ref jsonb,
                 add column action_id uuid references audit.audit_actions (id) on delete set null;
             insert into audit.audit_actions (name, actor_ref, status) values ('a.b', '{\"type\":\"anonymous\"}', 'ok')",
        )
        .await?;
    for _ in 0..2 {
        let (done, said) = pipeline.command("threadline", &["install", "--schema", "audit"])?;
        assert!(done && said.contains("tables are in schema audit"), "{said}");
    }
    let mut connection = pipeline.timeline.connect().await?;
    let (rows, indexes): (i64, i64) = sqlx::query_as(
        "select (select count(*) from audit.audit_actions),
                (select count(*) from pg_indexes where schemaname = 'audit'
                 and indexname in ('audit_actions_page_idx', 'audit_actions_correlation_idx',
                                   'audit_changes_captured_at_id_idx', 'audit_changes_row_history_idx'))",
    )
    .fetch_one(&mut connection)
    .await?;
    assert_eq!((rows, indexes), (1, 4));
    Ok(())
}
