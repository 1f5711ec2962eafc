//! What the bench runs on, in the words of the system and of the servers.

use std::{fs, process::Command, time::Instant};

use sqlx::{Connection as _, PgConnection};

use crate::{environment::Environment, results::Machine};

/// Commits in the measurement of the disk.
const FLUSHES: u32 = 500;

/// Asks the system, both servers, and the disk.
pub(crate) async fn describe(environment: &Environment) -> anyhow::Result<Machine> {
    let mut connection = PgConnection::connect(&environment.sandbox.postgres.url("postgres")).await?;
    let postgres: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await?;
    let flushes_per_second = flushes(&mut connection).await?;
    connection.close().await?;
    Ok(Machine {
        processor: line("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism()?.get(),
        memory_gib: memory_gib().unwrap_or_default(),
        system: output("uname", &["-sr"]).unwrap_or_default(),
        postgres,
        nats: nats_version(environment).await?,
        flushes_per_second,
        revision: output("git", &["describe", "--always", "--dirty"]).unwrap_or_default(),
    })
}

/// Commits of one connection that wait for the disk, one after the other.
async fn flushes(connection: &mut PgConnection) -> anyhow::Result<f64> {
    sqlx::query("create table flushed (n int)").execute(&mut *connection).await?;
    let begun = Instant::now();
    for _ in 0..FLUSHES {
        sqlx::query("insert into flushed values (1)").execute(&mut *connection).await?;
    }
    Ok(f64::from(FLUSHES) / begun.elapsed().as_secs_f64())
}

async fn nats_version(environment: &Environment) -> anyhow::Result<String> {
    Ok(async_nats::connect(environment.sandbox.nats.url()).await?.server_info().version)
}

fn memory_gib() -> Option<f64> {
    let kib: f64 = line("/proc/meminfo", "MemTotal")?.split_whitespace().next()?.parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

/// The value of the first line `key : value` of a file.
fn line(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
