//! Processes behind a wrapper.

use std::path::PathBuf;

use sandbox::{fixture, process::Process};
use sqlx::Connection as _;

use super::DEADLINE;

const SHIFTED: [&str; 4] = ["faketime", "--exclude-monotonic", "-f", "+5m"];

fn running(process: &Process) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{}/exe", process.id())).ok()
}

#[tokio::test]
async fn kill_9_hits_the_binary_whether_its_wrapper_becomes_it_or_waits_for_it() -> anyhow::Result<()> {
    let work_dir = &fixture::shared().work_dir;
    for (name, wrapper) in [("becomes", &["env", "A=b"][..]), ("waits", &SHIFTED[..])] {
        let database = fixture::empty_database().await?;
        // One that does not end by itself.
        let arguments = ["load", "--create", "--rate", "1", "--url", &database.url];
        let mut process = Process::start_with(work_dir, name, wrapper, "sandbox", &arguments, &[])?;
        let program = running(&process).expect("it runs");
        assert!(program.ends_with("sandbox"), "{name}: {}", program.display());
        process.kill()?;
        assert_eq!(running(&process), None, "{name}");
        assert!(!work_dir.path().join(format!("{name}.pid")).exists(), "{name}: nothing for the watchdog");
    }
    Ok(())
}

#[tokio::test]
async fn a_binary_behind_faketime_sees_the_shifted_clock() -> anyhow::Result<()> {
    let database = fixture::empty_database().await?;
    let arguments = ["load", "--create", "--transactions", "20", "--writers", "1", "--url", &database.url];
    let work_dir = &fixture::shared().work_dir;
    let mut process = Process::start_with(work_dir, "shifted", &SHIFTED, "sandbox", &arguments, &[])?;
    assert!(process.wait(DEADLINE)?.success(), "{}", process.log());
    let ahead = "select min(occurred_at) > now() at time zone 'utc' + interval '4 minutes' from audit_events";
    let mut connection = sqlx::PgConnection::connect(&database.url).await?;
    let ahead: bool = sqlx::query_scalar(ahead).fetch_one(&mut connection).await?;
    assert!(ahead);
    Ok(())
}

#[test]
fn a_missing_wrapper_is_named() {
    let work_dir = &fixture::shared().work_dir;
    let wrapper = ["/nonexistent/faketime"];
    let error =
        Process::start_with(work_dir, "unwrapped", &wrapper, "sandbox", &["up"], &[]).expect_err("missing");
    assert!(error.to_string().contains("/nonexistent/faketime installed"), "{error:#}");
}
