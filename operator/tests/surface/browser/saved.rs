//! A filter under a name: saved, opened, renamed, deleted.

use anyhow::ensure;
use fantoccini::Locator;

use super::{Browser, Console, SHOP};

#[tokio::test]
async fn a_view_is_saved_opened_renamed_and_deleted() -> anyhow::Result<()> {
    let mut console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/saved").await?;
    ensure!(browser.text(".empty h2").await? == "No saved views");
    browser.visit("/timeline?table=orders&op=update&last=30d").await?;
    browser.click("details.save summary").await?;
    browser.type_into("#view-name", "What was shipped\u{e007}").await?;
    browser.until("the list of views", "location.pathname === '/saved'").await?;
    browser.ready().await?;
    ensure!(browser.text(".done").await?.starts_with("Done, and recorded as this action"));

    // From the first page it leads to what it finds, with its window as it was.
    browser.visit("/").await?;
    browser.find("main").await?.find(Locator::LinkText("What was shipped")).await?.click().await?;
    browser.arrive("/timeline?table=orders&op=update&last=30d").await?;
    browser.find("ol.entries").await?;

    browser.visit("/saved").await?;
    let field = browser.find("form[action$='saved/rename'] input[name=name]").await?;
    field.clear().await?;
    field.send_keys("Shipped\u{e007}").await?;
    browser
        .until("the other name", "document.querySelector('table.saved th a')?.textContent === 'Shipped'")
        .await?;
    browser.ready().await?;
    browser.click("button[aria-label='Delete Shipped']").await?;
    browser
        .until("that it is gone", "document.querySelector('.empty h2')?.textContent === 'No saved views'")
        .await?;
    let acts: Vec<String> = sqlx::query_scalar(
        "select name from audit_actions where name like 'audit.view%' order by inserted_at",
    )
    .fetch_all(&mut console.connection)
    .await?;
    ensure!(acts == ["audit.view_saved", "audit.view_renamed", "audit.view_removed"], "{acts:?}");
    browser.ready().await?;
    browser.close().await
}
