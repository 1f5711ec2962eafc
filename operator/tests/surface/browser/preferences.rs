//! How somebody likes the surface, and what they copy from it.

use anyhow::ensure;
use serde_json::json;

use super::{Browser, Console, SHOP};

async fn choose(browser: &Browser, field: &str, value: &str) -> anyhow::Result<()> {
    browser.find(&format!("#{field}")).await?.select_by_value(value).await?;
    Ok(())
}

#[tokio::test]
async fn theme_zone_and_density_stay_as_they_were_chosen() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.colours("light").await?;
    browser.visit("/timeline?table=orders&size=5").await?;
    let background = "getComputedStyle(document.documentElement).backgroundColor";
    let light = browser.value(background).await?;
    ensure!(browser.text("article time").await?.ends_with("UTC"));
    choose(&browser, "theme", "dark").await?;
    choose(&browser, "zone", "Asia/Tokyo").await?;
    choose(&browser, "density", "dense").await?;
    browser.click(".preferences button").await?;
    for _ in 0..2 {
        browser.arrive("/timeline?table=orders&size=5").await?;
        let chosen = "document.documentElement.dataset.theme === 'dark' && document.documentElement.dataset.density === 'dense'";
        browser.until("what was chosen", chosen).await?;
        ensure!(browser.value(background).await? != light);
        let time = browser.text("article time").await?;
        ensure!(time.ends_with("JST") || time.ends_with("+09"), "{time}");
        browser.client.refresh().await?;
    }
    // As the browser's system has it, and as it changes.
    choose(&browser, "theme", "system").await?;
    browser.click(".preferences button").await?;
    browser.until("the system's", "document.documentElement.dataset.theme === 'system'").await?;
    ensure!(browser.value(background).await? == light);
    browser.colours("dark").await?;
    browser.until("the system's dark", &format!("{background} !== {light}")).await?;
    browser.close().await
}

#[tokio::test]
async fn links_and_commands_are_copied() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    let permissions =
        json!({"origin": console.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    browser.devtools("Browser.grantPermissions", permissions).await?;
    browser.visit("/timeline?table=orders&op=update").await?;
    let copied = async || {
        let script = "const done = arguments[0]; navigator.clipboard.readText().then(done, error => done(String(error)))";
        anyhow::Ok(browser.client.execute_async(script, Vec::new()).await?)
    };
    browser.click("button[data-copy]").await?;
    browser.until("that it says so", "document.querySelector('#said').textContent === 'Copied'").await?;
    ensure!(copied().await? == "threadline timeline 'table:orders op:update'");
    browser.click("button[data-copy-link]").await?;
    let wanted = json!(format!("{}/timeline?table=orders&op=update", console.url));
    sandbox::wait::until_some("the link", super::DEADLINE, async || {
        Ok((copied().await? == wanted).then_some(()))
    })
    .await?;
    browser.close().await
}
