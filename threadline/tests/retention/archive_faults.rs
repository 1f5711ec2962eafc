//! Whatever happens while an archive is made, nothing is deleted that is in none.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sandbox::wait;
use sqlx::{Executor as _, PgConnection};
use threadline::{
    lease::Lease,
    retention::{self, Archive},
};

use super::{
    DAY, Host,
    archive::{entries, files},
    commands::{SETTINGS, command, ended},
    host, options, ten_days, term,
};

pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Forty old changes of some size.
pub(super) async fn forty() -> anyhow::Result<Host> {
    let mut host = host().await?;
    for n in 0..40 {
        host.record(&[(n, "public.posts", (20 + n) * DAY)]).await?;
    }
    host.connection
        .execute("update audit_changes set data_after = jsonb_build_object('note', repeat('x', 2000))")
        .await?;
    Ok(host)
}

pub(super) fn purging(host: &Host, arguments: &[&str]) -> anyhow::Result<Command> {
    let settings =
        format!("{SETTINGS}[retention.archive]\ndirectory = \"{}\"\n", host.archives_in()?.display());
    command(&host.database, &settings, arguments)
}

/// A process that dies with the test.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection that lets no archive be read to its end.
async fn blocking(host: &Host) -> anyhow::Result<PgConnection> {
    let mut holder = host.database.connect().await?;
    holder.execute("begin; lock table audit_actions in access exclusive mode").await?;
    Ok(holder)
}

/// Until an archive is being read, as far as the lock lets it.
async fn until_blocked(host: &mut Host) -> anyhow::Result<()> {
    let waits =
        "select 1 from pg_stat_activity a where a.datname = current_database() and a.wait_event_type = 'Lock'
                     and cardinality(pg_blocking_pids(a.pid)) > 0";
    wait::until_some("an archive to be read", DEADLINE, async || {
        Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut host.connection).await?)
    })
    .await
    .map(drop)
}

pub(super) async fn partial(host: &Host) -> anyhow::Result<()> {
    let folder = host.archives_in()?;
    wait::until_some("an archive on its way", DEADLINE, async || {
        let begun =
            files(&folder).is_ok_and(|names| names.iter().any(|name| name.ends_with(".progress.json")));
        Ok(begun.then_some(()))
    })
    .await
}

impl Host {
    /// Lets whoever causes this event of a trigger wait until what is returned is dropped.
    pub(super) async fn hold(&mut self, event: &str) -> anyhow::Result<PgConnection> {
        let mut holder = self.database.connect().await?;
        holder.execute("select pg_advisory_lock(7)").await?;
        let trigger = format!(
            "create or replace function wait() returns trigger language plpgsql as $$ begin
                 perform pg_advisory_xact_lock(7);
                 return coalesce(new, old);
             end $$;
             create trigger wait {event} execute function wait()"
        );
        self.connection.execute(sqlx::AssertSqlSafe(trigger)).await?;
        Ok(holder)
    }

    pub(super) async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await?;
        Ok(())
    }

    /// Until somebody waits there.
    pub(super) async fn until_held(&mut self) -> anyhow::Result<()> {
        let waits = "select 1 from pg_locks l join pg_database d on d.oid = l.database
                     where d.datname = current_database() and l.locktype = 'advisory' and not l.granted";
        wait::until_some("the purge to be held", DEADLINE, async || {
            Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut self.connection).await?)
        })
        .await
        .map(drop)
    }
}

pub(super) async fn expire(connection: &mut PgConnection) -> anyhow::Result<()> {
    connection
        .execute(
            "update threadline_leases set until = clock_timestamp() - interval '1 second';
             update threadline_retention_runs set lease_until = clock_timestamp() - interval '1 second'",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_purge_that_is_killed_while_it_archives_deletes_nothing_and_the_next_one_archives_anew()
-> anyhow::Result<()> {
    let mut host = forty().await?;
    let holder = blocking(&host).await?;
    let purge = purging(&host, &["retention", "purge", "--execute"])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut purge = Process(purge);
    partial(&host).await?;
    purge.0.kill()?;
    purge.0.wait()?;
    drop(holder);
    let folder = host.archives_in()?;
    let left = files(&folder)?;
    assert!(left.iter().all(|name| name.contains(".ndjson.p")), "no manifest, no archive: {left:?}");
    assert_eq!((host.count("audit_changes").await?, host.count("threadline_archives").await?), (40, 0));
    expire(&mut host.connection).await?;
    // Somebody else's file is nobody's leftover.
    let other = folder.join(uuid::Uuid::now_v7().to_string());
    fs::create_dir(&other)?;
    fs::write(other.join("0001-changes.ndjson.partial"), "")?;
    let runs = ended(purging(&host, &["retention", "runs"])?)?;
    let named = runs
        .out
        .lines()
        .filter(|line| line.starts_with("left by ") && line.contains("0001-changes.ndjson.partial"))
        .count();
    assert_eq!(named, 1, "{}", runs.out);
    let next = ended(purging(&host, &["retention", "purge", "--execute", "--json"])?)?;
    assert_eq!(next.status, Some(0), "{}", next.error);
    let purged: serde_json::Value = serde_json::from_str(&next.out)?;
    assert_eq!((&purged["deleted_changes"], &purged["archived"]["rows"]), (&40.into(), &40.into()));
    let archives = host.archives().await?;
    assert_eq!((entries(&archives)?.len(), host.count("audit_changes").await?), (40, 0));
    let left: Vec<String> = files(&folder)?.into_iter().filter(|name| name.contains(".ndjson.p")).collect();
    assert_eq!(left, ["0001-changes.ndjson.partial"], "that of nobody we know");
    let states: Vec<String> = retention::runs(&mut host.connection, host.timeline.schema(), 5)
        .await?
        .into_iter()
        .map(|run| run.status)
        .collect();
    assert_eq!(states, ["completed", "failed"]);
    Ok(())
}

#[tokio::test]
async fn a_purge_that_cannot_write_its_archive_fails_and_deletes_nothing() -> anyhow::Result<()> {
    let mut host = forty().await?;
    let folder = host.archives_in()?;
    let gone = options(|options| options.archive = Some(Archive::new(folder.join("none"))));
    let failed = host.timeline.purge(&ten_days(), &gone).await.unwrap_err();
    assert_eq!(failed.term(), Some("archive_failed"));
    assert!(failed.to_string().contains("make the folder"), "{failed}");
    // A disk that is full after some blocks, as the limit of a file's size has it.
    let purge = purging(&host, &["retention", "purge", "--execute"])?;
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(purge.get_program())
        .args(purge.get_args());
    for (name, value) in purge.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let full = ended(limited)?;
    assert_eq!(full.status, Some(1), "{}", full.out);
    assert!(full.error.contains("archive_failed: ") && full.error.contains("make room"), "{}", full.error);
    assert_eq!((host.count("audit_changes").await?, host.count("threadline_archives").await?), (40, 0));
    // What was written of it is gone, for there is no room.
    assert_eq!(files(&folder)?, Vec::<String>::new());
    let errors: Vec<String> =
        sqlx::query_scalar("select split_part(error_message, ':', 1) from threadline_retention_runs")
            .fetch_all(&mut host.connection)
            .await?;
    assert_eq!(errors, ["archive_failed", "archive_failed"]);
    Ok(())
}

#[tokio::test]
async fn a_purge_that_loses_its_lease_while_it_archives_stops_and_deletes_nothing() -> anyhow::Result<()> {
    let mut host = forty().await?;
    let holder = blocking(&host).await?;
    let (timeline, with) = (host.timeline.clone(), host.archiving(1_000)?);
    let purging = tokio::spawn(async move { timeline.purge(&ten_days(), &with).await });
    until_blocked(&mut host).await?;
    expire(&mut host.connection).await?;
    let lease = Lease::new("retention");
    let storage = host.timeline.schema().clone();
    lease.take(&mut host.connection, &storage).await?.map_err(|held| anyhow::anyhow!("{held:?}"))?;
    // The end of the run is an action, for which the lock has to go; the lease is looked at before.
    let ended = wait::until_some("the lease to be missed", DEADLINE, async || {
        let waits = "select 1 from pg_locks where relation = 'audit_actions'::regclass and mode = 'RowExclusiveLock' and not granted";
        Ok(sqlx::query_scalar::<_, i32>(waits).fetch_optional(&mut host.connection).await?)
    });
    ended.await?;
    drop(holder);
    assert_eq!(term(purging.await?), Some("lease_lost"));
    assert_eq!((host.count("audit_changes").await?, host.count("threadline_archives").await?), (40, 0));
    Ok(())
}

#[tokio::test]
async fn a_purge_that_is_told_to_stop_while_it_archives_does_so() -> anyhow::Result<()> {
    let mut host = forty().await?;
    let holder = blocking(&host).await?;
    let (timeline, with) = (host.timeline.clone(), host.archiving(1_000)?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let purging = tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        timeline.purge_until(&ten_days(), &with, stopped, |_| ()).await
    });
    partial(&host).await?;
    drop(stop);
    wait::until_some("the archive to be given up", DEADLINE, async || {
        Ok(files(&host.archives_in()?)?.is_empty().then_some(()))
    })
    .await?;
    drop(holder);
    assert_eq!(term(purging.await?), Some("cancelled"));
    assert_eq!(host.count("audit_changes").await?, 40);
    Ok(())
}
