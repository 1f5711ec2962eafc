//! What somebody sees who can be shown nothing.

use std::time::Duration;

use anyhow::ensure;
use sandbox::{
    fixture::timeline_database_on,
    postgres::{Postgres, Stop},
    work_dir::WorkDir,
};
use sqlx::Executor as _;

use super::{Browser, Console, SHOP};
use crate::{console::Setup, limits};

/// The heading, and what stands below it.
async fn shown(browser: &Browser, path: &str) -> anyhow::Result<(String, String)> {
    browser.visit(path).await?;
    Ok((browser.text("h1").await?, browser.text("main").await?))
}

#[tokio::test]
async fn an_empty_list_says_why_it_is_empty() -> anyhow::Result<()> {
    let console = Console::after("").await?;
    let browser = Browser::open(&console).await?;
    for (path, why) in [
        ("/timeline", "Nothing is recorded yet"),
        ("/timeline?last=1h", "Nothing in this window"),
        ("/timeline?table=orders", "Nothing fits"),
        ("/actor?actor=user:nobody", "Never seen"),
        ("/correlation?correlation=none", "Nothing is tied together by this id"),
    ] {
        browser.visit(path).await?;
        ensure!(browser.text(".empty h2").await? == why, "{path}");
    }
    browser.close().await
}

#[tokio::test]
async fn what_is_not_there_and_what_cannot_be_answered_have_pages_of_their_own() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    for (path, heading, term) in [
        ("/transactions/00000000-0000-4000-8000-000000000000", "Nothing is here", "not_found"),
        ("/nowhere", "Nothing is here", "not_found"),
        ("/timeline?tabel=orders", "This cannot be answered", "unknown_filter"),
    ] {
        let (found, text) = shown(&browser, path).await?;
        ensure!(found == heading && text.contains(term), "{path}: {text}");
        ensure!(browser.value("document.querySelector('[role=alert]') !== null").await? == true, "{path}");
    }
    // The browser says itself that these pages are errors.
    ensure!(
        browser
            .complaints()
            .await?
            .iter()
            .all(|complaint| complaint.contains("the server responded with a status of 4"))
    );
    browser.close().await
}

#[tokio::test]
async fn who_may_not_see_it_is_told_so_and_shown_no_way_in() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::with(&console, "panic", true).await?;
    let (heading, text) = shown(&browser, "/timeline").await?;
    ensure!(heading == "Not for you" && text.contains("denied"), "{text}");
    ensure!(browser.value("document.querySelector('nav, form') === null").await? == true);
    browser.leave().await
}

#[tokio::test]
async fn a_database_that_is_away_is_said_to_be_and_is_found_again() -> anyhow::Result<()> {
    let work_dir = WorkDir::create()?;
    let mut server = Postgres::start(&work_dir, false)?;
    let database = timeline_database_on(&server, "shop").await?;
    let console = Setup::over(database).sql(SHOP).start().await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders").await?;
    browser.find("ol.entries").await?;
    server.stop(Stop::Fast)?;
    let (heading, text) = shown(&browser, "/timeline?table=orders").await?;
    ensure!(heading == "The timeline cannot be read now" && text.contains("database_away"), "{text}");
    server.restart()?;
    browser.client.refresh().await?;
    browser.find("ol.entries").await?;
    browser.leave().await
}

#[tokio::test]
async fn a_statement_that_is_too_slow_ends_and_the_page_says_how_to_narrow_it() -> anyhow::Result<()> {
    let mut limits = limits();
    limits.statement = Duration::from_millis(300);
    let database = sandbox::fixture::timeline_database().await?;
    let mut console = Setup::over(database).sql(SHOP).limits(limits).start().await?;
    console.connection.execute("begin; lock table audit_transactions, audit_changes").await?;
    let browser = Browser::open(&console).await?;
    let (heading, text) = shown(&browser, "/timeline?table=orders").await?;
    ensure!(heading == "That took too long" && text.contains("narrower"), "{text}");
    console.connection.execute("rollback").await?;
    browser.client.refresh().await?;
    browser.find("ol.entries").await?;
    browser.leave().await
}
