//! A run whose process is killed is gone on with by the same command.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use sandbox::wait;
use threadline::erasure;

use super::{Host, commands::command, host};

const DEADLINE: Duration = Duration::from_secs(60);

/// A row with many changes.
async fn many() -> anyhow::Result<Host> {
    let mut host = host().await?;
    host.run(
        "insert into users values (1, 'jane-marker@x', 'marker', 0);
         do $$ begin for n in 1..300 loop update users set logins = n where id = 1; end loop; end $$;
         update users set id = 771 where id = 1; update users set logins = 0 where id = 771",
    )
    .await?;
    host.seal().await?;
    Ok(host)
}

const ERASE: [&str; 7] = ["erase", "row", "users", "771", "--key-too", "--reason", "request R-98765"];

/// A process that erases slowly, after its first batch.
struct Slow(Child);

impl Slow {
    async fn start(host: &mut Host) -> anyhow::Result<Self> {
        let slow = [&ERASE[..], &["--execute", "--batch-size", "10", "--sleep", "500ms"]].concat();
        let child =
            command(&host.database, "", &slow)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let slow = Self(child);
        wait::until_some("a batch", DEADLINE, async || {
            let erased = "select 1 from threadline_erasures where counts -> 'rows' <> '{}'";
            Ok(sqlx::query_scalar::<_, i32>(erased).fetch_optional(&mut host.connection).await?)
        })
        .await?;
        Ok(slow)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_run_that_is_killed_is_interrupted_and_the_same_command_goes_on() -> anyhow::Result<()> {
    let mut host = many().await?;
    drop(Slow::start(&mut host).await?);
    let half = host.count("audit_changes where erased is not null").await?;
    assert!(half > 0 && half < 303, "{half}");
    // What was erased is consistent with its hash in the middle of a run too.
    assert!(host.verify().await?.holds());
    let execute = [&ERASE[..], &["--execute", "--json", "--sleep", "0ms"]].concat();
    let held = command(&host.database, "", &execute)?.output()?;
    assert!(String::from_utf8_lossy(&held.stderr).contains("erasure_is_on: "), "{held:?}");
    host.run(
        "update threadline_leases set until = clock_timestamp() - interval '1 second';
         update threadline_erasures set lease_until = clock_timestamp() - interval '1 second'",
    )
    .await?;
    let runs = erasure::runs(&mut host.connection, host.timeline.schema(), 5).await?;
    assert_eq!((runs.len(), runs[0].status.as_str()), (1, "interrupted"));
    let run = runs[0].id;
    let ended = command(&host.database, "", &execute)?.output()?;
    let said: serde_json::Value = serde_json::from_slice(&ended.stdout)?;
    assert_eq!((&said["run"], &said["is_resumed"]), (&run.to_string().into(), &true.into()), "{said}");
    assert_eq!(said["rows"]["audit_changes"], 303, "{said}");
    for text in ["marker", "\"1\"", "\"771\""] {
        let found = host.tables_with(text).await?;
        assert!(!found.contains(&"audit_changes".to_owned()), "{text}: {found:?}");
    }
    assert_eq!(
        host.texts("select distinct table_pk ->> 'id' from audit_changes").await?,
        [format!("erased-{run}")]
    );
    for found in host.both().await? {
        assert!(found.holds(), "{:?}", found.faults);
    }
    let states = host.texts("select status from threadline_erasures").await?;
    assert_eq!(states, ["completed"]);
    assert_eq!(host.count("audit_actions where name = 'audit.erased' and status = 'ok'").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_told_to_stop_says_so_and_is_gone_on_with() -> anyhow::Result<()> {
    let mut host = many().await?;
    let mut slow = Slow::start(&mut host).await?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(slow.0.id())?),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    assert_eq!(slow.0.wait()?.code(), Some(1));
    let runs = erasure::runs(&mut host.connection, host.timeline.schema(), 5).await?;
    assert_eq!(runs[0].status, "failed");
    assert!(runs[0].error_message.as_ref().is_some_and(|words| words.starts_with("cancelled: ")), "{runs:?}");
    let execute = [&ERASE[..], &["--execute", "--sleep", "0ms"]].concat();
    assert!(command(&host.database, "", &execute)?.output()?.status.success());
    assert_eq!(host.count("threadline_erasures where status = 'completed'").await?, 1);
    assert!(host.tables_with("marker").await?.is_empty());
    let outcomes = host
        .texts("select status from audit_actions where name = 'audit.erased' order by inserted_at")
        .await?;
    assert_eq!(outcomes, ["error", "ok"]);
    Ok(())
}
