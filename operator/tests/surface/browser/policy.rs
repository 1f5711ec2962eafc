//! The content security policy: what it keeps out is reported, and nothing of these pages is.

use anyhow::ensure;
use sandbox::wait;

use super::{Browser, Console, DEADLINE, SHOP};

#[tokio::test]
async fn a_script_that_stands_in_a_page_does_not_run_and_is_reported() -> anyhow::Result<()> {
    let console = Console::after(SHOP).await?;
    let browser = Browser::open(&console).await?;
    browser.visit("/timeline").await?;
    ensure!(console.reports.lock().unwrap().is_empty());
    let inject = "const script = document.createElement('script'); script.textContent = 'window.injected = true'; document.body.append(script)";
    browser.client.execute(inject, Vec::new()).await?;
    let reported = async || Ok((console.reports.lock().unwrap().len() == 1).then_some(()));
    wait::until_some("the report", DEADLINE, reported).await?;
    ensure!(browser.value("window.injected === undefined").await? == true);
    let report = console.reports.lock().unwrap().clone();
    ensure!(report[0].contains("script-src"), "{report:?}");
    let style = "document.body.setAttribute('style', 'color: red')";
    browser.client.execute(style, Vec::new()).await?;
    let reported = async || Ok((console.reports.lock().unwrap().len() == 2).then_some(()));
    wait::until_some("the other report", DEADLINE, reported).await?;
    browser.client.close().await?;
    Ok(())
}
