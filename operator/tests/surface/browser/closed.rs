//! What is closed to somebody, and what is old: said in words, and with no way in.

use anyhow::ensure;
use fantoccini::Locator;
use sandbox::wait;
use sqlx::Executor as _;

use super::{Browser, Console, DEADLINE, SHOP, Shop};

#[tokio::test]
async fn a_page_that_needs_more_names_the_capability_and_is_no_part_of_the_navigation() -> anyhow::Result<()>
{
    let console = Console::after(SHOP).await?;
    // The second one has the capability, and a scope that is not enough for it.
    for (staff, path, capability) in [
        ("everything", "/coverage", "coverage"),
        ("north+coverage+evidence", "/coverage", "coverage"),
        ("north+coverage+evidence", "/evidence", "evidence"),
        ("everything", "/exports", "export"),
        ("everything", "/saved", "views"),
    ] {
        let browser = Browser::with(&console, staff, true).await?;
        browser.visit(path).await?;
        let text = browser.text("main").await?;
        ensure!(browser.text("h1").await? == "Not for you", "{staff}: {path}");
        ensure!(text.contains(&format!("\"{capability}\"")) && text.contains("capability_missing"), "{text}");
        ensure!(text.contains("Whoever runs this application decides who has it"), "{text}");
        let offered = browser.client.find_all(Locator::Css(&format!("nav a[href$='{path}']"))).await?;
        ensure!(offered.is_empty(), "{staff}: the navigation leads to {path}");
        browser.leave().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_out_of_scope_looks_like_what_has_never_been() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let page = shop.path("/transactions/ID:transaction7").await?;
    let nowhere = "/transactions/00000000-0000-4000-8000-000000000000";
    let insider = Browser::with(&shop.console, "north", true).await?;
    insider.visit(&page).await?;
    ensure!(insider.text("h1").await? != "Nothing is here");
    ensure!(insider.text(".who").await?.contains("limited view"));
    insider.close().await?;
    let outsider = Browser::with(&shop.console, "south", true).await?;
    outsider.visit(nowhere).await?;
    let missing = outsider.text("main").await?;
    outsider.visit(&page).await?;
    ensure!(outsider.text("main").await? == missing, "{missing}");
    outsider.visit("/timeline").await?;
    ensure!(outsider.text(".empty h2").await? == "Nothing is recorded yet");
    outsider.leave().await
}

#[tokio::test]
async fn what_cannot_be_read_again_is_shown_with_its_age() -> anyhow::Result<()> {
    let mut console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/coverage").await?;
    ensure!(browser.client.find_all(Locator::Css(".stale")).await?.is_empty());
    let tables = browser.text("table.list").await?;
    console
        .connection
        .execute("alter table threadline_capture_policies rename column off to elsewhere")
        .await?;
    // What was read a moment ago counts as new until then.
    let stale = async || {
        browser.visit("/coverage?refresh=1").await?;
        let found = browser.client.find_all(Locator::Css(".stale")).await?;
        Ok((!found.is_empty()).then_some(()))
    };
    wait::until_some("coverage that is old", DEADLINE, stale).await?;
    let text = browser.text("main").await?;
    ensure!(text.contains("This is old.") && text.contains(" ago)"), "{text}");
    ensure!(browser.text("table.list").await? == tables, "the last that was read");
    browser.leave().await
}
