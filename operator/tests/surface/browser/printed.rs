//! Pages that are handed on as paper, or as a file of it.

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Browser, Own, Shop};

/// What is for a pointer or a keyboard alone.
const CONTROLS: &str = "[...document.querySelectorAll('nav, form.search, .bottom, .pager, button, summary')].filter(one => one.checkVisibility()).length";

/// What is folded away, and cannot be unfolded on paper.
const FOLDED: &str = "[...document.querySelectorAll('details > :not(summary)')].filter(one => !one.checkVisibility({contentVisibilityAuto: true})).length";

#[tokio::test]
async fn a_page_on_paper_has_everything_that_it_shows_and_nothing_to_press() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let browser = Browser::open(&shop.console).await?;
    // As wide as a sheet of A4.
    browser.resize(794).await?;
    for page in
        ["/incidents/ID:transaction8", "/transactions/ID:transaction7", "/evidence", "/timeline?table=orders"]
    {
        browser.visit(&shop.path(page).await?).await?;
        ensure!(browser.value(CONTROLS).await?.as_u64() > Some(0), "{page}: there is nothing to leave out");
        browser.devtools("Emulation.setEmulatedMedia", json!({"media": "print"})).await?;
        ensure!(browser.value(CONTROLS).await? == 0, "{page}: there is something to press");
        ensure!(browser.value(FOLDED).await? == 0, "{page}: something is folded away");
        let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
        ensure!(browser.value(fits).await? == true, "{page}: it is wider than the paper");
        ensure!(browser.find("h1").await?.is_displayed().await?, "{page}");
        let sheet = browser.client.issue_cmd(Own { path: "print", body: json!({}) }).await?;
        // A PDF, in base64.
        ensure!(sheet.as_str().context("a file")?.starts_with("JVBERi0"), "{page}: {sheet}");
        browser.devtools("Emulation.setEmulatedMedia", json!({"media": ""})).await?;
    }
    browser.close().await
}
