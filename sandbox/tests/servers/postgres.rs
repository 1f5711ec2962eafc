//! A primary and its standby.

use sandbox::{
    postgres::{Postgres, Stop},
    wait,
    work_dir::WorkDir,
};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{DEADLINE, listens};

async fn connect(server: &Postgres) -> anyhow::Result<PgConnection> {
    Ok(PgConnection::connect(&server.url("postgres")).await?)
}

async fn insert(server: &Postgres, numbers: std::ops::Range<i32>) -> anyhow::Result<()> {
    let insert = "insert into kept select generate_series($1, $2 - 1)";
    let mut connection = connect(server).await?;
    sqlx::query(insert).bind(numbers.start).bind(numbers.end).execute(&mut connection).await?;
    Ok(())
}

async fn kept(server: &Postgres) -> anyhow::Result<Vec<i32>> {
    let mut connection = connect(server).await?;
    Ok(sqlx::query_scalar("select n from kept order by n").fetch_all(&mut connection).await?)
}

fn list(numbers: impl Iterator<Item = i32>) -> Vec<i32> {
    numbers.collect()
}

#[tokio::test]
async fn a_fail_over_loses_what_was_committed_while_the_standby_was_away_and_nothing_else()
-> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let mut primary = Postgres::start(&work_dir, false)?;
    connect(&primary).await?.execute("create table kept (n int)").await?;
    insert(&primary, 0..5).await?;
    let mut standby = primary.standby(&work_dir, "standby")?;
    assert!(primary.standby(&work_dir, "standby").is_err(), "the name is taken");
    insert(&primary, 5..10).await?;
    primary.await_replay(&standby).await?;
    assert!(insert(&standby, 10..15).await.is_err(), "a standby refuses writes");

    standby.stop(Stop::Fast)?;
    insert(&primary, 10..15).await?;
    primary.stop(Stop::Kill)?;
    standby.restart()?;
    standby.promote().await?;
    assert_eq!(kept(&standby).await?, list(0..10));
    insert(&standby, 20..25).await?;
    standby.stop(Stop::Kill)?;
    standby.restart()?;
    assert_eq!(kept(&standby).await?, list((0..10).chain(20..25)));
    Ok(())
}

#[tokio::test]
async fn a_paused_standby_shows_the_past_and_loses_nothing_of_what_it_received() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let mut primary = Postgres::start(&work_dir, false)?;
    connect(&primary).await?.execute("create table kept (n int)").await?;
    let mut standby = primary.standby(&work_dir, "standby")?;
    primary.await_replay(&standby).await?;
    standby.pause_replay().await?;
    insert(&primary, 0..5).await?;
    assert!(kept(&standby).await?.is_empty());
    standby.resume_replay().await?;
    primary.await_replay(&standby).await?;
    assert_eq!(kept(&standby).await?, list(0..5));

    standby.pause_replay().await?;
    insert(&primary, 5..10).await?;
    let written = "select pg_current_wal_flush_lsn()::text";
    let written: String = sqlx::query_scalar(written).fetch_one(&mut connect(&primary).await?).await?;
    let mut connection = connect(&standby).await?;
    wait::until_some("the standby to receive what it does not replay", DEADLINE, async || {
        let received = "select pg_last_wal_receive_lsn() >= $1::pg_lsn";
        let received: bool = sqlx::query_scalar(received).bind(&written).fetch_one(&mut connection).await?;
        Ok(received.then_some(()))
    })
    .await?;
    assert_eq!(kept(&standby).await?, list(0..5));
    primary.stop(Stop::Kill)?;
    standby.promote().await?;
    assert_eq!(kept(&standby).await?, list(0..10));
    Ok(())
}

#[tokio::test]
async fn a_folder_takes_the_standby_along() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let primary = Postgres::start(&work_dir, false)?;
    let standby = primary.standby(&work_dir, "standby")?;
    let urls = [&primary, &standby].map(|server| server.url("postgres"));
    assert!(urls.iter().all(|url| listens(url)));
    // As if this process had been killed: only the pid files tell the watchdog of the servers.
    drop(work_dir);
    assert!(!urls.iter().any(|url| listens(url)));
    Ok(())
}

#[tokio::test]
async fn lines_of_its_own_win_over_the_settings_of_the_sandbox() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let postgres = Postgres::start_with(&work_dir, false, "max_connections = 20\nwal_level = logical")?;
    let mut connection = connect(&postgres).await?;
    let settings = "select current_setting('max_connections') || current_setting('wal_level')";
    let settings: String = sqlx::query_scalar(settings).fetch_one(&mut connection).await?;
    assert_eq!(settings, "20logical");
    drop(postgres);
    drop(work_dir);

    let work_dir = WorkDir::create()?;
    let error = Postgres::start_with(&work_dir, false, "max_connections = many").expect_err("no number");
    assert!(format!("{error:#}").contains("max_connections"), "{error:#}");
    Ok(())
}
