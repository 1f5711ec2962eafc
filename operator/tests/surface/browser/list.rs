//! The timeline as a list: its filter, its pages, its count.

use anyhow::ensure;

use super::{Browser, Console, SHOP};

const FIRST: &str = "document.querySelector('[data-id]').dataset.id";
const LAST: &str = "[...document.querySelectorAll('[data-id]')].at(-1).dataset.id";

#[tokio::test]
async fn older_and_newer_lead_there_and_back_and_so_does_the_browser() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders&size=10").await?;
    let (first, last) = (browser.value(FIRST).await?, browser.value(LAST).await?);
    let newest = browser.client.current_url().await?;
    browser.click(".pager [rel=next]").await?;
    browser.until("older entries", &format!("{FIRST} !== {first}")).await?;
    let older = browser.value(FIRST).await?;
    ensure!(older != last, "a page begins with the entry that the one before it ended with");
    browser.click(".pager [rel=prev]").await?;
    browser.until("newer entries", &format!("{FIRST} === {first} && {LAST} === {last}")).await?;
    browser.client.back().await?;
    browser.until("the page before", &format!("{FIRST} === {older}")).await?;
    browser.client.back().await?;
    browser.until("the first page", &format!("{FIRST} === {first}")).await?;
    ensure!(browser.client.current_url().await? == newest);
    browser.close().await
}

#[tokio::test]
async fn a_part_of_a_filter_is_left_out_with_its_chip() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline").await?;
    browser.type_into("#filter", "table:orders op:update last:30d\u{e007}").await?;
    browser.arrive("/timeline?table=orders&op=update&last=30d").await?;
    ensure!(browser.client.find_all(fantoccini::Locator::Css(".chips li")).await?.len() == 4);
    browser.click(".chips a[aria-label='Without op']").await?;
    browser.arrive("/timeline?table=orders&last=30d").await?;
    ensure!(browser.find("#filter").await?.prop("value").await?.as_deref() == Some("table:orders last:30d"));
    browser.client.back().await?;
    browser.arrive("/timeline?table=orders&op=update&last=30d").await?;
    browser
        .find(".windows")
        .await?
        .find(fantoccini::Locator::XPath(".//a[contains(., '24h')]"))
        .await?
        .click()
        .await?;
    browser.arrive("/timeline?table=orders&op=update&last=1d").await?;
    ensure!(browser.text(".windows [aria-current]").await?.ends_with("24h"));
    browser.find(".chips").await?.find(fantoccini::Locator::LinkText("Reset")).await?.click().await?;
    browser.arrive("/timeline").await?;
    browser.close().await
}

#[tokio::test]
async fn the_count_comes_in_beside_the_page() -> anyhow::Result<()> {
    let mut console = Console::after(SHOP).await?;
    let entries: i64 = sqlx::query_scalar("select count(*) from audit_changes where table_name = 'orders'")
        .fetch_one(&mut console.connection)
        .await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=orders&size=10").await?;
    let shown = format!("document.querySelector('[data-part]').textContent === '{entries} entries'");
    browser.until("the count", &shown).await?;
    browser.close().await
}

#[tokio::test]
async fn all_fields_of_a_change_are_a_click_away() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline?table=customers&op=update").await?;
    ensure!(!browser.find("article table.diff").await?.is_displayed().await?);
    browser.click("article summary").await?;
    ensure!(browser.find("article table.diff").await?.is_displayed().await?);
    ensure!(browser.text("article table.diff").await?.contains("Oldenburg"));
    browser.close().await
}
