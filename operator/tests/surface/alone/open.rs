//! Without being asked who they are: on this machine only.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sandbox::{process, rights};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{Alone, DEADLINE, shared};

const SAMPLE: &str = include_str!("../../../../threadline/tests/query/sample.sql");
const OPEN: &str = "listen = \"127.0.0.1:0\"\ntitle = \"Audit of the shop\"\nauth.kind = \"none\"\n";

#[tokio::test]
async fn a_machines_own_address_shows_everything_and_says_so_loudly() -> anyhow::Result<()> {
    let mut alone = Alone::over(SAMPLE, OPEN).await?;
    let response = alone.get("timeline", &[]).await?;
    let (status, html) = (response.status(), response.text().await?);
    assert_eq!(status, StatusCode::OK, "{html}");
    assert!(html.contains("Audit of the shop") && html.contains("public.posts"), "{html}");
    assert!(
        alone
            .process
            .log()
            .contains("whoever reaches this machine's own address or the socket sees everything")
    );
    // A page of another site that has made its name lead here, and a proxy that lets the world in.
    for headers in [[("host", "evil.example")], [("x-forwarded-for", "203.0.113.9")]] {
        let response = alone.get("timeline?format=json", &headers).await?;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{headers:?}");
        let text = response.text().await?;
        assert!(text.contains("\"denied\"") && !text.contains("posts"), "{text}");
    }
    let (_, metrics) = alone.operational("/metrics").await?;
    for series in [
        "audit_operator_refused_total{reason=\"not_local\"} 2",
        "audit_operator_refused_total{reason=\"replayed\"} 0",
        "audit_operator_requests_total{status=\"4xx\"} 2",
        "audit_operator_request_seconds_count{page=\"/timeline\"} 3",
        "threadline_operator_authorizations_total{result=\"granted\"} 1",
        "threadline_operator_open{kind=\"tail\"} 0",
        "threadline_operator_busy_total{kind=\"request\"} 0",
        "threadline_exports_total{format=\"csv\",result=\"completed\"} 0",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    assert!(alone.process.terminate(DEADLINE)?.success(), "{}", alone.process.log());
    Ok(())
}

#[tokio::test]
async fn what_the_settings_expect_of_tables_is_compared_with_what_is_deployed() -> anyhow::Result<()> {
    let told = format!("{OPEN}[coverage]\nexpected = [\"nowhere\"]\n[retention]\nkeep_days = 30\n");
    for (keys, configured, state) in [(OPEN, false, "unknown"), (told.as_str(), true, "failed")] {
        let mut alone = Alone::over(SAMPLE, keys).await?;
        let seen: serde_json::Value =
            serde_json::from_str(&alone.get("coverage?format=json", &[]).await?.text().await?)?;
        assert_eq!(seen["configured"], configured, "{seen}");
        let checks: serde_json::Value =
            serde_json::from_str(&alone.get("coverage/checks?format=json", &[]).await?.text().await?)?;
        let of_tables =
            checks["items"].as_array().unwrap().iter().find(|item| item["id"] == "capture.tables").unwrap();
        assert_eq!(of_tables["state"], state, "{of_tables}");
        let html = alone.get("policy/retention", &[]).await?.text().await?;
        assert_eq!(html.contains("30d"), configured, "{html}");
        assert!(alone.process.terminate(DEADLINE)?.success());
    }
    Ok(())
}

#[tokio::test]
async fn settings_say_whether_looking_is_recorded_and_when_the_next_purge_is_due() -> anyhow::Result<()> {
    let keys = format!(
        "{OPEN}writer_url = \"WRITER_URL\"\nrecord_views = \"1h\"\npurges_every = \"1day\"\n[retention]\nenabled = true\nkeep_days = 30\n"
    );
    let run = "insert into threadline_retention_runs (status, deleted_count, started_at, completed_at)
               values ('completed', 5, '2099-02-01T12:00:00Z', '2099-02-01T12:00:00Z')";
    let alone = Alone::over(run, &keys).await?;
    let retention = alone.get("policy/retention", &[]).await?.text().await?;
    assert!(retention.contains("not before <time datetime=\"2099-02-02T12:00:00"), "{retention}");
    alone.get("timeline", &[]).await?.text().await?;
    let viewed =
        "select comment::jsonb ->> 'surface' from audit_actions where name = 'audit.viewed' order by 1";
    let viewed: Vec<String> =
        sqlx::query_scalar(viewed).fetch_all(&mut alone.database.connect().await?).await?;
    assert_eq!(viewed, ["retention", "timeline"]);
    Ok(())
}

#[tokio::test]
async fn a_socket_of_the_file_system_serves_the_same_and_is_gone_at_the_end() -> anyhow::Result<()> {
    // The path of a socket has at most 107 bytes.
    let path = std::env::temp_dir().join(format!("operator-{}.sock", uuid::Uuid::new_v4().simple()));
    let keys = format!("listen = \"unix:{}\"\nauth.kind = \"none\"\n", path.display());
    let mut alone = Alone::over(SAMPLE, &keys).await?;
    let mut stream = UnixStream::connect(&path).await?;
    stream.write_all(b"GET /timeline HTTP/1.1\r\nhost: audit.example\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("public.posts"), "{answer}");
    assert!(alone.process.terminate(DEADLINE)?.success());
    assert!(!path.exists());
    Ok(())
}

#[tokio::test]
async fn a_timeline_that_is_away_is_said_on_pages_and_by_readiness_and_waited_for() -> anyhow::Result<()> {
    let alone = Alone::over(SAMPLE, &format!("unready_after = \"1s\"\n{OPEN}")).await?;
    alone.await_operational("/readyz", "\"ready\":true").await?;
    assert_eq!(alone.operational("/healthz").await?, (StatusCode::OK, "ok\n".to_owned()));
    let name = alone.database.name();
    let server: PgConnectOptions = rights::as_superuser(&alone.database.url).parse()?;
    let mut server = server.database("postgres").connect().await?;
    let switched = |allowed: bool| format!("alter database {name} with allow_connections {allowed}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(switched(false))).execute(&mut server).await?;
    let ended = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()";
    sqlx::query(ended).bind(&name).execute(&mut server).await?;
    let response = alone.get("timeline?format=json", &[]).await?;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.text().await?.contains("\"database_away\""));
    alone.await_operational("/readyz", "\"ready\":false").await?;
    assert_eq!(alone.operational("/readyz").await?.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(alone.operational("/healthz").await?.0, StatusCode::OK);
    sqlx::raw_sql(sqlx::AssertSqlSafe(switched(true))).execute(&mut server).await?;
    alone.await_operational("/readyz", "\"ready\":true").await?;
    assert_eq!(alone.get("timeline", &[]).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_page_that_follows_the_timeline_keeps_no_service_from_its_end() -> anyhow::Result<()> {
    let mut alone = Alone::over(SAMPLE, OPEN).await?;
    let mut following = alone.get("timeline/tail", &[]).await?;
    let begun = following.chunk().await?.unwrap();
    assert!(String::from_utf8_lossy(&begun).contains("event: begin"), "{begun:?}");
    alone.await_operational("/metrics", "threadline_operator_open{kind=\"tail\"} 1").await?;
    let asked = Instant::now();
    assert!(alone.process.terminate(DEADLINE)?.success(), "{}", alone.process.log());
    // What is in work at the end has six seconds; the stream took none of them, and ended as a whole.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    while following.chunk().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_its_key() -> anyhow::Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let listen = format!("operator.listen={}", taken.local_addr()?);
    let arguments = ["--set", &listen, "--set", "operator.auth.kind=none", "--set", "log.format=human"];
    let environment = [("THREADLINE_DATABASE_URL", "postgres://127.0.0.1:1/nowhere")];
    let (status, said) =
        process::run("threadline-serve", &arguments, &environment, shared().work_dir.path())?;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot serve on operator.listen = {}", taken.local_addr()?)), "{said}");
    Ok(())
}
