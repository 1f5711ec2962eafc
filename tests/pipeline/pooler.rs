//! A transaction-mode pooler on the services' way to the source.

use anyhow::Context as _;
use end_to_end::{DEADLINE, Pipeline, samples, sandbox};
use sandbox::{pgbouncer::PgBouncer, rights::as_role, wait, work_dir::free_port};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::operations::get;

/// A pipeline through a pooler of its own, with more lines of its configuration.
async fn pipeline(more: &str) -> anyhow::Result<Pipeline> {
    let mut pipeline = Pipeline::new().await?;
    pipeline.pooler = Some(PgBouncer::start(&sandbox().work_dir, &pipeline.source.url, more)?);
    Ok(pipeline)
}

/// The pooler's address for a role.
fn led(pipeline: &Pipeline, role: &str) -> anyhow::Result<String> {
    let pooler = pipeline.pooler.as_ref().context("a pooler")?;
    pooler.lead(&as_role(&pipeline.source.url, role)).context("before this server")
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_arrive_beside_other_clients_of_the_pool_and_after_its_connections_were_cut()
-> anyhow::Result<()> {
    let pipeline = pipeline("").await?;
    let _publishers = [pipeline.publisher()?, pipeline.publisher()?];
    let _consumer = pipeline.consumer()?;
    // Clients of the same pools take turns with the services on their connections, and leave their settings behind.
    let mut others = Vec::new();
    for role in ["audit_publisher", "audit_consumer"] {
        for _ in 0..3 {
            let mut other = PgConnection::connect_with(&unassuming(&led(&pipeline, role)?)?).await?;
            others.push(tokio::spawn(async move {
                while other
                    .execute(
                        "set enable_seqscan = on; set row_security = on; \
                         set default_transaction_isolation = serializable; select pg_sleep(0.01)",
                    )
                    .await
                    .is_ok()
                {}
            }));
        }
    }
    for _ in 0..5 {
        let (rows, ids) = samples(500);
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and usename like 'audit\\_%'";
        let gone: i64 = sqlx::query_scalar(cut).fetch_one(&mut pipeline.source.superuser().await?).await?;
        assert!(gone > 0, "the pooler has connections");
    }
    others.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(pipeline.verdict().await?.holds());
    pipeline.charges_nobody().await?;
    Ok(())
}

/// What a client asks for that must work through any pooler.
fn unassuming(url: &str) -> anyhow::Result<sqlx::postgres::PgConnectOptions> {
    Ok(url.parse::<sqlx::postgres::PgConnectOptions>()?.extra_float_digits(None))
}

/// On the one connection of the server that the pool has, which others use in turn.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_session_is_left_on_the_servers_connection() -> anyhow::Result<()> {
    let pipeline = pipeline("default_pool_size = 1\nserver_idle_timeout = 600\n").await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(100);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    for role in ["audit_publisher", "audit_consumer"] {
        let mut look = PgConnection::connect_with(&unassuming(&led(&pipeline, role)?)?).await?;
        // Not prepared, or it would count itself.
        let left = "select count(*) from pg_prepared_statements
                    union all select count(*) from pg_settings where source = 'session'
                        and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
                                         'standard_conforming_strings')
                    union all select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
                    union all select count(*) from pg_cursors where is_holdable
                    union all select count(*) from pg_listening_channels()";
        let rows = look.fetch_all(left).await?;
        let counts: Vec<i64> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        assert_eq!(counts, [0; 5], "{role}");
    }
    Ok(())
}

/// The setting alone, without a pooler: no statement stays behind in the server.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_setting_and_no_pooler_rows_arrive_too() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[source]\npooler = true").await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(100);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pooler_refuses_is_named_with_its_remedy() -> anyhow::Result<()> {
    let unset = ["--set", "source.pooler=false"];
    // What opens a session is refused.
    let strict = pipeline("").await?;
    // What opens one is passed over, and the next client finds the last one's statements.
    let lax = pipeline(
        "ignore_startup_parameters = extra_float_digits,options\ndefault_pool_size = 1\nserver_idle_timeout = 600\n",
    )
    .await?;
    // A doctor is asked as the owner.
    let owner = lax.pooler.as_ref().and_then(|pooler| pooler.lead(&lax.source.url)).context("a way")?;
    for binary in ["publisher", "consumer"] {
        let mut last = PgConnection::connect_with(&unassuming(&owner)?).await?;
        last.execute("deallocate all; prepare sqlx_s_1 as select 1; prepare sqlx_s_2 as select 1").await?;
        last.close().await?;
        for pipeline in [&strict, &lax] {
            let arguments = [&["doctor"][..], &unset].concat();
            let (done, said) = pipeline.command(binary, &arguments)?;
            assert!(!done && said.contains("set source.pooler = true"), "{binary}: {said}");
        }
    }
    // The same with nobody's statements left: the settings are missed.
    let alone = pipeline("ignore_startup_parameters = extra_float_digits,options\n").await?;
    for arguments in [["doctor"], ["run"]] {
        let (done, said) = alone.command("publisher", &[&arguments[..], &unset].concat())?;
        assert!(
            !done && said.contains("row_security is on") && said.contains("source.pooler = true"),
            "{said}"
        );
    }
    let statements = pipeline("pool_mode = statement\n").await?;
    for binary in ["publisher", "consumer"] {
        for arguments in [["doctor"], ["run"], ["status"]] {
            let (done, said) = statements.command(binary, &arguments)?;
            assert!(
                !done
                    && said.contains("pool_mode = statement")
                    && said.contains("set it to transaction or session"),
                "{binary} {arguments:?}: {said}"
            );
            assert!(!said.contains("Broken pipe"), "{binary} {arguments:?}: {said}");
        }
    }
    Ok(())
}

/// What differs is looked up while both sides are walked: the walk must not hold the connection that this needs.
#[tokio::test(flavor = "multi_thread")]
async fn commands_that_walk_all_rows_need_one_connection_of_the_pool() -> anyhow::Result<()> {
    let pipeline = pipeline("default_pool_size = 1\nquery_wait_timeout = 10\n").await?;
    let (rows, ids) = samples(2_500);
    {
        let _publisher = pipeline.publisher()?;
        let _consumer = pipeline.consumer()?;
        pipeline.commit(&rows).await?;
        pipeline.arrive(&ids).await?;
        pipeline.settled("timeline").await?;
    }
    let mut timeline = pipeline.timeline.superuser().await?;
    sqlx::query("delete from audit_actions where correlation_id = any ($1)")
        .bind(ids[..1_500].iter().map(ToString::to_string).collect::<Vec<_>>())
        .execute(&mut timeline)
        .await?;
    let (done, said) = pipeline.command("consumer", &["reconcile"])?;
    assert!(!done && said.contains("1500 row(s) differ"), "{said}");
    let (done, said) = pipeline.command("consumer", &["rebuild"])?;
    assert!(done, "{said}");
    let (done, said) = pipeline.command("consumer", &["reconcile"])?;
    assert!(done, "{said}");
    Ok(())
}

/// Whoever waits for too long for a connection that somebody else keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_taken_is_named_with_its_remedy() -> anyhow::Result<()> {
    let pipeline = pipeline("default_pool_size = 1\nquery_wait_timeout = 1\n").await?;
    let owner =
        pipeline.pooler.as_ref().and_then(|pooler| pooler.lead(&pipeline.source.url)).context("a way")?;
    let mut other = PgConnection::connect_with(&unassuming(&owner)?).await?;
    other.execute("begin").await?;
    for binary in ["publisher", "consumer"] {
        let (done, said) = pipeline.command(binary, &["doctor"])?;
        assert!(!done && said.contains("raise its default_pool_size"), "{binary}: {said}");
    }
    Ok(())
}

/// Sessions keep what they were given; this pooler waits for two minutes before it says anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_pool_of_sessions_that_is_taken_is_named_within_seconds() -> anyhow::Result<()> {
    let pipeline = pipeline("pool_mode = session\ndefault_pool_size = 2\n").await?;
    let owner =
        pipeline.pooler.as_ref().and_then(|pooler| pooler.lead(&pipeline.source.url)).context("a way")?;
    let mut ways = vec![owner];
    for role in ["audit_publisher", "audit_consumer", "audit_operator"] {
        ways.push(led(&pipeline, role)?);
    }
    let mut others = Vec::new();
    for way in &ways {
        for _ in 0..2 {
            let mut other = PgConnection::connect_with(&unassuming(way)?).await?;
            other.execute("select 1").await?;
            others.push(other);
        }
    }
    for binary in ["publisher", "consumer"] {
        for arguments in [["status"], ["doctor"], ["run"]] {
            let began = std::time::Instant::now();
            let (done, said) = pipeline.command(binary, &arguments)?;
            assert!(!done && said.contains("default_pool_size"), "{binary} {arguments:?}: {said}");
            assert!(began.elapsed() < DEADLINE, "{binary} {arguments:?}: {said}");
        }
    }
    Ok(())
}

/// A service that needs more connections than the pool has is unready, and says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_a_pool_of_sessions_is_too_small_for_is_unready_and_says_why() -> anyhow::Result<()> {
    let pipeline = pipeline("pool_mode = session\ndefault_pool_size = 2\n").await?;
    let port = free_port()?;
    let listen = format!("publisher.listen=127.0.0.1:{port}");
    let _publisher = pipeline.publisher_with(&["--set", &listen, "--set", "publisher.unready_after=1s"])?;
    wait::until("readiness to name the pool", DEADLINE, || {
        get(port, "/readyz").is_some_and(|(status, body)| status == 503 && body.contains("default_pool_size"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_setting_what_the_url_asks_for_is_the_remedy() -> anyhow::Result<()> {
    let mut pipeline = pipeline("").await?;
    pipeline.source.url.push_str("?options[geqo]=off");
    let (done, said) = pipeline.command("publisher", &["doctor"])?;
    assert!(!done && said.contains("take options out of it"), "{said}");
    assert!(!said.contains("set source.pooler = true"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_connection_of_its_own_says_so() -> anyhow::Result<()> {
    let pipeline = Pipeline::with_settings("[source]\npooler = true").await?;
    let (done, said) = pipeline.command("publisher", &["attach"])?;
    assert!(!done && said.contains("AUDIT__SOURCE__POOLER=false"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_through_a_pooler() -> anyhow::Result<()> {
    let pipeline = pipeline("").await?;
    let _publisher = pipeline.publisher()?;
    let _consumer = pipeline.consumer()?;
    let (rows, ids) = samples(50);
    pipeline.commit(&rows).await?;
    pipeline.arrive(&ids).await?;
    pipeline.settled("timeline").await?;
    let event = ids[0].to_string();
    for (binary, arguments) in [
        ("publisher", &["status"][..]),
        ("consumer", &["status"]),
        ("publisher", &["doctor"]),
        ("consumer", &["doctor"]),
        ("publisher", &["prune"]),
        ("publisher", &["backfill", "--dry-run"]),
        ("consumer", &["reconcile"]),
        ("consumer", &["failures", "list"]),
        ("consumer", &["explain", &event]),
        ("consumer", &["rebuild"]),
        ("publisher", &["detach"]),
    ] {
        let (done, said) = pipeline.command(binary, arguments)?;
        assert!(done, "{binary} {arguments:?}: {said}");
    }
    Ok(())
}
