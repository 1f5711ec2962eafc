//! Without scripts: everything works that is needed.

use anyhow::ensure;
use fantoccini::Locator;

use super::{Browser, Console, SHOP, STAFF};

#[tokio::test]
async fn pages_filters_details_and_preferences_work_without_scripts() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::with(&console, STAFF, false).await?;
    browser.visit("/timeline?size=10").await?;
    // Nothing is offered that would do nothing.
    for button in browser.client.find_all(Locator::Css("button.copy, button.tail")).await? {
        ensure!(!button.is_displayed().await?);
    }
    browser.click(".found a").await?;
    ensure!(browser.text("h1").await? == "Count" && browser.text("main").await?.contains(" entries"));
    browser.client.back().await?;
    browser.arrive("/timeline?size=10").await?;
    browser.type_into("#filter", "table:orders\u{e007}").await?;
    browser.arrive("/timeline?table=orders").await?;
    let first = browser.find("article[data-id]").await?.attr("data-id").await?;
    browser.click(".pager [rel=next]").await?;
    browser.find(".pager [rel=prev]").await?;
    ensure!(browser.find("article[data-id]").await?.attr("data-id").await? != first);
    browser.click("article summary").await?;
    ensure!(browser.find("article table.diff").await?.is_displayed().await?);
    browser.find("#theme").await?.select_by_value("dark").await?;
    browser.click(".preferences button").await?;
    browser.find("html[data-theme=dark]").await?;
    browser.type_into("#search", "orders:4310\u{e007}").await?;
    browser.arrive("/row?table=orders&key=4310").await?;
    browser.close().await
}
