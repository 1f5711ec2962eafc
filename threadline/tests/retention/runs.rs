//! Runs end in a state, whatever becomes of their process, their connection or their lease.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sandbox::{pgbouncer::PgBouncer, wait, work_dir::WorkDir};
use serde_json::{Value, json};
use sqlx::{
    Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use threadline::{
    ActorRef, ActorType, Timeline,
    retention::{self, Keep, PurgeError},
};

use super::{DAY, Host, commands::purging, counts, host, options, ten_days, term};

const DEADLINE: Duration = Duration::from_secs(60);

/// Two thousand changes, all of them old.
async fn many() -> anyhow::Result<Host> {
    let mut host = host().await?;
    host.connection
        .execute(
            "insert into audit_transactions (txid, occurred_at) select n, now() - interval '20 days' from generate_series(1, 2000) n;
             insert into audit_changes (transaction_id, table_schema, table_name, table_pk, op, captured_at)
             select id, 'public', 'posts', '{}', 'delete', occurred_at from audit_transactions",
        )
        .await?;
    Ok(host)
}

/// A process that purges slowly, after its first batch.
struct Slow(Child);

impl Slow {
    async fn start(host: &mut Host) -> anyhow::Result<Self> {
        let arguments = ["--execute", "--batch-size", "10", "--sleep", "500ms"];
        let child =
            purging(&host.database, &arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let slow = Self(child);
        wait::until_some("a batch", DEADLINE, async || {
            let deleted = "select 1 from threadline_retention_runs where deleted_changes > 0";
            Ok(sqlx::query_scalar::<_, i32>(deleted).fetch_optional(&mut host.connection).await?)
        })
        .await?;
        Ok(slow)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }

    /// Its exit status, and what it said.
    fn end(mut self) -> anyhow::Result<(Option<i32>, String)> {
        use std::io::Read as _;
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said)?;
        Ok((self.0.wait()?.code(), said))
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Status, changes, transactions and the term of the failure, the oldest first.
async fn stored(connection: &mut PgConnection) -> anyhow::Result<Vec<(String, i64, i64, Option<String>)>> {
    Ok(sqlx::query_as(
        "select status, deleted_changes, deleted_transactions, split_part(error_message, ':', 1) from threadline_retention_runs
         order by started_at",
    )
    .fetch_all(connection)
    .await?)
}

async fn expire(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection
        .execute(
            "update threadline_leases set until = clock_timestamp() - interval '1 second';
             update threadline_retention_runs set lease_until = clock_timestamp() - interval '1 second'",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_was_killed_is_interrupted_and_the_next_one_finishes() -> anyhow::Result<()> {
    let mut host = many().await?;
    let slow = Slow::start(&mut host).await?;
    slow.signal(Signal::SIGKILL)?;
    drop(slow);
    // Its lease has not expired yet.
    let held = host.purge(&ten_days()).await;
    assert!(matches!(held, Err(PurgeError::Held { .. })), "{held:?}");
    assert_eq!(retention::runs(&mut host.connection, host.timeline.schema(), 5).await?[0].status, "running");
    expire(&mut host.connection).await?;
    let runs = retention::runs(&mut host.connection, host.timeline.schema(), 5).await?;
    assert_eq!(runs[0].status, "interrupted", "before anybody has marked it");
    let before = host.count("audit_changes").await?;
    let purged = host.purge(&ten_days()).await?;
    assert_eq!(i64::try_from(purged.deleted_changes)?, before);
    let by_tables = "threadline_retention_runs where deleted_tables = jsonb_build_object('public.posts', deleted_changes)";
    assert_eq!(host.count(by_tables).await?, 2, "of the killed run too");
    let (first, second) = match &stored(&mut host.connection).await?[..] {
        [first, second] => (first.clone(), second.clone()),
        other => anyhow::bail!("{other:?}"),
    };
    assert_eq!(first, ("failed".to_owned(), 2_000 - before, 2_000 - before, Some("interrupted".to_owned())));
    assert_eq!((second.0.as_str(), second.1), ("completed", before));
    assert_eq!((host.count("audit_changes").await?, host.count("audit_transactions").await?), (0, 0));
    Ok(())
}

#[tokio::test]
async fn a_second_purge_is_refused_while_one_is_on() -> anyhow::Result<()> {
    let mut host = many().await?;
    let slow = Slow::start(&mut host).await?;
    let second = purging(&host.database, &["--execute"])?.output()?;
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    let process = format!("purge_is_on: another purge is on: process {} on ", slow.0.id());
    assert!(said.contains(&process), "{said}");
    assert_eq!(host.count("threadline_retention_runs").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_purge_that_is_told_to_stop_finishes_its_batch_and_says_so() -> anyhow::Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut host = many().await?;
        let slow = Slow::start(&mut host).await?;
        slow.signal(signal)?;
        let (status, said) = slow.end()?;
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("error: cancelled: "), "{said}");
        let gone = 2_000 - host.count("audit_changes").await?;
        let expected = ("failed".to_owned(), gone, gone, Some("cancelled".to_owned()));
        assert_eq!(stored(&mut host.connection).await?, [expected]);
        assert_eq!(gone % 10, 0);
        // The lease was given back: the next one need not wait.
        assert_eq!(host.purge(&ten_days()).await?.deleted_changes, 2_000 - u64::try_from(gone)?);
    }
    Ok(())
}

#[tokio::test]
async fn a_run_that_has_lost_its_lease_deletes_nothing_more() -> anyhow::Result<()> {
    let mut host = many().await?;
    let (storage, mut other) = (host.timeline.schema().clone(), host.database.connect().await?);
    let slow = options(|options| {
        (options.batch_size, options.sleep) = (100, Duration::from_secs(2));
    });
    let (timeline, policy) = (host.timeline.clone(), ten_days());
    let purging = tokio::spawn(async move { timeline.purge(&policy, &slow).await });
    wait::until_some("a batch", DEADLINE, async || {
        let deleted = "select 1 from threadline_retention_runs where deleted_changes > 0";
        Ok(sqlx::query_scalar::<_, i32>(deleted).fetch_optional(&mut host.connection).await?)
    })
    .await?;
    expire(&mut host.connection).await?;
    let lease = threadline::lease::Lease::new("retention");
    lease.take(&mut other, &storage).await?.map_err(|held| anyhow::anyhow!("{held:?}"))?;
    let left = host.count("audit_changes").await?;
    assert_eq!(term(purging.await?), Some("lease_lost"));
    assert_eq!(host.count("audit_changes").await?, left);
    let runs = stored(&mut host.connection).await?;
    assert_eq!((runs[0].0.as_str(), runs[0].3.as_deref()), ("failed", Some("lease_lost")));
    // It has not given back what is somebody else's.
    assert_eq!(host.count("threadline_leases").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_run_whose_connection_dies_says_so_over_another_one() -> anyhow::Result<()> {
    let mut host = many().await?;
    let slow = Slow::start(&mut host).await?;
    let mut holder = host.database.connect().await?;
    holder.execute("begin; lock table audit_changes in exclusive mode").await?;
    wait::until_some("a batch to wait", DEADLINE, async || {
        let kills = "select pg_terminate_backend(pid) from pg_stat_activity
                     where application_name = 'threadline' and datname = current_database() and wait_event_type = 'Lock'";
        Ok(sqlx::query_scalar::<_, bool>(kills).fetch_optional(&mut host.connection).await?)
    })
    .await?;
    let (status, said) = slow.end()?;
    assert_eq!(status, Some(1), "{said}");
    let gone = 2_000 - host.count("audit_changes").await?;
    let runs = stored(&mut host.connection).await?;
    assert_eq!((runs.len(), runs[0].0.as_str(), runs[0].1), (1, "failed", gone), "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn a_run_of_the_librarys_counts_as_abandoned_after_a_day() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.connection
        .execute(
            "insert into threadline_retention_runs (status, started_at, inserted_at) values
                 ('running', now() - interval '25 hours', now() - interval '25 hours'),
                 ('running', now() - interval '23 hours', now() - interval '23 hours'),
                 ('running', null, now() - interval '25 hours')",
        )
        .await?;
    host.purge(&ten_days()).await?;
    let states: Vec<(String, Option<String>)> = sqlx::query_as(
        "select status, split_part(error_message, ':', 1) from threadline_retention_runs where holder is null order by inserted_at, status",
    )
    .fetch_all(&mut host.connection)
    .await?;
    let abandoned = || ("failed".to_owned(), Some("abandoned".to_owned()));
    assert_eq!(states, [abandoned(), abandoned(), ("running".to_owned(), None)]);
    let listed = retention::runs(&mut host.connection, host.timeline.schema(), 5).await?;
    let running = listed.iter().find(|run| run.status == "running").unwrap();
    assert_eq!((running.started_at.is_some(), running.completed_at), (true, None));
    // Nothing of ours was purged by them.
    assert_eq!(host.count("threadline_evidence_records").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_run_leaves_an_action_and_evidence_of_what_it_did() -> anyhow::Result<()> {
    let mut host = host().await?;
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    let by = options(|options| options.actor = Some(ActorRef::new(ActorType::Admin, Some("a1")).unwrap()));
    let run = host.timeline.purge(&ten_days(), &by).await?.run;
    let action: Value = sqlx::query_scalar(
        "select to_jsonb(a) - '{id,inserted_at,txid}'::text[] || jsonb_build_object('comment', a.comment::jsonb) from audit_actions a",
    )
    .fetch_one(&mut host.connection)
    .await?;
    let deleted = json!({"deleted_changes": 1, "deleted_transactions": 1, "deleted_actions": 0});
    let mut comment = deleted.clone();
    comment["run"] = json!(run);
    assert_eq!(
        action,
        json!({"name": "audit.purged", "actor_ref": {"type": "admin", "id": "a1"}, "status": "ok", "verb": "purge",
            "category": "audit", "reason": null, "comment": comment, "correlation_id": null, "request_id": null, "job_id": null,
            "erased": null})
    );
    let evidence: Value = sqlx::query_scalar(
        "select to_jsonb(e) - '{id,inserted_at,recorded_at}'::text[] from threadline_evidence_records e",
    )
    .fetch_one(&mut host.connection)
    .await?;
    let windows: Value = sqlx::query_scalar("select windows from threadline_retention_runs")
        .fetch_one(&mut host.connection)
        .await?;
    let mut detail = deleted;
    (detail["windows"], detail["failure"]) = (windows.clone(), Value::Null);
    assert_eq!(
        evidence,
        json!({"subject": "retention_run", "subject_ref": {"run": run}, "summary_status": "completed", "schema_version": 1,
            "actor_ref": {"type": "admin", "id": "a1"}, "detail": detail, "provenance": {
                "writer": "threadline", "entrypoint": "purge", "product": threadline::evidence::PRODUCT, "version": env!("CARGO_PKG_VERSION")}})
    );
    assert!(windows["default"].as_str().is_some_and(|cutoff| cutoff.ends_with('Z')), "{windows}");
    // Without an actor, whoever is logged in.
    host.purge(&ten_days()).await?;
    let who: Value =
        sqlx::query_scalar("select actor_ref from audit_actions order by inserted_at desc limit 1")
            .fetch_one(&mut host.connection)
            .await?;
    assert_eq!(who, json!({"type": "service_account", "id": sandbox::rights::OWNER}));
    Ok(())
}

/// A pooler in transaction mode gives each transaction another session, and prepares nothing.
#[tokio::test]
async fn behind_a_pooler_a_purge_is_what_it_is_without() -> anyhow::Result<()> {
    let mut host = many().await?;
    host.record(&[(5_000, "billing.invoices", 20 * DAY)]).await?;
    let work_dir = WorkDir::create()?;
    let pooler = PgBouncer::start(&work_dir, &host.database.url, "default_pool_size = 3\n")?;
    let url = pooler.lead(&host.database.url).context("before this server")?;
    let connection: PgConnectOptions = url.parse()?;
    let connection = connection.statement_cache_capacity(0).extra_float_digits(None);
    let pool = PgPoolOptions::new().max_connections(3).connect_lazy_with(connection);
    let timeline = Timeline::new(pool, host.timeline.schema().clone());
    // Others use the same sessions meanwhile.
    let others = timeline.pool().clone();
    let busy = tokio::spawn(async move {
        loop {
            others.execute("select set_config('timezone', 'Asia/Kathmandu', false)").await?;
            others.execute("begin; select set_config('datestyle', 'German', true); commit").await?;
        }
        #[allow(unreachable_code, reason = "for the type of the error")]
        anyhow::Ok(())
    });
    let small = options(|options| (options.batch_size, options.sleep) = (100, Duration::from_millis(5)));
    for policy in [ten_days().table(super::table("billing.invoices"), Keep::Forever), ten_days()] {
        timeline.purge(&policy, &options(|options| options.dry_run = true)).await?;
        timeline.purge(&policy, &small).await?;
    }
    assert!(!busy.is_finished(), "{:?}", busy.await);
    busy.abort();
    assert_eq!((host.count("audit_changes").await?, host.count("audit_transactions").await?), (0, 0));
    assert_eq!(host.count("threadline_retention_runs where status = 'completed'").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_run_that_fails_keeps_its_counts_and_its_words() -> anyhow::Result<()> {
    let mut host = many().await?;
    host.connection
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if old.txid > 1500 then raise exception 'not this one' using errcode = 'XX001'; end if; return old; end $$;
             create trigger refuse before delete on audit_transactions for each row execute function refuse();
             update audit_changes c set captured_at = c.captured_at + t.txid * interval '1 second' from audit_transactions t where t.id = c.transaction_id",
        )
        .await?;
    let large = options(|options| options.batch_size = 500);
    let error = host.timeline.purge(&ten_days(), &large).await.unwrap_err();
    assert_eq!(error.term(), None);
    let words: (String, String) =
        sqlx::query_as("select status, error_message from threadline_retention_runs")
            .fetch_one(&mut host.connection)
            .await?;
    assert_eq!(words.0, "failed");
    assert!(words.1.contains("not this one (SQLSTATE XX001)"), "{}", words.1);
    assert_eq!(stored(&mut host.connection).await?[0].1, 1_500);
    let evidence: (String, String) = sqlx::query_as(
        "select summary_status, detail ->> 'deleted_changes' from threadline_evidence_records",
    )
    .fetch_one(&mut host.connection)
    .await?;
    assert_eq!(evidence, ("failed".to_owned(), "1500".to_owned()));
    let status: String =
        sqlx::query_scalar("select status from audit_actions").fetch_one(&mut host.connection).await?;
    assert_eq!(status, "error");
    assert_eq!(
        counts(&host.timeline.purge(&ten_days(), &options(|options| options.dry_run = true)).await?).0,
        500
    );
    Ok(())
}
