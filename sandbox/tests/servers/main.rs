//! The sandbox itself: what it starts it can break, and takes along when it ends.

#![allow(missing_docs, reason = "tests")]

mod nats;
mod postgres;
mod process;
mod proxy;

use std::{net::TcpStream, path::PathBuf, time::Duration};

use sandbox::{Options, Sandbox, nats::Nats, postgres::Stop, process::Process, wait};
use sqlx::{Connection as _, Executor as _, PgConnection};

const DEADLINE: Duration = Duration::from_secs(60);

fn listens(url: &str) -> bool {
    let address = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.rsplit('@').next())
        .and_then(|rest| rest.split('/').next());
    address.is_some_and(|address| TcpStream::connect(address).is_ok())
}

#[tokio::test]
async fn postgresql_comes_back_on_the_same_port_with_its_data_however_it_went_down() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(&Options::default())?;
    let url = sandbox.postgres.create_database("kept", None).await?;
    PgConnection::connect(&url).await?.execute("create table kept (n int)").await?;
    for (rows, how) in [(1_i64, Stop::Fast), (2, Stop::Immediate), (3, Stop::Kill)] {
        PgConnection::connect(&url).await?.execute("insert into kept values (1)").await?;
        sandbox.postgres.stop(how)?;
        assert!(PgConnection::connect(&url).await.is_err(), "{how:?}");
        sandbox.postgres.restart()?;
        let mut connection = PgConnection::connect(&url).await?;
        let kept: i64 = sqlx::query_scalar("select count(*) from kept").fetch_one(&mut connection).await?;
        assert_eq!(kept, rows, "{how:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nats_comes_back_on_the_same_port_with_its_streams() -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(&Options::default())?;
    let config = async_nats::jetstream::stream::Config { name: "KEPT".into(), ..Default::default() };
    let connect = || async_nats::connect(sandbox.nats.url().to_owned());
    async_nats::jetstream::new(connect().await?).create_stream(config).await?;
    sandbox.nats.kill()?;
    assert!(!listens(sandbox.nats.url()));
    sandbox.nats.restart()?;
    let client = async_nats::connect(sandbox.nats.url()).await?;
    async_nats::jetstream::new(client).get_stream("KEPT").await?;
    sandbox.nats.stop()?;
    sandbox.nats.lose_disk()?;
    sandbox.nats.restart()?;
    let client = async_nats::connect(sandbox.nats.url()).await?;
    assert!(async_nats::jetstream::new(client).get_stream("KEPT").await.is_err());
    Ok(())
}

#[test]
fn a_dropped_sandbox_leaves_nothing_behind() -> anyhow::Result<()> {
    let sandbox = Sandbox::start(&Options::default())?;
    let (postgres, nats) = (sandbox.postgres.url("postgres"), sandbox.nats.url().to_owned());
    let folder = sandbox.work_dir.path().to_owned();
    assert!(listens(&postgres) && listens(&nats) && folder.exists());
    drop(sandbox);
    assert!(!listens(&postgres) && !listens(&nats) && !folder.exists());
    Ok(())
}

/// Where `sandbox up` says its servers are.
fn announced(log: &str) -> Option<(String, String)> {
    let value = |name: &str| log.lines().find_map(|line| line.strip_prefix(name)).map(ToOwned::to_owned);
    Some((value("export SOURCE_DATABASE_URL=")?, value("export NATS_URL=")?))
}

fn start_up(outer: &Sandbox, name: &str) -> anyhow::Result<(Process, String, String)> {
    let process = Process::start(&outer.work_dir, name, "sandbox", &["up"], &[])?;
    wait::until("the servers to be announced", DEADLINE, || announced(&process.log()).is_some())?;
    let (postgres, nats) = announced(&process.log()).unwrap_or_default();
    anyhow::ensure!(listens(&postgres) && listens(&nats), "announced, and not there");
    Ok((process, postgres, nats))
}

#[test]
fn ctrl_c_and_kill_9_take_the_servers_along() -> anyhow::Result<()> {
    let outer = Sandbox::start(&Options::default())?;
    for (name, signal) in [("interrupted", nix::sys::signal::SIGINT), ("killed", nix::sys::signal::SIGKILL)] {
        let (process, postgres, nats) = start_up(&outer, name)?;
        process.signal(signal)?;
        wait::until("both servers to be gone", DEADLINE, || !listens(&postgres) && !listens(&nats))?;
    }
    Ok(())
}

#[test]
fn a_missing_binary_is_named_with_its_package() {
    // In a process of its own: the environment is the process's.
    let outer = Sandbox::start(&Options::default()).expect("the servers are installed");
    let nowhere = PathBuf::from("/nonexistent");
    let environment = [("NATS_SERVER_BIN", nowhere.to_str().unwrap_or_default())];
    let mut process =
        Process::start(&outer.work_dir, "missing", "sandbox", &["up"], &environment).expect("built");
    let status = process.wait(DEADLINE).expect("it fails at once");
    assert!(!status.success());
    assert!(process.log().contains("apt-get install nats-server"), "{}", process.log());
}

#[test]
fn a_given_server_is_used_and_never_stopped() {
    let mut given = Nats::given("nats://127.0.0.1:1");
    assert!(!given.is_private());
    assert!(given.kill().is_err());
    assert_eq!(given.url(), "nats://127.0.0.1:1");
}
