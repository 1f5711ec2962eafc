//! Purging at intervals, in a host's process.

use std::time::Duration;

use sandbox::{heard::Heard, wait};
use sqlx::Executor as _;
use threadline::{lease::Lease, retention::Scheduler};

use super::{DAY, Host, host, ten_days};

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_scheduler_purges_skips_goes_on_after_failures_and_stops() -> anyhow::Result<()> {
    let mut host = host().await?;
    let storage = host.timeline.schema().clone();
    host.record(&[(1, "public.posts", 20 * DAY)]).await?;
    // Somebody else purges: it waits for its turn.
    let lease = Lease::new("retention");
    lease.take(&mut host.connection, &storage).await?.unwrap();
    let (heard, _listening) = Heard::of("threadline.retention");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let scheduler = Scheduler::new(host.timeline.clone(), ten_days()).interval(Duration::from_millis(50));
    let running = tokio::spawn(scheduler.run_until(async {
        let _ = stopped.await;
    }));
    wait::until_some("a purge to be skipped", DEADLINE, async || {
        let skipped =
            heard.taken().iter().any(|event| event.starts_with("threadline.retention.purge.skipped"));
        Ok(skipped.then_some(()))
    })
    .await?;
    assert_eq!(host.count("audit_changes").await?, 1);
    lease.release(&mut host.connection, &storage).await?;
    gone(&mut host).await?;
    host.connection
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
             create trigger refuse before delete on audit_changes for each row execute function refuse()",
        )
        .await?;
    host.record(&[(2, "public.posts", 20 * DAY)]).await?;
    wait::until_some("a failure", DEADLINE, async || {
        let failed = host.count("threadline_retention_runs where status = 'failed'").await?;
        Ok((failed > 0).then_some(()))
    })
    .await?;
    host.connection.execute("drop trigger refuse on audit_changes").await?;
    gone(&mut host).await?;
    drop(stop);
    tokio::time::timeout(DEADLINE, running).await??;
    assert_eq!(host.count("threadline_leases").await?, 0);
    assert_eq!(host.count("threadline_retention_runs where status = 'running'").await?, 0);
    Ok(())
}

/// Waits until every change was purged.
async fn gone(host: &mut Host) -> anyhow::Result<()> {
    wait::until_some(
        "a purge",
        DEADLINE,
        async || Ok((host.count("audit_changes").await? == 0).then_some(())),
    )
    .await
}
